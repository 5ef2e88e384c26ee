"""The best split of a budget when data runs out: fewer fresh tokens, more epochs, larger models."""

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.forms.data_constrained import DataConstrained
from windtunnel.laws.interval import Interval, Optimum, beyond, decades_beyond, quantiles
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Floats

# Either side of the optimum with fresh data; repetition moves the best size up by less.
REACH, POINTS = np.log(100.0), 601


def repeated_optimum(fitted: Fit, flops: float, unique_tokens: float) -> Optimum:
    """Params, tokens and loss of the best run of `flops` = k N D on so many unique tokens.

    Found on a grid of ln N, for the fit and for each of its resamples.

    Raises:
        FitError: not a data-constrained law, or one without an optimum.
    """
    form = fitted.form
    if not isinstance(form, DataConstrained):
        raise FitError(f"law {fitted.law} knows no repeated data: fit --law data-constrained")
    log_params, _ = form.log_optimum(form.vector, flops, flop_factor=fitted.flop_factor)
    if not np.isfinite(log_params):
        raise FitError("optimum: the fit gave one of the terms no weight, so no optimum exists")
    cells = flops / fitted.flop_factor
    params = np.exp(log_params + np.linspace(-REACH, REACH, POINTS))
    inputs = np.stack([params, cells / params, np.full(POINTS, unique_tokens)])
    best = _lowest(form.values(np.concatenate([form.vector[None], fitted.draws]), inputs))
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


def _lowest(loss: Floats) -> Floats:
    """Place of the minimum along the last axis of (S, P), refined by a parabola."""
    at = np.clip(np.argmin(loss, axis=1), 1, loss.shape[1] - 2)
    left, middle, right = (loss[np.arange(len(loss)), at + k] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.nan_to_num(0.5 * (left - right) / (left - 2 * middle + right))
    return np.asarray(at + np.clip(shift, -1, 1))
