import numpy as np
import pytest
from scipy.optimize import nnls

from windtunnel.laws.chinchilla_solver import GRID, Grid, Objective, projected_starts, solve
from windtunnel.laws.least_squares import huber, minimise


@pytest.fixture
def grid(table):
    runs = table()
    return Grid.of(runs.params, runs.tokens)


def test_scaling_is_undone_exactly(grid, planted):
    theta = grid.scaled(planted.coefficients)
    assert grid.raw(theta) == pytest.approx(planted.coefficients, rel=1e-12)
    n0, d0 = np.exp(grid.log_params_unit), np.exp(grid.log_tokens_unit)
    assert theta[1] == pytest.approx(406.4 * n0**-0.34)
    assert theta[2] == pytest.approx(410.7 * d0**-0.28)


def test_scaled_problem_is_well_conditioned(grid, planted):
    slopes = grid.log_slopes(grid.scaled(planted.coefficients))
    unit = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    assert np.linalg.cond(unit) < 300


def test_jacobian_is_the_derivative(grid, planted):
    theta = grid.scaled(planted.coefficients)
    _, jacobian = grid.slopes(theta[None])
    for k in range(5):
        h = 1e-6 * np.eye(5)[k]
        numeric = (grid.predict(theta + h) - grid.predict(theta - h)) / 2e-6
        assert jacobian[0, k] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_starts_are_scipys_nnls(grid, table):
    loss = np.stack([table(seed).loss for seed in (0, 1)])
    scale = loss[0]
    starts, squares = projected_starts(grid, loss, scale)
    assert starts.shape == (2, 64, 5)
    for problem in (0, 1):
        for g in (0, 9, 35, 63):
            *linear, alpha, beta = starts[problem, g]
            assert alpha in GRID
            terms = [np.ones(50), np.exp(-alpha * grid.log_params)]
            design = np.stack([*terms, np.exp(-beta * grid.log_tokens)], axis=1)
            want, norm = nnls(design / scale[:, None], loss[problem] / scale)
            assert linear == pytest.approx(want, abs=1e-8)
            assert squares[problem, g] == pytest.approx(norm**2, abs=1e-9)


def test_huber_by_hand():
    residual = np.array([0.5, -1.0, 3.0])
    # 0.125 + 0.5 + 1 * (3 - 0.5), and with weights 1, 0, 2.
    assert huber(residual, np.ones(3), 1.0) == pytest.approx(3.125)
    assert huber(residual, np.array([1.0, 0.0, 2.0]), 1.0) == pytest.approx(5.125)
    assert huber(residual, np.ones(3), np.inf) == pytest.approx(5.125)


def test_a_bound_holds_and_its_gradient_does_not_count():
    # min (x - 3)^2 + (y + 1)^2 with 0 <= x <= 2, y >= 0: the corner (2, 0).
    def residuals(theta, which):
        jacobian = np.broadcast_to(np.eye(2), (len(theta), 2, 2))
        return theta - np.array([3.0, -1.0]), jacobian

    found = minimise(
        residuals,
        np.array([[1.0, 1.0]]),
        lower=np.zeros(2),
        upper=np.array([2.0, np.inf]),
        weight=np.ones((1, 2)),
        delta=np.inf,
    )
    assert found.theta[0] == pytest.approx([2.0, 0.0])
    assert found.cost[0] == pytest.approx(1.0)
    assert found.gradient[0] == 0


def test_a_weight_of_zero_is_a_row_left_out(table):
    runs = table()
    keep = runs.trunk != "3"
    short = runs.subset(keep)
    full = Grid.of(runs.params, runs.tokens)
    part = Grid.of(short.params, short.tokens)
    objective = Objective("huber-log", 0.003)
    start = np.array([[1.5, 3.0, 3.0, 0.3, 0.3]])
    weighted = solve(full, objective, runs.loss[None], start, weight=1.0 * keep[None])
    dropped = solve(part, objective, short.loss[None], start)
    assert full.raw(weighted.theta) == pytest.approx(part.raw(dropped.theta), rel=1e-5)


def test_problems_solved_together_equal_problems_solved_alone(table):
    losses = np.stack([table(seed).loss for seed in range(8)])
    runs = table()
    grid, objective = Grid.of(runs.params, runs.tokens), Objective("huber-log", 0.002)
    starts = np.repeat([[1.5, 3.0, 3.0, 0.3, 0.3]], 8, axis=0)
    together = solve(grid, objective, losses, starts).theta
    alone = [solve(grid, objective, losses[k : k + 1], starts[:1]).theta[0] for k in range(8)]
    assert together == pytest.approx(np.array(alone), rel=1e-9)
