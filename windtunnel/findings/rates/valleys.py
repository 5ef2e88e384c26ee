"""Loss over learning rate: a valley for each size, length or batch, and how its floor moves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.findings.finding import LEVEL
from windtunnel.findings.numbers import doubled
from windtunnel.laws import Fit, Interval, Table, fit
from windtunnel.laws.interval import NO_INTERVAL, quantiles
from windtunnel.laws.table import Floats

Along = Literal["width", "depth", "params", "tokens", "batch_tokens"]
TOLD = ("edge-minimum", "few-points", "noise-unidentified")
"""Cautions of a fit that concern a reader of a grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Valley:
    """One size, length or batch: loss at every rate, and where it is lowest.

    Attributes:
        at: width, depth, params, tokens or batch_tokens.
        label: the same in words, such as `width 64`.
        params: of the model.
        tokens: of its runs.
        hidden_scale: the role table's factor from a rate to the rate of hidden matrices.
        width_ratio: width over base width.
        lr: of every finished run, (R,).
        loss: of the same, nats per token.
        rates: the rates at which no run diverged, ascending, (C,).
        means: mean loss at each of them.
        diverged: rates at which some run diverged.
        near: the rates that the parabola went through; none without an optimum.
        best: the optimum with its interval; None where it is not inside the rates tried.
        bound: `at most` or `at least` where the lowest rate is the first or the last one.
        lowest: loss at the optimum; of the lowest rate where there is none.
        curvature: ln loss above the optimum per ln(lr / lr*)^2.
    """

    at: float
    label: str
    params: float
    tokens: float
    hidden_scale: float
    width_ratio: float
    lr: Floats
    loss: Floats
    rates: Floats
    means: Floats
    diverged: tuple[float, ...]
    near: Floats
    best: Interval | None
    bound: str | None
    lowest: float
    curvature: float

    @property
    def best_tried(self) -> float:
        """The rate of the lowest mean loss."""
        return float(self.rates[np.argmin(self.means)])

    @property
    def seeds(self) -> int:
        """Runs at that rate."""
        return int(np.sum(self.lr == self.best_tried))

    def above_best(self, lr: ArrayLike) -> Floats:
        """Loss above the lowest at these rates, nats per token.

        The parabola near the optimum, straight lines in ln lr beyond; nan outside the rates that
        were tried and next to one that diverged.
        """
        x = np.log(np.asarray(lr, np.float64))
        knots = np.log(np.concatenate([self.rates, self.diverged]))
        means = np.concatenate([self.means, np.full(len(self.diverged), np.nan)])
        order = np.argsort(knots)
        losses = np.interp(x, knots[order], means[order], left=np.nan, right=np.nan)
        if self.best is not None:
            parabola = self.lowest * np.exp(self.curvature * (x - np.log(self.best.value)) ** 2)
            low, high = np.log(self.near[[0, -1]])
            losses = np.where((x >= low) & (x <= high), parabola, losses)
        return np.asarray(losses - self.lowest)


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The best rate of one place, used at another.

    `lost` is the loss above the lowest there, nats per token: nan where that rate was not tried or
    diverged; without an interval where `to` has no optimum (then it is a lower bound), or where the
    interval leaves the rates tried.
    """

    source: Valley
    to: Valley
    lost: Interval

    @property
    def known(self) -> bool:
        """Whether the rate was tried there, and trained."""
        return bool(np.isfinite(self.lost.value))


@dataclass(frozen=True, kw_only=True, eq=False)
class Valleys:
    """The valleys of one variant of a grid, ascending, and the law through their optima.

    Attributes:
        name: of the variant, such as `muP`; empty where the grid has one.
        along: what the valleys differ in.
        table: the runs, with that as `params`.
        valleys: those with three rates or more.
        fitted: lr* = k at^b; None where fewer than two optima lie inside the rates tried.
        why_not: what the law said then.
        runs_diverged: how many.
        left_out: places with fewer than three rates that trained.
    """

    name: str
    along: Along
    table: Table
    valleys: tuple[Valley, ...]
    fitted: Fit | None
    why_not: str
    runs_diverged: int
    left_out: tuple[str, ...] = ()

    @property
    def of(self) -> str:
        """`, muP`: what follows the name of a quantity."""
        return f", {self.name}" if self.name else ""

    @property
    def largest(self) -> Valley:
        """The last valley."""
        return self.valleys[-1]

    @cached_property
    def source(self) -> Valley | None:
        """The smallest one with an optimum, whose rate is carried to the others."""
        return next((valley for valley in self.valleys if valley.best is not None), None)

    @cached_property
    def exponent(self) -> Interval | None:
        """Of the best rate in `at`."""
        if self.fitted is None:
            return None
        ends = self.fitted.intervals.get("b", NO_INTERVAL)
        return Interval(self.fitted.coefficients["b"], *ends)

    @property
    def exponents(self) -> Floats:
        """`exponent` resampled; empty where the runs leave no degree of freedom for noise."""
        if self.fitted is None:
            return np.empty(0)
        return np.asarray(self.fitted.draws[:, self.fitted.form.index("b")])

    @property
    def drift(self) -> Interval | None:
        """Factor of the best rate when `at` doubles; 1 is perfect transfer."""
        return None if self.exponent is None else doubled(self.exponent)

    @cached_property
    def carried(self) -> tuple["Carried", ...]:
        """What the rate of `source` gives up at every place beyond it, the farthest first."""
        source = self.source
        if source is None or source.best is None:
            return ()
        beyond = [valley for valley in self.valleys if valley.at > source.at]
        return tuple(
            Carried(source=source, to=valley, lost=self._lost(source, source.best.value, valley))
            for valley in reversed(beyond)
        )

    def _lost(self, source: Valley, rate: float, valley: Valley) -> Interval:
        value = float(valley.above_best(rate))
        if valley.best is None or not np.isfinite(value):
            return Interval(value, *NO_INTERVAL)
        pair = fit_pair(self.table, source.at, valley.at)
        exponents = pair.draws[:, pair.form.index("b")]
        rates = valley.best.value * (source.at / valley.at) ** exponents
        above = np.nan_to_num(valley.above_best(rates), nan=np.inf)
        low, high = quantiles(above, LEVEL)
        if not np.isfinite(high):
            return Interval(value, *NO_INTERVAL)
        # Where the two optima may coincide nothing need be lost, though a draw seldom says just 0.
        same = 0.0 in Interval(0.0, *quantiles(exponents, LEVEL))
        return Interval(value, 0.0 if same else low, high)

    @property
    def warnings(self) -> Iterator[str]:
        """What the law warned of, what has no valley, and which runs diverged."""
        name = f"{self.name}: " if self.name else ""
        if self.fitted is None:
            yield f"{name}no drift of the best rate: {self.why_not}"
        else:
            yield from (f"{name}{w.message}" for w in self.fitted.warnings if w.code in TOLD)
        if self.left_out:
            few = ", ".join(self.left_out)
            yield f"{name}fewer than three rates trained, and no valley, at {few}"
        if self.runs_diverged:
            places = "; ".join(
                f"{valley.label} at {', '.join(f'{rate:.3g}' for rate in valley.diverged)}"
                for valley in self.valleys
                if valley.diverged
            )
            yield f"{name}{self.runs_diverged} runs diverged" + (f" ({places})" if places else "")


def fit_pair(table: Table, first: float, second: float) -> Fit:
    """The law of two valleys alone.

    Its line passes through both optima, in every resample too: so it gives each of them an interval
    that assumes no power law between the others.
    """
    mine = (table.params == first) | (table.params == second)
    return fit(table.subset(mine), "lr-valley", holdout=None)


def mean_exponent(variants: Sequence[Valleys]) -> Interval:
    """Mean exponent of variants that have one; their runs, and so their noises, are apart."""
    values = [each.exponent.value for each in variants if each.exponent is not None]
    return Interval(float(np.mean(values)), *_ends([each.exponents for each in variants], np.mean))


def exponent_between(first: Valleys, second: Valleys) -> Interval | None:
    """Exponent of the first less that of the second; None where either has none."""
    if first.exponent is None or second.exponent is None:
        return None
    difference = first.exponent.value - second.exponent.value
    return Interval(difference, *_ends([second.exponents, first.exponents], np.diff))


def _ends(resampled: list[Floats], combine: Callable[..., Any]) -> tuple[float, float]:
    """Interval of what independent resamples combine to."""
    count = min(draws.size for draws in resampled)
    stacked = np.stack([draws[:count] for draws in resampled])
    return quantiles(np.ravel(combine(stacked, axis=0)), LEVEL)
