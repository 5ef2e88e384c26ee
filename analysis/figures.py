"""Draw the figures of the documentation from the committed records, into docs/figures.

python analysis/figures.py [NAME ...]
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from windtunnel.findings import Finding, Records, findings_of, read_records
from windtunnel.findings.scaling_law import DataModelLaw
from windtunnel.laws.table import Floats
from windtunnel.report.figures.drawing import NO_SIZES, Drawing
from windtunnel.report.figures.frontier import loss_against_compute
from windtunnel.report.figures.registry import finding_drawings
from windtunnel.report.figures.search import searches
from windtunnel.runs.run import Run

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"

OF_FINDINGS: dict[str, tuple[str, str, str | None]] = {
    # The batch with the fewest tokens, against loss
    "batch-law": ("005-batch-size", "batch-law", None),
    # Four ways to train twice as long as planned
    "continuation": ("014-continuation", "variants-frontier-32x3-2000-steps", "twice"),
    # Changes of activations against width, muP and standard
    "coordinate-check": ("001-coordinate-check", "coordinate-check", None),
    # Cosine minus WSD at every length
    "cosine-against-wsd": ("006-wsd-against-cosine", "cosine-against-wsd", None),
    # Loss over rate for full cosines of two lengths
    "cosine-rates": ("010-wsd-and-cosine-rates", "cosine-lr-curves", "cosine"),
    # Exponents and ratio with the long horizons and without
    "data-model-exponents": ("008-data-model-law", "exponents-by-fit", None),
    # Compute-optimal tokens per parameter under both FLOP rules
    "data-model-ratio": ("008-data-model-law", "ratio-by-compute", None),
    # Candidate data sets after a short anneal against after training on each
    "data-ranking": ("013-data-verification", "ranking-anneals-against-scratch-32x3", "anneals"),
    # Shapes of a decay of 10%
    "decay-shape": ("006-wsd-against-cosine", "decay-shape", None),
    # Loss above a full cosine against the share of the decay
    "decay-share": ("006-wsd-against-cosine", "decay-share", None),
    # Forgetting on docs against gain on code, by the share of code in the decay
    "domain-frontier": ("012-domain-adaptation", "variants-frontier-32x3-4000-steps", "mix"),
    # Loss against tokens of adaptation
    "domain-length": ("012-domain-adaptation", "adaptation-code-32x3-4000-steps", "length"),
    # The same for five routes to half code
    "domain-routes": ("012-domain-adaptation", "variants-frontier-32x3-4000-steps", "routes"),
    # Loss over rate for every depth, under muP, CompleteP and standard
    "depth-transfer": ("017-depth-transfer", "depth-lr-curves", "depth"),
    # Loss of the small model against compute, two forms
    "envelope-forms": ("009-small-model-long", "approach-32x3", None),
    # Tokens to reach each loss, over batch, 48x3
    "equal-loss-curves": ("005-batch-size", "batch-levels-48x3", None),
    # Loss over rate for every width of a family without multipliers
    "family-rate": ("021-family-rate", "width-lr-curves", "width"),
    # Loss over batch and rate, with the rules
    "joint-grid": ("004-joint-lr-batch", "joint-surface", None),
    # Loss given up by the rate of the smallest width
    "lr-given-up": ("003-lr-transfer", "width-given-up", "width"),
    # Loss over rate for every depth
    "lr-over-depth": ("003-lr-transfer", "depth-lr-curves", "depth"),
    # Loss over rate for every length of training
    "lr-over-length": ("003-lr-transfer", "length-lr-curves", "length"),
    # Loss over raw and rescaled rate for every width, muP and standard
    "lr-transfer": ("003-lr-transfer", "width-lr-curves", "width"),
    # Losses of mixtures left out: predicted against measured
    "mixture-left-out": ("015-mixture-law", "mixture-left-out", None),
    # The mean loss over mixtures of docs, code and doctests in the decay
    "mixture-surface": ("015-mixture-law", "mixture", None),
    # Loss over rate with QK-norm and without
    "qk-norm": ("002-hyperparameter-search", "qk-norm-sensitivity", "qk-norm"),
    # A small model that trains long against one four times larger
    "small-model-long": ("009-small-model-long", "overtraining-32x3", None),
    # Six series through stable phase and decay
    "training-dynamics": ("007-training-dynamics", "training-dynamics-64x3-to-6000-steps", None),
    # Two stages: pairs in the decay or after it, on four validation sets
    "two-stage": ("011-two-stage", "variants-32x3-8000-steps", "B"),
    # Loss over rate for every width, both rules of weight decay
    "weight-decay-rules": ("003-lr-transfer", "weight-decay-lr-curves", "weight-decay"),
    # Loss over rate for decays of 10 and 20%, two lengths
    "wsd-rates": ("010-wsd-and-cosine-rates", "wsd-lr-curves", "wsd"),
}
"""Name -> study, drawing, and the experiment where several have such a drawing."""
LOSS_AGAINST_COMPUTE, SEARCHES = "loss-against-compute", "hyperparameter-search"
NAMES = (*OF_FINDINGS, LOSS_AGAINST_COMPUTE, SEARCHES)


def drawing_of(name: str) -> tuple[Drawing, Floats]:
    """A figure, and the model sizes that have a colour in it."""
    if name == SEARCHES:
        return searches(_records("002-hyperparameter-search")), NO_SIZES
    if name == LOSS_AGAINST_COMPUTE:
        study = "008-data-model-law"
        records = _records(study)
        (law,) = (each for each in _findings(study) if isinstance(each, DataModelLaw))
        rows = records.of(law.experiment)
        return loss_against_compute(records.curves, rows, law.fit), _sizes(rows)
    study, figure, experiment = OF_FINDINGS[name]
    records = _records(study)
    found: dict[str, Drawing] = {}
    for finding in _findings(study):
        for drawing in (
            finding_drawings(finding) if experiment in {None, finding.experiment} else ()
        ):
            found.setdefault(drawing.name, drawing)
    if figure not in found:
        raise SystemExit(f"{study} has no figure {figure!r}; it has {', '.join(found)}")
    return found[figure], _sizes(records.runs)


def draw(name: str) -> Path:
    """Write a figure as NAME.png and return its path."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    drawing, sizes = drawing_of(name)
    return replace(drawing, name=name).save(FIGURES, sizes)


@cache
def _records(study: str) -> Records:
    return read_records(ROOT / "experiments" / study / "records")


@cache
def _findings(study: str) -> tuple[Finding, ...]:
    """Fitted once for all figures of a study."""
    return findings_of(_records(study))


def _sizes(runs: Iterable[Run]) -> Floats:
    return np.unique([float(run.params) for run in runs])


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        print(draw(each).name)
