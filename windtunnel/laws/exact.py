"""Compute-optimal D/N with attention, embedding and head counted in the FLOPs.

The law L(N, D) does not depend on FLOPs; only the size that a budget buys does. 6ND leaves out the
operations that dominate in small models, so its optimal model is too small (design.md, section 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.laws import frontier
from windtunnel.laws.chinchilla import Chinchilla, Coupled
from windtunnel.laws.interval import Interval, Span, quantiles
from windtunnel.laws.misfit import MisfitDraws
from windtunnel.laws.table import Floats, Table

SEARCH_DECADES = 1.5
"""Either side of the 6ND optimum: far beyond the factor of 2 that counting can change (design)."""
SEARCH_POINTS = 801


@dataclass(frozen=True, eq=False)
class ExactRule:
    """Exact FLOPs per token as kN (1 + excess), the excess a power law between the table's sizes.

    Between two sizes ln excess is linear in ln N; beyond the outermost the last slope goes on.
    """

    log_params: Floats
    log_excess: Floats
    flop_factor: float = 6.0

    @classmethod
    def of(cls, params: ArrayLike, exact_over_rule: ArrayLike, flop_factor: float) -> "ExactRule":
        """The rule through sizes (S,), in any order and repeated or not, and exact / (k N D)."""
        sizes, index = np.unique(np.asarray(params, np.float64), return_inverse=True)
        over = np.bincount(index, np.asarray(exact_over_rule, np.float64)) / np.bincount(index)
        # Norm gains are parameters and no matmul: without a head the excess could reach 0.
        return cls(np.log(sizes), np.log(np.maximum(over - 1, 1e-6)), flop_factor)

    @classmethod
    def of_table(cls, table: Table) -> "ExactRule | None":
        """From the column `flops_exact`; None without it."""
        if "flops_exact" not in table:
            return None
        return cls.of(table.params, table["flops_exact"] / table.budget, table.flop_factor)

    def over_rule(self, log_params: Floats) -> Floats:
        """Exact FLOPs over k N D at ln N."""
        x, y = self.log_params, self.log_excess
        if x.size == 1:
            return np.full_like(log_params, 1 + np.exp(y[0]))
        piece = np.clip(np.searchsorted(x, log_params) - 1, 0, x.size - 2)
        slope = (y[piece + 1] - y[piece]) / (x[piece + 1] - x[piece])
        return np.asarray(1 + np.exp(y[piece] + slope * (log_params - x[piece])))


def exact_ratio(
    form: Chinchilla | Coupled, draws: Floats, rule: ExactRule, flops: float, *, level: float
) -> Interval:
    """Optimal D/N at the exact cost of the run that is optimal at `flops` under k N D.

    The same cost is split twice: by the rule of thumb, and with all FLOPs counted. `draws`
    (S, K) are resampled coefficients, for the interval. Coupling does not move the optimum.
    """
    factor = rule.flop_factor
    here, _ = form.log_optimum(form.vector, flops, flop_factor=factor)
    cost = flops * float(rule.over_rule(np.atleast_1d(here))[0])
    coefficients = np.concatenate([form.vector[None], draws])
    centre, log_tokens = form.log_optimum(coefficients, cost, flop_factor=factor)
    log_ratio = log_tokens - centre  # stands where a resample has no optimum: infinite
    settled = np.isfinite(centre)
    log_ratio[settled] = _search(coefficients[settled], centre[settled], rule, cost)
    with np.errstate(over="ignore"):
        ratio = np.exp(log_ratio)
    return Interval(float(ratio[0]), *quantiles(ratio[1:], level))


def exact_ratio_with_misfit(
    form: Coupled,
    draws: Floats,
    misfit: MisfitDraws,
    rule: ExactRule,
    *,
    log_params: float,
    flops: float,
    domain: Mapping[str, Span],
    level: float,
) -> Interval:
    """As `exact_ratio`, of law and misfit together; the value is the median over the draws.

    `log_params` is ln N of the optimum at `flops` under k N D.
    """
    log_cost = np.log(flops * float(rule.over_rule(np.atleast_1d(log_params))[0]))
    log_cells = log_cost - np.log(rule.flop_factor)
    log_n = (log_cells - frontier.ratios(domain)) / 2
    log_d = log_cells - log_n - np.log(rule.over_rule(log_n))
    at = frontier.minimum(frontier.curves(form, draws, misfit, log_n, log_d))
    places = np.arange(log_n.size)
    log_ratio = np.interp(at, places, log_d - log_n, left=-np.inf, right=np.inf)
    with np.errstate(over="ignore"):
        ratio = np.exp(log_ratio)
    return Interval(float(np.median(ratio)), *quantiles(ratio, level))


def _search(coefficients: Floats, centre: Floats, rule: ExactRule, cost: float) -> Floats:
    """Ln D/N of lowest loss on a grid of ln N around `centre`, refined by a parabola."""
    span = SEARCH_DECADES * np.log(10)
    offsets = np.linspace(-span, span, SEARCH_POINTS)
    log_cells = np.log(cost / rule.flop_factor)
    log_n = centre[:, None] + offsets
    log_d = log_cells - log_n - np.log(rule.over_rule(log_n))
    _, a, b, alpha, beta = (column[:, None] for column in coefficients.T[:5])
    with np.errstate(over="ignore"):
        loss = a * np.exp(-alpha * log_n) + b * np.exp(-beta * log_d)
    best = centre - span + frontier.vertex(loss) * (offsets[1] - offsets[0])
    return np.asarray(log_cells - 2 * best - np.log(rule.over_rule(best)))
