"""The page: one self-contained HTML file, for desktop, phone, dark mode and paper."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from windtunnel.errors import StoreError
from windtunnel.findings import Finding
from windtunnel.findings.branches import BranchFinding
from windtunnel.findings.coordcheck import CoordinateFinding
from windtunnel.findings.forecast_scores import ForecastScores, forecast_scores
from windtunnel.findings.lr_transfer import TransferFinding
from windtunnel.findings.scaling_law import DataModelLaw
from windtunnel.findings.track_record import Distance, PastForecast, by_distance
from windtunnel.laws import Fit
from windtunnel.redact import redacted
from windtunnel.report import formatting, verdicts
from windtunnel.report.collect import collect
from windtunnel.report.figures.curves import MOST_TRUNKS, curves
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.fit_checks import holdout, residuals_by_size, unit_noise
from windtunnel.report.figures.fit_scaling import along_sizes, contours, ratio
from windtunnel.report.figures.forecast import forecast
from windtunnel.report.figures.frontier import frontier
from windtunnel.report.figures.registry import finding_drawings
from windtunnel.report.figures.search import above_scale, along_axis, best_so_far, slices
from windtunnel.report.figures.style import (
    RAMP_DARK,
    RAMP_LIGHT,
    RAMP_STEPS,
    Picture,
    size_colour,
    size_variables,
)
from windtunnel.report.headline import (
    BudgetOptimum,
    budget_optima,
    field_text,
    grid_value,
    headlines,
)
from windtunnel.report.inputs import Grid, ReportInputs, ScalingLaw, Search, State
from windtunnel.report.runs_table import columns, reading_order, segment_names
from windtunnel.report.warnings import NOTE, placed_warnings
from windtunnel.runs.files import write_whole
from windtunnel.runs.run import Run
from windtunnel.runs.search.noise import LEVEL
from windtunnel.runs.search.summary import (
    field_name,
    missing,
    ranges,
    searched,
    standing,
    value_text,
)
from windtunnel.runs.search.winner import NEAR
from windtunnel.runs.study import Study

Painter = Callable[..., Picture | None]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Exact FLOPs and seconds of training, summed over segments.

    Attributes:
        flops: spent by all segments that ended, diverged ones too.
        flops_trunks: the trunks' part of it.
        flops_6nd: the same by 6ND, for papers that count so.
        seconds: training time of all segments; trials side by side count each.
    """

    flops: float
    flops_trunks: float
    flops_6nd: float
    seconds: float
    segments: int


def spent(runs: Sequence[Run]) -> Spent:
    """Sums over the runs; the cost of imported runs is unknown."""
    own = [run for run in runs if not run.imported]
    return Spent(
        flops=sum(run.flops_spent for run in own),
        flops_trunks=sum(run.flops_spent for run in own if run.kind == "trunk"),
        flops_6nd=sum(run.flops_6nd * _own_share(run) for run in own),
        seconds=sum(run.seconds for run in own),
        segments=len(own),
    )


def _own_share(run: Run) -> float:
    """The part of a run's path that is the segment's own."""
    return run.flops_spent / run.flops_exact if run.flops_exact else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchView:
    """A search on the page.

    `near` holds the values of the trials near the winner, `compared` how many trials the
    importances rest on, `above` how many lie above the scale of the slices.
    """

    search: Search
    searched: str
    missing: list[str]
    interval: tuple[float, float] | None
    near: dict[str, str]
    standing: dict[int, str]
    names: dict[str, str]
    above: int
    compared: int
    slices_verdict: str
    best_verdict: str
    slices: Picture | None
    best_so_far: Picture | None


