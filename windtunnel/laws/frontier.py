"""The compute-optimal frontier: ln N and ln D of lowest loss at a budget, for a law and its draws.

A formula has them in closed form. With a misfit (`laws.misfit`) it is law and misfit together that
are lowest: their minimum along N D = C / k is found on a grid of D/N.
"""

from collections.abc import Mapping

import numpy as np

from windtunnel.laws.forms import Formula
from windtunnel.laws.interval import Span
from windtunnel.laws.misfit import MisfitDraws, decades_by_axis
from windtunnel.laws.table import Floats

REACH = 30.0
"""An optimum is looked for up to this factor beyond the sampled D/N."""
POINTS = 81


def splits(
    form: Formula, draws: Floats, flops: Floats, *, flop_factor: float
) -> tuple[Floats, Floats]:
    """Ln N and ln D (1 + S, F) at budgets (F,): the law's, then that of each of S draws (S, K)."""
    coefficients = np.concatenate([form.vector[None], draws])[:, None]
    log_params, log_tokens = form.log_optimum(coefficients, flops, flop_factor=flop_factor)
    return np.asarray(log_params), np.asarray(log_tokens)


def splits_with_misfit(
    form: Formula,
    draws: Floats,
    misfit: MisfitDraws,
    flops: Floats,
    *,
    flop_factor: float,
    domain: Mapping[str, Span],
) -> tuple[Floats, Floats]:
    """As `splits`, of law and misfit together; the first row is the median over the draws.

    A draw without a minimum within `REACH` of the sampled D/N has its own at infinity.
    """
    log_ratio = ratios(domain)
    log_cells = np.log(flops / flop_factor)
    found = []
    for cells in log_cells:
        log_params = (cells - log_ratio) / 2
        at = minimum(curves(form, draws, misfit, log_params, cells - log_params))
        found.append(np.interp(at, np.arange(POINTS), log_ratio, left=-np.inf, right=np.inf))
    ratio = np.stack(found, axis=1)
    middle = np.median(ratio, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        params, tokens = np.exp((log_cells - middle) / 2), np.exp((log_cells + middle) / 2)
        known = np.isfinite(middle)
        ratio[:, known] = misfit.widened(
            ratio[:, known],
            decades_by_axis(domain, params[known], tokens[known], flop_factor),
        )
    ratio = np.concatenate([middle[None], ratio])
    return (log_cells - ratio) / 2, (log_cells + ratio) / 2


def ratios(domain: Mapping[str, Span]) -> Floats:
    """The grid of ln D/N (POINTS,) on which an optimum is looked for."""
    low, high = np.log(domain["ratio"])
    return np.linspace(low - np.log(REACH), high + np.log(REACH), POINTS)


def curves(
    form: Formula, draws: Floats, misfit: MisfitDraws, log_params: Floats, log_tokens: Floats
) -> Floats:
    """Ln loss (S, P) of law and misfit along points (P,); each draw is one smooth curve."""
    with np.errstate(all="ignore"):
        law = np.log(form.values(draws, np.exp(np.stack([log_params, log_tokens]))))
    return np.asarray(law + misfit.along(log_params, log_tokens))


def minimum(loss: Floats) -> Floats:
    """Position (S,) of the minimum along the last axis of (S, P), refined by a parabola.

    Minus or plus infinity where the lowest is the first or the last.
    """
    lowest, last = np.argmin(loss, axis=1), loss.shape[1] - 1
    found = vertex(loss)
    return np.where(lowest == 0, -np.inf, np.where(lowest == last, np.inf, found))


def vertex(loss: Floats) -> Floats:
    """Position (S,) of the vertex through the lowest inner point of (S, P) and its neighbours."""
    at = np.clip(np.argmin(loss, axis=1), 1, loss.shape[1] - 2)
    left, middle, right = (loss[np.arange(len(loss)), at + k] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.nan_to_num(0.5 * (left - right) / (left - 2 * middle + right))
    return np.asarray(at + np.clip(shift, -1, 1))
