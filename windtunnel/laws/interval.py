"""Intervals, optima, hold-out scores and influence: the small records of a fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from windtunnel.errors import Diagnostic
from windtunnel.laws.forms import Law
from windtunnel.laws.table import Floats, Table
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from pandas import DataFrame

AT_BOUND = 1e-9
"""Relative distance to a bound that is roundoff."""
NO_INTERVAL = (float("nan"), float("nan"))
Span = tuple[float, float]
AT_THE_EDGE = 0.005
"""Decades outside a domain that still count as inside: 1.2%, which would be told as 0.00."""


@dataclass(frozen=True)
class Widening:
    """What the lower end of a forecast holds beside the law: a transition that it cannot know.

    Attributes:
        share: of the loss, by which the end was lowered.
        low: the law's own lower end.
    """

    share: float
    low: float


@dataclass(frozen=True, repr=False)
class Interval:
    """A value and its interval at the fit's level; low and high are nan where none was computed.

    With a `transition`, `low` lies below the law's own.
    """

    value: float
    low: float
    high: float
    warnings: tuple[Diagnostic, ...] = ()
    transition: Widening | None = None

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __repr__(self) -> str:
        return " ".join([span_text(self.value, self.low, self.high), *codes_text(self.warnings)])


@dataclass(frozen=True, eq=False)
class Intervals:
    """Values and their intervals at several inputs; arrays of the inputs' shape.

    `warnings` are those of every input, each once.
    """

    value: Floats
    low: Floats
    high: Floats
    warnings: tuple[Diagnostic, ...] = ()

    @staticmethod
    def of(found: "Sequence[Interval]", shape: tuple[int, ...]) -> "Intervals":
        """Intervals in the order of a flat array, as arrays of `shape`."""
        value, low, high = (
            np.array([getattr(each, name) for each in found], np.float64).reshape(shape)
            for name in ("value", "low", "high")
        )
        warnings = dict.fromkeys(warning for each in found for warning in each.warnings)
        return Intervals(value, low, high, tuple(warnings))

    def frame(self) -> "DataFrame":
        """One row an input: value, low and high."""
        from pandas import DataFrame

        return DataFrame({name: getattr(self, name).ravel() for name in ("value", "low", "high")})

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        lines = self.texts()[:MOST_SHOWN]
        return "\n".join([*lines, *_more(self.value.size), *codes_text(self.warnings)])

    def texts(self) -> list[str]:
        """`1.647 (1.621 to 1.674)` of every input."""
        rows = zip(self.value.ravel(), self.low.ravel(), self.high.ravel(), strict=True)
        return [span_text(*row) for row in rows]


@dataclass(frozen=True, repr=False)
class Optimum:
    """A model and its data for `flops`, and the loss of one new run there.

    Attributes:
        ratio_exact: optimal D/N where everything is counted, at the exact cost of the same run;
            None where no exact FLOPs are known.
        extrapolates: decades by which `flops` lies outside the fitted budgets; 0 inside.
        excess: loss above the best split of the same budget; 0 for the best one.
    """

    flops: float
    params: Interval
    tokens: Interval
    ratio: Interval
    loss: Interval
    ratio_exact: Interval | None = None
    extrapolates: float = 0.0
    excess: float = 0.0
    warnings: tuple[Diagnostic, ...] = ()

    def __repr__(self) -> str:
        numbers = {"params": self.params, "tokens": self.tokens, "tokens per param": self.ratio}
        if self.ratio_exact is not None:
            numbers["  exact FLOPs"] = self.ratio_exact
        lines = [f"split of {write_count(self.flops)} FLOPs"]
        lines += [
            f"  {name:18}{span_text(each.value, each.low, each.high)}"
            for name, each in numbers.items()
        ]
        lines.append(f"  {'loss':18}{span_text(self.loss.value, self.loss.low, self.loss.high)}")
        if self.excess:
            lines.append(f"  {'above the best':18}{self.excess:.4g}")
        return "\n".join([*lines, *codes_text((*self.warnings, *self.loss.warnings))])


@dataclass(frozen=True, eq=False)
class Optima:
    """The splits of several budgets: arrays of their shape."""

    flops: Floats
    params: Intervals
    tokens: Intervals
    ratio: Intervals
    loss: Intervals
    warnings: tuple[Diagnostic, ...] = ()

    @staticmethod
    def of(found: Sequence[Optimum], shape: tuple[int, ...]) -> "Optima":
        """Optima in the order of a flat array, as arrays of `shape`."""
        parts = {
            name: Intervals.of([getattr(each, name) for each in found], shape)
            for name in ("params", "tokens", "ratio", "loss")
        }
        warnings = (w for each in found for w in (*each.warnings, *each.loss.warnings))
        flops = np.array([each.flops for each in found], np.float64).reshape(shape)
        return Optima(flops, **parts, warnings=tuple(dict.fromkeys(warnings)))

    def frame(self) -> "DataFrame":
        """One row a budget: `flops`, then each quantity with its `_low` and `_high`."""
        from pandas import DataFrame

        columns = {"flops": self.flops.ravel()}
        for name in ("params", "tokens", "ratio", "loss"):
            found: Intervals = getattr(self, name)
            columns |= {name: found.value.ravel(), f"{name}_low": found.low.ravel(),
                        f"{name}_high": found.high.ravel()}  # fmt: skip
        return DataFrame(columns)

    def __repr__(self) -> str:
        parts = {"params": self.params, "tokens": self.tokens, "D/N": self.ratio, "loss": self.loss}
        texts = {name: found.texts() for name, found in parts.items()}
        lines = [
            f"{flops:.3g} FLOPs: " + ", ".join(f"{name} {texts[name][i]}" for name in texts)
            for i, flops in enumerate(self.flops.ravel()[:MOST_SHOWN].tolist())
        ]
        return "\n".join([*lines, *_more(self.flops.size), *codes_text(self.warnings)])


MOST_SHOWN = 10
"""Most intervals of one text."""
LARGE = 1e4
"""From here on a number is a count."""


def span_text(value: float, low: float, high: float) -> str:
    """`1.647 (1.621 to 1.674)`; the value alone where it has no interval."""
    if np.isnan(low) or np.isnan(high) or low == high == value:
        return number_text(value)
    return f"{number_text(value)} ({number_text(low)} to {number_text(high)})"


def number_text(value: float) -> str:
    """Four digits; of a large count three and its unit, `2.4B`; `unbounded` where infinite."""
    if np.isinf(value):
        return "unbounded"
    return write_count(value) if abs(value) >= LARGE else f"{value:.4g}"


def _more(count: int) -> list[str]:
    return [f"and {count - MOST_SHOWN} more"] if count > MOST_SHOWN else []


def codes_text(warnings: Sequence[Diagnostic]) -> list[str]:
    """A line `warnings: CODE, CODE`, each code once; none without warnings."""
    codes = dict.fromkeys(warning.code for warning in warnings)
    return [f"warnings: {', '.join(codes)}"] if codes else []


@dataclass(frozen=True)
class HoldOut:
    """How well a fit to the other trunks predicts whole trunks that it has not seen.

    Attributes:
        what: which rows were held out, in words.
        rows: how many.
        trunks: of how many trunks.
        mean_relative_error: mean of |predicted / measured - 1|.
        error: mean of ln(predicted) - ln(measured); 0.01 is 1% too high.
        rms: root mean square of the same.
        low: lower end of the interval that `error` was predicted to lie in.
        high: upper end of it.
        inside: whether it does; None without intervals.
        covered: share of the rows inside their own prediction intervals; None without.
        by_group: mean ln(predicted / measured) for each value of the first input.
        baselines: mean relative error of forecasts that need no law, by name.
        points: measured, predicted, and the ends of its prediction interval, for every row.
        baseline_p: by name, of the baselines that err less: the chance that they do by luck; 1
            where one trunk alone is held out.
    """

    what: str
    rows: int
    trunks: int
    mean_relative_error: float
    error: float
    rms: float
    low: float
    high: float
    inside: bool | None
    covered: float | None
    by_group: Mapping[str, float]
    baselines: Mapping[str, float]
    points: tuple[tuple[float, float, float, float], ...] = ()
    baseline_p: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LeaveOneOut:
    """The change of a fit's headline number when one row or one trunk is left out."""

    label: str
    value_without: float
    shift: float


