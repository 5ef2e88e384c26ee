"""How far to trust an optimum, its intervals, and its use."""

from collections.abc import Iterator, Mapping

import numpy as np

from windtunnel.laws.caution import Caution
from windtunnel.laws.forms.law import Law
from windtunnel.laws.interval import HoldOut, Influence, Span, beyond, decades_beyond
from windtunnel.laws.solver.point import Point
from windtunnel.laws.table import Floats
from windtunnel.laws.uncertainty import Resamples

MAX_RATIO_WIDTH = 3.0
# Scaled coefficients are of the size of the output: a decade between the ends is no knowledge.
FLAT = 10.0
# Below this an end at 5% is one of the two or three outermost draws.
FEW_RESAMPLES = 50
# The largest run is the largest size at its longest horizon, so its budget is best spent on a size
# somewhat larger in any sound design; half a decade is no longer somewhat.
MAX_DECADES = 0.5


def of_search(point: Point) -> Iterator[Caution]:
    """Cautions about the optimum itself."""
    if not point.moved:
        yield Caution(
            "start-point",
            "the answer equals one of the optimiser's start points: it did not move, so this is no "
            "fit. Look for a constant column or an output in another unit",
        )
    elif not point.converged:
        yield Caution(
            "not-converged", f"the optimiser did not converge (gradient {point.gradient_norm:.1e})"
        )
    if point.starts_agreeing < min(point.starts / 8, 4):
        yield Caution(
            "few-starts",
            f"only {point.starts_agreeing} of {point.starts} starts reached this optimum",
        )
    law, held = point.problem.law, point.problem.coordinates.free
    for name, inside, value in zip(law.names(), point.inside, point.theta, strict=True):
        if not inside and name in held:
            yield Caution(
                "at-bound",
                f"{name} is at its bound ({value:.3g}): the table does not determine it",
            )


def of_intervals(
    law: type[Law],
    resamples: Resamples,
    scaled: Floats,
    ratio: Span | None,
    *,
    level: float,
) -> Iterator[Caution]:
    """Cautions about how well the numbers are known; `scaled` are the resampled theta (S, K)."""
    count = len(resamples.draws)
    if resamples.failed > 0.01 * max(count, 1):
        yield Caution(
            "resamples-failed", f"{resamples.failed} of {count} resamples did not converge"
        )
    if 0 < count < FEW_RESAMPLES:
        yield Caution(
            "few-resamples", f"the ends of the intervals rest on {count} resamples: ask for 1000"
        )
    if count:
        tail = np.array([(1 - level) / 2, (1 + level) / 2])
        low, high = np.quantile(scaled, tail, axis=0)
        for k, name in enumerate(law.names()):
            if law.bounds[name][0] >= 0 and high[k] > 0 and high[k] > FLAT * low[k]:
                yield Caution(
                    "flat-direction",
                    f"{name} is known within a factor of {_factor(high[k], low[k])} only "
                    "(in scaled units): the table hardly determines it",
                )
    if ratio is None:
        return
    width = ratio[1] / ratio[0] if ratio[0] > 0 else np.inf
    if not width <= MAX_RATIO_WIDTH:
        yield Caution(
            "ratio-wide",
            f"the interval of the optimal D/N at the largest budget is {ratio[0]:.3g} to "
            f"{ratio[1]:.3g} (x{width:.1f}): the ratio is barely known",
        )


def _factor(high: float, low: float) -> str:
    return f"{high / low:.3g}" if low > 0 else "anything (it may be 0)"


def of_influence(
    found: Influence | None, spans: Mapping[str, Span], without: tuple[int, Mapping[str, float]]
) -> Iterator[Caution]:
    """Cautions about numbers that hang on a few rows.

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
        yield Caution(
            "outlier-driven",
            f"without the {count} rows farthest off the law {', '.join(moved)}: decide whether "
            "they belong (--drop-highest, --where)",
        )
    span = None if found is None else spans.get(found.quantity)
    if found is None or span is None:
        return
    is_ratio = found.quantity == "ratio"
    if is_ratio and not (span[0] > 0 and np.isfinite(span[1])):
        return
    half = (np.log(span[1] / span[0]) if is_ratio else span[1] - span[0]) / 2
    name = "the optimal D/N" if is_ratio else found.quantity
    for pulls, word in ((found.trunks, "trunk "), (found.rows, "")):
        if pulls and abs(pulls[0].shift) > half:
            yield Caution(
                "outlier-driven",
                f"without {word}{pulls[0].label} {name} is {pulls[0].value_without:.3g} instead of "
                f"{found.value:.3g}: it decides more than half of the interval",
            )
            return


def of_use(law: type[Law], optimum: Mapping[str, float], domain: Mapping[str, Span],
           held: HoldOut | None, level: float) -> Iterator[Caution]:  # fmt: skip
    """Cautions about where the law is about to be used; `optimum` is at the largest budget."""
    if law.allocates and optimum:
        outside = beyond("optimal D/N", optimum["ratio"], domain["ratio"], "ratio-outside")
        if outside:
            yield outside
        for name in ("params", "tokens"):
            if abs(decades_beyond(optimum[name], domain[name])) < MAX_DECADES:
                continue
            found = beyond(f"optimal {name} at the largest budget", optimum[name], domain[name])
            if found:
                yield found
    if held is not None and held.inside is False and not np.isnan([held.low, held.high]).any():
        yield Caution(
            "holdout-missed",
            f"held-out {held.what} missed: the forecast was {held.error:+.2%} off, expected "
            f"{held.low:+.2%} to {held.high:+.2%} ({level:.0%})",
        )
    # Rows of a trunk err together, so trunks are what a share is judged by: three standard errors.
    # Where draws ran out of what a float holds, there is no interval to lie inside of.
    known = held is not None and not np.isnan([ends for _, _, *ends in held.points]).any()
    if held is not None and held.covered is not None and known:
        least = level - 3 * np.sqrt(level * (1 - level) / held.trunks)
        if held.covered < least:
            yield Caution(
                "holdout-missed",
                f"{held.covered:.0%} of the {held.rows} held-out rows lie inside their own "
                f"{level:.0%} prediction intervals: they are noisier than the rest, or bend away",
            )
