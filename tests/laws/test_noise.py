import functools

import numpy as np
import pytest
from scipy import stats

from windtunnel.laws import Chinchilla, Table
from windtunnel.laws.noise import estimate, lack_of_fit, seed_noise, seed_sigma
from windtunnel.laws.point_estimate import best_point
from windtunnel.laws.problem import Problem


def explained(runs):
    point = best_point(Problem.of(Chinchilla, runs), runs, "mse-log", None)
    return point, estimate(point.residual, point.tangent, runs.trunk_index)


@pytest.fixture(scope="session")
def explained_tables(table):
    """Point and noise of made-up tables, by seed and seeds; each table is fitted once."""
    return functools.cache(lambda seed, seeds: explained(table(seed, seeds=seeds)))


def test_one_way_anova_by_hand():
    # Three trunks of two rows and a law that is a constant: the textbook table.
    residual = np.array([1.0, 3.0, 5.0, 7.0, 12.0, 14.0])
    noise = estimate(residual, np.ones((1, 6)), np.repeat([0, 1, 2], 2))
    # Within: six deviations of 1, on 3 df. Between: 2 (5^2 + 1^2 + 6^2) = 124 on 2 df.
    assert noise.branch_squares == pytest.approx(6.0)
    assert noise.branch_df == 3
    assert noise.trunk_squares == pytest.approx(124.0)
    assert noise.share == pytest.approx([2.0, 2.0])
    assert noise.branch**2 == pytest.approx(2.0)
    assert noise.trunk**2 == pytest.approx((62 - 2) / 2)
    assert noise.trunk_df == pytest.approx(2.0)


def test_trunk_variance_is_cut_at_zero():
    noise = estimate(np.array([1.0, -1, 1, -1, 1, -1]), np.ones((1, 6)), np.repeat([0, 1, 2], 2))
    assert noise.trunk == 0
    assert np.all(noise.draw(np.random.default_rng(0), 1000)[:, 0] >= 0)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.medium
def test_variances_are_unbiased_after_the_fit(explained_tables, seeds):
    found = [explained_tables(seed, seeds)[1] for seed in range(200)]
    assert np.mean([n.branch**2 for n in found]) == pytest.approx(0.001**2, rel=0.08)
    # Standard errors over 200 tables: 2.5% of the branch variance with 16 degrees of freedom, 4% of
    # the trunk variance with 7 and 7% with 2.
    assert np.mean([n.trunk**2 for n in found]) == pytest.approx(0.003**2, rel=0.15)
    # The law's three coefficients between sizes cost three trunks.
    assert found[0].trunk_df == pytest.approx(5 * seeds - 3, abs=0.05)
    # Its five coefficients cost at most five rows within trunks.
    assert found[0].branch_df == 25 * seeds - 5 * seeds - 4


def test_a_coefficient_at_its_bound_still_costs_its_degree_of_freedom(table):
    law = Chinchilla(0.0, 406.4, 410.7, 0.34, 0.28)
    point, noise = explained(table(1, law=law, seeds=1, sizes=[1e5, 6e5, 3e6]))
    assert point.form.E == 0
    assert noise.trunk_df < 0.1


def test_branch_draws_are_a_scaled_inverse_chi_square(table):
    noise = explained(table())[1]
    draws = noise.draw(np.random.default_rng(0), 20_000)[:, 1] ** 2
    scaled = noise.branch_squares / draws
    assert stats.kstest(scaled, stats.chi2(noise.branch_df).cdf).pvalue > 0.01


@pytest.mark.medium
def test_posterior_of_sigma_trunk_covers_the_truth(explained_tables):
    inside = []
    for seed in range(200):
        draws = explained_tables(seed, 2)[1].draw(np.random.default_rng(seed), 400)
        low, high = np.quantile(draws[:, 0], [0.05, 0.95])
        inside.append(low <= 0.003 <= high)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)


def test_seed_noise_does_not_see_the_law(table):
    runs = table()
    bent = runs.with_columns(loss=runs.loss * runs.params**0.2)
    assert of_seeds(seed_sigma, bent) == pytest.approx(of_seeds(seed_sigma, runs), rel=1e-6)
    assert of_seeds(seed_noise, bent).trunk == pytest.approx(
        of_seeds(seed_noise, runs).trunk, rel=1e-6
    )
    assert of_seeds(seed_sigma, table(seeds=1)) is None
    assert of_seeds(seed_noise, table(seeds=1)) is None


def test_seed_sigma_by_hand(table):
    runs = table(sigma_trunk=0, sigma_branch=0)
    first = runs.trunk_index % 2 == 0
    apart = runs.with_columns(loss=runs.loss * np.where(first, np.exp(0.01), 1.0))
    # Pairs that differ by 0.01 have a sample variance of 0.01^2 / 2.
    assert of_seeds(seed_sigma, apart) == pytest.approx(0.01 / np.sqrt(2))


def of_seeds(measure, runs):
    return measure(np.log(runs.loss), runs.cells("params", "tokens"), runs.trunk_index)


def p_value(runs, seed=0, point=None):
    point = point or explained(runs)[0]
    rng = np.random.default_rng(seed)
    cells = runs.cells("params", "tokens")
    return lack_of_fit(point.residual, point.tangent, cells, runs.trunk_index, rng=rng)


@pytest.mark.medium
def test_lack_of_fit_rarely_fires_on_a_true_law(table, explained_tables):
    values = np.array(
        [p_value(table(seed), point=explained_tables(seed, 2)[0]) for seed in range(100)]
    )
    assert np.mean(values < 0.1) < 0.2
    assert np.mean(values < 0.01) <= 0.03


def test_lack_of_fit_sees_a_bent_size_and_a_bent_horizon(table):
    runs = table(sigma_trunk=0.001, sigma_branch=0.001)
    size = np.where(runs.params == np.unique(runs.params)[2], 1.02, 1.0)
    horizon = np.where(np.isclose(runs.tokens / runs.params, 40), 1.005, 1.0)
    assert p_value(runs) > 0.05
    assert p_value(runs.with_columns(loss=runs.loss * size)) < 0.01
    assert p_value(runs.with_columns(loss=runs.loss * horizon)) < 0.01


def test_lack_of_fit_works_when_every_row_is_its_own_trunk(table):
    runs = table(sigma_trunk=0.0, sigma_branch=0.002)
    alone = Table(runs.columns, trunk=np.arange(50))
    assert of_seeds(seed_noise, alone).branch_df == 0
    horizon = np.where(np.isclose(runs.tokens / runs.params, 40), 1.02, 1.0)
    assert p_value(alone) > 0.01
    assert p_value(alone.with_columns(loss=runs.loss * horizon)) < 0.01


def test_lack_of_fit_is_unknown_with_one_seed(table):
    assert p_value(table(seeds=1)) is None
