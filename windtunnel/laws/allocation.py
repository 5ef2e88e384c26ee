"""Compute-optimal splits of a budget under a fit, with fresh or with repeated data.

`optimum` takes a budget in FLOPs, or finds the budget for which a given size, token count or D/N is
optimal. When unique tokens run out, the best run repeats them and uses a larger model.
"""

import math
from typing import Any, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import FitError
from windtunnel.laws.chinchilla import DataConstrained
from windtunnel.laws.frontier import vertex
from windtunnel.laws.interval import Interval, Optima, Optimum, beyond, decades_beyond, quantiles
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Floats

# A budget so far from the fitted ones is no answer but a slope too flat to turn around.
MOST_DECADES = 12
# With a misfit, further from the fitted budgets there is nothing to say.
CROSSING_DECADES, CROSSING_POINTS = 4, 97


@overload
def optimum(
    fitted: Fit,
    *,
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    tokens_per_param: float | None = None,
    unique_tokens: float | None = None,
) -> Optimum: ...


@overload
def optimum(fitted: Fit, *, flops: ArrayLike) -> Optimum | Optima: ...


def optimum(
    fitted: Fit,
    *,
    flops: Any = None,
    params: float | None = None,
    tokens: float | None = None,
    tokens_per_param: float | None = None,
    unique_tokens: float | None = None,
) -> Optimum | Optima:
    """The best split of `flops`, or of the budget for which a given size, data or ratio is optimal.

    With `flops` and one of the others, the split is not the best one but that: its loss then comes
    with `excess`, the loss above the best split. With `flops` and `unique_tokens`, the best split
    of a data-constrained law where no more than so many tokens are fresh. An array of budgets
    alone has `Optima` of its shape.

    Raises:
        FitError: no or too many constraints, or no budget makes the given number optimal.
    """
    if np.ndim(flops):
        found: Optimum | Optima = fitted.optimum(np.asarray(flops))
        return found
    others = {"params": params, "tokens": tokens, "ratio": tokens_per_param}
    given = {name: value for name, value in others.items() if value is not None}
    for name, value in {**given, "flops": flops, "unique_tokens": unique_tokens}.items():
        if value is not None and not 0 < value < math.inf:
            raise FitError(
                "out-of-range",
                f"optimum: {name} = {value}, must be above 0 and finite",
                option=name,
                value=value,
                above=0,
            )
    if unique_tokens is not None:
        if flops is None or given:
            raise FitError(
                "contradicting-options",
                "optimum: unique_tokens goes with flops and with nothing else",
                options=["unique_tokens", *given],
            )
        return repeated_optimum(fitted, flops, unique_tokens)
    if (flops is None and not given) or len(given) > 1:
        raise FitError(
            "contradicting-options",
            "optimum: give flops, or one of params, tokens and tokens_per_param, or flops and one "
            "of them; for example --flops 1e23",
            options=list(given),
        )
    if not given:
        return fitted.optimum(cast("float", flops))
    ((name, value),) = given.items()
    if flops is None:
        return fitted.optimum(_budget_for(fitted, name, value))
    return _forced(fitted, flops, name, value)


def _budget_for(fitted: Fit, name: str, value: float) -> float:
    """The budget whose optimum has this size, data or ratio."""
    log_flops = (_crossing if fitted.misfit else _power)(fitted, name, math.log(value))
    middle = math.log(math.prod(fitted.domain["flops"])) / 2
    if not abs(log_flops - middle) < MOST_DECADES * math.log(10):
        word = "tokens per param" if name == "ratio" else name
        raise FitError(
            "no-budget",
            f"optimum: no sensible budget makes {word} = {value:.4g} optimal under this fit: the "
            "optimal D/N hardly changes with compute. Give flops as well",
            quantity=name,
            value=value,
        )
    return math.exp(log_flops)


