"""The figures of fits, findings and studies, as the notebooks and the report show them.

A call returns `Figures`: a notebook shows them, `save` writes PNGs, and `[0].plain()` is a
matplotlib figure.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings import Finding, Records
from windtunnel.findings.registry import findings_of
from windtunnel.laws import Fit, Table
from windtunnel.laws.mixture import MixtureFit
from windtunnel.laws.table import Floats
from windtunnel.report.figures import frontier, mixture
from windtunnel.report.figures.drawing import NO_SIZES, PLAIN, Drawing, save_all
from windtunnel.report.figures.registry import finding_drawings, fit_drawings
from windtunnel.report.figures.style import house_style


class HasRecords(Protocol):
    """A study that was opened, such as `windtunnel.open_study` returns."""

    @property
    def records(self) -> Records:
        """What it measured."""


@dataclass(frozen=True)
class Figures(Sequence[Drawing]):
    """Figures that share the colours of the model sizes, in parameters."""

    drawings: tuple[Drawing, ...]
    sizes: Floats

    @overload
    def __getitem__(self, place: int) -> Drawing: ...

    @overload
    def __getitem__(self, place: slice) -> "Figures": ...

    def __getitem__(self, place: int | slice) -> "Drawing | Figures":
        if isinstance(place, slice):
            return Figures(self.drawings[place], self.sizes)
        return self.drawings[place]

    def __iter__(self) -> Iterator[Drawing]:
        return iter(self.drawings)

    def __len__(self) -> int:
        return len(self.drawings)

    def __repr__(self) -> str:
        lines = [f"{len(self)} figures"] + [f"  {each.name}: {each.alt}" for each in self]
        return "\n".join(lines)

    def save(self, folder: Path | str) -> list[Path]:
        """Write each figure as NAME.png into a folder; their paths.

        Raises:
            ConfigError: The folder or a file in it cannot be written.
        """
        return save_all(self.drawings, Path(folder), self.sizes)

    def _ipython_display_(self) -> None:
        from IPython.display import Image, Markdown, display  # without types of its own

        for drawing in self:
            png = io.BytesIO()
            with house_style(PLAIN):
                drawing.plain(self.sizes).savefig(png, format="png", facecolor=PLAIN.card)
            display(Markdown(f"*{drawing.alt}*"))
            display(Image(png.getvalue(), alt=drawing.alt))


def of_fit(fitted: Fit | MixtureFit, table: Table | None = None) -> Figures:
    """The figures of a fit: the law over its rows, the optimum, residuals, the hold-out.

    Args:
        fitted: of `windtunnel.fit` or `windtunnel.fit_mixture`.
        table: the rows to draw; default: those of the fit.

    Raises:
        FitError: the fit was read from a file, which holds no rows, and none are given.
    """
    if isinstance(fitted, MixtureFit):
        return Figures(tuple(mixture.drawings(fitted)), NO_SIZES)
    rows = fitted.table if table is None else table
    if rows is None:
        raise FitError(
            "no-rows",
            "plot: a fit that was read from a file has no rows; give them: fit.plot(table)",
            law=fitted.law,
        )
    return Figures(
        tuple(fit_drawings(fitted, rows)), _sizes(rows.params if "params" in rows else ())
    )


def of_finding(finding: Finding, records: Records) -> Figures:
    """The figures of one finding of a study's records; none for a kind without figures."""
    return Figures(tuple(finding_drawings(finding)), _sizes(run.params for run in records.runs))


def of_study(study: HasRecords | Records, *experiments: str) -> Figures:
    """The figures of every finding, or of the findings of some experiments."""
    records = study if isinstance(study, Records) else study.records
    drawings = [
        drawing
        for finding in findings_of(records)
        if not experiments or finding.experiment in experiments
        for drawing in finding_drawings(finding)
    ]
    return Figures(tuple(drawings), _sizes(run.params for run in records.runs))


def show(study: HasRecords | Records, *experiments: str) -> None:
    """Show the findings of some experiments, or of all, in a notebook."""
    from IPython.display import Markdown, display
    from pandas import DataFrame

    records = study if isinstance(study, Records) else study.records
    for finding in findings_of(records):
        if experiments and finding.experiment not in experiments:
            continue
        display(Markdown(f"**{finding.title}, {finding.experiment}.** {finding.lead}"))
        table = DataFrame([each.row() for each in finding.quantities]).set_index("name")
        styled = table.style.format(precision=4, na_rep="")
        display(styled.set_uuid(f"{finding.kind}-{finding.experiment}"))
        of_finding(finding, records)._ipython_display_()
        by_code: dict[str, list[Diagnostic]] = {}
        for warning in finding.warnings:
            by_code.setdefault(warning.code, []).append(warning)
        for code, (first, *others) in by_code.items():
            more = f" ({len(others)} more)" if others else ""
            display(Markdown(f"*{code}*: {first.message}{more}"))


def loss_against_compute(study: HasRecords | Records, experiment: str) -> Figures:
    """Training loss against compute, with the ends of the decayed runs of one experiment.

    Raises:
        ConfigError: The study has no experiment of that name.
    """
    records = study if isinstance(study, Records) else study.records
    runs = records.of(experiment)
    drawing = frontier.loss_against_compute(records.curves, runs)
    return Figures((drawing,), _sizes(run.params for run in runs))


def _sizes(params: Iterable[float]) -> Floats:
    return np.unique(np.array(list(params), np.float64))
