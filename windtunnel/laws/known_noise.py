"""Seed noise of ln loss that is known from elsewhere, for a table without repeated seeds.

One seed a cell leaves trunk noise and lack of fit one number. A known noise says what seeds would
have measured: it is drawn as it is, and residuals beyond it are lack of fit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.noise import estimate, gls
from windtunnel.laws.posterior import NONE_OFF, NoiseDraws, Posterior
from windtunnel.laws.table import Floats

HOLDS_P = 0.01
"""Residuals this unlikely are not the known noise alone."""


@dataclass(frozen=True)
class KnownNoise:
    """A known seed noise, split between trunks and branches as the residuals of branches say.

    Attributes:
        sigma: standard deviation of ln loss between runs of one cell.
        trunk: its part between trunks.
        branch: its part between branches of one trunk, no more than `sigma`.
        p: chance of residuals this large by this noise alone.
    """

    sigma: float
    trunk: float
    branch: float
    p: float

    @property
    def holds(self) -> bool:
        """Whether it explains the residuals; where it does not, intervals rest on these."""
        return self.p >= HOLDS_P

    @property
    def posterior(self) -> "KnownPosterior":
        """What is known of the noise, in the form of a posterior that has one answer."""
        one = np.ones((1, 1, 1))
        return KnownPosterior(
            off=np.array([NONE_OFF]),
            weight=one,
            squares=one,
            df=np.ones(1, np.intp),
            sigmas=(self.trunk, self.branch, 0.0),
        )


@dataclass(frozen=True, eq=False)
class KnownPosterior(Posterior):
    """A posterior of one possibility: no size is off, and `sigmas` (3,) are what they are."""

    sigmas: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def draw(self, rng: np.random.Generator, count: int) -> NoiseDraws:
        """The same `count` times."""
        return NoiseDraws(np.full(count, NONE_OFF), np.tile(self.sigmas, (count, 1)))


def known_noise(
    sigma: float, residual: Floats, jacobian: Floats, trunk: NDArray[np.intp]
) -> KnownNoise:
    """A known `sigma` beside the residuals (R,) of a law with tangent space `jacobian` (K, R)."""
    from scipy.special import chdtrc

    branch = min(estimate(residual, jacobian, trunk).branch, sigma)
    shared = float(np.sqrt(sigma**2 - branch**2))
    squares, df = gls(residual, jacobian, trunk, shared**2, branch**2)
    p = float(chdtrc(df, squares)) if df else 1.0
    return KnownNoise(sigma, shared, branch, p)