def _power(fitted: Fit, name: str, wanted: float) -> float:
    """Ln C of a law in which size, data and ratio are powers of C; infinite without a slope."""
    law, vector = fitted.form, fitted.form.vector
    log_n, log_d = law.log_optimum(vector, 1.0, flop_factor=fitted.flop_factor)
    a, b = law.split(vector)
    at_one, slope = {
        "params": (log_n, a),
        "tokens": (log_d, b),
        "ratio": (log_d - log_n, b - a),
    }[name]
    return (wanted - float(at_one)) / float(slope) if slope else math.inf


def _crossing(fitted: Fit, name: str, wanted: float) -> float:
    """Ln C at which the frontier first crosses what is wanted; infinite where it does not."""
    from scipy.optimize import brentq  # loads scipy

    low, high = (math.log10(end) for end in fitted.domain["flops"])
    flops = np.logspace(low - CROSSING_DECADES, high + CROSSING_DECADES, CROSSING_POINTS)

    def off(budget: ArrayLike) -> Floats:
        log_n, log_d = (each[0] for each in fitted.splits(budget))
        found = {"params": log_n, "tokens": log_d, "ratio": log_d - log_n}[name]
        return np.asarray(found - wanted)

    reached = off(flops)
    (at,) = np.nonzero(np.diff(np.sign(reached)))
    if not at.size:
        return math.inf
    first = int(at[0])
    ends = np.log(flops[first : first + 2]).tolist()
    return float(brentq(lambda log_flops: float(off(math.exp(log_flops))), *ends))


def _forced(fitted: Fit, flops: float, name: str, value: float) -> Optimum:
    """The loss of a split that is given, against the best one."""
    cells = flops / fitted.flop_factor
    params = {"params": value, "tokens": cells / value, "ratio": math.sqrt(cells / value)}[name]
    tokens = cells / params
    loss, best = fitted.loss_at(params, tokens), fitted.optimum(flops)
    outside = beyond("flops", flops, fitted.domain["flops"])
    return Optimum(
        flops=flops,
        params=_known(params),
        tokens=_known(tokens),
        ratio=_known(tokens / params),
        loss=loss,
        extrapolates=best.extrapolates,
        excess=loss.value - best.loss.value,
        warnings=tuple(dict.fromkeys((*([outside] if outside else []), *loss.warnings))),
    )


def _known(value: float) -> Interval:
    return Interval(value, value, value)


# Either side of the optimum with fresh data; repetition moves the best size up by less.
SEARCH_SPAN, POINTS = np.log(100.0), 601


def repeated_optimum(fitted: Fit, flops: float, unique_tokens: float) -> Optimum:
    """Params, tokens and loss of the best run of `flops` = k N D on so many unique tokens.

    Found on a grid of ln N, for the fit and for each of its resamples.

    Raises:
        FitError: not a data-constrained law, or one without an optimum.
    """
    form = fitted.form
    if not isinstance(form, DataConstrained):
        raise FitError(
            "wrong-law",
            f"law {fitted.law} knows no repeated data: fit --law data-constrained",
            law=fitted.law,
            needed="data-constrained",
        )
    log_params, _ = form.log_optimum(form.vector, flops, flop_factor=fitted.flop_factor)
    if not np.isfinite(log_params):
        raise FitError(
            "no-optimum",
            "optimum: the fit gave one of the terms no weight, so no optimum exists",
            law=fitted.law,
        )
    cells = flops / fitted.flop_factor
    params = np.exp(log_params + np.linspace(-SEARCH_SPAN, SEARCH_SPAN, POINTS))
    inputs = np.stack([params, cells / params, np.full(POINTS, unique_tokens)])
    best = vertex(form.values(np.concatenate([form.vector[None], fitted.draws]), inputs))
    size = np.exp(np.interp(best, np.arange(POINTS), np.log(params)))
    spans = (size, cells / size, cells / size**2)
    found = [Interval(float(x[0]), *quantiles(x[1:], fitted.level)) for x in spans]
    outside = beyond("flops", flops, fitted.domain["flops"])
    return Optimum(
        flops=flops,
        params=found[0],
        tokens=found[1],
        ratio=found[2],
        loss=fitted.predict(found[0].value, found[1].value, unique_tokens),
        extrapolates=abs(decades_beyond(flops, fitted.domain["flops"])),
        warnings=(outside,) if outside else (),
    )