def search_view(search: Search, draw: Painter) -> SearchView:
    """A search with everything that the page derives from it."""
    outcome = search.outcome
    return SearchView(
        search=search,
        searched=searched(outcome),
        missing=missing(outcome),
        interval=outcome.winner_interval(),
        near=ranges(outcome.experiment, outcome.near) if outcome.near else {},
        standing={each.result.trial.number: standing(outcome, each) for each in outcome.finalists},
        names={axis: field_name(outcome.experiment, axis) for axis in outcome.experiment.space},
        above=above_scale(search),
        compared=sum(1 for each in outcome.results if each.at and each.at[0] is not None),
        slices_verdict=verdicts.of_slices(search),
        best_verdict=verdicts.of_best_so_far(search) if outcome.results else "",
        slices=draw(slices(search), outcome.experiment.name),
        best_so_far=draw(best_so_far(search), outcome.experiment.name),
    )


MEANINGS = {
    "E": "loss that neither size nor data removes",
    "A": "weight of the size term",
    "B": "weight of the data term",
    "alpha": "how fast loss falls with size",
    "beta": "how fast loss falls with data",
    "k": "coupling: below 1, what is short of one gains less from the other",
    "a": "optimal params grow as C to the a",
    "b": "optimal tokens grow as C to the b",
}


