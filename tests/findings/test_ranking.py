from dataclasses import replace

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.findings import findings_of
from windtunnel.findings.ranking import (
    RankingFinding,
    kendall,
    loudest,
    neighbours_within_noise,
    rankings,
    spearman,
    true_means,
)
from windtunnel.report.figures.branches import ranking_drawings
from windtunnel.runs.table import variant_name

NAMES = ("a", "b", "c", "d", "e", "f")
HEAD = """
data: {sources: [builtin:docs, {path: "builtin:code", weight: 0}]}
model: {sizes: [32x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""


def study(*, seeds=3, extra="", dear="[{mixture: MIXED, stable: 700 steps}, {decay: 200 steps}]"):
    """Six mixtures, each annealed for 100 updates after 800 and trained on for 900 after 50."""
    named = [(name, f"{{docs: {7 + place}, code: 3}}") for place, name in enumerate(NAMES)]
    short = [f"{n}: {{mixture: {m}, decay: 100 steps}}" for n, m in named]
    long = [f"{n}: {dear.replace('MIXED', m)}" for n, m in named]
    return f"""
  - kind: branch
    name: anneals
    forks: [800 steps]
    seeds: {seeds}
    variants: {{{", ".join(short)}{extra}}}
  - kind: branch
    name: scratch
    forks: [50 steps]
    seeds: {seeds}
    variants: {{{", ".join(long)}}}
