"""docs/figures/batch-size.png, from the records of experiment 005.

python analysis/figures/batch_size.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.batch import batches
from windtunnel.report.figures.batch_findings import drawings

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    (found,) = batches(read_records(ROOT / "experiments/005-batch-size/records"))
    drawing = replace(drawings(found)[0], name="batch-size")
    drawing.save(ROOT / "docs/figures", np.array(sorted(found.sizes)))


if __name__ == "__main__":
    main()
