"""Experiment 001: changes of activations against width, docs/figures/coordinate-check.png.

python analysis/figures/coordinate_check.py
"""

from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.coordinates import coordinates
from windtunnel.report.figures.coordinates import drawings

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    (found,) = coordinates(read_records(ROOT / "experiments/001-coordinate-check/records"))
    (drawing,) = drawings(found)
    drawing.save(ROOT / "docs/figures", np.array([]))


if __name__ == "__main__":
    main()
