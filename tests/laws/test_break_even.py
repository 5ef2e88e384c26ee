"""Break-even of upcycling: crossings by hand, intervals that cover them, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from law_errors import refuses
from scipy.optimize import brentq

from windtunnel.laws import Chinchilla, MoeData, Upcycling, break_even
from windtunnel.laws import fit as fit_law
from windtunnel.laws.breakeven import first_lead

# Liew et al. 2025, table 2.
UPCYCLED = Upcycling(0.165, 16.3, 8.53, 0.043, 0.085, 7.98e-4, 0.112)
DENSE = Chinchilla(E=0.165, A=12.3, B=8.83, alpha=0.116, beta=0.088)
SCRATCH = Chinchilla(E=0.165, A=7.05, B=32.0, alpha=0.080, beta=0.161)
ROUTED = MoeData(0.165, 7.0, 0.08, 0.1, 0.004, 1.5, 300.0, 32.0, 0.161)
PARAMS, SUNK = 1e9, 1e11
AT = {"params": PARAMS, "sunk_tokens": SUNK}
SIZES, LENGTHS = np.geomspace(1e8, 4e9, 5), np.geomspace(5e9, 4e11, 5)


def fitted(law, *axes, noise=0.0, seed=0, name=None, **options):
    """A fit of the law to its own rows over a grid."""
    inputs = [each.ravel() for each in np.meshgrid(*axes)]
    normal = np.random.default_rng(seed).standard_normal(inputs[0].size)
    loss = law(*inputs) * np.exp(noise * normal)
    table = dict(zip((*law.inputs, "loss"), (*inputs, loss), strict=True))
    settings = {"holdout": None, "bootstrap": 200, "seed": seed} | options
    return fit_law(table, name or law.name, **settings)


def fits(noise=0.0, seed=0, **options):
    shared = {"noise": noise, **options}
    return (
        fitted(UPCYCLED, SIZES, LENGTHS, LENGTHS, seed=seed, **shared),
        fitted(DENSE, SIZES, LENGTHS, seed=seed + 1000, **shared),
        fitted(SCRATCH, SIZES, LENGTHS, seed=seed + 2000, **shared),
    )


@pytest.fixture(scope="module")
def noisy():
    return fits(noise=3e-3)


def crossings(sunk=SUNK):
    """New tokens at which the planted laws cross, dense and from scratch."""

    def over_dense(new):
        return UPCYCLED(PARAMS, sunk, new) - DENSE(PARAMS, sunk + new)

    def over_scratch(new):
        return UPCYCLED(PARAMS, sunk, new) - SCRATCH(PARAMS, new)

    return brentq(over_dense, 1e8, 1e12), brentq(over_scratch, 1e8, 1e13)


def test_the_published_laws_break_even_where_their_curves_cross():
    mine, dense, scratch = fits(intervals="none")
    found = break_even(mine, dense=dense, scratch=scratch, **AT)
    start, end = crossings()
    assert (start, end) == pytest.approx((1.277e10, 5.064e10), rel=1e-3)
    assert found.dense.start.value == pytest.approx(start, rel=1e-3)
    assert found.scratch.end.value == pytest.approx(end, rel=1e-3)
    assert (found.dense.end.value, found.scratch.start.value) == (math.inf, 0)
    assert math.isnan(found.dense.start.low)
    assert found.pairs == 0
    assert [warning.code for warning in found.warnings] == ["always-ahead"]
    assert found.warnings[0].values == {"over": "dense", "tokens": 4e12, "reach": 10}


def test_more_sunk_tokens_put_the_break_even_with_the_dense_model_off(noisy):
    starts = [
        break_even(noisy[0], dense=noisy[1], params=PARAMS, sunk_tokens=sunk).dense.start.value
        for sunk in (3e10, 1e11, 3e11)
    ]
    assert starts == sorted(starts)


def test_intervals_hold_the_planted_break_even(noisy):
    found = break_even(noisy[0], dense=noisy[1], scratch=noisy[2], **AT)
    start, end = crossings()
    assert start in found.dense.start
    assert end in found.scratch.end
    assert found.dense.start.low > 0
    assert found.pairs == 200
    assert found.dense.ever == found.scratch.ever == 1
    again = break_even(noisy[0], dense=noisy[1], scratch=noisy[2], **AT)
    assert again.dense == found.dense  # the order of the pairs does not change


@pytest.mark.slow
def test_nominal_90_covers():
    start, end = crossings()
    hits = []
    for seed in range(20):
        mine, dense, scratch = fits(noise=3e-3, seed=seed, bootstrap=100)
        found = break_even(mine, dense=dense, scratch=scratch, **AT)
        hits.append([start in found.dense.start, end in found.scratch.end])
    # Of 20 tables a share near .90 has standard error .07; of 200 it was .915 and .905.
    assert np.all(np.mean(hits, axis=0) >= 0.7), np.mean(hits, axis=0)


def test_the_model_from_scratch_may_have_the_sunk_tokens_too(noisy):
    found = break_even(noisy[0], scratch=noisy[2], scratch_tokens="total", **AT)
    lead = found.scratch
    assert lead.never
    assert (lead.start.value, lead.end.value) == (math.inf, 0)
    assert [warning.code for warning in found.warnings] == ["never-ahead"]
    assert found.dense is None
    assert found.leads == (lead,)


def test_a_law_with_experts_and_one_weighted_over_forms():
    mine = fitted(UPCYCLED, SIZES, LENGTHS, LENGTHS)
    routed = fitted(ROUTED, SIZES, (1, 4, 16, 64), LENGTHS, intervals="none")
    dense = fitted(DENSE, SIZES, LENGTHS, noise=1e-3, name="auto")
    few = break_even(mine, dense=dense, scratch=routed, experts=4, **AT)
    many = break_even(mine, scratch=routed, experts=64, **AT)
    exact = brentq(lambda new: UPCYCLED(PARAMS, SUNK, new) - ROUTED(PARAMS, 4, new), 1e8, 1e13)
    assert few.scratch.end.value == pytest.approx(exact, rel=1e-3)
    assert many.scratch.end.value < few.scratch.end.value  # more experts are harder to beat
    assert crossings()[0] in few.dense.start
    with refuses("missing-input", missing=["experts"]):
        break_even(mine, scratch=routed, **AT)


def test_numbers_beyond_the_fits_are_told(noisy):
    found = break_even(noisy[0], dense=noisy[1], params=4e10, sunk_tokens=1e11, dense_params=1e10)
    told = {(each.values["fit"], each.values["quantity"], each.values["value"])
            for each in found.warnings if each.code == "extrapolates"}  # fmt: skip
    assert {("upcycling", "params", 4e10), ("dense", "params", 1e10)} <= told


def test_the_first_stretch_of_gains():
    tokens = np.exp(np.arange(5.0))
    gain = np.array(
        [
            [-1, 1, 1, 1, 1],  # ahead from halfway, in logs, to the second point
            [1, 1, -1, -1, -1],
            [-1, 3, -1, 1, 1],  # the first of two
            [-1, -1, -1, -1, -1],
            [1, 1, 1, 1, 1],
        ],
        float,
    )
    start, end = first_lead(gain, tokens)
    assert np.log(start[[0, 2]]) == pytest.approx([0.5, 0.25])
    assert np.log(end[[1, 2]]) == pytest.approx([1.5, 1.75])
    assert start[[1, 3, 4]].tolist() == [0, math.inf, 0]
    assert end[[0, 3, 4]].tolist() == [math.inf, 0, math.inf]


def test_refused_fits_and_numbers(noisy):
    mine, dense, _ = noisy
    with refuses("missing-input", missing=["dense", "scratch"]):
        break_even(mine, **AT)
    with refuses("wrong-law", fit="upcycling", law="chinchilla"):
        break_even(dense, dense=dense, **AT)
    with refuses("wrong-law", fit="dense", law="upcycling"):
        break_even(mine, dense=mine, **AT)
    with refuses("unknown-input", input="experts"):
        break_even(mine, dense=dense, experts=8, **AT)
    with refuses("out-of-range", option="sunk_tokens", value=0):
        break_even(mine, dense=dense, params=PARAMS, sunk_tokens=0)
    with refuses("out-of-range", option="experts", value=0.5, low=1):
        break_even(mine, dense=dense, experts=0.5, **AT)
    with refuses("out-of-range", option="reach"):
        break_even(mine, dense=dense, reach=0.5, **AT)
    with refuses("unknown-value", option="scratch_tokens"):
        break_even(mine, dense=dense, scratch_tokens="old", **AT)
    with refuses("unlike-fits", fit="dense", units=["bits per byte", "nats per token"]):
        break_even(mine, dense=replace(dense, loss_unit="bits per byte"), **AT)
    break_even(mine, dense=replace(dense, loss_unit="nats per token, assumed"), **AT)
