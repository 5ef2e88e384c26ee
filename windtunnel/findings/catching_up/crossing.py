"""How many tokens bring one size's decayed loss down to a given one, by interpolation."""

from dataclasses import dataclass

import numpy as np

from windtunnel.findings.finding import LEVEL
from windtunnel.laws import Interval, Table
from windtunnel.laws.interval import NO_INTERVAL, quantiles
from windtunnel.laws.noise import Noise, seed_noise
from windtunnel.laws.table import Floats

DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Ends:
    """Mean ln loss over seeds at every length of one size.

    Attributes:
        tokens: lengths, rising, (H,).
        log_loss: mean ln loss at each, (H,).
        seeds: how many each mean has, (H,).
    """

    tokens: Floats
    log_loss: Floats
    seeds: Floats

    @classmethod
    def of(cls, table: Table, params: float) -> "Ends":
        """The ends of one size."""
        rows = table.params == params
        tokens, index = np.unique(table.tokens[rows], return_inverse=True)
        seeds = np.bincount(index)
        means = np.bincount(index, np.log(table.loss[rows])) / seeds
        return cls(tokens, means, seeds.astype(np.float64))

    def drawn(self, noise: Noise, sigmas: Floats, rng: np.random.Generator) -> Floats:
        """Other means that the same runs could have shown, (P, H), for (P, 2) drawn sigmas.

        Lengths of one seed are branches of one trunk and share its noise.
        """
        shared = rng.standard_normal((len(sigmas), 1)) / np.sqrt(self.seeds.max())
        own = rng.standard_normal((len(sigmas), self.tokens.size)) / np.sqrt(self.seeds)
        return np.asarray(self.log_loss + sigmas[:, :1] * shared + sigmas[:, 1:] * own)


def tokens_to_match(small: Ends, large: Ends, noise: Noise | None) -> list[Interval]:
    """For each length of `large`: tokens after which `small` has the same loss.

    Straight lines in logs between lengths, and the first crossing counts. inf: not within the
    longest length of `small`; 0: already before the shortest. The interval is that of a parametric
    bootstrap, with the noise of trunks and branches drawn from what seeds say of it: nan without
    seeds, and where noise may carry the crossing beyond the lengths.
    """
    found = _crossings(small.tokens, small.log_loss, large.log_loss)
    if noise is None:
        return [Interval(float(tokens), *NO_INTERVAL) for tokens in found]
    rng = np.random.default_rng(0)
    sigmas = noise.draw(rng, DRAWS)
    curves, levels = (ends.drawn(noise, sigmas, rng) for ends in (small, large))
    drawn = np.array(
        [
            _crossings(small.tokens, curve, level)
            for curve, level in zip(curves, levels, strict=True)
        ]
    )
    return [
        Interval(float(tokens), *_inside(*quantiles(draws, LEVEL)))
        for tokens, draws in zip(found, drawn.T, strict=True)
    ]


def loss_band(ends: Ends, noise: Noise) -> Floats:
    """Lower and upper ends of the interval of mean loss at every length, (2, H)."""
    rng = np.random.default_rng(0)
    drawn = np.exp(ends.drawn(noise, noise.draw(rng, DRAWS), rng))
    return np.array([quantiles(column, LEVEL) for column in drawn.T]).T


def noise_of(table: Table) -> Noise | None:
    """Of ln loss between runs of one size and length, all sizes pooled; None without seeds."""
    return seed_noise(np.log(table.loss), table.cells("params", "tokens"), table.trunk_index)


def _crossings(tokens: Floats, log_loss: Floats, levels: Floats) -> Floats:
    lowest = np.minimum.accumulate(log_loss)
    found = np.interp(-levels, -lowest, np.log(tokens), left=-np.inf, right=np.inf)
    return np.asarray(np.exp(found))


def _inside(low: float, high: float) -> tuple[float, float]:
    return (low, high) if low > 0 and high < np.inf else NO_INTERVAL
