"""Intervals, optima, hold-out scores and influence: the small records of a fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from windtunnel.errors import Diagnostic
from windtunnel.laws.forms import Law
from windtunnel.laws.table import Floats, Table

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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
