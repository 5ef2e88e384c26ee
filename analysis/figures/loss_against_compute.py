"""Every training curve and decayed end against compute, with the frontier of the fitted law."""

from _drawing import ROOT, save

from windtunnel.findings import read_records
from windtunnel.findings.scaling_law import data_model_laws
from windtunnel.report.figures.frontier import loss_against_compute

if __name__ == "__main__":
    records = read_records(ROOT / "experiments" / "008-data-model-law" / "records")
    (finding,) = data_model_laws(records)
    drawing = loss_against_compute(records.curves, records.of(finding.experiment), finding.fit)
    sizes = records.table(finding.experiment).params
    save(drawing, name="loss-against-compute", sizes=sizes)
