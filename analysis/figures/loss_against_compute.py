"""docs/figures/loss-against-compute.png, from the records of experiment 008.

python analysis/figures/loss_against_compute.py
"""

from pathlib import Path

from windtunnel.findings import read_records
from windtunnel.findings.data_model.law import data_model_laws
from windtunnel.report.figures.loss_compute import loss_against_compute

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "008-data-model-law" / "records"
FIGURES = ROOT / "docs" / "figures"


def main() -> None:
    """Draw every training curve, every decayed end, and the frontier of the finding's law."""
    records = read_records(RECORDS)
    (finding,) = data_model_laws(records)
    rows = records.of(finding.experiment)
    FIGURES.mkdir(parents=True, exist_ok=True)
    sizes = records.table(finding.experiment).params
    loss_against_compute(records.curves, rows, finding.fit).save(FIGURES, sizes)


if __name__ == "__main__":
    main()
