"""docs/figures/wsd-against-cosine.png, from the records of experiment 006.

python analysis/figures/wsd_against_cosine.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.schedules.comparison import schedules
from windtunnel.report.figures.schedules import drawings

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    (found,) = schedules(read_records(ROOT / "experiments/006-wsd-against-cosine/records"))
    drawing = replace(drawings(found)[0], name="wsd-against-cosine")
    drawing.save(ROOT / "docs/figures", np.array([]))


if __name__ == "__main__":
    main()
