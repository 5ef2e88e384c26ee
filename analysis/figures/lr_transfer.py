"""docs/figures/lr-transfer.png, from the records of experiment 003: the valleys over width.

python analysis/figures/lr_transfer.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.rates.transfer import transfers
from windtunnel.report.figures.transfer import drawings

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    records = read_records(ROOT / "experiments/003-lr-transfer/records")
    found = next(each for each in transfers(records) if each.experiment == "width")
    sizes = {valley.params for variant in found.variants for valley in variant.valleys}
    drawing = replace(drawings(found)[0], name="lr-transfer")
    drawing.save(ROOT / "docs/figures", np.array(sorted(sizes)))


if __name__ == "__main__":
    main()
