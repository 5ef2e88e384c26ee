"""The law of the decay's mixture: planted laws, refusals, and the same numbers after a file."""

import json

import numpy as np
import pytest

from windtunnel.errors import FitError
from windtunnel.laws import Table, fit
from windtunnel.laws.mixture import MixtureFit, fit_mixture
from windtunnel.laws.mixture.choice import held_out, rank_correlation
from windtunnel.laws.mixture.fitting import target_weights
from windtunnel.laws.mixture.reach import covers
from windtunnel.laws.mixture.runs import points_of, runs_of_rows, runs_of_table
from windtunnel.laws.mixture.search import candidates, lowest
from windtunnel.laws.mixture.surfaces import KINDS, Polynomial

SOURCES = ("docs", "code", "math")
SLOPES = np.array([[1.0, 1.2, 1.3], [1.3, 0.9, 1.1]])
CENTRES = np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3]])


def linear(shares):
    return shares @ SLOPES.T


def bowl(shares):
    """Of both sets, with one optimum of their mean inside the triangle."""
    return 1 + 0.3 * ((shares[..., None, :] - CENTRES) ** 2).sum(axis=-1)


def flat(shares):
    return np.ones((*shares.shape[:-1], 2))


def design(mixtures, sources=3, seed=0):
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.ones(sources), mixtures - sources - 1)
    return np.concatenate([np.eye(sources), np.full((1, sources), 1 / sources), drawn])


def rows_of(law, *, mixtures=16, trunks=2, noise=0.003, seed=0, apart=0.01):
    """Branches as a study has them: every trunk decays on every mixture."""
    rng = np.random.default_rng(seed)
    rows = []
    for trunk in range(trunks):
        shared = apart * rng.standard_normal(2)
        for number, shares in enumerate(design(mixtures)):
            loss = np.exp(law(shares) + shared + noise * rng.standard_normal(2))
            rows.append(
                {
                    **{
                        f"weight_{name}": share for name, share in zip(SOURCES, shares, strict=True)
                    },
                    "loss_docs": loss[0],
                    "loss_code": loss[1],
                    "trunk": f"t{trunk}",
                    "variant": f"mix{number:02}",
                    "params": 1e5,
                    "tokens": 1e7,
                    "decayed": True,
                }
            )
    return rows


@pytest.fixture
def trees():
    """Asked for by a test that boosts."""


@pytest.fixture(autouse=True)
def without_trees(request, monkeypatch):
    """Trees take seconds: only the tests that ask for them have them."""
    if "trees" not in request.fixturenames:
        kinds = {name: kind for name, kind in KINDS.items() if name != "boosting"}
        monkeypatch.setattr("windtunnel.laws.mixture.choice.KINDS", kinds)


def codes(fitted):
    return {warning.code for warning in fitted.warnings}


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
        patched.setattr("windtunnel.laws.mixture.choice.KINDS", kept)
        fitted = fit_mixture(rows, target=["code"], bootstrap=0)
    assert fitted.best.mixture["code"] == 1.0
    (said,) = [each.message for each in fitted.warnings if each.code == "measured-worse"]
    losses = np.exp(fitted.points.log_loss[:, 1])
    lowest = int(losses.argmin())
    assert "was measured, and lost" in said
    assert f"{losses[1]:.4f} at mix01 (code 1.00)" in said
    assert f"{losses[lowest]:.4f} at mix{lowest:02}" in said


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


def test_of_two_that_predict_as_well_the_simpler_is_taken():
    chosen = [
        choice.chosen
        for seed in range(5)
        for choice in fit_mixture(rows_of(linear, seed=seed), bootstrap=0).choices.values()
    ]
    assert chosen.count("linear") >= 8


def test_noise_alone_is_no_signal_and_no_gain():
    fitted = fit_mixture(rows_of(flat, seed=3), bootstrap=200, default={"docs": 0.5, "code": 0.5})
    said = [warning.message for warning in fitted.warnings if warning.code == "no-signal"]
    assert len(said) == 3  # of two sets, and of their mean
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
    surface = Polynomial(np.array([[1.0], [2.0], [3.0]]))
    at = np.array([[0.25, 0.75]])
    assert surface(at) == pytest.approx(np.array([[2.3125]]))
    assert surface.own(at) == pytest.approx([2.3125])
    assert surface.slopes(at) == pytest.approx(np.array([[3.25, 2.75]]))


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


def test_the_best_stays_within_the_mixtures_tried():
    """A law that falls towards code ends at the largest share of code of any mixture."""
    shares = np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    among = candidates(shares)
    assert among.sum(axis=1) == pytest.approx(np.ones(len(among)))
    surface = Polynomial(np.array([[2.0, 1.0], [1.0, 2.0]]))
    found = lowest((surface,), np.ones(1), shares)
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.8, 0.2]]), abs=1e-9)
    assert covers(shares, np.array([0.7, 0.3]))
    assert not covers(shares, np.array([0.3, 0.7]))


def test_beyond_the_mixtures_tried_a_forecast_is_extrapolated():
    rows = [row for row in rows_of(linear, mixtures=20) if row["weight_math"] < 0.5]
    fitted = fit_mixture(rows, bootstrap=0, default={"math": 1.0})
    assert "extrapolates" in codes(fitted)
    assert fitted.predict({"math": 0.9, "docs": 0.1})["docs"].loss.warnings
    assert not fitted.predict({"code": 0.5, "docs": 0.5})["docs"].loss.warnings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": 2e5}, "params differs between runs"),
        ({"tokens": 2e7}, "--where 'tokens == 10000000'"),
        ({"fork_tokens": 5e6}, "fork_tokens differs"),
        ({"weight_docs": 0.7}, "are shares, 0 or more, with sum 1"),
        ({"loss_docs": 0.0}, "a loss is above 0"),
        ({"variant": "longer", "weight_docs": 0, "weight_code": 1},
         "'longer' and 'mix01' are one mixture off trunk t0"),
    ],
)  # fmt: skip
def test_runs_that_differ_in_more_than_their_mixture_are_refused(change, said):
    rows = [{**row, "fork_tokens": 4e6} for row in rows_of(linear)]
    rows[0] = {**rows[0], **change}
    with pytest.raises(FitError, match="mixture") as refused:
        fit_mixture(rows)
    assert said in str(refused.value)


