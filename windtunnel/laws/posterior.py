"""What the noise may be like, and which size may be off the law: a posterior on a grid.

ln loss = law + offset(size) + u(trunk) + e(branch), linear in the law near its optimum. Two things
that real tables do are among the possibilities, because intervals that rule them out miss the truth
(analysis/coverage.py, nominal .90, noise of 0.1% to 1%):

* Trunk noise may grow or fall with size, as a power of it. With one sd for all sizes the forecast
  of a run at 4x covers .66 to .70 where noise rises fourfold over a 32-fold range of sizes.
* One size may be off the law, by a learning rate that was never tuned for it: above it, as no
  learning rate makes a loss too low. Taken for trunk noise, an offset of 1% to 3% leaves alpha a
  coverage of .67 to .84, because it reaches all seeds of the size.

With both, alpha, beta, D/N and the forecast cover .87 to .967 of 38 cells, normal and t noise too.

Given the offset's size, the slope and the ratio of the two variances, the branch variance has a
scaled inverse chi-square posterior under flat priors on the coefficients and on ln sigma. What is
given is summed over a grid, weighted by the restricted likelihood (Harville 1974): it has paid for
every coefficient, so few trunks make a wide posterior, not a small sigma.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.laws.forms import Law
from windtunnel.laws.noise import basis, membership, replicates
from windtunnel.laws.point_estimate import enough
from windtunnel.laws.table import Floats, Table

# One table in four holds a size that is off the law, any of them.
OFF_CHANCE = 0.25
# (most, share): 95% of the offsets lie anywhere between 0 and 5% of the loss, the rest below 50%.
OFF_BY = ((0.05, 0.95), (0.5, 0.05))
# ln(trunk sd of the largest size / of the smallest), normal around 0; 1.4 is fourfold. Over a
# 32-fold range of sizes a slope of 3.5 is sd ~ N.
SLOPES = np.linspace(-3.5, 3.5, 17)
SLOPE_SD = 1.75
# ln(trunk variance / branch variance): sd ratios of 0.08 to 150.
LOG_RATIOS = np.linspace(-5.0, 10.0, 46)
NONE_OFF = -1


@dataclass(frozen=True, eq=False)
class Layout:
    """Which rows share a trunk and which a size, all that the noise knows of a table.

    A size is a value of the law's first input, parameters or not.

    Attributes:
        trunk: number of every row's trunk, shape (R,).
        size: number of every row's size, from 0 for the smallest, shape (R,).
        values: the first input of every row, raw, shape (R,).
        spare: numbers of the sizes that may be off the law.
    """

    trunk: NDArray[np.intp]
    size: NDArray[np.intp]
    values: Floats
    spare: NDArray[np.intp]

    @classmethod
    def of(cls, law: type[Law], table: Table, coefficients: int) -> "Layout":
        """The layout of a table to which `coefficients` of the law are fitted."""
        values = table[law.inputs[0]]
        sizes, size = np.unique(values, return_inverse=True)
        cells = table.cells(*law.inputs)
        # With one seed the offset of a size and its trunk noise are one number; without a size
        # more than the law needs nothing says which one is off.
        tested = law.allocates and bool(replicates(cells, table.trunk_index))
        spare = [
            number
            for number in range(sizes.size if tested else 0)
            if sizes.size - 1 > law.distinct[law.inputs[0]]
            and enough(law, table, size != number, coefficients)
        ]
        return cls(table.trunk_index, size, values, np.array(spare, np.intp))

    @property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest size."""
        return float(self.values.min()), float(self.values.max())


@dataclass(frozen=True, eq=False)
class NoiseDraws:
    """What could be true of the noise, one of `count` possibilities a row.

    Attributes:
        off: number of the size that is off the law, or NONE_OFF.
        sigmas: (sigma_trunk in the middle of the sizes, sigma_branch, slope), shape (count, 3).
    """

    off: NDArray[np.intp]
    sigmas: Floats


