"""The page: one self-contained HTML file, for desktop, phone, dark rooms and paper."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from windtunnel.errors import StoreError
from windtunnel.findings import Finding
from windtunnel.findings.branching import BranchFinding
from windtunnel.redact import redacted
from windtunnel.report import numbers
from windtunnel.report.answers import Answer, answers
from windtunnel.report.collect import collect
from windtunnel.report.cost import spent
from windtunnel.report.figures.canvas import (
    RAMP_DARK,
    RAMP_LIGHT,
    Picture,
    size_colour,
    size_variables,
)
from windtunnel.report.figures.curves import MOST_TRUNKS, curves
from windtunnel.report.figures.findings import drawings
from windtunnel.report.figures.fit_checks import holdout
from windtunnel.report.figures.fit_contours import contours
from windtunnel.report.figures.fit_ratio import ratio
from windtunnel.report.figures.fit_sizes import along_sizes
from windtunnel.report.figures.forecast import forecast
from windtunnel.report.figures.frontier import frontier
from windtunnel.report.figures.grid import along_axis
from windtunnel.report.figures.residuals import residuals, unit_noise
from windtunnel.report.inputs import ReportInputs, ScalingLaw, State
from windtunnel.report.runs import (
    have_mixtures,
    have_variants,
    mixture,
    reading_order,
    validation_sets,
)
from windtunnel.report.search_view import search_view
from windtunnel.report.verdict import verdict
from windtunnel.trials.json_file import write_whole
from windtunnel.trials.search_words import value_text
from windtunnel.trials.seed_noise import LEVEL
from windtunnel.trials.study import Study
from windtunnel.trials.winner import NEAR

if TYPE_CHECKING:
    from windtunnel.report.figures.sheet import Drawing

MEANINGS = {
    "E": "loss that neither size nor data removes",
    "A": "weight of the size term",
    "B": "weight of the data term",
    "alpha": "how fast loss falls with size",
    "beta": "how fast loss falls with data",
    "a": "optimal params grow as C to the a",
    "b": "optimal tokens grow as C to the b",
    "ratio": "optimal tokens per param at the largest fitted budget",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LawView:
    """A scaling law with what the page derives from it."""

    law: ScalingLaw
    answers: tuple[Answer, ...]
    coefficients: tuple[tuple[str, float, tuple[float, float] | None, str], ...]
    noise: float | None
    exact_share: tuple[float, float] | None
    frontier: Picture | None
    residuals: Picture | None
    along_sizes: Picture | None
    contours: Picture | None
    ratio: Picture | None
    holdout: Picture | None


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """A finding with its figures."""

    finding: Finding
    pictures: tuple[Picture, ...]

    @property
    def compares_ways(self) -> bool:
        """Whether its numbers are laid out by variant and set: as a list they would fill pages."""
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
    found = verdict(inputs.forecasts, inputs.rows)
    laws = tuple(_view(inputs, law) for law in inputs.laws)
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            inputs=inputs,
            laws=laws,
            verdict=found,
            forecast_figure=forecast(found) if found is not None and found.points else None,
            curves_figure=curves(inputs),
            most_trunks=MOST_TRUNKS,
            many_trunks=_has_many_trunks(inputs),
            grid_figures=[along_axis(inputs, grid) for grid in inputs.grids],
            findings=[_finding_view(inputs, finding) for finding in inputs.findings],
            searches=[search_view(search) for search in inputs.searches],
            level=f"{LEVEL:.0%}",
            near=f"{NEAR:g}",
            cost=spent(inputs.rows),
            tally=_tally(inputs),
            troubled=[s for s in inputs.states if s.state in ("diverged", "failed", "blocked")],
            warnings=_warnings(inputs, laws),
            rows=sorted(inputs.rows, key=reading_order),
            sets=validation_sets(inputs.rows),
            variants=have_variants(inputs.rows),
            mixtures=have_mixtures(inputs.rows),
            light=size_variables(len(inputs.sizes), RAMP_LIGHT),
            dark=size_variables(len(inputs.sizes), RAMP_DARK),
        )
    )


def _view(inputs: ReportInputs, law: ScalingLaw) -> LawView:
    fit = law.fit
    coefficients: list[tuple[str, float, tuple[float, float] | None, str]] = []
    if fit is not None:
        a, b = (float(value) for value in fit.form.split(fit.form.vector))
        values = fit.coefficients | {"a": a, "b": b}
        if fit.has_optimum:
            values["ratio"] = fit.optimum(fit.domain["flops"][1]).ratio.value
        coefficients = [
            (name, value, fit.intervals.get(name), MEANINGS[name]) for name, value in values.items()
        ]
    exact = [row for row in law.rows if row["flops_exact"] is not None]
    shares = [row["flops_exact"] / row["flops_6nd"] for row in exact]
    return LawView(
        law=law,
        answers=answers(law),
        coefficients=tuple(coefficients),
        noise=None if fit is None else unit_noise(fit),
        exact_share=(min(shares), max(shares)) if shares else None,
        frontier=frontier(inputs, law) if law.rows else None,
        residuals=residuals(inputs, law, fit) if fit is not None else None,
        **_pictures(inputs, law),
    )


def _finding_view(inputs: ReportInputs, finding: Finding) -> FindingView:
    colour, name = _size_styles(inputs)
    return FindingView(
        finding=finding,
        pictures=tuple(
            each.picture(finding.experiment, colour, name, captioned=False)
            for each in drawings(finding)
        ),
    )


def _pictures(inputs: ReportInputs, law: ScalingLaw) -> dict[str, Picture | None]:
    """The figures that come with every fit, in this page's colours and names of sizes."""
    if law.fit is None or law.table is None:
        return dict.fromkeys(("along_sizes", "contours", "ratio", "holdout"))
    drawn: dict[str, Drawing | None] = {
        "along_sizes": along_sizes(law.fit, law.table),
        "contours": contours(law.fit, law.table),
        "ratio": ratio(law.fit),
        "holdout": holdout(law.fit),
    }

    colour, name = _size_styles(inputs)
    return {
        place: drawing.picture(law.experiment, colour, name) if drawing is not None else None
        for place, drawing in drawn.items()
    }


