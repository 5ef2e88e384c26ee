"""docs/figures/joint-grid.png, from the records of experiment 004: loss over batch and rate.

python analysis/figures/joint_grid.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.rates.joint import joints
from windtunnel.report.figures.joint import drawings

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    (found,) = joints(read_records(ROOT / "experiments/004-joint-lr-batch/records"))
    sizes = {valley.params for size in found.sizes for valley in size.valleys}
    drawing = replace(drawings(found)[0], name="joint-grid")
    drawing.save(ROOT / "docs/figures", np.array(sorted(sizes)))


if __name__ == "__main__":
    main()
