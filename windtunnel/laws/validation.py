"""Does the law predict trunks it has not seen, and does one trunk decide it?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import FitError
from windtunnel.laws.chinchilla import Chinchilla, log_optimum
from windtunnel.laws.chinchilla_solver import solve
from windtunnel.laws.interval import HoldOut, Influence, quantiles
from windtunnel.laws.point import Point
from windtunnel.laws.runs import MIN_DISTINCT, MIN_ROWS, Floats, Runs
from windtunnel.laws.uncertainty import Resamples

# A table without noise has intervals of no width; ln loss is not known beyond this.
ROUNDOFF = 1e-9


def held_out_rows(runs: Runs, holdout: str | ArrayLike) -> NDArray[np.bool_]:
    """The rows to hold out: of the largest size, by a row mask, or by trunk labels.

    Raises:
        FitError: an unknown trunk, a mask that splits a trunk, or nothing left on one side.
    """
    if isinstance(holdout, str):
        if holdout != "largest":
            raise FitError(f"holdout = {holdout!r}: 'largest', a mask, trunk labels or None")
        return np.asarray(runs.params == runs.params.max())
    given = np.asarray(holdout)
    if given.dtype != np.bool_:
        labels = given.astype(np.str_)
        if (unknown := np.setdiff1d(labels, runs.trunk_labels)).size:
            raise FitError(f"holdout: no trunk {str(unknown[0])!r} in the table")
        given = np.isin(runs.trunk, labels)
    if given.shape != runs.params.shape or given.all() or not given.any():
        raise FitError(f"holdout: a mask over {runs.rows} rows with some, not all, of them true")
    if (split := np.intersect1d(runs.trunk[given], runs.trunk[~given])).size:
        raise FitError(
            f"holdout: trunk {str(split[0])!r} is on both sides. Its rows share their noise: "
            "hold out whole trunks"
        )
    return given


def hold_out(
    held: Runs,
    what: str,
    form: Chinchilla,
    resamples: Resamples,
    *,
    level: float,
    rng: np.random.Generator,
) -> HoldOut:
    """Score `form`, fitted without them, on the `held` rows."""
    predicted = np.log(form.predict(held.params, held.tokens))
    errors = predicted - np.log(held.loss)
    expected = predicted.mean() - _mean_log_loss(held, resamples, rng)
    low, high = quantiles(expected, level)
    error = float(errors.mean())
    return HoldOut(
        what=what,
        rows=held.rows,
        trunks=held.trunk_labels.size,
        error=error,
        rms=float(np.sqrt(np.mean(errors**2))),
        low=low,
        high=high,
        inside=low - ROUNDOFF <= error <= high + ROUNDOFF if expected.size else None,
    )


def most_influential(runs: Runs, point: Point) -> Influence | None:
    """The trunk whose removal moves D/N at the largest budget most; each refit starts at the fit.

    None where no trunk can be spared: a law would no longer be identified.
    """
    labels = runs.trunk_labels
    kept = np.array([runs.trunk != label for label in labels])
    spare = np.array([_still_identified(runs, keep) for keep in kept])
    if not spare.any():
        return None
    labels, kept = labels[spare], kept[spare]
    found = solve(
        point.grid,
        point.objective,
        np.broadcast_to(runs.loss, kept.shape),
        np.broadcast_to(point.theta, (len(labels), 5)),
        weight=kept.astype(np.float64),
    )
    flops = float(runs.budget.max())
    theta = np.concatenate([point.theta[None], found.theta])
    log_params, log_tokens = log_optimum(point.grid.raw(theta), flops, flop_factor=runs.flop_factor)
    log_ratio = log_tokens - log_params
    if not np.isfinite(log_ratio[0]):
        return None
    worst = int(np.argmax(np.abs(log_ratio[1:] - log_ratio[0])))
    with np.errstate(over="ignore"):
        ratio, without = np.exp(log_ratio[[0, worst + 1]])
    return Influence(str(labels[worst]), flops, float(ratio), float(without))


def _mean_log_loss(held: Runs, resamples: Resamples, rng: np.random.Generator) -> Floats:
    """Mean ln loss that the held rows could have shown, one per resample."""
    e, a, b, alpha, beta = resamples.draws.T[:, :, None]
    with np.errstate(divide="ignore"):
        law = np.log(e + a * held.params**-alpha + b * held.tokens**-beta).mean(axis=1)
    count = len(resamples.sigmas)
    index = held.trunk_index
    shares = np.bincount(index) / held.rows
    trunk = rng.standard_normal((count, shares.size)) @ shares
    branch = rng.standard_normal(count) / np.sqrt(held.rows)
    return np.asarray(law + resamples.sigmas[:, 0] * trunk + resamples.sigmas[:, 1] * branch)


def _still_identified(runs: Runs, keep: NDArray[np.bool_]) -> bool:
    sizes, tokens = np.unique(runs.params[keep]).size, np.unique(runs.tokens[keep]).size
    return min(sizes, tokens) >= MIN_DISTINCT and int(keep.sum()) >= MIN_ROWS
