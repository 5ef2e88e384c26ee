"""How well two rankings of the same things agree, when each thing was measured with a few seeds.

Seeds are too few to be resampled, and to add noise to means that already hold it counts it twice.
So the true means are drawn from their posterior: they are bivariate normal over the things, of an
unknown covariance (Jeffreys prior), and measured with a noise that is pooled over all things after
the means of seed, for trunks are shared; its variance is drawn too. Measured on five things of two
and three seeds and ten of three, true correlations of 0, .8 and 1, noise of a twentieth to a half
of the variance of a mean: the 90% interval of the true rank correlation covers .88 to 1. On five
things, means redrawn with their standard errors cover .07 to .98, and resampled seeds .07 to .78.
Where one thing is far from the others and ten times as noisy, it covers .78.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from windtunnel.laws import Interval
from windtunnel.laws.interval import quantiles
from windtunnel.laws.table import Floats
from windtunnel.trials.seed_noise import LEVEL, residual_noise

DRAWS = 2000
LEAST = 1e-6
"""Of the variance of true means over that of their noise: below it they are in any order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueMeans:
    """Draws of what endless seeds would give, shape (draws, things), in standard errors.

    `some` and `others` are the two measurements; each has a mean of 0, which ranks do not need.
    """

    some: Floats
    others: Floats

    @property
    def rho(self) -> tuple[float, float]:
        """Ends of the interval of Spearman's correlation."""
        return quantiles(spearman(self.some, self.others), LEVEL)

    @property
    def tau(self) -> tuple[float, float]:
        """Ends of the interval of Kendall's."""
        return quantiles(kendall(self.some, self.others), LEVEL)

    @property
    def same_best(self) -> float:
        """How often the same thing is lowest in both."""
        return float(np.mean(self.some.argmin(axis=1) == self.others.argmin(axis=1)))

    def repeated(self, seed: int = 0) -> Interval:
        """Spearman's correlation of `others`, measured with as many seeds, with a repeat of it."""
        noise = np.random.default_rng([seed, 1]).standard_normal((2, *self.others.shape))
        found = spearman(self.others + noise[0], self.others + noise[1])
        return Interval(float(found.mean()), *quantiles(found, LEVEL))


def true_means(some: Floats, others: Floats, *, seed: int = 0) -> TrueMeans | None:
    """Posterior of the means of two measurements (things, seeds) of the same things.

    None where one of them has one seed, which says nothing of its noise.
    """
    if min(some.shape[1], others.shape[1]) < 2:
        return None
    rng = np.random.default_rng([seed, 0])
    means = np.stack([_centred(each.mean(axis=1)) for each in (some, others)], axis=-1)
    errors = np.stack([_errors(each, rng) for each in (some, others)], axis=-1)
    measured = means / errors[:, None, :]  # (draws, things, 2), of noise 1
    covariance = _inverse_wishart(measured.swapaxes(1, 2) @ measured, len(means) - 1, rng)
    spread, axes = np.linalg.eigh(covariance - np.eye(2))
    # Below 0 no spread is left of the noise: either there is none, or it is hidden in it.
    hidden = -spread * rng.integers(0, 2, spread.shape)
    spread = np.maximum(np.where(spread > 0, spread, hidden), LEAST)[:, None, :]
    kept = spread / (1 + spread)  # of a measured mean; also the variance that is left
    normal = rng.standard_normal(measured.shape)
    drawn = (kept * (measured @ axes) + np.sqrt(kept) * normal) @ axes.swapaxes(1, 2)
    return TrueMeans(some=drawn[..., 0], others=drawn[..., 1])


def spearman(some: Floats, others: Floats) -> Floats:
    """Rank correlation along the last axis."""
    from scipy.stats import rankdata

    one, other = (_centred(rankdata(each, axis=-1)) for each in (some, others))
    scale = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    return np.asarray((one * other).sum(axis=-1) / np.where(scale > 0, scale, 1.0))


def kendall(some: Floats, others: Floats) -> Floats:
    """Pairs in the same order minus pairs in the other, over all pairs, along the last axis."""
    first, second = np.triu_indices(some.shape[-1], k=1)
    one, other = (np.sign(each[..., first] - each[..., second]) for each in (some, others))
    return np.asarray((one * other).mean(axis=-1))


def reach_of_mean(losses: Floats) -> float:
    """Half of Student's interval of one mean of (things, seeds), of the pooled noise.

    Nan where one seed says nothing of it.
    """
    noise, dof = residual_noise(_by_seed(losses))
    if noise is None:
        return float("nan")
    return float(student_t.ppf((1 + LEVEL) / 2, dof)) * noise / math.sqrt(losses.shape[1])


def loudest(losses: Floats) -> tuple[int, float]:
    """The thing (things, seeds) whose residuals are largest, and its share of their squares."""
    apart = losses - losses.mean(axis=1, keepdims=True)
    squares = ((apart - np.median(apart, axis=0)) ** 2).sum(axis=1)
    whole = float(squares.sum())
    place = int(squares.argmax())
    return place, float(squares[place]) / whole if whole else 0.0


def neighbours_within_noise(losses: Floats) -> int:
    """Pairs next to each other by mean loss (things, seeds) whose difference may be none."""
    reach = math.sqrt(2) * reach_of_mean(losses)
    return int(np.sum(np.diff(np.sort(losses.mean(axis=1))) <= reach))


def _by_seed(losses: Floats) -> list[dict[int, float]]:
    return [dict(enumerate(row)) for row in losses.tolist()]


def _errors(losses: Floats, rng: np.random.Generator) -> Floats:
    """Draws of the standard error of a mean over the seeds."""
    noise, dof = residual_noise(_by_seed(losses))
    # Without any noise, as of a repeat of the same run, the ranking is what was measured.
    least = 1e-9 * float(np.ptp(losses)) or 1.0
    sigma = max(noise or 0.0, least) * np.sqrt(dof / rng.chisquare(dof, DRAWS))
    return np.asarray(sigma / np.sqrt(losses.shape[1]))


def _inverse_wishart(scatter: Floats, dof: int, rng: np.random.Generator) -> Floats:
    """Draws of the covariance whose scatter matrix (draws, 2, 2) was measured."""
    size, axes = np.linalg.eigh(scatter)
    root = axes * np.sqrt(np.maximum(size, 0.0))[:, None, :]
    normal = rng.standard_normal((len(scatter), dof, 2))
    inner = np.linalg.inv(normal.swapaxes(1, 2) @ normal)
    return np.asarray(root @ inner @ root.swapaxes(1, 2))


def _centred(values: Floats) -> Floats:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))
