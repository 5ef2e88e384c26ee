"""Noise of runs at two levels: ln loss = law + u(trunk) + e(branch).

Variances come from residuals by Henderson's method III (1953): sums of squares of projections that
see the branch noise alone, then both. The fit follows the data, so its tangent space (the Jacobian,
K x R) is projected out first; this corrects for the lost degrees of freedom.

Draws are generalised pivotal quantities (Weerahandi 1993): the sums of squares divided by drawn
chi-squares. For the branch variance this is the posterior under a flat prior on ln sigma, a scaled
inverse chi-square. For the trunk variance the draw solves one linear equation and is cut at 0. All
sigmas are standard deviations of ln loss: 0.003 is 0.3%.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.table import Floats

LACK_OF_FIT_DRAWS = 20_000
# Below one degree of freedom between trunks their noise is unknown, and an interval would be a lie.
MIN_TRUNK_DF = 1.0
# Of the trunk variance: branches without noise of their own would make one run of a trunk.
NO_BRANCH = 1e-9
ONE_SIZE = 0.015
"""Sizes that differ by less than this in ln N are one: tables read off a figure scatter."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Sums of squares at the two levels and what they are expected to be.

    Attributes:
        branch_squares: squares that trunks and law cannot explain; branch_df * sigma_branch^2.
        branch_df: degrees of freedom of the branch noise.
        trunk_squares: squares that trunks explain beyond the law; its k-th direction expects
            sigma_branch^2 + share[k] * sigma_trunk^2.
        share: as above; its sum is rows per trunk times `trunk_df`.
        trunk_df: trunks left to see trunk noise after the law has taken its part.
    """

    branch_squares: float
    branch_df: int
    trunk_squares: float
    share: Floats
    trunk_df: float

    @property
    def branch(self) -> float:
        """Standard deviation of ln loss between branches of a trunk; 0 where none is seen."""
        return float(np.sqrt(self.branch_squares / self.branch_df)) if self.branch_df else 0.0

    @property
    def trunk(self) -> float:
        """Standard deviation of ln loss between trunks, cut at 0."""
        if not self.share.size:
            return 0.0
        excess = self.trunk_squares - self.share.size * self.branch**2
        return float(np.sqrt(max(excess, 0.0) / self.share.sum()))

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """(sigma_trunk, sigma_branch) drawn from their posterior, shape (count, 2)."""
        branch = np.zeros(count)
        if self.branch_df:
            branch = self.branch_squares / rng.chisquare(self.branch_df, count)
        trunk = np.zeros(count)
        if self.share.size:
            chi = rng.chisquare(1.0, (count, self.share.size))
            trunk = (self.trunk_squares - branch * chi.sum(axis=1)) / (chi @ self.share)
        return np.asarray(np.sqrt(np.stack([np.maximum(trunk, 0.0), branch], axis=1)))


def estimate(residual: Floats, jacobian: Floats, trunk_index: NDArray[np.intp]) -> Noise:
    """The two variances in `residual` (R,), the law's tangent space (K, R) taken out."""
    if np.unique(trunk_index).size == residual.size:
        return _one_level(residual, jacobian)
    indicator = membership(trunk_index)
    tangent = basis(jacobian.T)
    left = indicator - tangent @ (tangent.T @ indicator)
    between, share = _basis_and_squares(left)
    rest = residual - tangent @ (tangent.T @ residual)
    along = between.T @ rest
    rest = rest - between @ along
    branch_df = residual.size - tangent.shape[1] - between.shape[1]
    return Noise(
        branch_squares=float(rest @ rest) if branch_df else 0.0,
        branch_df=branch_df,
        trunk_squares=float(along @ along),
        share=share,
        trunk_df=float(share.sum() * indicator.shape[1] / residual.size),
    )


def _one_level(residual: Floats, jacobian: Floats) -> Noise:
    """Every row is a trunk of its own: all noise is between trunks."""
    tangent = basis(jacobian.T)
    rest = residual - tangent @ (tangent.T @ residual)
    df = residual.size - tangent.shape[1]
    return Noise(0.0, 0, float(rest @ rest) if df else 0.0, np.ones(df), float(df))


def replicates(cells: NDArray[np.intp], trunk_index: NDArray[np.intp]) -> int:
    """Number of trunks beyond the first in every cell, summed: what seed noise is measured from."""
    pairs = np.unique(np.stack([cells, trunk_index]), axis=1)
    return int(np.sum(np.bincount(pairs[0]) - 1))


def seed_noise(
    log_output: Floats, cells: NDArray[np.intp], trunk_index: NDArray[np.intp]
) -> Noise | None:
    """Noise between runs of one cell (equal inputs, other trunk), free of any law.

    None where no cell holds two trunks.
    """
    if not replicates(cells, trunk_index):
        return None
    return estimate(log_output, membership(cells).T, trunk_index)


