"""Loss on one validation set along the length of training: a law where it falls, else a slope."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, linear_regression, stdev

import numpy as np

from windtunnel.errors import FitError
from windtunnel.findings.finding import LEVEL
from windtunnel.findings.schedules.paired import paired
from windtunnel.laws import Fit, Interval, fit
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.laws.table import Floats
from windtunnel.trials.seed_noise import interval_of_mean

FEWEST = 4
"""Lengths that a law of three coefficients is fitted to: one to spare."""
Losses = Mapping[tuple[int, int], float]
"""(tokens of the target, seed) -> nats per token."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """The longest, foretold by a fit to the others: measured mean, and what was predicted."""

    measured: float
    predicted: Interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """Loss on one validation set along the lengths of a group.

    Attributes:
        tokens: of every run, shape (runs,).
        losses: of every run, nats per token, shape (runs,).
        per_doubling: slope of the loss in log2 tokens, the mean over trunks.
        falls: whether the slope is down and no length is above the one before, beyond noise.
        law: E + A x^-b with its intervals; None where loss does not fall, or it cannot be fitted.
        held_out: None without the law, and of fewer than five lengths.
        cautions: of the law, or why there is none.
    """

    on: str
    tokens: Floats
    losses: Floats
    per_doubling: Interval
    falls: bool
    law: Fit | None
    held_out: HeldOut | None
    cautions: tuple[str, ...]

    @property
    def forgets(self) -> bool:
        """Whether loss rises with length beyond noise."""
        return self.per_doubling.low > 0

    @property
    def exponent(self) -> Interval:
        """The b of a law that is there."""
        b = self._coefficient("b")
        return Interval(-b.value, -b.high, -b.low)

    @property
    def floor(self) -> Interval:
        """The E of a law that is there."""
        return self._coefficient("c")

    @property
    def at_twice(self) -> Interval:
        """Loss of a new run at twice the longest, by a law that is there."""
        assert self.law is not None
        return self.law.predict(2 * float(self.tokens.max()))

    def _coefficient(self, name: str) -> Interval:
        assert self.law is not None
        return Interval(self.law.coefficients[name], *self.law.intervals[name])


def course_of(on: str, losses: Losses) -> Course:
    """How the loss on a set goes along the lengths, whichever way it does."""
    slope = _per_doubling(losses)
    down = slope.value < 0 and not slope.high >= 0  # one seed has no interval
    falls = down and not any(_rises(losses, *two) for two in pairwise(_lengths(losses)))
    law: Fit | None = None
    held_out: HeldOut | None = None
    cautions: tuple[str, ...] = ()
    if falls and len({seed for _, seed in losses}) > 1:
        law, held_out, cautions = _law(losses)
    return Course(
        on=on,
        tokens=np.array([tokens for tokens, _ in losses], np.float64),
        losses=np.array(list(losses.values())),
        per_doubling=slope,
        falls=falls,
        law=law,
        held_out=held_out,
        cautions=cautions,
    )


def _lengths(losses: Losses) -> list[int]:
    return sorted({tokens for tokens, _ in losses})


def _per_doubling(losses: Losses) -> Interval:
    """A line through the lengths of each trunk; one slope a trunk, for its lengths share noise."""
    slopes = []
    for seed in sorted({seed for _, seed in losses}):
        mine = {tokens: loss for (tokens, of), loss in losses.items() if of == seed}
        if len(mine) > 1:
            line = linear_regression([math.log2(tokens) for tokens in mine], list(mine.values()))
            slopes.append(line.slope)
    if len(slopes) < 2:
        return Interval(slopes[0] if slopes else np.nan, *NO_INTERVAL)
    mean = fmean(slopes)
    return Interval(mean, *interval_of_mean(mean, stdev(slopes), len(slopes)))


def _rises(losses: Losses, short: int, long: int) -> bool:
    """Whether the longer one is above the shorter one beyond noise, seed by seed."""
    some, others = (
        {(seed, 0): loss for (tokens, seed), loss in losses.items() if tokens == wanted}
        for wanted in (long, short)
    )
    gap = paired(some, others)
    return gap is not None and gap.low is not None and gap.low > 0


def _law(losses: Losses) -> tuple[Fit | None, HeldOut | None, tuple[str, ...]]:
    """The law, how it foretells the longest, and what is to be said of it."""
    try:
        found = _fitted(losses)
    except FitError as why:
        return None, None, (f"no power law: {why}",)
    cautions = tuple(each.message for each in found.warnings if each.code != "no-holdout")
    ends = [found.intervals.get(name, NO_INTERVAL) for name in ("b", "c")]
    if not np.isfinite(ends).all():
        return None, None, ("no power law: it has no finite interval", *cautions)
    if not (found.coefficients["b"] < 0 < found.coefficients["a"]):
        return None, None, ("no power law: the loss does not flatten towards a floor", *cautions)
    if ends[0][1] >= 0:
        return None, None, ("no power law: its exponent may be 0", *cautions)
    return found, _held_out(losses), cautions


def _held_out(losses: Losses) -> HeldOut | None:
    *others, longest = _lengths(losses)
    if len(others) < FEWEST:
        return None
    measured = [loss for (tokens, _), loss in losses.items() if tokens == longest]
    try:
        short = _fitted({key: loss for key, loss in losses.items() if key[0] != longest})
    except FitError:
        return None
    predicted = short.predict(float(longest), trunks=len(measured))
    return HeldOut(measured=fmean(measured), predicted=predicted)


def _fitted(losses: Losses) -> Fit:
    table = {
        "x": np.array([tokens for tokens, _ in losses], np.float64),
        "y": np.array(list(losses.values())),
        "trunk": np.array([str(seed) for _, seed in losses]),
    }
    return fit(table, "power-offset", level=LEVEL, holdout=None)
