"""The inputs of a report: facts that are gathered once, so that rendering reads no disk."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from windtunnel.config import Recipe
from windtunnel.config.model import ScheduleConfig
from windtunnel.errors import Diagnostic, FitError, WindtunnelError
from windtunnel.export.answer import Answer
from windtunnel.findings import Finding
from windtunnel.findings.track_record import PastForecast
from windtunnel.laws import Fit, Table
from windtunnel.runs.budget.cost import Cost
from windtunnel.runs.curves import Curve
from windtunnel.runs.data_facts import DataFacts
from windtunnel.runs.run import Run
from windtunnel.runs.search.winner import SearchOutcome
from windtunnel.runs.taken import Taken
from windtunnel.transfer import Cell, Place, Rule, factors

State = Literal["finished", "diverged", "failed", "blocked", "unfinished", "not started"]


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """Where a planned segment stands, and why if it is not finished."""

    segment: str
    kind: Literal["trunk", "branch"]
    size: str
    horizon: str
    seed: int
    held_out: bool
    state: State
    reached: int
    end: int
    why: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalingLaw:
    """One scaling experiment: its runs, and the law through all of them or why there is none.

    `table` is what the law was fitted to; None without runs.
    """

    experiment: str
    runs: list[Run]
    table: Table | None
    fit: Fit | None
    problem: FitError | None


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One size under one combination of a grid's values, to one horizon: its seeds."""

    size: str
    values: tuple[str, ...]
    horizon: str
    runs: tuple[Run, ...]
    """Those with a loss."""
    diverged: int
    planned: int

    @property
    def losses(self) -> tuple[float, ...]:
        """Of its seeds, nats per token."""
        return tuple(run.loss for run in self.runs if run.loss is not None)

    @property
    def mean(self) -> float:
        """Mean loss over the seeds; infinite without one."""
        return sum(self.losses) / len(self.losses) if self.losses else math.inf


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid experiment as a table of loss by axis; size is not among the axes but in each cell."""

    experiment: str
    axes: tuple[str, ...]
    cells: tuple[GridCell, ...]

    def best(self, size: str, horizon: str) -> float:
        """Lowest mean loss of a size at a horizon; infinite while there is none."""
        same = (cell for cell in self.cells if (cell.size, cell.horizon) == (size, horizon))
        return min((cell.mean for cell in same), default=math.inf)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search: its outcome, the size it trained, and the share of variance of each axis.

    `importances` is empty where there are too few trials to tell.
    """

    outcome: SearchOutcome
    size: str
    importances: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ExecutionFacts:
    """An execution record, and how many trunks were computed so."""

    trunks: int
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Note:
    """A problem that was noticed and handled while a segment ran."""

    run: str
    """By size, seed and length."""
    segment: str
    time: float
    text: str


@dataclass(frozen=True, kw_only=True)
class RecipeField:
    """One field of recipe or schedule.

    Attributes:
        axis: such as `recipe.lr`.
        value: as it stands; a searched field has its winner's.
        start: as the study file has it.
        found: how, one clause each: by which search, grid or rule; the file where nothing did.
        tuned: whether an experiment of the study decides it or has tested it.
    """

    axis: str
    value: object
    start: object
    found: tuple[str, ...]
    tuned: bool


@dataclass(frozen=True, kw_only=True)
class StandingRecipe:
    """The recipe of one experiment, or of the study where no experiment has one of its own.

    Attributes:
        experiment: of the ladder or search; empty of the study's own.
        fields: all of them, in the file's order.
        place: where it was tuned; None where no rule moves it.
        rules: by which it moves.
        depths: layers by params of the study's sizes.
    """

    experiment: str
    recipe: Recipe
    schedule: ScheduleConfig
    fields: tuple[RecipeField, ...]
    place: Place | None
    rules: Mapping[Cell, Rule]
    depths: Mapping[int, int]

    def at(self, params: float, tokens: float) -> dict[str, float]:
        """Rate, weight decay, beta2 and eps for a model of `params` and so many tokens."""
        recipe = self.recipe
        own = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "eps": recipe.eps,
               "beta2": recipe.beta2}  # fmt: skip
        if self.place is None:
            return own
        depth = self.depths[min(self.depths, key=lambda each: abs(each - params))]
        place = Place(batch_tokens=recipe.batch_tokens, tokens=tokens, depth=depth, params=params)
        return factors(self.rules, place, self.place).transferred(**own)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportInputs:
    """Everything on the page."""

    study: str
    family: str
    file: str
    study_text: str
    store: str
    version: str
    written: float
    recipes: tuple[StandingRecipe, ...]
    """Of each ladder, or of the search that was last."""
    sizes: dict[int, str]
    """params -> WIDTHxDEPTH, smallest first."""
    runs: list[Run]
    states: tuple[SegmentState, ...]
    curves: tuple[Curve, ...]
    laws: tuple[ScalingLaw, ...]
    grids: tuple[Grid, ...]
    searches: tuple[Search, ...]
    findings: tuple[Finding, ...]
    forecasts: list[dict[str, Any]]
    taken: Taken
    """What experiments have taken from earlier ones."""
    ladders: frozenset[str]
    """Names of the experiments that forecast a target beyond a ladder."""
    past_forecasts: tuple[PastForecast, ...]
    """Of every study of the store."""
    planned_runs: tuple[Answer | WindtunnelError, ...]
    """What each law answers for the study's target, or why it does not."""
    handoffs: tuple[dict[str, Any], ...]
    held_out: tuple[str, ...]
    """Ids of the branches that wait for the forecast."""
    planned: Cost
    """Of the whole plan, what searches will suggest included."""
    data: DataFacts | None
    executions: tuple[ExecutionFacts, ...]
    notes: tuple[Note, ...]
    warnings: tuple[Diagnostic, ...] = ()
    """Of the plan, the data and the execution; those of a fit stay with the fit."""