"""


def planted(order, *, own=0.0, step=0.01, draw=0, blown=()):
    """Losses step by step: of anneals in the order of NAMES, of long training in `order`."""
    rng, shared = np.random.default_rng(draw), {}

    def loss(run):
        short = run.is_of("anneals")
        name, seed = variant_name(run.variants), run.init_seed
        if not run.decayed:  # the first stage of a chain
            return {"docs": 4.0, "code": 4.0}
        if (*run.experiments, name, seed) in blown:
            return None
        place = NAMES.index(name) if short else order.index(name)
        trunk = shared.setdefault((short, seed), 0.05 * rng.standard_normal())
        return {
            on: 2 + step * place + trunk + own * rng.standard_normal() for on in ("docs", "code")
        }

    return loss


def read(tmp_path, loss, text=None):
    (found,) = rankings(planted_records(tmp_path, text or study(), loss, head=HEAD))
    return found, {each.name: each for each in found.quantities}


def test_the_same_order_is_found_whatever_the_trunks_are(tmp_path):
    found, known = read(tmp_path, planted("abcdef", own=5e-4))
    rho = known["rank correlation on code, anneals against scratch"]
    assert rho.value == rho.high == 1.0
    assert rho.low > 0.8
    assert known["Kendall's tau on docs, anneals against scratch"].value == 1.0
    assert known["regret on code of choosing by anneals"].value == 0.0
    assert known["chance that anneals and scratch agree on the best for code"].value > 0.99
    assert known["rank correlation on code, scratch against its repeat"].value > 0.98
    assert "'a' is best in both" in found.lead


def test_the_reverse_order_is_found_and_what_it_loses(tmp_path):
    found, known = read(tmp_path, planted("fedcba", own=5e-4))
    rho = known["rank correlation on docs, anneals against scratch"]
    assert rho.value == -1.0
    assert rho.high < -0.8
    regret = known["regret on docs of choosing by anneals"]
    assert regret.low < 0.05 < regret.high
    assert regret.high - regret.low < 0.01
    assert regret.unit == "nats per token"
    assert "'a', is 0.0" in found.lead


@pytest.mark.medium
def test_noise_alone_is_no_ranking(tmp_path):
    hits, ceilings = [], []
    for draw in range(20):
        found, _ = read(tmp_path, planted("abcdef", own=0.01, step=0.0, draw=draw))
        hits += [0.0 in found.rho(on) for on in found.sets]
        ceilings += [found.ceiling(on).value for on in found.sets]
    assert np.mean(hits) > 0.85
    assert np.mean(ceilings) < 0.5
    close = [each.values for each in found.warnings if each.code == "ranks-within-noise"]
    assert {values["of"] for values in close} == {5}


def test_compute_is_that_of_the_branches_and_with_trunks(tmp_path):
    found, known = read(tmp_path, planted("abcdef"))
    assert known["cost of anneals over scratch"].value == pytest.approx(100 / 900)
    # six branches of 100 on a trunk of 800, and six of 900 on one of 50
    whole = (6 * 100 + 800) / (6 * 900 + 50)
    assert known["cost of anneals over scratch, with their trunks"].value == pytest.approx(whole)
    assert (found.cheap.tokens, found.dear.tokens) == (100 * 512, 900 * 512)


def test_a_stage_that_variants_share_is_counted_once(tmp_path):
    text = study(dear="[{stable: 700 steps}, {mixture: MIXED, decay: 200 steps}]")
    _, known = read(tmp_path, planted("abcdef"), text)
    assert known["cost of anneals over scratch"].value == pytest.approx(600 / (700 + 6 * 200))


def test_one_seed_has_no_interval(tmp_path):
    found, known = read(tmp_path, planted("abcdfe", own=1e-3), study(seeds=1))
    assert all(each.low is None for each in found.quantities)
    assert not any("repeat" in name or "chance" in name for name in known)
    alone = [each.values for each in found.warnings if each.code == "one-seed"]
    assert {"experiment": "anneals", "seeds": 1} in alone


def test_variants_that_are_not_in_both_are_named(tmp_path):
    order = ("a", "b", "c", "d", "e", "f", "g")
    blown = {("anneals", "c", 1), *(("scratch", "f", seed) for seed in range(3))}
    loss = planted(order, own=1e-3, blown=blown)
    text = study(extra=", g: {mixture: {code: 1}, decay: 100 steps}")

    def lossy(run):
        if variant_name(run.variants) == "g":
            return {"docs": 3.0, "code": 3.0}
        return loss(run)

    found, _ = read(tmp_path, lossy, text)
    assert found.variants == ("a", "b", "c", "d", "e")
    assert found.cheap.seeds == (0, 2)
    told = {warning.code: warning.values for warning in found.warnings}
    assert told["unshared-variants"] == {"variants": ("f", "g")}
    assert told["unfinished-variants"] == {"variants": ("c",), "experiment": "anneals"}


def test_experiments_of_like_length_and_half_done_ones_are_none(tmp_path):
    text = study(dear="{mixture: MIXED, decay: 250 steps}")
    assert not rankings(planted_records(tmp_path, text, planted("abcdef"), head=HEAD))
    records = planted_records(tmp_path, study(), planted("abcdef", own=1e-3), head=HEAD)
    seen = 0
    for done in range(0, len(records.runs) + 1, 3):
        for found in rankings(replace(records, runs=records.runs[:done])):
            seen += 1
            assert found.lead
            assert all(np.isfinite(each.value) for each in found.quantities)
    assert seen
    assert sum(isinstance(each, RankingFinding) for each in findings_of(records)) == 1


def test_correlations_by_hand():
    # ranks 1 2 3 4 against 2 1 4 3: rho = 1 - 6 * 4 / 60, and 4 of 6 pairs agree
    some, others = np.array([0.1, 0.2, 0.3, 0.4]), np.array([2.0, 1.0, 4.0, 3.0])
    assert spearman(some, others) == pytest.approx(0.6)
    assert kendall(some, others) == pytest.approx(2 / 6)


def test_neighbours_by_hand():
    losses = np.array([[1.0, 1.1], [1.001, 1.099], [2.0, 2.1]])
    # gaps of 0 and 1; the noise after the means of seed is some 0.001
    assert neighbours_within_noise(losses) == 1
    assert neighbours_within_noise(losses[:, :1]) == 0


def test_one_variant_may_have_all_the_noise(tmp_path):
    losses = np.array([[1.0, 1.1], [1.2, 1.3], [1.4, 1.5], [3.0, 2.1], [1.6, 1.7]])
    place, share = loudest(losses)
    assert (place, share) == (3, pytest.approx(1.0))
    loss = planted("abcdef", own=1e-3)

    def loud(run):
        losses = loss(run)
        if variant_name(run.variants) == "f":
            losses["code"] += 5 + (run.init_seed - 1) ** 2
        return losses

    found, known = read(tmp_path, loud)
    noisy = [each.values for each in found.warnings if each.code == "noise-of-one"]
    assert [values["variant"] for values in noisy] == ["f", "f"]
    # One variant that is far off would be in place by itself: it says nothing of the other five.
    assert known["rank correlation on code, anneals against scratch"].low < 0.6


@pytest.mark.medium
def test_intervals_cover_the_true_correlation():
    rng, hits, repeats = np.random.default_rng(0), [], []
    for _ in range(100):
        truth = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=8)
        noise = 0.6 * rng.standard_normal((2, 8, 3)) + rng.standard_normal((2, 1, 3))
        some, others = truth.T[:, :, None] + noise
        low, high = true_means(some, others).rho
        hits.append(low <= spearman(*truth.T) <= high)
        again = truth[:, 1, None] + 0.6 * rng.standard_normal((8, 3))
        repeats.append(spearman(others.mean(axis=1), again.mean(axis=1))
                       - true_means(some, others).repeated().value)  # fmt: skip
    assert np.mean(hits) > 0.82
    assert abs(np.mean(repeats)) < 0.06


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.medium
def test_the_figure_has_a_panel_for_each_set(tmp_path, seeds):
    found, _ = read(tmp_path, planted("badcfe", own=3e-3), study(seeds=seeds))
    (drawing,) = ranking_drawings(found)
    assert drawing.save(tmp_path, np.array([])).stat().st_size > 5000
    seen = drawing.plain(np.array([])).axes
    assert [sorted(text.get_text() for text in axes.texts) for axes in seen] == [sorted(NAMES)] * 2
    assert "ρ = 0.83" in seen[0].get_title(loc="left")
