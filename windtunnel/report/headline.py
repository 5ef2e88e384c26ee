"""The answers on the first screen, and the optima of other budgets, which stand in the appendix."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from windtunnel.config.model import Hold
from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import Fit, Interval, Optimum
from windtunnel.report.formatting import (
    NONE,
    count,
    interval_span,
    loss,
    scientific,
    short,
    significant,
    span,
    typeset,
)
from windtunnel.report.inputs import ReportInputs, ScalingLaw, Search, StandingRecipe
from windtunnel.runs.search.noise import LEVEL
from windtunnel.runs.search.summary import value_text

FAR = 1.5
"""A number that lies further than this factor beyond what was run is called extrapolated."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One number of an answer.

    Attributes:
        note: its interval, or what it is of.
        beyond: the factor by which it lies outside what was run; None up to `FAR`.
    """

    name: str
    text: str
    note: str = ""
    beyond: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to train for one budget or target; `problem` where there is no answer."""

    title: str
    budget: str
    facts: tuple[Fact, ...] = ()
    hyperparameters: tuple[Fact, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    problem: str = ""


def answers(inputs: ReportInputs) -> tuple[Answer, ...]:
    """One for each law, at the largest measured budget; without a law, the best of each search."""
    if inputs.laws:
        return tuple(
            _of_law(law, _recipe_of(inputs.recipes, law.experiment), several=len(inputs.laws) > 1)
            for law in inputs.laws
        )
    return tuple(
        _of_search(search, _recipe_of(inputs.recipes, search.outcome.experiment.name))
        for search in inputs.searches
        if search.outcome.winner is not None
    )


def _recipe_of(recipes: Sequence[StandingRecipe], experiment: str) -> StandingRecipe | None:
    return next((each for each in recipes if each.experiment == experiment), None)


def _of_law(law: ScalingLaw, recipe: StandingRecipe | None, *, several: bool) -> Answer:
    title = "What to train" + (f", by {law.experiment}" if several else "")
    if law.fit is None:
        return Answer(title=title, budget="", problem=str(law.problem))
    flops = law.fit.domain["flops"][1]
    budget = f"{scientific(flops)} FLOPs, the largest measured budget"
    try:
        best = law.fit.optimum(flops)
    except FitError as refused:
        return Answer(title=title, budget=budget, problem=str(refused))
    far = {name: _beyond(getattr(best, name).value, law.fit, name)
           for name in ("params", "tokens", "ratio")}  # fmt: skip
    facts = (
        Fact(name="Model", text=f"{count(best.params.value)} params",
             note=interval_span(best.params, count), beyond=far["params"]),
        Fact(name="Data", text=f"{count(best.tokens.value)} tokens",
             note=interval_span(best.tokens, count), beyond=far["tokens"]),
        Fact(name="Tokens per param", text=significant(best.ratio.value),
             note=interval_span(best.ratio), beyond=far["ratio"]),
        Fact(name="Loss", text=loss(best.loss.value),
             note=f"{interval_span(best.loss, loss)}, {law.fit.loss_unit}"),
    )  # fmt: skip
    where = best.params.value, best.tokens.value
    hyper = () if recipe is None else tuple(_hyperparameters(recipe, *where))
    return Answer(title=title, budget=budget, facts=facts, hyperparameters=hyper,
                  warnings=_warnings_of(best))  # fmt: skip


def _beyond(value: float, fit: Fit, name: str) -> float | None:
    low, high = fit.domain[name]
    factor = max(value / high, low / value) if value > 0 else math.inf
    return factor if factor > FAR else None


def _of_search(search: Search, recipe: StandingRecipe | None) -> Answer:
    outcome = search.outcome
    ends = outcome.winner_interval()
    facts = (
        Fact(name="Model", text=search.size.replace("x", "×")),
        Fact(name="Data", text=typeset(str(outcome.experiment.horizon))),
        Fact(name="Loss", text=loss(outcome.winner.mean if outcome.winner else None),
             note=f"{span(*ends, loss)}, nats per token" if ends else "nats per token"),
    )  # fmt: skip
    return Answer(
        title=f"Best of search {outcome.experiment.name}",
        budget=f"{len(outcome.results)} trials; ranges are {LEVEL:.0%} intervals",
        facts=facts,
        hyperparameters=() if recipe is None else tuple(_hyperparameters(recipe, None, None)),
    )


def _hyperparameters(
    standing: StandingRecipe, params: float | None, tokens: float | None
) -> Iterator[Fact]:
    """Rate, batch, warm-up, weight decay and schedule, carried to the answer's place."""
    recipe, schedule = standing.recipe, standing.schedule
    rate, decay = recipe.lr, recipe.weight_decay
    if params is not None and tokens is not None:
        moved = standing.at(params, tokens)
        rate, decay = moved["lr"], moved["weight_decay"]
    width = "" if recipe.parametrization == "standard" else f", at base width {recipe.base_width}"
    yield Fact(name="Learning rate", text=field_text(rate), note=f"peak{width}")
    batch = recipe.batch_tokens
    yield Fact(name="Batch", text=short(batch) if batch >= 1e4 else f"{batch:,}", note="tokens")
    yield Fact(name="Warm-up", text=f"{recipe.warmup_steps:,}", note="updates")
    yield Fact(name="Weight decay", text=field_text(decay))
    hold = schedule.hold
    stable = (
        f"held to {typeset(str(hold.start))}, then as tokens^{hold.power:g}".replace("^-", "^−")
        if isinstance(hold, Hold)
        else "after a constant rate"
    )
    decayed = (
        "the whole run" if schedule.decay_share == 1 else f"the last {schedule.decay_share:.0%}"
    )
    yield Fact(name="Decay", text=schedule.shape, note=f"over {decayed}, {stable}")


@dataclass(frozen=True, kw_only=True)
class BudgetOptimum:
    """The best model and data for one budget, or the `problem` that says why there is none."""

    label: str
    flops: float
    optimum: Optimum | None
    problem: FitError | None = None

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Where the optimum leaves what was measured, each once."""
        return () if self.optimum is None else _warnings_of(self.optimum)

    @property
    def exact(self) -> Interval | None:
        """The best ratio with every FLOP counted."""
        return None if self.optimum is None else self.optimum.ratio_exact


def _warnings_of(best: Optimum) -> tuple[Diagnostic, ...]:
    # The run is named by its own N, D and C; what `loss` adds on C and D/N is said already.
    return tuple(dict.fromkeys((*best.warnings, *best.loss.warnings)))


def budgets(fit: Fit) -> tuple[tuple[str, float], ...]:
    """Four budgets in FLOPs by the fit's rule: inside, at the edge, and up to two decades on."""
    low, high = fit.domain["flops"]
    return (
        ("middle of those measured", math.sqrt(low * high)),
        ("largest measured", high),
        ("10 times the largest", 10 * high),
        ("100 times the largest", 100 * high),
    )


def budget_optima(law: ScalingLaw) -> tuple[BudgetOptimum, ...]:
    """The optimum of each budget; none without a fit."""
    if law.fit is None:
        return ()
    return tuple(_optimum_at(law.fit, label, flops) for label, flops in budgets(law.fit))


def _optimum_at(fit: Fit, label: str, flops: float) -> BudgetOptimum:
    try:
        return BudgetOptimum(label=label, flops=flops, optimum=fit.optimum(flops))
    except FitError as refused:
        return BudgetOptimum(label=label, flops=flops, optimum=None, problem=refused)


def grid_value(text: str) -> str:
    """A value of a grid's axis, three digits of a number."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if value.is_integer() else field_text(value)


def field_text(value: object) -> str:
    """A value of the recipe as a study file has it, with counts for people."""
    match value:
        case None:
            return NONE
        case bool():
            return str(value).lower()
        case Hold():
            return f"tokens^{value.power:g} from {typeset(str(value.start))}".replace("^-", "^−")
        case int():
            return short(value) if value >= 1e4 else f"{value:,}"
    return typeset(value_text(value))
