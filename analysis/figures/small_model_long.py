"""docs/figures/small-model-long.png, from the records of experiment 009.

python analysis/figures/small_model_long.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from windtunnel.findings import read_records
from windtunnel.findings.catching_up.catch_up import catch_ups
from windtunnel.report.figures.catch_up import drawings

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Draw it from the records."""
    (found,) = catch_ups(read_records(ROOT / "experiments/009-small-model-long/records"))
    drawing = replace(drawings(found)[0], name="small-model-long")
    drawing.save(
        ROOT / "docs/figures", np.array([found.pair.small.params, found.pair.large.params])
    )


if __name__ == "__main__":
    main()
