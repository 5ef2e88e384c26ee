"""The compute-optimal D/N once attention, embedding and head are counted in the FLOPs.

The law L(N, D) knows no FLOPs; only what a budget buys depends on how they are counted. 6ND leaves
out what small models spend most on, so its optimum is too small a model (design.md, section 2).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws import Fit, Interval
from windtunnel.laws.chinchilla import log_optimum
from windtunnel.laws.interval import quantiles
from windtunnel.spec import ModelSpec

Floats = NDArray[np.float64]

SEARCH_DECADES = 1.5
"""Either side of the 6ND optimum: far beyond the factor of 2 that counting can change (design)."""
SEARCH_POINTS = 801


@dataclass(frozen=True, eq=False)
class ExactRule:
    """Exact FLOPs per token as 6N (1 + excess), the excess a power law between the study's sizes.

    Between two sizes ln excess is linear in ln N; beyond the outermost the last slope goes on.
    """

    log_params: Floats
    log_excess: Floats

    @classmethod
    def of(cls, models: Iterable[ModelSpec]) -> "ExactRule":
        """The rule through a family of models, whatever their order."""
        unique = sorted({model.params: model for model in models}.items())
        params = np.array([n for n, _ in unique], np.float64)
        exact = np.array([model.flops_exact_per_token for _, model in unique], np.float64)
        # Norm gains are parameters and no matmul: without a head the excess could reach 0.
        excess = np.maximum(exact / (6 * params) - 1, 1e-6)
        return cls(np.log(params), np.log(excess))

    def over_6nd(self, log_params: Floats) -> Floats:
        """Exact FLOPs over 6ND at ln N."""
        x, y = self.log_params, self.log_excess
        if x.size == 1:
            return np.full_like(log_params, 1 + np.exp(y[0]))
        piece = np.clip(np.searchsorted(x, log_params) - 1, 0, x.size - 2)
        slope = (y[piece + 1] - y[piece]) / (x[piece + 1] - x[piece])
        return np.asarray(1 + np.exp(y[piece] + slope * (log_params - x[piece])))


def exact_ratio(fit: Fit, rule: ExactRule, flops_6nd: float) -> Interval:
    """Optimal D/N at the exact cost of the run that is optimal at `flops_6nd` under 6ND.

    The same money spent twice: once by the rule of thumb, once with everything counted.
    """
    here, _ = log_optimum(fit.form.coefficients, flops_6nd, flop_factor=fit.flop_factor)
    cost = flops_6nd * float(rule.over_6nd(np.atleast_1d(here))[0])
    coefficients = np.concatenate([fit.form.coefficients[None], fit.draws])
    centre, log_tokens = log_optimum(coefficients, cost, flop_factor=fit.flop_factor)
    log_ratio = log_tokens - centre  # stands where a resample has no optimum: infinite
    settled = np.isfinite(centre)
    log_ratio[settled] = _search(coefficients[settled], centre[settled], rule, cost)
    with np.errstate(over="ignore"):
        ratio = np.exp(log_ratio)
    return Interval(float(ratio[0]), *quantiles(ratio[1:], fit.level))


def _search(coefficients: Floats, centre: Floats, rule: ExactRule, cost: float) -> Floats:
    """Ln D/N of lowest loss on a grid of ln N around `centre`, refined by a parabola."""
    reach = SEARCH_DECADES * np.log(10)
    offsets = np.linspace(-reach, reach, SEARCH_POINTS)
    log_n = centre[:, None] + offsets
    log_d = np.log(cost / 6) - log_n - np.log(rule.over_6nd(log_n))
    _, a, b, alpha, beta = (column[:, None] for column in coefficients.T)
    with np.errstate(over="ignore"):
        loss = a * np.exp(-alpha * log_n) + b * np.exp(-beta * log_d)
    best = np.clip(np.argmin(loss, axis=1), 1, SEARCH_POINTS - 2)
    each = np.arange(len(best))
    left, middle, right = (loss[each, best + k] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.nan_to_num(0.5 * (left - right) / (left - 2 * middle + right))
    at = centre + offsets[best] + np.clip(shift, -1, 1) * (offsets[1] - offsets[0])
    return np.asarray(np.log(cost / 6) - 2 * at - np.log(rule.over_6nd(at)))
