"""The solver under every law: scaling, gradients, starts, bounds, many problems at once."""

import numpy as np
import pytest
from law_errors import refuses
from scipy.optimize import nnls

from windtunnel.errors import ColumnError
from windtunnel.laws import (
    Chinchilla,
    DataConstrained,
    ExpOffset,
    Moe,
    MoeData,
    Power,
    Power2,
    PowerOffset,
    Sigmoid,
    Table,
    Upcycling,
)
from windtunnel.laws.chinchilla import GRID
from windtunnel.laws.forms import Law
from windtunnel.laws.problem import Problem
from windtunnel.laws.solver import Objective, huber, minimise

EVERY = [
    Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28),
    Power(3.0, -0.4),
    PowerOffset(2.0, 30.0, -0.3),
    ExpOffset(1.0, 5.0, 0.4),
    Power2(1.79, -0.713, 0.307),
    DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39),
    Sigmoid(0.2, 0.6, -4.0, 2.5),
    Moe(1.2, 30.0, 0.2, 0.25, 0.008, 2.0, 300.0),
    MoeData(1.2, 30.0, 0.2, 0.25, 0.008, 2.0, 300.0, 2000.0, 0.35),
    Upcycling(0.165, 16.3, 8.53, 0.043, 0.085, 7.98e-4, 0.112),
]


@pytest.fixture
def problem(table):
    return Problem.of(Chinchilla, table())


def inputs_of(law, rng):
    spans = {
        "params": (1e7, 1e9),
        "tokens": (1e8, 1e11),
        "sunk_tokens": (1e8, 1e11),
        "unique_tokens": (1e8, 1e10),
    }
    columns = [rng.uniform(*np.log(spans.get(name, (1.0, 5.0))), 30) for name in law.inputs]
    return np.exp(np.array(columns))


@pytest.mark.parametrize("law", EVERY, ids=lambda law: law.name)
def test_scaling_is_undone_exactly_and_leaves_the_output(law):
    inputs = inputs_of(law, np.random.default_rng(0))
    units = law.units(inputs)
    theta = law.in_units(law.vector, units)
    assert law.in_units(theta, 1 / units) == pytest.approx(law.vector, rel=1e-12)
    scaled = law.values(theta, inputs / units[:, None])
    assert scaled == pytest.approx(law(*inputs), rel=1e-10)


@pytest.mark.parametrize("law", EVERY, ids=lambda law: law.name)
def test_slopes_are_derivatives(law):
    inputs = inputs_of(law, np.random.default_rng(1))
    units = law.units(inputs)
    scaled, theta = inputs / units[:, None], law.in_units(law.vector, units)
    value, jacobian = law.slopes(theta[None], scaled)
    assert value[0] == pytest.approx(law.values(theta, scaled))
    for k in range(theta.size):
        h = 1e-6 * np.eye(theta.size)[k] * max(abs(theta[k]), 1e-3)
        numeric = (law.values(theta + h, scaled) - law.values(theta - h, scaled)) / (2 * h[k])
        assert jacobian[0, k] == pytest.approx(numeric, rel=2e-5, abs=1e-7)


def test_written_out_slopes_equal_complex_steps(problem, planted):
    theta = Chinchilla.in_units(planted.vector, problem.units)[None]
    by_hand = Chinchilla.slopes(theta, problem.inputs)[1]
    by_steps = Law.slopes.__func__(Chinchilla, theta, problem.inputs)[1]
    assert by_hand == pytest.approx(by_steps, rel=1e-12)


def test_scaled_problem_is_well_conditioned(problem, planted):
    theta = Chinchilla.in_units(planted.vector, problem.units)
    slopes = problem.tangent(theta, log=True)
    unit = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    assert np.linalg.cond(unit) < 300


