import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from windtunnel.config import DenseSpec
from windtunnel.laws import ExactRule, fit
from windtunnel.laws.exact import exact_ratio


def spec(width, depth):
    return DenseSpec(
        width=width, depth=depth, head_dim=16, kv_heads=width // 16, ffn_ratio=2.5,
        vocab_size=256, context=128,
    )  # fmt: skip


FAMILY = [spec(32, 2), spec(64, 3), spec(128, 4)]


def rule_of(models):
    over = [model.flops_exact_per_token / (6 * model.params) for model in models]
    return ExactRule.of([model.params for model in models], over, 6.0)


def ratio_of(fitted, rule, flops):
    return exact_ratio(fitted.form, fitted.draws, rule, flops, level=fitted.level)


@pytest.fixture(scope="module")
def fitted(table):
    return fit(table(sizes=np.geomspace(2e4, 1e6, 5)), "chinchilla", bootstrap=100, holdout=None)


def test_the_rule_is_exact_at_the_sizes():
    rule = rule_of(FAMILY[::-1])
    for model in FAMILY:
        over = rule.over_rule(np.log([model.params]))[0]
        assert over == pytest.approx(model.flops_exact_per_token / (6 * model.params), rel=1e-12)


def test_rows_of_one_size_are_averaged():
    rule = ExactRule.of([1e6, 1e5, 1e6], [1.2, 1.5, 1.4], 6.0)
    assert rule.over_rule(np.log([1e5, 1e6])) == pytest.approx([1.5, 1.3])


def test_the_excess_fades_beyond_the_largest_size():
    over = rule_of(FAMILY).over_rule(np.log([1e6, 1e8, 1e10]))
    assert over[0] > over[1] > over[2] > 1


def test_optimum_under_exact_flops_is_the_true_minimum(fitted):
    rule, budget = rule_of(FAMILY), 3e13
    thumb = fitted.form.optimum(budget)
    cost = budget * float(rule.over_rule(np.log([thumb.params]))[0])

    def tokens(log_n):
        return cost / (6 * np.exp(log_n) * float(rule.over_rule(np.array([log_n]))[0]))

    best = minimize_scalar(
        lambda log_n: float(fitted.form(np.exp(log_n), tokens(log_n))),
        bounds=(np.log(thumb.params) - 3, np.log(thumb.params) + 3),
        options={"xatol": 1e-9},
        method="bounded",
    )
    found = ratio_of(fitted, rule, budget)
    assert found.value == pytest.approx(tokens(best.x) / np.exp(best.x), rel=1e-3)
    assert found.low < found.value < found.high
    # Overheads shrink with N, so a fair count moves the optimum to a larger model.
    assert found.value < thumb.tokens / thumb.params


def test_without_overheads_nothing_changes(fitted):
    free = ExactRule(np.log([1e4, 1e7]), np.log([1e-9, 1e-9]))
    found, usual = ratio_of(fitted, free, 1e13), fitted.optimum(1e13).ratio
    assert found.value == pytest.approx(usual.value, rel=1e-4)
    assert (found.low, found.high) == pytest.approx((usual.low, usual.high), rel=1e-4)


def test_a_resample_without_an_optimum_is_an_infinite_end(fitted):
    draws = fitted.draws.copy()
    draws[: len(draws) // 2, 1] = 0  # A = 0: size does not matter, all the budget goes to data
    half = dataclasses.replace(fitted, draws=draws)
    assert ratio_of(half, rule_of(FAMILY), 1e13).high == np.inf
