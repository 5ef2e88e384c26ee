"""The law of the decay's mixture: planted laws come back."""

import numpy as np
import pytest
from mixtures import SLOPES, SOURCES, bowl, codes, design, flat, linear, rows_of

from windtunnel.laws.mixture import fit_mixture
from windtunnel.laws.mixture.models import KINDS, Polynomial
from windtunnel.laws.mixture.search import candidates, covers, lowest
from windtunnel.laws.mixture.selection import _ranks, held_out, rank_correlation

pytestmark = pytest.mark.usefixtures("without_trees")


@pytest.mark.medium
def test_a_planted_linear_law_is_recovered_without_noise():
    fitted = fit_mixture(rows_of(linear, noise=0.0), target=["code"], bootstrap=0)
    assert [choice.chosen for choice in fitted.choices.values()] == ["linear", "linear"]
    for name, slopes in zip(("docs", "code"), SLOPES, strict=True):
        found = fitted.coefficients[name]
        # ln loss of a source alone; between sources it is free of the trunks' noise.
        gaps = [found[source].value - found["docs"].value for source in SOURCES]
        assert gaps == pytest.approx(slopes - slopes[0])
    assert fitted.best.mixture == {"docs": 0.0, "code": 1.0, "math": 0.0}
    # Two mixtures have one loss, but for rounding.
    assert fitted.score.rank.value == pytest.approx(1.0, abs=0.01)
    assert fitted.best.gains[0].none
    assert "edge-mixture" in codes(fitted)
    assert "flat-best" not in codes(fitted)
    assert "gain-within-noise" not in codes(fitted)


def test_a_best_mixture_that_was_measured_and_lost_is_named():
    rows = rows_of(linear)
    for row in rows:
        row["loss_code"] *= 1.3 if row["variant"] == "mix01" else 1.0  # code alone
    kept = {"linear": KINDS["linear"]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("windtunnel.laws.mixture.selection.KINDS", kept)
        fitted = fit_mixture(rows, target=["code"], bootstrap=0)
    assert fitted.best.mixture["code"] == 1.0
    (warning,) = [each for each in fitted.warnings if each.code == "measured-worse"]
    losses = np.exp(fitted.points.log_loss[:, 1])
    lowest = int(losses.argmin())
    assert "was measured, and lost" in warning.message
    assert warning.values == {
        "mixture": "mix01",
        "target": pytest.approx(losses[1]),
        "lowest_mixture": f"mix{lowest:02}",
        "lowest": pytest.approx(losses[lowest]),
    }


def test_trunks_are_taken_out_before_mixtures_are_compared():
    """Losses that differ by trunk a hundred times more than by noise change no coefficient."""
    near, far = (fit_mixture(rows_of(linear, apart=apart), bootstrap=0) for apart in (0.0, 0.3))
    for name in ("docs", "code"):
        slopes = [
            each.coefficients[name]["math"].value - each.coefficients[name]["docs"].value
            for each in (near, far)
        ]
        assert slopes[0] == pytest.approx(slopes[1], abs=1e-6)
    assert far.laws.sigma == pytest.approx(near.laws.sigma, rel=1e-4)
    # The spread of two trunks, d and -d, is d * sqrt(2).
    assert far.laws.sigma_trunk == pytest.approx(np.sqrt(2) * abs(far.points.trunk_effects[0]))


@pytest.mark.medium
def test_an_optimum_inside_is_found_by_the_quadratic_and_lies_in_its_intervals():
    fine = np.random.default_rng(0).dirichlet(np.ones(3), 40_000)
    truth = fine[np.exp(bowl(fine)).mean(axis=1).argmin()]
    held = []
    for seed in range(10):
        fitted = fit_mixture(rows_of(bowl, seed=seed), bootstrap=150, seed=seed)
        assert [choice.chosen for choice in fitted.choices.values()] == ["quadratic"] * 2
        found = fitted.best.shares
        assert [found[name].value for name in SOURCES] == pytest.approx(truth, abs=0.06)
        inside = [share in found[name] for name, share in zip(SOURCES, truth, strict=True)]
        # A new run off the same trunks: the law of the planted table, their effects, and noise.
        drift = (fitted.points.log_loss - bowl(fitted.points.weights)).mean(axis=0)[0]
        noise = 0.003 * np.random.default_rng(100 + seed).standard_normal()
        again = np.exp(bowl(np.full(3, 1 / 3))[0] + drift + noise)
        forecast = fitted.predict(dict.fromkeys(SOURCES, 1 / 3))["docs"].loss
        held.append([*inside, again in forecast])
        assert not codes(fitted) & {"no-signal", "edge-mixture", "gain-within-noise"}
        assert fitted.best.gains[0].nats.low > 0
    share = np.mean(held, axis=0)
    # At a nominal 0.9, of 10 tables 6 or more hold the truth but once in 600.
    assert np.all(share >= 0.6)
    assert np.mean(share) < 1


@pytest.mark.medium
def test_of_two_that_predict_as_well_the_simpler_is_taken():
    chosen = [
        choice.chosen
        for seed in range(5)
        for choice in fit_mixture(rows_of(linear, seed=seed), bootstrap=0).choices.values()
    ]
    assert chosen.count("linear") >= 8


def test_noise_alone_is_no_signal_and_no_gain():
    fitted = fit_mixture(rows_of(flat, seed=3), bootstrap=200, default={"docs": 0.5, "code": 0.5})
    sets = [w.values.get("set") for w in fitted.warnings if w.code == "no-signal"]
    assert sets == ["docs", "code", None]  # two sets, and their mean
    assert "gain-within-noise" in codes(fitted)
    assert 0 in fitted.best.gains[1].nats


def test_the_target_weighs_the_sets():
    rows = rows_of(linear)
    docs, both = (
        fit_mixture(rows, target=target, bootstrap=0)
        for target in (["docs"], {"docs": 1, "code": 3})
    )
    assert docs.best.mixture["docs"] == pytest.approx(1.0, abs=1e-3)
    assert both.target == {"docs": 0.25, "code": 0.75}
    losses = both.losses(np.eye(3))
    assert both.target_at(np.eye(3)) == pytest.approx(losses @ [0.25, 0.75])
    assert both.best.target.loss.value == pytest.approx(
        0.25 * both.best.losses["docs"].loss.value + 0.75 * both.best.losses["code"].loss.value
    )


def test_a_mixture_is_left_out_with_all_its_runs():
    """A mixture that lies far off the others' law is foretold by them, not by itself."""
    shares = design(12)
    log_loss = linear(shares)[:, 0].copy()
    expected = log_loss[5]
    log_loss[5] += 1.0
    assert held_out("linear", shares, log_loss, np.ones(12))[5] == pytest.approx(expected)


def test_rank_correlation_by_hand():
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15).
    found = rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 9, 2, 10]), seed=0, level=0.9)
    assert found.value == pytest.approx(0.8)
    assert found.low < 0.8 < found.high or found.high == 1.0