def seed_sigma(
    log_output: Floats,
    cells: NDArray[np.intp],
    trunk_index: NDArray[np.intp],
    *,
    robust: bool = False,
) -> float | None:
    """Standard deviation of ln output within cells, trunk and branch noise together, pooled.

    `robust`: from the median deviation where that is smaller, so that one diverged seed does not
    set it.
    """
    df = log_output.size - np.unique(cells).size
    if not replicates(cells, trunk_index) or not df:
        return None
    means = np.bincount(cells, log_output) / np.bincount(cells)
    off = log_output - means[cells]
    pooled = float(np.sqrt(np.sum(off**2) / df))
    if not robust:
        return pooled
    several = np.bincount(cells)[cells] > 1
    spare = float(np.sqrt(several.sum() / df))
    return min(pooled, 1.4826 * float(np.median(np.abs(off[several]))) * spare)


def lack_of_fit(
    residual: Floats,
    jacobian: Floats,
    cells: NDArray[np.intp],
    trunk_index: NDArray[np.intp],
    *,
    rng: np.random.Generator,
) -> float | None:
    """Chance that seed noise alone leaves misfits as large as these; None without replicates.

    Two tests, each against its own stratum: do sizes miss the law by more than their trunks differ,
    and do horizons by more than branches differ (an exact F test)? The smaller p, doubled. A plain
    F test on rows would call shared trunk noise a lack of fit. The null is drawn, not looked up, so
    p is a multiple of 5e-5 and may be 0.
    """
    # What the law took out is constant within a cell, so residuals serve as the outputs would.
    pure = seed_noise(residual, cells, trunk_index)
    if pure is None:
        return None
    trunks = membership(trunk_index)
    tangent = basis(jacobian.T)
    both = basis(np.concatenate([jacobian.T, trunks], axis=1))
    sigma = pure.draw(rng, LACK_OF_FIT_DRAWS)
    chances = []
    for groups, known in ((_designs(cells, trunk_index), tangent), (cells, both)):
        # Where no two trunks share two cells the branch noise of seeds is not known, nor testable.
        if groups is cells and not pure.branch_df:
            continue
        indicator = membership(groups)
        misfit = basis(indicator - known @ (known.T @ indicator))
        if not misfit.shape[1]:
            continue
        share = np.linalg.svd(misfit.T @ trunks, compute_uv=False) ** 2
        share = np.pad(share, (0, misfit.shape[1]))[: misfit.shape[1]]
        chi = rng.chisquare(1.0, (LACK_OF_FIT_DRAWS, misfit.shape[1]))
        null = sigma[:, 1] ** 2 * chi.sum(axis=1) + sigma[:, 0] ** 2 * (chi @ share)
        chances.append(np.mean(null >= np.sum((misfit.T @ residual) ** 2)))
    return float(min(1.0, len(chances) * min(chances))) if chances else None


def _designs(cells: NDArray[np.intp], trunks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number of every row's set of cells; trunks of one size with equal horizons share a set."""
    sets = [tuple(np.unique(cells[trunks == t])) for t in range(trunks.max() + 1)]
    numbers = {cell_set: number for number, cell_set in enumerate(dict.fromkeys(sets))}
    return np.array([numbers[sets[t]] for t in trunks], np.intp)


def weighted(columns: Floats, trunks: NDArray[np.intp], shared: float, own: float) -> Floats:
    """V^-1 times columns (R, k), V the covariance of noise with these variances."""
    count = np.bincount(trunks)
    if count.max() == 1:
        return columns / max(shared + own, np.finfo(float).tiny)
    own = max(own, NO_BRANCH * shared, np.finfo(float).tiny)
    sums = np.stack([np.bincount(trunks, column) for column in columns.T], axis=1)
    shrink = shared / (own + count * shared)
    return np.asarray((columns - (shrink[:, None] * sums)[trunks]) / own)


def gls(
    residual: Floats, jacobian: Floats, trunks: NDArray[np.intp], shared: float, own: float
) -> tuple[float, int]:
    """Squares that noise of these variances has to explain, and their degrees of freedom.

    The tangent space of the law (K, R) is taken out. Of noise alone they are chi-square.
    """
    tangent = basis(jacobian.T)
    left = weighted(np.column_stack([tangent, residual]), trunks, shared, own)
    normal, along = tangent.T @ left[:, :-1], tangent.T @ left[:, -1]
    squares = float(residual @ left[:, -1] - along @ np.linalg.lstsq(normal, along)[0])
    return max(squares, 0.0), residual.size - tangent.shape[1]


def sizes_of(params: Floats) -> NDArray[np.intp]:
    """A number for the size of every row: sizes next to each other are one."""
    order = np.argsort(params, kind="stable")
    steps = np.diff(np.log(params[order])) > ONE_SIZE
    found = np.empty(params.size, np.intp)
    found[order] = np.concatenate([[0], np.cumsum(steps)])
    return found


def membership(index: NDArray[np.intp]) -> Floats:
    """Column k (R,) is 1 where `index` is k."""
    return np.asarray(index[:, None] == np.arange(index.max() + 1), np.float64)


def basis(columns: Floats) -> Floats:
    """Orthonormal basis (R, rank) of the columns."""
    return _basis_and_squares(columns)[0]


def _basis_and_squares(columns: Floats) -> tuple[Floats, Floats]:
    """Orthonormal basis (R, rank) of the columns, and the squared singular values (rank,)."""
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    # Indicator columns have norms of order 1, so what is left of an absorbed one is roundoff.
    real = values > 1e-9 * max(float(values[0]), 1.0) if values.size else values > 0
    return left[:, real], values[real] ** 2