@dataclass(frozen=True, eq=False)
class Posterior:
    """Weights over (which size is off, variance ratio, slope), and the squares left over in each.

    Attributes:
        off: the sizes that may be off, NONE_OFF first, shape (H,).
        weight: shape (H, ratios, slopes), sum 1.
        squares: what noise has to explain, in units of the branch variance; same shape.
        df: degrees of freedom of `squares`, shape (H,).
    """

    off: NDArray[np.intp]
    weight: Floats
    squares: Floats
    df: NDArray[np.intp]

    @property
    def chance(self) -> Floats:
        """Of every entry of `off`, shape (H,)."""
        return np.asarray(self.weight.sum(axis=(1, 2)))

    @property
    def likeliest(self) -> int:
        """The size that is most likely off, or NONE_OFF."""
        return int(self.off[np.argmax(self.chance)])

    def draw(self, rng: np.random.Generator, count: int) -> NoiseDraws:
        """Possibilities with their frequencies, and the variances drawn given each."""
        flat = rng.choice(self.weight.size, count, p=self.weight.ravel())
        which, ratio, slope = np.unravel_index(flat, self.weight.shape)
        branch = np.sqrt(self.squares.ravel()[flat] / rng.chisquare(self.df[which]))
        trunk = branch * np.exp(LOG_RATIOS[ratio] / 2)
        return NoiseDraws(self.off[which], np.stack([trunk, branch, SLOPES[slope]], axis=1))


def noise_posterior(residual: Floats, jacobian: Floats, layout: Layout) -> Posterior:
    """What `residual` (R,) says about the noise, the law's tangent space (K, R) taken out."""
    tangent = basis(jacobian.T)
    df = residual.size - tangent.shape[1]
    off = layout.spare if df > 1 else layout.spare[:0]
    offset = np.asarray(layout.size[:, None] == off, np.float64)
    covariance = _Covariance.of(layout)
    evidence, squares, along, own = covariance.explain(tangent, offset, residual)
    left = np.maximum(squares[..., None] - along**2 / own, np.finfo(float).tiny)
    scores = np.concatenate(
        [
            (-df / 2 * np.log(squares))[..., None],
            _log_offset_density(along, own, left, df)
            + math.log(OFF_CHANCE / (1 - OFF_CHANCE) / max(off.size, 1)),
        ],
        axis=2,
    )
    scores += (evidence - (SLOPES / SLOPE_SD) ** 2 / 2)[..., None]
    weight = np.exp(scores - scores.max())
    return Posterior(
        off=np.concatenate([[NONE_OFF], off]),
        weight=np.moveaxis(weight / weight.sum(), 2, 0),
        squares=np.moveaxis(np.concatenate([squares[..., None], left], axis=2), 2, 0),
        df=np.array([df] + [df - 1] * off.size, np.intp),
    )


def _log_offset_density(along: Floats, own: Floats, left: Floats, df: int) -> Floats:
    """Ln of the likelihood, averaged over offsets of OFF_BY and over ln sigma.

    The likelihood of one offset is (left + own (offset - best)^2)^(-df/2): a t density, whose tails
    are cut with the normal distribution's.
    """
    if df < 2:  # an offset takes the last degree of freedom: none is considered
        return left
    best, error = along / own, np.sqrt(left / own / (df - 1))
    below = _normal_cdf(-best / error)
    prior = sum(
        share / most * (_normal_cdf((most - best) / error) - below) for most, share in OFF_BY
    )
    gammas = math.lgamma((df - 1) / 2) - math.lgamma(df / 2)
    area = math.log(math.pi) / 2 + gammas - (df - 1) / 2 * np.log(left) - np.log(own) / 2
    return np.asarray(area + np.log(np.maximum(prior, np.finfo(float).tiny)))


def _normal_cdf(z: Floats) -> Floats:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray((1 + erf(z / math.sqrt(2))) / 2)