def _size_styles(inputs: ReportInputs) -> tuple[Callable[[float], str], Callable[[float], str]]:
    """How this page colours and names a size of so many params."""
    order = list(inputs.sizes)

    def colour(params: float) -> str:
        return size_colour(order.index(int(params)))

    def name(params: float) -> str:
        return inputs.sizes[int(params)].replace("x", "×")

    return colour, name


def _has_many_trunks(inputs: ReportInputs) -> bool:
    """Whether the figure of curves leaves trunks out."""
    of_size = Counter(params for _, params in {(c.trunk, c.params) for c in inputs.curves})
    return max(of_size.values(), default=0) > MOST_TRUNKS


def _tally(inputs: ReportInputs) -> dict[State, int]:
    """How many segments stand where, in the order in which a reader asks."""
    found = Counter(state.state for state in inputs.states)
    order: tuple[State, ...] = (
        "finished", "unfinished", "not started", "diverged", "failed", "blocked",
    )  # fmt: skip
    return {state: found[state] for state in order if found[state]}


def _warnings(inputs: ReportInputs, laws: tuple[LawView, ...]) -> list[tuple[str, str]]:
    """(origins, warning) of every warning, each once: the page shows them before any figure."""
    said = [
        (f"{each.title}: {each.experiment}", warning)
        for each in inputs.findings
        for warning in each.warnings
    ]
    said += [
        ("fit" if len(laws) == 1 else f"fit of {view.law.experiment}", warning.message)
        for view in laws
        if view.law.fit is not None
        for warning in view.law.fit.warnings
    ]
    for search in inputs.searches:
        name = search.outcome.experiment.name
        said += [(f"search {name}", warning) for warning in search.outcome.warnings]
    said += [("study", warning) for warning in inputs.warnings]
    origins: dict[str, list[str]] = {}
    for origin, warning in said:
        origins.setdefault(warning, []).append(origin)
    return [("; ".join(dict.fromkeys(each)), warning) for warning, each in origins.items()]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("windtunnel.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(numbers, name)
        for name in (
            "scientific", "count", "size_in_bytes", "significant", "loss", "signed_percent",
            "share", "duration", "moment", "span", "interval_span", "typeset",
        )
    }  # fmt: skip
    # Figures are our own SVG, whose texts matplotlib has escaped; nothing else is trusted.
    environment.filters["drawn"] = Markup
    environment.filters["mixture"] = mixture
    environment.filters["searched_value"] = value_text
    environment.globals["number"] = numbers
    return environment


def _write_text(path: Path, text: str) -> None:
    """Write beside and rename: a reader sees the old page or the new one."""
    try:
        write_whole(path, redacted(text))
    except OSError as refused:
        raise StoreError(
            f"{path}: cannot be written: {refused.strerror}; check its folder, permissions and "
            "free space"
        ) from None
