"""Noise between seeds, measured near the minima of a grid over learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from windtunnel.findings.finding import LEVEL
from windtunnel.findings.rates.valleys import Valley
from windtunnel.laws import Interval
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.laws.noise import seed_sigma


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """Standard deviation of the loss between seeds near the minima, nats per token."""

    sigma: Interval
    dof: int


def mean_of(noise: SeedNoise | None, value: float, seeds: float) -> Interval:
    """A mean over so many seeds with its interval at `LEVEL`, where the noise is known."""
    from scipy.stats import t as student_t

    if noise is None:
        return Interval(value, *NO_INTERVAL)
    half = student_t.ppf((1 + LEVEL) / 2, noise.dof) * noise.sigma.value / np.sqrt(seeds)
    return Interval(value, value - float(half), value + float(half))


def seed_noise(valleys: Sequence[Valley]) -> SeedNoise | None:
    """Pooled over the rates near every minimum; None where no rate has two that differ."""
    from scipy.stats import chi2

    groups = [valley.loss[valley.lr == rate] for valley in valleys for rate in valley.near]
    sizes = [group.size for group in groups]
    if not groups or max(sizes) < 2:
        return None
    cells = np.repeat(np.arange(len(groups)), sizes)
    sigma = seed_sigma(np.concatenate(groups), cells, np.arange(cells.size))
    if not sigma:
        return None
    dof = cells.size - len(groups)
    tail = (1 - LEVEL) / 2
    low, high = (sigma * np.sqrt(dof / chi2.ppf(share, dof)) for share in (1 - tail, tail))
    return SeedNoise(sigma=Interval(sigma, float(low), float(high)), dof=dof)