@dataclass(frozen=True, eq=False)
class _Covariance:
    """V of every (ratio, slope), in units of the branch variance: I + a block for every trunk.

    Attributes:
        trunks: indicator of the trunks (R, T).
        shrink: what V^-1 takes off for a trunk's sum, shape (ratios, slopes, T).
        log_determinant: of V, shape (ratios, slopes).
    """

    trunks: Floats
    shrink: Floats
    log_determinant: Floats

    @classmethod
    def of(cls, layout: Layout) -> "_Covariance":
        trunks = membership(layout.trunk)
        rows = trunks.sum(axis=0)
        size = log_size(layout.values, layout.span) @ trunks / rows
        variance = np.exp(LOG_RATIOS[:, None, None] + 2 * SLOPES[:, None] * size)
        log_determinant = np.log1p(rows * variance).sum(axis=2)
        return cls(trunks, variance / (1 + rows * variance), log_determinant)

    def inner(self, left: Floats, right: Floats) -> Floats:
        """Products left' V^-1 right of columns (R, a) and (R, b): shape (ratios, slopes, a, b)."""
        sums = (self.trunks.T @ left)[:, :, None] * (self.trunks.T @ right)[:, None, :]
        taken = self.shrink @ sums.reshape(len(sums), -1)
        return np.asarray(left.T @ right - taken.reshape(*taken.shape[:2], *sums.shape[1:]))

    def squares(self, columns: Floats) -> Floats:
        """Squares c' V^-1 c of every column c of (R, a): shape (ratios, slopes, a)."""
        taken = self.shrink @ (self.trunks.T @ columns) ** 2
        return np.asarray(np.sum(columns**2, axis=0) - taken)

    def explain(
        self, tangent: Floats, offset: Floats, residual: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Generalised least squares of `residual` on `tangent`, and what `offset` adds to it.

        Returns:
            ln restricted likelihood but for the squares, and the squares of the residual, both of
            shape (ratios, slopes); products of every offset column with the residual, and its own
            square, both (ratios, slopes, S). Tangent is taken out of all of them.
        """
        both = np.concatenate([offset, residual[:, None]], axis=1)
        normal, cross = self.inner(tangent, tangent), self.inner(tangent, both)
        solved = np.linalg.solve(normal, cross)
        own = self.squares(both) - np.sum(cross * solved, axis=2)
        along = self.inner(offset, residual[:, None])[..., 0]
        along = along - np.sum(cross[..., :-1] * solved[..., -1:], axis=2)
        # The prior is flat in ln(noise of a trunk's mean), cut where branches explain all of it.
        share = np.exp(LOG_RATIOS) * self.trunks.sum() / self.trunks.shape[1]
        evidence = -self.log_determinant / 2 - np.linalg.slogdet(normal)[1] / 2
        evidence += np.log(share / (1 + share))[:, None]
        # What the law absorbs leaves roundoff; a table without noise leaves nothing.
        floor = np.finfo(float).tiny
        return evidence, np.maximum(own[..., -1], floor), along, np.maximum(own[..., :-1], 1e-12)


def trunk_sigma(sigmas: Floats, values: ArrayLike, span: tuple[float, float]) -> Floats:
    """Trunk noise at sizes `values` for `sigmas` (..., 3); `span` holds the table's extreme sizes.

    The slope is followed half a range beyond the sizes, and no further: it was not measured there.
    """
    size = np.clip(log_size(values, span), -1.0, 1.0)
    return np.asarray(sigmas[..., 0] * np.exp(sigmas[..., 2] * size))


def log_size(values: ArrayLike, span: tuple[float, float]) -> Floats:
    """Ln size over its range: 0 in the middle, where sigma_trunk is stated, and 1/2 at the end."""
    reach = math.log(span[1] / span[0]) or 1.0
    return (np.log(np.asarray(values, np.float64)) - math.log(span[0] * span[1]) / 2) / reach