FORMULAS = {
    "chinchilla": "E + A · N<sup>−α</sup> + B · D<sup>−β</sup>",
    "coupled": "E + (A · N<sup>−α</sup> + B · D<sup>−β</sup>)<sup>k</sup>",
    "auto": "(E + (A · N<sup>−α</sup> + B · D<sup>−β</sup>)<sup>k</sup>) · e<sup>g(N, D)</sup>",
}
"""L(N, D) as HTML; g is a smooth misfit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FormView:
    """One form of the law: its weight, and how it extrapolated from part of the runs.

    Attributes:
        ratio: the optimal D/N at the largest budget; None without weight.
        errors: (axis, factor left out, mean error of ln loss) of each extrapolation.
    """

    name: str
    weight: float
    ratio: float | None
    errors: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LawView:
    """A scaling law with what the page derives from it."""

    law: ScalingLaw
    forms: tuple[FormView, ...]
    optima: tuple[BudgetOptimum, ...]
    coefficients: tuple[tuple[str, float, tuple[float, float] | None, str], ...]
    noise: float | None
    exact_share: tuple[float, float] | None
    frontier_verdict: str
    residuals_verdict: str
    frontier: Picture | None
    residuals: Picture | None
    along_sizes: Picture | None
    contours: Picture | None
    ratio: Picture | None
    holdout: Picture | None


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """A finding with its verdict and its figures.

    `pictures` stand in its section, `further` ones, each with its own verdict, in the appendix.
    """

    finding: Finding
    verdict: str
    pictures: tuple[Picture, ...]
    further: tuple[tuple[str, Picture], ...]

    @property
    def rereads(self) -> bool:
        """Whether it reads the law of the page again, and so stands in the appendix alone."""
        return isinstance(self.finding, DataModelLaw)

    @property
    def compares_variants(self) -> bool:
        """Whether its numbers form a table by variant and set; a list would fill pages."""
        return isinstance(self.finding, BranchFinding)


def write_report(study: Study, out: Path | None = None) -> Path:
    """Write the page to `out`, and nothing beside it; by default into the study's own folder.

    There each fit lies beside the page: `fit.json` of one scaling experiment, `fit.EXPERIMENT.json`
    of several.

    Raises:
        StoreError: A file of the store is damaged, or the page cannot be written.
    """
    path = out if out is not None else study.folder / "report.html"
    inputs = collect(study)
    for law in inputs.laws if out is None else ():
        if law.fit is not None:
            name = "fit.json" if len(inputs.laws) == 1 else f"fit.{law.experiment}.json"
            _write_text(study.folder / name, law.fit.to_json())
    _write_text(path, render(inputs))
    return path


def render(inputs: ReportInputs) -> str:
    """The page as one string that loads nothing from anywhere."""
    draw = _painter(inputs)
    laws = tuple(_view(inputs, law, draw) for law in inputs.laws)
    found = headlines(inputs)
    return (
        _environment(inputs)
        .get_template("page.html.jinja")
        .render(
            inputs=inputs,
            headlines=found,
            laws=laws,
            formulas=FORMULAS,
            forecasts=[
                _forecast_view(inputs, scores, draw)
                for scores in forecast_scores(inputs.forecasts, inputs.runs)
            ],
            track_record=_track_record(inputs.past_forecasts),
            curves_figure=draw(curves(inputs)),
            curves_verdict=verdicts.of_curves(inputs),
            most_trunks=MOST_TRUNKS,
            many_trunks=_has_many_trunks(inputs),
            grids=[_grid_view(inputs, grid, draw) for grid in inputs.grids],
            findings=[_finding_view(finding, draw) for finding in inputs.findings],
            searches=[search_view(search, draw) for search in inputs.searches],
            level=f"{LEVEL:.0%}",
            near=f"{NEAR:g}",
            cost=spent(inputs.runs),
            tally=_tally(inputs),
            troubled=[s for s in inputs.states if s.state in ("diverged", "failed", "blocked")],
            warnings=placed_warnings(inputs, inputs.laws, found),
            note=NOTE,
            runs=sorted(inputs.runs, key=reading_order),
            columns=columns(inputs),
            variants=any(run.variants for run in inputs.runs),
            light=size_variables(len(inputs.sizes), RAMP_LIGHT),
            dark=size_variables(len(inputs.sizes), RAMP_DARK),
            light_ramp=size_variables(RAMP_STEPS + 1, RAMP_LIGHT),
            dark_ramp=size_variables(RAMP_STEPS + 1, RAMP_DARK),
        )
    )


@dataclass(frozen=True, kw_only=True)
class ForecastView:
    """One forecast as the page shows it."""

    scores: ForecastScores
    verdict: str
    figure: Picture | None
    on_ladder: bool


def _forecast_view(inputs: ReportInputs, scores: ForecastScores, draw: Painter) -> ForecastView:
    figure = draw(forecast(scores), scores.experiment or "") if scores.points else None
    return ForecastView(
        scores=scores,
        verdict=verdicts.of_forecast(scores),
        figure=figure,
        on_ladder=scores.experiment in inputs.ladders,
    )


def _track_record(
    forecasts: Sequence[PastForecast],
) -> list[tuple[str, tuple[Distance, ...]]]:
    """The forecasts that were written first, by distance in params and in tokens."""
    blind = [each for each in forecasts if each.blind]
    return [(along, by_distance(blind, along)) for along in ("params", "tokens")] if blind else []


def _view(inputs: ReportInputs, law: ScalingLaw, draw: Painter) -> LawView:
    fit, name = law.fit, law.experiment
    table = law.table
    coefficients: list[tuple[str, float, tuple[float, float] | None, str]] = []
    if fit is not None:
        a, b = fit.exponents
        values = fit.coefficients | {"a": a.value, "b": b.value}
        coefficients = [
            (name, value, fit.intervals.get(name), MEANINGS[name]) for name, value in values.items()
        ]
    exact = [run for run in law.runs if run.flops_exact is not None]
    shares = [run.flops_exact / run.flops_6nd for run in exact]
    return LawView(
        law=law,
        forms=_forms(fit) if fit is not None else (),
        optima=budget_optima(law),
        coefficients=tuple(coefficients),
        noise=None if fit is None else unit_noise(fit),
        exact_share=(min(shares), max(shares)) if shares else None,
        frontier_verdict=verdicts.of_frontier(law),
        residuals_verdict=verdicts.of_residuals(law, fit) if fit is not None else "",
        frontier=draw(frontier(inputs, law) if law.runs else None, name),
        residuals=draw(residuals_by_size(inputs, law, fit) if fit else None, name),
        along_sizes=draw(along_sizes(fit, table) if fit and table is not None else None, name),
        contours=draw(contours(fit, table) if fit and table is not None else None, name),
        ratio=draw(ratio(fit) if fit else None, name),
        holdout=draw(holdout(fit) if fit else None, name),
    )


def _forms(fit: Fit) -> tuple[FormView, ...]:
    return tuple(
        FormView(
            name=form["form"],
            weight=form["weight"],
            ratio=form["ratio"],
            errors=tuple(
                (each["axis"], each["factor"], each["error"])
                for each in fit.details["extrapolations"]
                if each["form"] == form["form"]
            ),
        )
        for form in fit.details.get("forms", ())
    )


def _finding_view(finding: Finding, draw: Painter) -> FindingView:
    drawn = (draw(each, finding.experiment, captioned=False) for each in finding_drawings(finding))
    pictures = tuple(each for each in drawn if each is not None)
    match finding:
        case DataModelLaw():
            most = 0
        case TransferFinding() | CoordinateFinding():
            most = 1  # the others show the same numbers again
        case _:
            most = len(pictures)
    return FindingView(
        finding=finding,
        verdict=verdicts.verdict(finding),
        pictures=pictures[:most],
        further=tuple(
            zip(verdicts.further(finding, len(pictures) - most), pictures[most:], strict=True)
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class GridView:
    """A grid with its figure; `covered` where a finding has read it."""

    grid: Grid
    verdict: str
    figure: Picture | None
    covered: bool


def _grid_view(inputs: ReportInputs, grid: Grid, draw: Painter) -> GridView:
    covered = any(finding.experiment == grid.experiment for finding in inputs.findings)
    figure = None if covered else draw(along_axis(inputs, grid), grid.experiment)
    return GridView(grid=grid, verdict=verdicts.of_grid(grid), figure=figure, covered=covered)


def _painter(inputs: ReportInputs) -> Painter:
    """Draws in this page's colours and names of sizes; None of None."""
    order = list(inputs.sizes)

    def colour(params: float) -> str:
        return size_colour(order.index(int(params)))

    def name(params: float) -> str:
        return inputs.sizes[int(params)].replace("x", "×")

    def draw(
        drawing: Drawing | None, suffix: str = "", /, *, captioned: bool = True
    ) -> Picture | None:
        if drawing is None:
            return None
        return drawing.picture(suffix, colour, name, captioned=captioned)

    return draw