def test_scheffe_coefficients_by_hand():
    """ln L = 1 w1 + 2 w2 + 3 w1 w2 at (0.25, 0.75) is 1.75 + 0.5625, slopes 1 + 2.25, 2 + 0.75."""
    model = Polynomial(np.array([[1.0], [2.0], [3.0]]))
    at = np.array([[0.25, 0.75]])
    assert model(at) == pytest.approx(np.array([[2.3125]]))
    assert model.own(at) == pytest.approx([2.3125])
    assert model.slopes(at) == pytest.approx(np.array([[3.25, 2.75]]))


def test_the_exponential_finds_its_constant():
    """L = 2 + exp(b w): what the trunk has learnt is lost steeply near a share of 0."""
    shares = design(15)
    beta = np.array([-5.0, 0.5, -0.5])
    loss = 2 + np.exp(shares @ beta)
    both = np.log(np.stack([loss, 2 * loss], axis=1))
    found = KINDS["exponential"].fit(shares, both, np.ones(15))
    assert found.offset == pytest.approx([2.0, 4.0], rel=2e-3)
    assert found.beta[:, 0] == pytest.approx(beta, abs=0.1)
    assert found(shares)[:, 1] == pytest.approx(np.log(2 * loss), abs=1e-3)
    at, step = np.array([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]]), 1e-6
    moved = at + step * np.eye(3)[1]
    assert found.slopes(at)[:, 1] == pytest.approx((found.own(moved) - found.own(at)) / step, 1e-3)

    def steep(shares):
        return np.log(2 + np.exp(shares @ np.stack([beta, beta[::-1]], axis=1)))

    fitted = fit_mixture(rows_of(steep, mixtures=20), bootstrap=0)
    assert [choice.chosen for choice in fitted.choices.values()] == ["exponential"] * 2
    assert fitted.coefficients["docs"]["c"].value == pytest.approx(2.0, abs=0.05)


def test_the_quadratic_is_read_off_its_regression_exactly():
    shares = design(15)
    beta = np.array([1.0, 1.2, 1.3, -0.4, 0.3, -0.2])
    log_loss = Polynomial(beta[:, None])(shares)
    both = np.concatenate([log_loss, log_loss + 1], axis=1)
    found = KINDS["quadratic"].fit(shares, both, np.ones(15))
    assert found.beta[:, 0] == pytest.approx(beta, abs=1e-3)
    assert found.beta[:3, 1] - found.beta[:3, 0] == pytest.approx(np.ones(3), abs=1e-3)


def test_trees_find_nothing_worse_than_what_was_tried():
    rng = np.random.default_rng(0)
    tried = np.concatenate([np.eye(6), rng.dirichlet(np.ones(6), 24)])
    log_loss = np.log(2 + 3 * ((tried - 1 / 6) ** 2).sum(axis=1, keepdims=True))
    trees = KINDS["boosting"].fit(tried, log_loss, np.ones(30))
    best = lowest([trees], np.ones(1), tried)
    assert trees(best)[0, 0] <= trees(tried).min()


def test_the_best_stays_within_the_mixtures_tried():
    """A law that falls towards code ends at the largest share of code of any mixture."""
    shares = np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    among = candidates(shares)
    assert among.sum(axis=1) == pytest.approx(np.ones(len(among)))
    model = Polynomial(np.array([[2.0, 1.0], [1.0, 2.0]]))
    found = lowest((model,), np.ones(1), shares)
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.8, 0.2]]), abs=1e-9)
    assert covers(shares, np.array([0.7, 0.3]))
    assert not covers(shares, np.array([0.3, 0.7]))


def test_ranks_of_resamples_are_mean_ranks():
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, 12).astype(float)
    drawn = rng.integers(0, 12, (50, 12))
    times = np.stack([np.bincount(row, minlength=12) for row in drawn])
    ranks = _ranks(values, times)
    for row, found in zip(drawn, ranks, strict=True):
        assert found[row] == pytest.approx(rankdata(values[row]))
