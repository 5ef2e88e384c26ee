"""Loss above the best against every searched value, two searches."""

import numpy as np
from _drawing import ROOT, save

from windtunnel.findings import read_records
from windtunnel.report.figures.search import searches

if __name__ == "__main__":
    records = read_records(ROOT / "experiments" / "002-hyperparameter-search" / "records")
    save(searches(records), name="hyperparameter-search", sizes=np.array([]))
