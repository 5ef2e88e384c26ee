"""Baseline forecasts without a law: the loss of the nearest size, and a power law in compute."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import FitError
from windtunnel.laws.table import Floats, Table


def baselines(rest: Table, held: Table) -> dict[str, Floats]:
    """Forecasts by name of the runs that are held out, from the others, that need no law."""
    found = {"nearest size at that D/N": nearest_size(rest, held.params, held.tokens)}
    with contextlib.suppress(FitError):  # no run improves on the cheapest
        found["power law in compute"] = compute_line(rest, held.params, held.tokens)
    return found


def nearest_size(table: Table, params: ArrayLike, tokens: ArrayLike) -> Floats:
    """The loss of the largest size in the table at the same D/N, in the table's loss unit.

    ln loss, averaged over seeds, is interpolated in ln(D/N); outside the sampled D/N the nearest
    end is taken. It forecasts no gain from size at all, so it errs high.
    """
    largest = table.subset(table.params == table.params.max())
    ratio, log_loss = _mean_by(np.log(largest.tokens / largest.params), np.log(largest.loss))
    wanted = np.log(np.asarray(tokens, np.float64) / np.asarray(params, np.float64))
    return np.exp(np.interp(wanted, ratio, log_loss))


def compute_line(table: Table, params: ArrayLike, tokens: ArrayLike) -> Floats:
    """Loss from a power law in compute alone, in the table's loss unit.

    ln loss is a straight line in ln C through the cells (averaged over seeds) that no cheaper cell
    beats; C = k N D. It knows neither an irreducible loss nor a poor choice of N.

    Raises:
        FitError: fewer than two cells on that envelope.
    """
    cells = table.cells("params", "tokens")
    log_flops = _mean_by(cells, np.log(table.budget))[1]
    log_loss = _mean_by(cells, np.log(table.loss))[1]
    order = np.lexsort((log_loss, log_flops))
    log_flops, log_loss = log_flops[order], log_loss[order]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(log_loss)[:-1]])
    envelope = log_loss < best_before
    if envelope.sum() < 2 or np.ptp(log_flops[envelope]) == 0:
        raise FitError(
            "too-few-points",
            "compute_line: no run improves on the cheapest one, so there is no line to draw",
            points=int(envelope.sum()),
            needed=2,
        )
    slope, offset = np.polyfit(log_flops[envelope], log_loss[envelope], 1)
    wanted = np.log(table.flop_factor * np.asarray(params) * np.asarray(tokens))
    return np.asarray(np.exp(offset + slope * wanted))


@dataclass(frozen=True)
class Score:
    """The error of a forecast: mean and root mean square in per cent, and rms in sigmas."""

    name: str
    bias_percent: float
    rms_percent: float
    rms_sigmas: float


@dataclass(frozen=True)
class Comparison:
    """Scores, best first; `winner` is None when the best two differ by less than one sigma."""

    scores: tuple[Score, ...]
    winner: str | None


def compare(predictions: Mapping[str, ArrayLike], measured: ArrayLike, sigma: float) -> Comparison:
    """Score forecasts against `measured` losses; `sigma` is the seed noise of ln loss.

    Errors are ln(predicted / measured), in per cent where named so.

    Raises:
        FitError: nothing to compare, shapes that differ, or a sigma that is not positive.
    """
    truth = np.atleast_1d(np.asarray(measured, np.float64))
    if not predictions or not sigma > 0:
        raise FitError(
            "nothing-to-compare",
            f"compare: {len(predictions)} forecasts, sigma = {sigma}: give at least one forecast "
            "and a positive seed noise (Fit.sigma_seed)",
            forecasts=len(predictions),
            sigma=sigma,
        )
    scores = [_score(name, values, truth, sigma) for name, values in predictions.items()]
    scores.sort(key=lambda score: score.rms_sigmas)
    clear = len(scores) == 1 or scores[1].rms_sigmas - scores[0].rms_sigmas >= 1
    return Comparison(tuple(scores), scores[0].name if clear else None)


def _score(name: str, predicted: ArrayLike, measured: Floats, sigma: float) -> Score:
    values = np.atleast_1d(np.asarray(predicted, np.float64))
    if values.shape != measured.shape:
        raise FitError(
            "wrong-shape",
            f"compare: forecast {name!r} has shape {values.shape}, measured {measured.shape}",
            forecast=name,
            shape=values.shape,
            needed=measured.shape,
        )
    error = np.log(values) - np.log(measured)
    rms = float(np.sqrt(np.mean(error**2)))
    return Score(name, 100 * float(error.mean()), 100 * rms, rms / sigma)


def _mean_by(key: ArrayLike, values: Floats) -> tuple[Floats, Floats]:
    """Distinct keys, sorted, and the mean of `values` over each; keys within 1e-9 are one."""
    rounded = np.round(np.asarray(key, np.float64), 9)
    distinct, index = np.unique(rounded, return_inverse=True)
    return np.asarray(distinct, np.float64), np.bincount(index, values) / np.bincount(index)
