"""Model selection for the mixture law by cross-validation, and the bootstrap of the chosen models.

Cross-validation leaves out whole mixtures. A resample keeps the mixtures and gives each the
residuals of another one, of all sets together, which preserves the correlation between sets.
Residuals hold both noise and lack of fit. They are scaled up for the degrees of freedom of the
regression and by a posterior draw of their size. Residuals of mixtures with a low weight are scaled
down, so that squares are the size that a weighted mean has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.interval import NO_INTERVAL, Interval, quantiles
from windtunnel.laws.mixture.models import KINDS, MOST_BOOSTED, MixtureModel, SmoothModel, Trees
from windtunnel.laws.mixture.runs import Points
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
class ModelSelection:
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
) -> ModelSelection:
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
            "too-few-mixtures",
            f"mixture: {count} mixtures of {sources} sources: the law needs {fewest} or more, to "
            "fit it and to test it on mixtures left out; decay more of them",
            mixtures=count,
            sources=sources,
            needed=fewest,
        )
    squares = {each.kind: (each.predicted - log_loss) ** 2 for each in able}
    parts = counts / counts.sum()
    best = min(able, key=lambda each: float(parts @ squares[each.kind]))
    for each in able:
        gap = squares[each.kind] - squares[best.kind]
        mean = parts @ gap
        if mean <= np.sqrt(count / (count - 1) * np.sum((parts * (gap - mean)) ** 2)):
            break
    return ModelSelection(
        candidates=tuple(candidates), chosen=each.kind, why=_why(each, best, able)
    )


def held_out(name: str, mixtures: Floats, log_loss: Floats, counts: Floats) -> Floats:
    """Of every mixture, ln loss (M,) by a regression, or the `mean`, of those not left out."""
    out = np.empty(len(mixtures))
    for kept, gone in _folds(len(mixtures)):
        if name == "mean":
            out[gone] = np.average(log_loss[kept], weights=counts[kept])
        else:
            model = KINDS[name].fit(mixtures[kept], log_loss[kept, None], counts[kept])
            out[gone] = model(mixtures[gone])[:, 0]
    return out


def rank_correlation(predicted: Floats, measured: Floats, *, seed: int, level: float) -> Interval:
    """Spearman's, with an interval from mixtures drawn with replacement; nan of nothing."""
    if not predicted.size:
        return Interval(np.nan, *NO_INTERVAL)
    count = predicted.size
    drawn = np.random.default_rng([seed, 2]).integers(0, count, (RANK_DRAWS, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn])
    draws = _spearman(predicted, measured, times)
    whole = _spearman(predicted, measured, np.ones((1, count)))
    return Interval(float(whole[0]), *quantiles(draws[np.isfinite(draws)], level))


