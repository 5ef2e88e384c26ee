"""How noisy runs are, at two levels: ln loss = law + u(trunk) + e(branch).

Variances come from residuals by Henderson's method III (1953): sums of squares of projections that
see the branch noise alone, then both. The fit has bent towards the data, so its tangent space (the
Jacobian, K x R) is projected out first: that is the correction for lost degrees of freedom.

Draws are generalised pivotal quantities (Weerahandi 1993): the sums of squares divided by drawn
chi-squares. For the branch variance that is the posterior under a flat prior on ln sigma, a scaled
inverse chi-square; for the trunk variance the draw solves one linear equation and is cut at 0.
All sigmas are standard deviations of ln loss: 0.003 is 0.3%.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.runs import Floats, Runs

LACK_OF_FIT_DRAWS = 20_000


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
    indicator = _indicator(trunk_index)
    tangent = _basis(jacobian.T)
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


def seed_noise(runs: Runs) -> Noise | None:
    """Noise between runs of one cell (equal N and D, other trunk), free of any law.

    None where no cell holds two trunks.
    """
    if runs.seeds.max() < 2:
        return None
    return estimate(np.log(runs.loss), _indicator(runs.cell_index).T, runs.trunk_index)


def seed_sigma(runs: Runs) -> float | None:
    """Standard deviation of ln loss within cells, trunk and branch noise together, pooled."""
    cells = runs.cell_index
    df = runs.rows - np.unique(cells).size
    if runs.seeds.max() < 2 or not df:
        return None
    log_loss = np.log(runs.loss)
    means = np.bincount(cells, log_loss) / np.bincount(cells)
    return float(np.sqrt(np.sum((log_loss - means[cells]) ** 2) / df))


def lack_of_fit(
    residual: Floats, jacobian: Floats, runs: Runs, *, rng: np.random.Generator
) -> float | None:
    """Chance that seed noise alone leaves misfits as large as these; None without replicates.

    Two tests, each against its own stratum: do sizes miss the law by more than their trunks differ,
    and do horizons by more than branches differ (an exact F test)? The smaller p, doubled. A plain
    F test on rows would call shared trunk noise a lack of fit. The null is drawn, not looked up, so
    p is a multiple of 5e-5 and may be 0.
    """
    pure = seed_noise(runs)
    if pure is None:
        return None
    trunks = _indicator(runs.trunk_index)
    tangent = _basis(jacobian.T)
    both = _basis(np.concatenate([jacobian.T, trunks], axis=1))
    sigma = pure.draw(rng, LACK_OF_FIT_DRAWS)
    chances = []
    for groups, known in ((_designs(runs), tangent), (runs.cell_index, both)):
        indicator = _indicator(groups)
        misfit = _basis(indicator - known @ (known.T @ indicator))
        if not misfit.shape[1]:
            continue
        share = np.linalg.svd(misfit.T @ trunks, compute_uv=False) ** 2
        share = np.pad(share, (0, misfit.shape[1]))[: misfit.shape[1]]
        chi = rng.chisquare(1.0, (LACK_OF_FIT_DRAWS, misfit.shape[1]))
        null = sigma[:, 1] ** 2 * chi.sum(axis=1) + sigma[:, 0] ** 2 * (chi @ share)
        chances.append(np.mean(null >= np.sum((misfit.T @ residual) ** 2)))
    return float(min(1.0, len(chances) * min(chances))) if chances else None


def _designs(runs: Runs) -> NDArray[np.intp]:
    """Number of every row's set of cells; trunks of one size with equal horizons share a set."""
    cells, trunks = runs.cell_index, runs.trunk_index
    sets = [tuple(np.unique(cells[trunks == t])) for t in range(trunks.max() + 1)]
    numbers = {cell_set: number for number, cell_set in enumerate(dict.fromkeys(sets))}
    return np.array([numbers[sets[t]] for t in trunks], np.intp)


def _indicator(index: NDArray[np.intp]) -> Floats:
    return np.asarray(index[:, None] == np.arange(index.max() + 1), np.float64)


def _basis(columns: Floats) -> Floats:
    return _basis_and_squares(columns)[0]


def _basis_and_squares(columns: Floats) -> tuple[Floats, Floats]:
    """Orthonormal basis (R, rank) of the columns, and the squared singular values (rank,)."""
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    # Indicator columns have norms of order 1, so what is left of an absorbed one is roundoff.
    real = values > 1e-9 * max(float(values[0]), 1.0) if values.size else values > 0
    return left[:, real], values[real] ** 2
