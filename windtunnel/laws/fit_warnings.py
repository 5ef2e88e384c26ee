"""Warnings of a fit: the search for its optimum, its intervals, its hold-out, and its use.

Each function compares numbers with a threshold; docs/fit.md lists the codes.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from windtunnel.errors import Diagnostic
from windtunnel.laws.bootstrap import Resamples
from windtunnel.laws.forms import Law
from windtunnel.laws.interval import HoldOut, Influence, Span, beyond, decades_beyond
from windtunnel.laws.point_estimate import Point
from windtunnel.laws.table import Floats

MAX_RATIO_WIDTH = 3.0
# Scaled coefficients are of the size of the output: a decade between the ends is no knowledge.
FLAT = 10.0
# Below this an end at 5% is one of the two or three outermost draws.
FEW_RESAMPLES = 50
# The largest run is the largest size at its longest horizon, so its budget is best spent on a size
# somewhat larger in any sound design; half a decade is no longer somewhat.
MAX_DECADES = 0.5


def of_search(point: Point) -> Iterator[Diagnostic]:
    """Warnings about the search for the optimum."""
    if not point.moved:
        yield Diagnostic(
            "start-point",
            "the answer equals one of the optimiser's start points: it did not move, so this is no "
            "fit. Look for a constant column or an output in another unit",
        )
    elif not point.converged:
        yield Diagnostic(
            "not-converged",
            f"the optimiser did not converge (gradient {point.gradient_norm:.1e})",
            gradient_norm=point.gradient_norm,
        )
    if point.starts_agreeing < min(point.starts / 8, 4):
        yield Diagnostic(
            "few-starts",
            f"only {point.starts_agreeing} of {point.starts} starts reached this optimum",
            agreeing=point.starts_agreeing,
            starts=point.starts,
        )
    law, held = point.problem.law, point.problem.coordinates.free
    for name, inside, value in zip(law.names(), point.inside, point.theta, strict=True):
        if not inside and name in held:
            yield Diagnostic(
                "at-bound",
                f"{name} is at its bound ({value:.3g}): the table does not determine it",
                coefficient=name,
                value=float(value),
            )


def of_intervals(
    law: type[Law],
    resamples: Resamples,
    scaled: Floats,
    ratio: Span | None,
    *,
    level: float,
) -> Iterator[Diagnostic]:
    """Warnings about the width of intervals; `scaled` are the resampled theta (S, K)."""
    count = len(resamples.draws)
    if resamples.failed > 0.01 * max(count, 1):
        yield Diagnostic(
            "resamples-failed",
            f"{resamples.failed} of {count} resamples did not converge",
            failed=int(resamples.failed),
            resamples=count,
        )
    if 0 < count < FEW_RESAMPLES:
        yield Diagnostic(
            "few-resamples",
            f"the ends of the intervals rest on {count} resamples: ask for 1000",
            resamples=count,
        )
    if count:
        tail = np.array([(1 - level) / 2, (1 + level) / 2])
        low, high = np.quantile(scaled, tail, axis=0)
        for k, name in enumerate(law.names()):
            if law.bounds[name][0] >= 0 and high[k] > 0 and high[k] > FLAT * low[k]:
                yield Diagnostic(
                    "flat-direction",
                    f"{name} is known within a factor of {_factor(high[k], low[k])} only "
                    "(in scaled units): the table hardly determines it",
                    coefficient=name,
                    low=float(low[k]),
                    high=float(high[k]),
                )
    if ratio is not None:
        yield from of_ratio(ratio)


def of_fixed(fixed: Mapping[str, float], tied: Mapping[str, str]) -> Iterator[Diagnostic]:
    """The warning about intervals that count some coefficients as known."""
    if not (fixed or tied):
        return
    parts = [f"{name} = {value:g}" for name, value in fixed.items()]
    parts += [f"{name} = {other}" for name, other in tied.items()]
    yield Diagnostic(
        "conditional-intervals",
        f"every interval takes {', '.join(parts)} as known and exact: what that leaves open is not "
        "in them" + (". --fix NAME=LOW..HIGH shows how far it moves the law" if fixed else ""),
        fixed=dict(fixed),
        tied=dict(tied),
    )


def of_ratio(ratio: Span) -> Iterator[Diagnostic]:
    """The warning about a wide interval of the optimal D/N."""
    width = ratio[1] / ratio[0] if ratio[0] > 0 else np.inf
    if not width <= MAX_RATIO_WIDTH:
        end = f"{ratio[1]:.3g}" if np.isfinite(ratio[1]) else "unbounded"
        times = f" (x{width:.1f})" if np.isfinite(width) else ""
        yield Diagnostic(
            "ratio-wide",
            f"the interval of the optimal D/N at the largest budget is {ratio[0]:.3g} to "
            f"{end}{times}: the ratio is barely known",
            low=ratio[0],
            high=ratio[1],
        )


def _factor(high: float, low: float) -> str:
    return f"{high / low:.3g}" if low > 0 else "anything (it may be 0)"


INFLUENCED = {"ratio": "the optimal D/N", "loss": "the law's loss of the largest run"}
"""Quantities whose shifts are of their logarithms, in words."""


def of_influence(
    found: Influence | None, spans: Mapping[str, Span], without: tuple[int, Mapping[str, float]]
) -> Iterator[Diagnostic]:
    """Warnings about numbers that depend on a few rows.

    Args:
        found: the influence of single rows and trunks.
        spans: intervals by name.
        without: how many rows lie far off the law, and the numbers of a fit without them.
    """
    count, numbers = without
    moved = [
        f"{name} is {value:.3g} (interval with them {spans[name][0]:.3g} to {spans[name][1]:.3g})"
        for name, value in numbers.items()
        if name in spans and not spans[name][0] <= value <= spans[name][1]
    ]
    if moved:
        yield Diagnostic(
            "outlier-driven",
            f"without the {count} rows farthest off the law {', '.join(moved)}: decide whether "
            "they belong (--drop-highest, --where)",
            rows=count,
            without=dict(numbers),
        )
    span = None if found is None else spans.get(found.quantity)
    if found is None or span is None:
        return
    is_log = found.quantity in INFLUENCED
    if is_log and not (span[0] > 0 and np.isfinite(span[1])):
        return
    half = (np.log(span[1] / span[0]) if is_log else span[1] - span[0]) / 2
    name = INFLUENCED.get(found.quantity, found.quantity)
    digits = 4 if found.quantity == "loss" else 3
    for strongest, word in ((found.trunks[:1], "trunk "), (found.rows[:1], "")):
        if strongest and abs(strongest[0].shift) > half:
            (left_out,) = strongest
            yield Diagnostic(
                "outlier-driven",
                f"without {word}{left_out.label} {name} is {left_out.value_without:.{digits}g} "
                f"instead of {found.value:.{digits}g}: it decides more than half of the interval",
                label=left_out.label,
                quantity=found.quantity,
                value=found.value,
                without=left_out.value_without,
            )
            return


def of_use(
    law: type[Law], optimum: Mapping[str, float], domain: Mapping[str, Span]
) -> Iterator[Diagnostic]:
    """Warnings about extrapolation; `optimum` is at the largest budget."""
    if not (law.allocates and optimum):
        return
    outside = beyond("optimal D/N", optimum["ratio"], domain["ratio"], "ratio-outside")
    if outside:
        yield outside
    for name in ("params", "tokens"):
        if abs(decades_beyond(optimum[name], domain[name])) < MAX_DECADES:
            continue
        found = beyond(f"optimal {name} at the largest budget", optimum[name], domain[name])
        if found:
            yield found


def of_holdout(held: HoldOut | None, level: float) -> Iterator[Diagnostic]:
    """Warnings about a forecast that missed, or that needed no law."""
    if held is None:
        return
    if held.inside is False:
        yield Diagnostic(
            "holdout-missed",
            f"held-out {held.what} missed: the forecast was {held.error:+.2%} off, expected "
            f"{held.low:+.2%} to {held.high:+.2%} ({level:.0%})",
            held=held.what,
            error=held.error,
            low=held.low,
            high=held.high,
        )
    # Rows of a trunk err together, so trunks are what a share is judged by: three standard errors.
    # A point of a two-step law is made of many rows. Of one alone the mean above says the same.
    groups = min(held.trunks, len(held.points))
    if held.covered is not None and groups > 1:
        least = level - 3 * np.sqrt(level * (1 - level) / groups)
        if held.covered < least:
            yield Diagnostic(
                "holdout-missed",
                f"{held.covered:.0%} of the {len(held.points)} held out ({held.what}) lie inside "
                f"their own {level:.0%} prediction intervals: they are noisier than the rest, or "
                "bend away",
                covered=held.covered,
                rows=held.rows,
                points=len(held.points),
                level=level,
            )
    for name, p in held.baseline_p.items():
        if p < 1 - level:
            error = held.baselines[name]
            yield Diagnostic(
                "baseline-better",
                f"{name}, which needs no law, forecasts the {held.what} better: it is off by "
                f"{error:.2%} on average, the law by {held.mean_relative_error:.2%} (p = {p:.1g})",
                baseline=name,
                held=held.what,
                error=held.mean_relative_error,
                baseline_error=error,
                p=p,
            )