def _spearman(one: Floats, other: Floats, times: Any) -> Floats:
    """Spearman's (D,) for tables that have each pair `times` (D, M); nan of constants."""
    size = times.sum(axis=1, keepdims=True)
    first, second = (_ranks(each, times) - (size + 1) / 2 for each in (one, other))
    scale = np.sqrt((times * first**2).sum(axis=1) * (times * second**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray((times * first * second).sum(axis=1) / scale)


def _ranks(values: Floats, times: Any) -> Floats:
    """Ranks (D, M) of values (M,) that occur `times` (D, M), the mean one where they are equal."""
    order = np.argsort(values, kind="stable")
    number = np.unique(values, return_inverse=True)[1]
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    equal = np.add.reduceat(times[:, order], starts, axis=1)
    return np.asarray((equal.cumsum(axis=1) - (equal - 1) / 2)[:, number])


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


# A mixture that the regression passes through says nothing of noise; its residual is 0 over 0.
LEAST_FREE = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """S models with B resamples each, and the noise of one new run.

    Attributes:
        fitted: of the table, one for each set.
        resampled: of the resamples; empty where there are none.
        noise: ln loss of a new run off the same trunks, about the law, shape (B, S).
        trunk_noise: ln loss of another trunk above the average one, shape (B, S); B = 0 where
            fewer than two trunks were seen.
        sigma: standard deviation of `noise` before its posterior, shape (S,).
        sigma_trunk: of ln loss between trunks, shape (S,); nan where it is not known.
    """

    fitted: tuple[MixtureModel, ...]
    resampled: tuple[MixtureModel, ...]
    noise: Floats
    trunk_noise: Floats
    sigma: Floats
    sigma_trunk: Floats

    def log_loss(self, mixtures: Floats) -> Floats:
        """By the law, shape (P, K) to (P, S)."""
        return np.concatenate([model(mixtures) for model in self.fitted], axis=1)

    def errors(self, mixtures: Floats) -> Floats:
        """By each resample's law, ln loss minus that by the law, which it was drawn from.

        At one mixture (1, K) for all, or one for each resample (B, K); shape (B, S).
        """
        if not self.resampled:
            return np.empty((0, len(self.fitted)))
        many = np.broadcast_to(mixtures, (len(self.noise), mixtures.shape[1]))
        drawn = np.stack([model.own(many) for model in self.resampled], axis=1)
        return np.asarray(drawn - self.log_loss(mixtures))


def ensemble(
    points: Points, kinds: Sequence[str], predicted: Floats, *, bootstrap: int, seed: int
) -> Ensemble:
    """Fit the regression of each set, to the table and to `bootstrap` resamples of it.

    `predicted` is the ln loss (M, S) of every mixture by fits without it. Where a set is boosted,
    there are at most `MOST_BOOSTED` resamples.
    """
    count, sets = points.log_loss.shape
    emphasis = points.emphasis
    fitted = tuple(
        KINDS[kind].fit(points.weights, points.log_loss[:, [s]], emphasis[:, s])
        for s, kind in enumerate(kinds)
    )
    by_law = np.concatenate([model(points.weights) for model in fitted], axis=1)
    residuals, free = _residuals(points, fitted, by_law, predicted)
    extra = points.branch_residuals * np.sqrt(1 - 1 / points.runs.mean())
    variance = (residuals**2).mean(axis=0)
    variance = variance + ((extra**2).mean(axis=0) if extra.size else 0.0)
    trunks = len(points.trunk_effects)
    covariance = points.trunk_effects.T @ points.trunk_effects / max(trunks - 1, 1)
    sigma_trunk = np.sqrt(np.diag(covariance)) if trunks > 1 else np.full(sets, np.nan)
    draws = min(bootstrap, MOST_BOOSTED) if "boosting" in kinds else bootstrap
    if not draws:
        none = np.empty((0, sets))
        return Ensemble(fitted=fitted, resampled=(), noise=none, trunk_noise=none,
                        sigma=np.sqrt(variance), sigma_trunk=sigma_trunk)  # fmt: skip
    rng = np.random.default_rng([seed, 0])
    size = np.sqrt(free / rng.chisquare(free, draws))
    picked = residuals[rng.integers(0, count, (draws, count))]
    tables = by_law + size[:, None, None] * picked  # (B, M, S)
    resampled = tuple(
        KINDS[kind].fit(points.weights, tables[:, :, s].T, emphasis[:, s])
        for s, kind in enumerate(kinds)
    )
    noise = residuals[rng.integers(0, count, draws)]
    if extra.size:
        noise = noise + extra[rng.integers(0, len(extra), draws)]
    trunk_noise = np.empty((0, sets))
    if trunks > 1:
        # Normal draws times the effects have the effects' own covariance between sets.
        normal = rng.standard_normal((draws, trunks)) / np.sqrt(trunks - 1)
        wider = np.sqrt((1 + 1 / trunks) * (trunks - 1) / rng.chisquare(trunks - 1, draws))
        trunk_noise = wider[:, None] * (normal @ points.trunk_effects)
    return Ensemble(
        fitted=fitted,
        resampled=resampled,
        noise=size[:, None] * noise,
        trunk_noise=trunk_noise,
        sigma=np.sqrt(variance),
        sigma_trunk=sigma_trunk,
    )


def _residuals(
    points: Points, fitted: Sequence[MixtureModel], by_law: Floats, predicted: Floats
) -> tuple[Floats, float]:
    """Residuals (M, S) of the size of the noise, mean 0, and the degrees of freedom they have.

    Of a formula by the leverage of each mixture; boosted trees follow the noise, so that only
    the errors on mixtures left out tell its size.
    """
    count, emphasis = len(points.weights), points.emphasis
    left, free = np.empty_like(by_law), count - 1.0
    for s, model in enumerate(fitted):
        if isinstance(model, Trees):
            left[:, s] = points.log_loss[:, s] - predicted[:, s]
            continue
        features = cast("SmoothModel", model).features(points.weights)
        root = np.sqrt(emphasis[:, s])
        absorbed = features @ np.linalg.pinv(root[:, None] * features, rcond=1e-9) * root
        unabsorbed = np.maximum(((np.eye(count) - absorbed) ** 2).sum(axis=1), LEAST_FREE)
        left[:, s] = (points.log_loss[:, s] - by_law[:, s]) / np.sqrt(unabsorbed)
        left[:, s] *= np.sqrt(emphasis[:, s] / emphasis[:, s].mean())
        free = min(free, emphasis[:, s].sum() - np.trace(absorbed))
    return left - left.mean(axis=0), max(free, 1.0)