def test_other_refusals():
    rows = rows_of(linear)
    with pytest.raises(FitError, match="needs 6 or more"):
        fit_mixture(rows_of(linear, mixtures=5))
    with pytest.raises(FitError, match="did you mean 'docs'"):
        fit_mixture(rows, target=["doc"])
    with pytest.raises(FitError, match="Without a target it is their mean"):
        fit_mixture(rows, target=["mean"])
    with pytest.raises(FitError, match=r"sum to 100: .* in proportion, docs=0.6, code=0.4"):
        fit_mixture(rows, default={"docs": 60, "code": 40})
    with pytest.raises(FitError, match=r"no source 'cod'; .* did you mean 'code'"):
        fit_mixture(rows, default={"cod": 1.0})
    with pytest.raises(FitError, match="no finished, decayed row"):
        fit_mixture([{**row, "decayed": False} for row in rows])
    with pytest.raises(FitError, match="columns weight_SOURCE or more"):
        runs_of_table(Table(weight_docs=[1.0], loss_docs=[2.0]))
    with pytest.raises(FitError, match="fit_mixture"):
        fit(Table(params=[1.0], loss=[2.0]), "mixture")


def test_a_candidate_that_lacks_mixtures_is_said_to():
    choice = fit_mixture(rows_of(linear, mixtures=8), bootstrap=0).choices["docs"]
    refused = {each.kind: each.refused for each in choice.candidates}
    # Of 3, 4 and 6 coefficients: 6, 7 and 9 mixtures.
    assert refused == {"linear": False, "exponential": False, "quadratic": True}


def test_what_the_design_cannot_say():
    one = fit_mixture(rows_of(linear, trunks=1, mixtures=8), bootstrap=20)
    assert {"one-trunk", "few-mixtures", "few-resamples"} <= codes(one)
    assert np.isnan(one.best.target.another_trunk).all()
    assert np.isnan(one.laws.sigma_trunk).all()
    rows = rows_of(linear)
    alone = fit_mixture([{**row, "trunk": f"own {k}"} for k, row in enumerate(rows)], bootstrap=0)
    assert "trunks-apart" in codes(alone)
    assert np.isnan(alone.best.target.loss.low)


def test_a_source_that_is_never_read_is_left_out():
    rows = [{**row, "weight_web": 0.0} for row in rows_of(linear)]
    runs = runs_of_rows(rows)
    assert runs.sources == SOURCES
    assert "web: no run reads any" in runs.filters[0]


def test_shares_are_normalised_and_repeats_are_one_mixture():
    rows = rows_of(linear)
    rows += [{**rows[3], "loss_docs": rows[3]["loss_docs"] * 1.01}]
    rows[0]["weight_docs"] = 1.001
    runs = runs_of_rows(rows)
    assert runs.weights.sum(axis=1) == pytest.approx(np.ones(runs.rows))
    points = points_of(runs)
    assert points.names[3] == "mix03"
    assert points.runs.tolist() == [2.0, 2.0, 2.0, 3.0, *[2.0] * 12]


@pytest.mark.usefixtures("trees")
def test_the_same_numbers_after_a_file_trees_too(monkeypatch):
    def steps(shares):
        return 1 + 0.2 * np.stack([shares[..., 0] > 0.35, shares[..., 1] > 0.3], axis=-1)

    monkeypatch.setattr("windtunnel.laws.mixture.ensemble.MOST_BOOSTED", 10)
    monkeypatch.setattr("windtunnel.laws.mixture.surfaces.TREES", 20)
    fitted = fit_mixture(rows_of(steps, mixtures=24, noise=0.001), target=["docs"], bootstrap=20)
    assert "boosting" in {choice.chosen for choice in fitted.choices.values()}
    assert "flat-best" in codes(fitted)
    text = fitted.to_json()
    again = MixtureFit.from_json(text)
    assert again.to_json() == text
    mixture = {"docs": 0.5, "code": 0.25, "math": 0.25}
    assert again.predict(mixture) == fitted.predict(mixture)
    assert np.all(fitted.best.draws[:, 0] <= 0.4)


def test_a_file_that_does_not_come_out_again_is_refused():
    content = json.loads(fit_mixture(rows_of(linear), bootstrap=10).to_json())
    content["table"]["losses"][0][0] *= 1.1
    with pytest.raises(FitError, match="does not come out again"):
        MixtureFit.from_json(json.dumps(content))
    content["schema"] = 9
    with pytest.raises(FitError, match="this version reads 2"):
        MixtureFit.from_json(json.dumps(content))
    with pytest.raises(FitError, match="no JSON"):
        MixtureFit.from_json("{")
    del content["sets"]
    content["schema"] = 2
    with pytest.raises(FitError, match="damaged"):
        MixtureFit.from_json(json.dumps(content))


def test_completions_are_no_part_of_the_default_target():
    sets = ("code", "pairs", "pairs_conditional")
    assert target_weights({}, sets) == pytest.approx([0.5, 0.5, 0.0])
    assert target_weights(["pairs_conditional"], sets) == pytest.approx([0.0, 0.0, 1.0])
