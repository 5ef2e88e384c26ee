"""A design of mixtures read from records: planted losses, the finding, its figures."""

import math
from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.config.branch import MixtureDesign
from windtunnel.findings.mixture import mixture_laws
from windtunnel.laws.mixture import fit_mixture
from windtunnel.report.figures.registry import finding_drawings
from windtunnel.runs.table import variant_name

HEAD = """
data:
  sources: [builtin:docs, {path: "builtin:code", weight: 0}, {path: "builtin:doctests", weight: 0}]
model: {sizes: [32x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
"""
DESIGN = """
  - kind: branch
    name: mixed
    forks: [1000 steps]
    seeds: 2
    variants: {beside: {mixture: {docs: 1, code: 1}, decay: 400 steps}}
    design: {sources: [docs, code, doctests], mixtures_drawn: 12, decay: 100 steps}
"""
SLOPES = {"docs": -0.3, "code": -0.5, "doctests": -0.2}


def planted(run):
    """Loss on each set falls with its source's share; seed 1 lies higher as a whole."""
    return None if variant_name(run.variants) is None else 2.0


@pytest.fixture
def finding(tmp_path):
    drawn = MixtureDesign(sources=tuple(SLOPES), mixtures_drawn=12).mixtures()
    records = planted_records(tmp_path, DESIGN, planted, head=HEAD)

    def mixed(run):
        weights = drawn.get(variant_name(run.variants), {})
        mixture, losses = {name: weights.get(name, 0.0) / 1000 for name in SLOPES}, {}
        for place, (name, slope) in enumerate(SLOPES.items()):
            noise = 0.002 * math.sin(7 * place + 13 * mixture[name] + 5 * run.init_seed)
            losses[name] = math.exp(0.8 + slope * mixture[name] + noise + 0.01 * run.init_seed)
        losses["doctests_conditional"] = losses["doctests"]
        return replace(run, mixture=mixture, losses=losses)

    (found,) = mixture_laws(replace(records, runs=tuple(map(mixed, records.runs))))
    return found


@pytest.mark.medium
def test_the_law_is_read_from_the_design_alone(finding):
    assert finding.law.runs.rows == 2 * (3 + 1 + 12)
    assert "beside" not in finding.law.runs.variant
    assert fit_mixture(finding.law.runs).to_json() == finding.law.to_json()
    assert set(finding.law.target) == set(SLOPES)
    quantities = {each.name: each for each in finding.quantities}
    rank = quantities["rank correlation on mixtures left out, loss on code"]
    assert rank.value > 0.95
    assert rank.low <= rank.value <= rank.high
    assert quantities["share of code in the best mixture"].value == pytest.approx(1.0, abs=0.05)
    assert "predicted to be lowest" in finding.lead
    assert "code" in finding.lead


@pytest.mark.medium
def test_its_figures(finding, tmp_path):
    made = finding_drawings(finding)
    assert [each.save(tmp_path, np.empty(0)).stat().st_size > 10_000 for each in made] == [True] * 2


def test_a_design_without_a_law_says_why(tmp_path):
    records = planted_records(tmp_path, DESIGN, planted, head=HEAD)
    (found,) = mixture_laws(records)
    assert found.law is None
    assert "no law" in found.lead
    assert finding_drawings(found) == []
