"""Which regression predicts mixtures that it has not seen: cross-validation over whole mixtures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.interval import NO_INTERVAL, Interval, quantiles
from windtunnel.laws.mixture.surfaces import KINDS
from windtunnel.laws.table import Floats

ALL_ALONE = 20
"""Up to so many mixtures each is left out alone; of more, a tenth at a time."""
RANK_DRAWS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """How well one regression foretells the mixtures left out.

    Attributes:
        needs: the fewest mixtures that it is fitted to.
        rms: root mean square of predicted minus measured loss, nats, by how much each mixture
            counts; nan where it was refused.
        relative: `rms` over that of the mean of the other mixtures; 1 is no better than none.
        rank: Spearman's correlation of predicted and measured loss.
        predicted: ln loss of every mixture by a fit without it, shape (M,).
    """

    kind: str
    needs: int
    rms: float
    relative: float
    rank: Interval
    predicted: Floats

    @property
    def refused(self) -> bool:
        """Whether there were too few mixtures."""
        return not self.predicted.size


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """The candidates of one validation set, which of them was taken, and why."""

    candidates: tuple[Candidate, ...]
    chosen: str
    why: str

    @property
    def taken(self) -> Candidate:
        """The one that was chosen."""
        return next(each for each in self.candidates if each.kind == self.chosen)


def choose(
    mixtures: Floats, log_loss: Floats, counts: Floats, *, seed: int, level: float
) -> Choice:
    """The simplest regression that predicts as well as the best one, within a standard error.

    The error is that of the difference in squared errors of ln loss, over the mixtures (M,) of one
    set, each by how much it `counts`. `seed` is of the intervals alone.

    Raises:
        FitError: too few mixtures for any.
    """
    count, sources = mixtures.shape
    measured = np.exp(log_loss)
    without = held_out("mean", mixtures, log_loss, counts)
    spread = _rms(np.exp(without) - measured, counts)
    candidates = []
    for name, kind in KINDS.items():
        enough = count >= kind.needs(sources)
        predicted = held_out(name, mixtures, log_loss, counts) if enough else np.empty(0)
        rms = _rms(np.exp(predicted) - measured, counts) if enough else np.nan
        candidates.append(
            Candidate(
                kind=name,
                needs=kind.needs(sources),
                rms=rms,
                relative=rms / spread if spread > 0 else np.nan,
                rank=rank_correlation(predicted, log_loss, seed=seed, level=level),
                predicted=predicted,
            )
        )
    able = [each for each in candidates if not each.refused]
    if not able:
        fewest = min(each.needs for each in candidates)
        raise FitError(
            f"mixture: {count} mixtures of {sources} sources: the law needs {fewest} or more, to "
            "fit it and to test it on mixtures left out; decay more of them"
        )
    squares = {each.kind: (each.predicted - log_loss) ** 2 for each in able}
    parts = counts / counts.sum()
    best = min(able, key=lambda each: float(parts @ squares[each.kind]))
    for each in able:
        gap = squares[each.kind] - squares[best.kind]
        mean = parts @ gap
        if mean <= np.sqrt(count / (count - 1) * np.sum((parts * (gap - mean)) ** 2)):
            break
    return Choice(candidates=tuple(candidates), chosen=each.kind, why=_why(each, best, able))


def held_out(name: str, mixtures: Floats, log_loss: Floats, counts: Floats) -> Floats:
    """Of every mixture, ln loss (M,) by a regression, or the `mean`, of those not left out."""
    out = np.empty(len(mixtures))
    for kept, gone in _folds(len(mixtures)):
        if name == "mean":
            out[gone] = np.average(log_loss[kept], weights=counts[kept])
        else:
            surface = KINDS[name].fit(mixtures[kept], log_loss[kept, None], counts[kept])
            out[gone] = surface(mixtures[gone])[:, 0]
    return out


def rank_correlation(predicted: Floats, measured: Floats, *, seed: int, level: float) -> Interval:
    """Spearman's, with an interval from mixtures drawn with replacement; nan of nothing."""
    from scipy.stats import rankdata

    def correlation(one: Floats, other: Floats) -> Floats:
        """Along the last axis."""
        ranks = [rankdata(each, axis=-1) for each in (one, other)]
        first, second = (each - each.mean(axis=-1, keepdims=True) for each in ranks)
        scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
        with np.errstate(invalid="ignore"):
            return np.asarray((first * second).sum(axis=-1) / scale)

    if not predicted.size:
        return Interval(np.nan, *NO_INTERVAL)
    drawn = np.random.default_rng([seed, 2]).integers(0, predicted.size,
                                                      (RANK_DRAWS, predicted.size))  # fmt: skip
    draws = correlation(predicted[drawn], measured[drawn])
    return Interval(
        float(correlation(predicted, measured)), *quantiles(draws[np.isfinite(draws)], level)
    )


def _folds(count: int) -> Iterator[tuple[Any, Any]]:
    """Mixtures kept and mixtures left out: the same ones every time."""
    from sklearn.model_selection import KFold, LeaveOneOut  # type: ignore[import-untyped]

    folds = LeaveOneOut() if count <= ALL_ALONE else KFold(10, shuffle=True, random_state=0)
    yield from folds.split(np.empty(count))


def _rms(errors: Floats, counts: Floats) -> float:
    return float(np.sqrt(np.average(errors**2, weights=counts)))


def _why(taken: Candidate, best: Candidate, able: list[Candidate]) -> str:
    if len(able) == 1:
        return "the others need more mixtures"
    if taken is best:
        return "lowest error on mixtures left out"
    return f"within one standard error of {best.kind}, and simpler"
