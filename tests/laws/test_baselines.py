import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws import Table, compare, compute_line, nearest_size
from windtunnel.laws import fit as fit_law


def test_nearest_size_interpolates_in_log_ratio_and_stays_at_the_ends():
    runs = Table(
        params=[1e6, 1e6, 2e6, 2e6, 2e6],
        tokens=[1e7, 1e8, 2e7, 2e7, 2e8],
        loss=[9.0, 8.0, np.exp(1.55), np.exp(1.65), np.exp(1.2)],
        trunk=["a", "a", "b", "c", "b"],
    )
    # Size 2e6: ln loss is 1.6 (mean of two seeds) at D/N = 10 and 1.2 at 100; halfway at 31.6.
    tokens = 1e7 * np.array([10, 10**1.5, 100, 1, 1000])
    found = np.log(nearest_size(runs, np.full(5, 1e7), tokens))
    assert found == pytest.approx([1.6, 1.4, 1.2, 1.6, 1.2])


def test_compute_line_runs_along_the_envelope_only():
    # Envelope: loss = 4 (C / 6e12)^-0.1; the third row is beaten by a cheaper one.
    flops = 6e12 * np.array([1.0, 10.0, 50.0, 100.0])
    loss = 4 * np.array([1.0, 10**-0.1, 0.9, 100**-0.1])
    runs = Table(params=[1e6] * 4, tokens=flops / 6e6, loss=loss, trunk=["a"] * 4)
    assert compute_line(runs, 1e7, 1e8) == pytest.approx(4 * 1000**-0.1)
    rising = Table(params=[1e6, 1e6], tokens=[1e6, 1e7], loss=[3, 4], trunk=["a", "a"])
    with refuses("too-few-points", points=1, needed=2):
        compute_line(rising, 1e7, 1e8)


def test_compare_by_hand():
    comparison = compare(
        {"high": 2.0 * np.exp([0.01, 0.03]), "law": 2.0 * np.exp([0.001, -0.001])},
        [2.0, 2.0],
        sigma=0.002,
    )
    law, high = comparison.scores
    assert (law.name, comparison.winner) == ("law", "law")
    assert law.bias_percent == pytest.approx(0.0, abs=1e-12)
    assert law.rms_percent == pytest.approx(0.1)
    assert high.bias_percent == pytest.approx(2.0)
    assert high.rms_percent == pytest.approx(100 * np.sqrt(5e-4))
    assert high.rms_sigmas == pytest.approx(np.sqrt(5e-4) / 0.002)


def test_a_difference_within_the_noise_has_no_winner():
    assert compare({"a": [2.001], "b": [2.002]}, [2.0], sigma=0.001).winner is None
    assert compare({"a": [2.001]}, [2.0], sigma=0.001).winner == "a"


@pytest.mark.parametrize(
    ("predictions", "sigma", "code", "values"),
    [
        ({}, 0.1, "nothing-to-compare", {"forecasts": 0, "sigma": 0.1}),
        ({"a": [1.0]}, 0.0, "nothing-to-compare", {"forecasts": 1, "sigma": 0.0}),
        (
            {"a": [1.0, 2.0]},
            0.1,
            "wrong-shape",
            {"forecast": "a", "shape": (2,), "needed": (1,)},
        ),
    ],
)
def test_compare_refuses_what_it_cannot_score(predictions, sigma, code, values):
    with refuses(code, **values):
        compare(predictions, [1.0], sigma)


def test_the_law_beats_both_on_a_held_out_larger_size(table):
    runs = table(seed=6)
    large = runs.params == runs.params.max()
    rest, held = runs.subset(~large), runs.subset(large)
    fit = fit_law(rest, intervals="none", holdout=None)
    comparison = compare(
        {
            "law": fit.form(held.params, held.tokens),
            "nearest size": nearest_size(rest, held.params, held.tokens),
            "compute line": compute_line(rest, held.params, held.tokens),
        },
        held.loss,
        sigma=fit.sigma_seed,
    )
    assert comparison.winner == "law"
    assert comparison.scores[0].rms_percent < 1
    assert comparison.scores[1].rms_percent > 2