@dataclass(frozen=True)
class Influence:
    """Leave-one-out effects of rows and trunks on a number, largest first, at most five of each.

    `shift` is ln(without / with) for the ratio and the loss, the difference for an exponent.
    """

    quantity: str
    value: float
    rows: tuple[LeaveOneOut, ...]
    trunks: tuple[LeaveOneOut, ...]


def domain_of(law: type[Law], table: Table) -> dict[str, Span]:
    """Smallest and largest of every input, and of budget and D/N where the law splits budgets."""
    columns = {name: table[name] for name in law.inputs}
    if law.allocates:
        columns |= {"flops": table.budget, "ratio": table.tokens / table.params}
    return {name: (float(c.min()), float(c.max())) for name, c in columns.items()}


def quantiles(draws: Floats, level: float) -> Span:
    """The central interval of the draws at `level`; it may be infinite, never nan.

    Order statistics, rounded outwards: interpolating between two infinite draws would give nan.
    """
    if not draws.size:
        return NO_INTERVAL
    tail = (1 - level) / 2
    return (
        float(np.quantile(draws, tail, method="lower")),
        float(np.quantile(draws, 1 - tail, method="higher")),
    )


def beyond_bounds(ends: Span, bounds: Span) -> Span:
    """The ends of an interval of a coefficient; unbounded where one is a bound of the search.

    Draws that would lie beyond such a bound lie on it, so it is no end that the table knows. A
    bound at 0 is the end of what the coefficient can be, and stays.
    """
    low, high = ends
    if bounds[0] != 0 and low <= bounds[0] + AT_BOUND * abs(bounds[0]):
        low = -np.inf
    if bounds[1] != 0 and high >= bounds[1] - AT_BOUND * abs(bounds[1]):
        high = np.inf
    return low, high


def decades_beyond(value: float, domain: Span) -> float:
    """How many decades `value` lies above (positive) or below (negative) the domain.

    0 inside, and up to `AT_THE_EDGE` decades outside.
    """
    low, high = domain
    if value > high:
        decades = float(np.log10(value / high))
    elif value < low:
        decades = -float(np.log10(low / value)) if value > 0 else -np.inf
    else:
        return 0.0
    return decades if abs(decades) > AT_THE_EDGE else 0.0


def beyond(name: str, value: float, domain: Span, code: str = "extrapolates") -> Diagnostic | None:
    """A diagnostic saying how many decades `value` lies outside `domain`, or None inside it."""
    decades = decades_beyond(value, domain)
    if not decades:
        return None
    side, edge = (
        ("above the largest", domain[1]) if decades > 0 else ("below the smallest", domain[0])
    )
    return Diagnostic(
        code,
        f"{name} = {value:.3g} is {abs(decades):.2f} decades {side} fitted ({edge:.3g}): "
        "extrapolated",
        quantity=name,
        value=value,
        decades=decades,
        edge=edge,
    )