def test_starts_are_scipys_nnls(problem, table):
    loss = np.stack([table(seed).loss for seed in (0, 1)])
    scale = loss[0]
    starts, squares = problem.projected_starts(loss, scale)
    assert starts.shape == (2, 64, 5)
    log_n, log_d = np.log(problem.inputs)
    for row in (0, 1):
        for g in (0, 9, 35, 63):
            *linear, alpha, beta = starts[row, g]
            assert alpha in GRID
            design = np.stack([np.ones(50), np.exp(-alpha * log_n), np.exp(-beta * log_d)], axis=1)
            want, norm = nnls(design / scale[:, None], loss[row] / scale)
            assert linear == pytest.approx(want, abs=1e-8)
            assert squares[row, g] == pytest.approx(norm**2, abs=1e-9)


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
    assert found.gradient_norm[0] == 0


def test_a_weight_of_zero_is_a_row_left_out(table, problem):
    runs = table()
    keep = runs.trunk != "3"
    short = runs.subset(keep)
    part = Problem.of(Chinchilla, short)
    objective = Objective("huber-log", 0.003)
    start = np.array([[1.5, 3.0, 3.0, 0.3, 0.3]])
    weighted = problem.solve(objective, runs.loss[None], start, weight=1.0 * keep[None])
    dropped = part.solve(objective, short.loss[None], start)
    assert problem.raw(weighted.theta) == pytest.approx(part.raw(dropped.theta), rel=1e-5)


def test_problems_solved_together_equal_problems_solved_alone(table, problem):
    losses = np.stack([table(seed).loss for seed in range(8)])
    objective = Objective("huber-log", 0.002)
    starts = np.repeat([[1.5, 3.0, 3.0, 0.3, 0.3]], 8, axis=0)
    together = problem.solve(objective, losses, starts).theta
    alone = [problem.solve(objective, losses[k : k + 1], starts[:1]).theta[0] for k in range(8)]
    assert together == pytest.approx(np.array(alone), rel=1e-9)


def test_fixed_and_tied_coefficients_are_raw(table):
    runs = table(sigma_trunk=0, sigma_branch=0)
    problem = Problem.of(Chinchilla, runs, fixed={"A": 406.4, "E": 1.69}, tied={"beta": "alpha"})
    assert problem.coordinates.free == ("B", "alpha")
    theta = problem.coordinates.expand(np.array([[3.0, 0.3]]), np.zeros(1, np.intp))
    raw = problem.raw(theta)[0]
    assert raw[[0, 1]] == pytest.approx([1.69, 406.4])
    assert raw[3] == raw[4] == 0.3
    # The chain through the fixed A, whose scaled value moves with alpha, is in the derivative.
    _, jacobian = problem._slopes(np.array([[3.0, 0.3]]), np.zeros(1, np.intp))
    h = 1e-6
    ends = [
        problem.predict(problem.coordinates.expand(np.array([[3.0, 0.3 + s]]), np.zeros(1, int)))
        for s in (h, -h)
    ]
    assert jacobian[0, 1] == pytest.approx((ends[0] - ends[1])[0] / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "code", "values"),
    [
        ({"fixed": {"alfa": 0.3}}, "unknown-coefficient", {"coefficient": "alfa"}),
        ({"fixed": {"alpha": -1.0}}, "out-of-range", {"value": -1.0, "low": 0.01, "high": 3.0}),
        (
            {"tied": {"alpha": "beta"}, "fixed": {"alpha": 0.3}},
            "contradicting-options",
            {"coefficient": "alpha"},
        ),
        (
            {"fixed": {"E": 1, "A": 1, "B": 1, "alpha": 0.3, "beta": 0.3}},
            "nothing-to-fit",
            {"law": "chinchilla"},
        ),
    ],
)
def test_bad_coefficients_are_named(table, options, code, values):
    with refuses(code, **values):
        Problem.of(Chinchilla, table(), **options)


def test_numbers_that_a_law_cannot_take_are_named(table):
    runs = table()
    loss = runs.loss.copy()
    loss[7] = -1.0
    with pytest.raises(ColumnError, match=r"^column 'loss', row 7 is -1: must be above 0\. Drop"):
        Problem.of(Chinchilla, runs.with_columns(loss=loss))
    with refuses("unknown-column", column="tokens", known=["loss", "params"]):
        Problem.of(Chinchilla, Table(params=[1, 2], loss=[1, 2]))
