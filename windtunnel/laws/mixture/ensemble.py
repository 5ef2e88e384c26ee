"""The chosen regressions of all sets, fitted to the table and to its resamples.

A resample keeps the mixtures and gives each the residuals of another one, of all sets together, so
that what sets share stays shared. Residuals hold noise and lack of fit alike. They are scaled up
for what the regression has absorbed of them, and by a draw of their size from its posterior; those
of mixtures that count less are scaled down, so that squares are of the size that a weighted mean
has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from windtunnel.laws.mixture.runs import Points
from windtunnel.laws.mixture.surfaces import KINDS, MOST_BOOSTED, Smooth, Surface, Trees
from windtunnel.laws.table import Floats

# A mixture that the regression passes through says nothing of noise; its residual is 0 over 0.
LEAST_FREE = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """S surfaces with B resamples each, and the noise of one new run.

    Attributes:
        fitted: of the table, one for each set.
        resampled: of the resamples; empty where there are none.
        noise: ln loss of a new run off the same trunks, about the law, shape (B, S).
        trunk_noise: ln loss of another trunk above the average one, shape (B, S); B = 0 where
            fewer than two trunks were seen.
        sigma: standard deviation of `noise` before its posterior, shape (S,).
        sigma_trunk: of ln loss between trunks, shape (S,); nan where it is not known.
    """

    fitted: tuple[Surface, ...]
    resampled: tuple[Surface, ...]
    noise: Floats
    trunk_noise: Floats
    sigma: Floats
    sigma_trunk: Floats

    def log_loss(self, mixtures: Floats) -> Floats:
        """By the law, shape (P, K) to (P, S)."""
        return np.concatenate([surface(mixtures) for surface in self.fitted], axis=1)

    def errors(self, mixtures: Floats) -> Floats:
        """By each resample's law, ln loss minus that by the law, which it was drawn from.

        At one mixture (1, K) for all, or one for each resample (B, K); shape (B, S).
        """
        if not self.resampled:
            return np.empty((0, len(self.fitted)))
        many = np.broadcast_to(mixtures, (len(self.noise), mixtures.shape[1]))
        drawn = np.stack([surface.own(many) for surface in self.resampled], axis=1)
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
    by_law = np.concatenate([surface(points.weights) for surface in fitted], axis=1)
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
    points: Points, fitted: Sequence[Surface], by_law: Floats, predicted: Floats
) -> tuple[Floats, float]:
    """Residuals (M, S) of the size of the noise, mean 0, and the degrees of freedom they have.

    Of a formula by the leverage of each mixture; boosted trees follow the noise, so that only
    the errors on mixtures left out tell its size.
    """
    count, emphasis = len(points.weights), points.emphasis
    left, free = np.empty_like(by_law), count - 1.0
    for s, surface in enumerate(fitted):
        if isinstance(surface, Trees):
            left[:, s] = points.log_loss[:, s] - predicted[:, s]
            continue
        features = cast("Smooth", surface).features(points.weights)
        root = np.sqrt(emphasis[:, s])
        absorbed = features @ np.linalg.pinv(root[:, None] * features, rcond=1e-9) * root
        unabsorbed = np.maximum(((np.eye(count) - absorbed) ** 2).sum(axis=1), LEAST_FREE)
        left[:, s] = (points.log_loss[:, s] - by_law[:, s]) / np.sqrt(unabsorbed)
        left[:, s] *= np.sqrt(emphasis[:, s] / emphasis[:, s].mean())
        free = min(free, emphasis[:, s].sum() - np.trace(absorbed))
    return left - left.mean(axis=0), max(free, 1.0)
