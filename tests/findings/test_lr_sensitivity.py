import math
from dataclasses import replace

import numpy as np
import pytest
from unrun import HEAD, planted_records

from windtunnel.findings.lr_sensitivity import sensitivities
from windtunnel.report.figures.lr import sensitivity_drawings

ONE = HEAD.replace("32x3, 64x3, 128x3", "32x3")
NORM = """
  - kind: grid
    name: qk-norm
    axes:
      model.qk_norm: [false, true]
      recipe.lr: [1e-3, 1e-2, 1e-1]
    horizons: [10N]
    seeds: 3
"""
LOSSES = {False: (2.6, 2.0, 9.0), True: (2.3, 2.0, 2.6)}
RATES = (1e-3, 1e-2, 1e-1)


def loss(run):
    return LOSSES[run.axes["model.qk_norm"]][RATES.index(run.lr)] + 0.1 * run.init_seed


def known(finding):
    return {each.name: each for each in finding.quantities}


def test_mean_loss_above_the_best_with_the_cap_at_init(tmp_path):
    (finding,) = sensitivities(planted_records(tmp_path, NORM, loss, head=ONE))
    found = known(finding)
    # Without: (0.6 + 0 + ln 256 - 2.1) / 3, for the mean of the seeds of the best rate is 2.1.
    without = (0.6 + math.log(256) - 2.1) / 3
    assert found["rate sensitivity, no QK-norm"].value == pytest.approx(without)
    assert found["rate sensitivity, QK-norm"].value == pytest.approx(0.3)
    ratio = found["rate sensitivity, QK-norm over no QK-norm"]
    assert ratio.value == pytest.approx(0.3 / without, rel=1e-3)
    assert ratio.low < ratio.value < ratio.high
    assert "QK-norm 0.300" in finding.lead


def test_a_run_that_diverged_counts_as_the_loss_at_init(tmp_path):
    def diverging(run):
        return None if loss(run) > 5 else loss(run)

    (finding,) = sensitivities(planted_records(tmp_path, NORM, diverging, head=ONE))
    found = known(finding)
    assert found["diverged runs, no QK-norm"].value == 3
    assert found["rate sensitivity, no QK-norm"].value == pytest.approx(
        (0.6 + math.log(256) - 2.1) / 3
    )
    (diverged,) = (each for each in finding.warnings if each.code == "diverged-runs")
    assert diverged.values == {"variant": "no QK-norm", "runs": 3, "loss": math.log(256)}


def test_vocabulary_of_a_tokenizer_comes_from_the_embedding(tmp_path):
    records = planted_records(tmp_path, NORM, loss, head=ONE)
    data = records.config.data.replace(tokenizer="own.json")
    runs = tuple(replace(run, params_embedding=1000 * 32) for run in records.runs)
    (finding,) = sensitivities(
        replace(records, config=records.config.replace(data=data), runs=runs)
    )
    assert finding.loss_at_init == pytest.approx(math.log(1000))


def test_only_seeds_with_every_rate_are_compared(tmp_path):
    records = planted_records(tmp_path, NORM, loss, head=ONE)
    runs = tuple(run for run in records.runs if run.lr != 1e-1 or run.init_seed == 0)
    (finding,) = sensitivities(replace(records, runs=runs))
    assert finding.variants[0].losses.shape == (1, 3)
    assert known(finding)["rate sensitivity, QK-norm"].low is None
    told = {warning.code: warning.values for warning in finding.warnings}
    assert told["missing-runs"] == {"runs": 4}
    none = tuple(run for run in records.runs if run.axes["model.qk_norm"])
    assert sensitivities(replace(records, runs=none)) == ()
    assert sensitivities(replace(records, runs=())) == ()


def test_figure(tmp_path):
    (finding,) = sensitivities(planted_records(tmp_path, NORM, loss, head=ONE))
    (drawing,) = sensitivity_drawings(finding)
    assert drawing.save(tmp_path, np.array([])).name == "qk-norm-sensitivity.png"
