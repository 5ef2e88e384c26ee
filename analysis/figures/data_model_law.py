"""docs/figures/data-model-law.png, from the records of experiment 008.

python analysis/figures/data_model_law.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.data_model.law import data_model_laws
from windtunnel.report.figures.scaling_finding import drawings

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "008-data-model-law" / "records"
FIGURES = ROOT / "docs" / "figures"


def main() -> None:
    """Draw the best ratio against compute."""
    (finding,) = data_model_laws(read_records(RECORDS))
    ratio, *_ = drawings(finding)
    FIGURES.mkdir(parents=True, exist_ok=True)
    replace(ratio, name="data-model-law").save(FIGURES, np.empty(0))


if __name__ == "__main__":
    main()
