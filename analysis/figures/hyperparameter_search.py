"""Experiment 002: two searches by value, docs/figures/hyperparameter-search.png.

python analysis/figures/hyperparameter_search.py
"""

from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.report.figures.searches import searches

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    records = read_records(ROOT / "experiments/002-hyperparameter-search/records")
    searches(records).save(ROOT / "docs/figures", np.array([]))


if __name__ == "__main__":
    main()
