import math
from dataclasses import replace

import numpy as np
import pytest
from unrun import HEAD, planted_records

from windtunnel.findings.lr_batch import STEPLAW_RATE, joints
from windtunnel.report.figures.lr import lr_batch_drawings

WIDE = HEAD.replace("128x3", "96x3")
JOINT = """
  - kind: grid
    name: joint
    axes:
      size: [32x3, 64x3, 96x3]
      recipe.lr: [2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
      recipe.batch_tokens: [256, 512, 1024, 2048]
    horizons: [819200 tokens]
    seeds: 2
"""
BEND = 0.03


def planted(folder, exponent, *, noise=0.0, size=0.0):
    rng = np.random.default_rng(3)

    def loss(run):
        best = 8e-3 * (run.batch_tokens / 724) ** exponent * (run.width / 64) ** size
        curve = 2.2 * math.exp(BEND * math.log(run.lr / best) ** 2)
        return curve + noise * rng.standard_normal()

    return planted_records(folder, JOINT, loss, head=WIDE)


def known(finding):
    found = {each.name: each for each in finding.quantities}
    assert len(found) == len(finding.quantities)
    return found


@pytest.mark.parametrize(("exponent", "rule"), [(0.0, "none"), (0.5, "sqrt")])
def test_the_rule_that_was_planted_is_supported_and_costs_least(tmp_path, exponent, rule):
    (finding,) = joints(planted(tmp_path, exponent, noise=0.01))
    assert finding.supports == (rule,)
    assert f"It supports `{rule}`" in finding.lead
    best = min(("none", "sqrt", "linear"), key=lambda name: finding.rule_costs[name].mean)
    assert best == rule
    found = known(finding)["exponent of the best rate in the batch"]
    assert found.low < exponent < found.high
    assert found.high - found.low < 0.15


@pytest.mark.medium
def test_regret_of_a_rule_is_the_valley_at_its_rate(tmp_path):
    (finding,) = joints(planted(tmp_path, 0.5))
    found = known(finding)
    assert found["exponent of the best rate in the batch"].value == pytest.approx(0.5, rel=1e-6)
    assert finding.rule_costs["none"].anchor == 512
    # Batch 2048 wants twice the rate of batch 512.
    worst = 2.2 * math.expm1(BEND * math.log(2) ** 2)
    assert found["loss given up by keeping the rate, worst batch"].value == pytest.approx(worst)
    assert found["loss given up by the square-root rule, worst batch"].value < 1e-9


def test_another_exponent_supports_no_rule(tmp_path):
    (finding,) = joints(planted(tmp_path, 0.25, noise=0.003))
    assert finding.supports == ()
    assert "none of the usual rules" in finding.lead


@pytest.mark.medium
def test_power2_finds_size_and_batch_together(tmp_path):
    (finding,) = joints(planted(tmp_path, 0.3, size=-0.4))
    found = known(finding)
    assert found["exponent of the best rate in the batch (power2)"].value == pytest.approx(
        0.3, abs=0.01
    )
    # params grow nearly as width^2.
    assert found["exponent of the best rate in the size (power2)"].value == pytest.approx(
        -0.2, abs=0.02
    )
    assert found["mean regret of the fitted rate law (power2)"].value < 0.02


@pytest.mark.medium
def test_steplaw_is_the_published_law_and_what_lies_outside_is_said(tmp_path):
    (finding,) = joints(planted(tmp_path, 0.5))
    small, middle, _ = finding.steplaw
    assert small.lr == pytest.approx(1.79 * small.params**-0.713 * 819200**0.307)
    assert small.batch == pytest.approx(0.58 * 819200**0.571)
    # The paper's own example of scale: 1 B parameters on 100 B tokens train at about 1.6e-3.
    assert float(STEPLAW_RATE(1e9, 1e11)) == pytest.approx(1.6e-3, rel=0.05)
    assert small.lr > 3.2e-2
    assert np.isnan(small.regret)
    beyond = [each.values for each in finding.warnings if each.code == "published-outside"]
    assert "32x3" in [values["size"] for values in beyond]
    assert middle.nearest == 1024
    best = 8e-3 * (1024 / 724) ** 0.5
    above = 2.2 * math.expm1(BEND * math.log(middle.lr / best) ** 2)
    assert middle.regret == pytest.approx(above, abs=0.005)
    assert "published-parametrization" in [warning.code for warning in finding.warnings]


@pytest.mark.medium
def test_a_rule_that_leaves_the_rates_tried_is_counted_not_dropped(tmp_path):
    (finding,) = joints(planted(tmp_path, 0.9))
    none, linear = finding.rule_costs["none"], finding.rule_costs["linear"]
    assert none.known + none.outside == 9
    assert linear.known + linear.outside == 9
    (steep,) = joints(planted(tmp_path, 0.5, size=1.5))
    assert steep.rule_costs["linear"].outside > 0
    outside = {each.values["rule"]: each.values["cells"] for each in steep.warnings
               if each.code == "outside-rates"}  # fmt: skip
    assert outside["linear"] == steep.rule_costs["linear"].outside


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_half_done_sweep_says_what_it_can(tmp_path, share):
    whole = planted(tmp_path, 0.5, noise=0.01)
    rng = np.random.default_rng(0)
    some = tuple(run for run in whole.runs if rng.uniform() < share)
    found = joints(replace(whole, runs=some))
    for finding in found:
        assert finding.lead
        known(finding)
        assert "missing-runs" in [warning.code for warning in finding.warnings]
        assert lr_batch_drawings(finding)
    assert bool(found) == (share > 0)


@pytest.mark.medium
def test_figure_has_a_panel_a_size(tmp_path):
    (finding,) = joints(planted(tmp_path, 0.5, noise=0.01))
    (drawing,) = lr_batch_drawings(finding)
    assert drawing.save(tmp_path, np.array([])).name == "joint-surface.png"
    assert "32x3, 64x3, 96x3" in drawing.alt
