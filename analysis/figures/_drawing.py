"""What every script here does: one figure of one finding, from records, into docs/figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import findings_of, read_records
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.registry import finding_drawings

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs" / "figures"


def draw(study: str, figure: str, *, name: str, experiment: str | None = None) -> None:
    """Save the drawing called `figure` of a study's findings (of one experiment) as `name`.png."""
    records = read_records(ROOT / "experiments" / study / "records")
    found = [
        drawing
        for finding in findings_of(records)
        if experiment in {None, finding.experiment}
        for drawing in finding_drawings(finding)
    ]
    chosen = [drawing for drawing in found if drawing.name == figure]
    if not chosen:
        names = ", ".join(drawing.name for drawing in found)
        raise SystemExit(f"{study} has no figure {figure!r}; it has {names}")
    sizes = np.unique([float(run.params) for run in records.runs])
    save(chosen[0], name=name, sizes=sizes)


def save(drawing: Drawing, *, name: str, sizes: np.ndarray) -> None:
    """Write a drawing as `name`.png."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    print(replace(drawing, name=name).save(FIGURES, sizes).name)
