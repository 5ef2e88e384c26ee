"""docs/figures/training-dynamics.png, from the records of experiment 007.

python analysis/figures/training_dynamics.py
"""

import dataclasses
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.dynamics.phases import training_dynamics
from windtunnel.report.figures.dynamics import drawings

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "007-training-dynamics" / "records"
FIGURES = ROOT / "docs" / "figures"


def main() -> None:
    """Draw the experiment's first finding."""
    finding, *_ = training_dynamics(read_records(RECORDS))
    (drawing,) = (dataclasses.replace(each, name="training-dynamics") for each in drawings(finding))
    FIGURES.mkdir(parents=True, exist_ok=True)
    drawing.save(FIGURES, np.array([float(pair.branch.params) for pair in finding.pairs]))


if __name__ == "__main__":
    main()
