import dataclasses

import numpy as np
import pytest
from scipy import stats

from windtunnel.laws import Chinchilla
from windtunnel.laws import posterior as module
from windtunnel.laws.point_estimate import best_point
from windtunnel.laws.posterior import NONE_OFF, Layout, noise_posterior, trunk_sigma
from windtunnel.laws.problem import Problem

SIX = {"sizes": np.geomspace(1e5, 3.2e6, 6)}


def point_of(runs):
    return best_point(Problem.of(Chinchilla, runs), runs, "huber-log", None)


def posterior_of(runs):
    point = point_of(runs)
    return noise_posterior(point.residual, point.tangent, Layout.of(Chinchilla, runs, 5))


def test_weights_are_the_restricted_likelihood_by_dense_algebra(table):
    runs = table(3, **SIX)
    point = point_of(runs)
    found = noise_posterior(point.residual, point.tangent, Layout.of(Chinchilla, runs, 5))
    log_size = (np.log(runs.params) - np.log(1e5 * 3.2e6) / 2) / np.log(32)
    shared = runs.trunk_index[:, None] == runs.trunk_index
    basis = np.linalg.qr(point.tangent.T)[0]
    scores, squares = [], []
    cells = [(20, 8), (24, 12), (18, 4)]
    for ratio, slope in cells:
        sd = np.exp(module.SLOPES[slope] * log_size)
        variance = np.exp(module.LOG_RATIOS[ratio]) * np.outer(sd, sd) * shared + np.eye(runs.rows)
        inverse = np.linalg.inv(variance)
        normal = basis.T @ inverse @ basis
        inside = inverse - inverse @ basis @ np.linalg.solve(normal, basis.T @ inverse)
        squares.append(point.residual @ inside @ point.residual)
        share = 5 * np.exp(module.LOG_RATIOS[ratio])
        prior = np.log(share / (1 + share)) - (module.SLOPES[slope] / module.SLOPE_SD) ** 2 / 2
        dets = np.linalg.slogdet(variance)[1] + np.linalg.slogdet(normal)[1]
        scores.append(prior - dets / 2 - (runs.rows - 5) / 2 * np.log(squares[-1]))
    ours = np.log([found.weight[0, r, s] for r, s in cells])
    assert np.diff(ours) == pytest.approx(np.diff(scores), abs=1e-6)
    assert [found.squares[0, r, s] for r, s in cells] == pytest.approx(squares, rel=1e-8)


def test_an_offset_costs_the_squares_that_a_dummy_column_takes(table):
    runs = table(3, **SIX)
    point = point_of(runs)
    found = noise_posterior(point.residual, point.tangent, Layout.of(Chinchilla, runs, 5))
    dummy = (runs.params == np.unique(runs.params)[4]).astype(float)
    wider = noise_posterior(
        point.residual, np.vstack([point.tangent, dummy]), Layout.of(Chinchilla, runs, 5)
    )
    assert found.squares[found.off == 4][0] == pytest.approx(wider.squares[0], rel=1e-6)
    assert found.df.tolist() == [55] + [54] * 6
    assert found.weight.sum() == pytest.approx(1)


def test_draws_follow_the_weights_and_the_chi_square(table):
    found = posterior_of(table(1, **SIX))
    drawn = found.draw(np.random.default_rng(0), 20_000)
    for off, chance in zip(found.off, found.chance, strict=True):
        assert np.mean(drawn.off == off) == pytest.approx(chance, abs=0.015)
    # One cell alone: the branch variance is a scaled inverse chi-square.
    alone = np.zeros_like(found.weight)
    alone[0, 20, 8] = 1
    branch = dataclasses.replace(found, weight=alone).draw(np.random.default_rng(0), 20_000)
    scaled = found.squares[0, 20, 8] / branch.sigmas[:, 1] ** 2
    assert stats.kstest(scaled, stats.chi2(55).cdf).pvalue > 0.01


def test_the_slope_of_trunk_noise_is_seen(table):
    # Noise that falls 32-fold over the sizes; 40 trunks.
    runs = table(2, seeds=7, sigma_trunk=0.0, **SIX)
    rng = np.random.default_rng(0)
    trunk = rng.standard_normal(42) * 0.003
    noisy = runs.loss * np.exp(trunk[runs.trunk_index] * (runs.params / 1e5) ** -0.8)
    drawn = posterior_of(runs.with_columns(loss=noisy)).draw(rng, 1000)
    assert np.mean(drawn.sigmas[:, 2]) == pytest.approx(-0.8 * np.log(32), abs=1.0)
    ends = trunk_sigma(drawn.sigmas[:, None], [1e5, 3.2e6], (1e5, 3.2e6))
    assert np.median(ends, axis=0) == pytest.approx([0.003, 0.003 / 16], rel=0.6)


def test_trunk_noise_is_followed_half_a_range_beyond_the_sizes():
    sigmas = np.array([0.003, 0.001, -0.5 * np.log(100)])
    at = trunk_sigma(sigmas, [1e6, 1e5, 1e7, 1e8, 1e9], (1e5, 1e7))
    assert at / 0.003 == pytest.approx([1, 10**0.5, 10**-0.5, 0.1, 0.1])


def test_few_sizes_cannot_accuse_one_of_them(table):
    # Three carry the law, a fourth checks it; a fifth may then be spared.
    assert posterior_of(table(sizes=np.geomspace(1e5, 3e6, 4))).off.tolist() == [NONE_OFF]
    assert posterior_of(table(sizes=np.geomspace(1e5, 3e6, 5))).off.tolist() == [-1, 0, 1, 2, 3, 4]


def test_a_table_without_noise_has_none(table):
    found = posterior_of(table(sigma_trunk=0, sigma_branch=0, **SIX))
    assert found.likeliest == NONE_OFF
    assert np.all(found.draw(np.random.default_rng(0), 100).sigmas[:, :2] < 1e-5)