def _has_many_trunks(inputs: ReportInputs) -> bool:
    """Whether the figure of curves leaves trunks out."""
    of_size = Counter(params for _, params in {(c.trunk, c.params) for c in inputs.curves})
    return max(of_size.values(), default=0) > MOST_TRUNKS


def _tally(inputs: ReportInputs) -> dict[State, int]:
    """Number of segments in each state."""
    found = Counter(state.state for state in inputs.states)
    order: tuple[State, ...] = (
        "finished", "unfinished", "not started", "diverged", "failed", "blocked",
    )  # fmt: skip
    return {state: found[state] for state in order if found[state]}


def _environment(inputs: ReportInputs) -> Environment:
    names = segment_names(inputs)
    environment = Environment(
        loader=PackageLoader("windtunnel.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(formatting, name)
        for name in (
            "scientific", "count", "size_in_bytes", "significant", "loss", "signed_percent",
            "share", "duration", "moment", "short", "span", "interval_span", "typeset",
            "sentence", "run_name",
        )
    }  # fmt: skip
    # Figures are our own SVG, whose texts matplotlib has escaped; nothing else is trusted.
    environment.filters["drawn"] = Markup
    environment.filters |= {"searched_value": value_text, "field_text": field_text}
    environment.filters["grid_value"] = grid_value
    environment.filters["named"] = lambda segment: names.get(segment, segment)
    environment.globals["number"] = formatting
    return environment


def _write_text(path: Path, text: str) -> None:
    """Write and rename: a reader sees the old page or the new one."""
    try:
        write_whole(path, redacted(text))
    except OSError as refused:
        raise StoreError(
            "cannot-write",
            f"{path}: cannot be written: {refused.strerror}; check its folder, permissions and "
            "free space",
            path=path,
            cause=refused.strerror,
        ) from None
