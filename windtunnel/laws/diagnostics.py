"""Warnings of a fit: one function per subject, each comparing numbers with a threshold.

The subjects are the table and its units, the noise and the misfit of single sizes, the search for
the optimum, the intervals, and the use of the law. docs/fit.md lists the codes.
"""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import Diagnostic
from windtunnel.laws.bootstrap import Resamples
from windtunnel.laws.forms import Law
from windtunnel.laws.interval import HoldOut, Influence, Span, beyond, decades_beyond
from windtunnel.laws.known_noise import KnownNoise
from windtunnel.laws.noise import MIN_TRUNK_DF, Noise, replicates
from windtunnel.laws.point_estimate import Point, correlation
from windtunnel.laws.posterior import NONE_OFF, Layout, Posterior
from windtunnel.laws.table import Floats, Table

SCALES = (1.0, 1e3, 1e6, 1e9)
# Tables use millions and billions: thousands must fit better by this many decades.
THOUSANDS = 0.5
# Assumed, of runs that laws are fitted to: 0.3 to 30,000 tokens a parameter, and 40 in the middle
# (Chinchilla's 20, and what is trained for inference); models of 3e4 to 1e13 parameters. Wider
# bounds would let more than one unit through.
USUAL_RATIO, RATIOS = 40.0, (0.3, 3e4)
USUAL_PARAMS, SIZES = 3e8, (3e4, 1e13)
Candidate = tuple[float, float, float]
"""Distance from typical values in decades, and the factors of params and of tokens."""


def likely_scale(params: ArrayLike, tokens: ArrayLike) -> Mapping[str, float] | None:
    """Factors by name (1e3, 1e6 or 1e9) that make sizes and tokens most plausible, or None."""
    found = min(_plausible(params, tokens), default=None)
    if found is None:
        return None
    return {name: by for name, by in zip(("params", "tokens"), found[1:], strict=True) if by != 1}


def are_swapped(params: ArrayLike, tokens: ArrayLike) -> bool:
    """Whether the two columns are more plausible when swapped than in any other unit."""
    other = [off for off, *factors in _plausible(tokens, params) if factors == [1, 1]]
    return bool(other) and (other[0],) < min(_plausible(params, tokens), default=(np.inf,))


def written(factor: float) -> str:
    """A factor as a user types it: 1e6."""
    return f"{factor:g}".replace("e+0", "e").replace("e+", "e")


def _plausible(params: ArrayLike, tokens: ArrayLike) -> Iterator[Candidate]:
    size, data = (float(np.median(np.asarray(each, np.float64))) for each in (params, tokens))
    if not (0 < size < np.inf and 0 < data < np.inf):
        return
    for of_params, of_tokens in product(SCALES, SCALES):
        scaled, ratio = size * of_params, data * of_tokens / (size * of_params)
        if SIZES[0] <= scaled <= SIZES[1] and RATIOS[0] <= ratio <= RATIOS[1]:
            off = abs(np.log10(ratio / USUAL_RATIO)) + abs(np.log10(scaled / USUAL_PARAMS)) / 2
            off += THOUSANDS * [of_params, of_tokens].count(1e3)
            yield off, of_params, of_tokens


COLLINEAR = 0.8
ONCE = 1.01
"""Passes over the data that still count as one: totals are rounded."""
# Three sizes determine a curve; four leave one degree of freedom to test it.
FEW_SIZES, FEW_HORIZONS = 5, 4
# Assumed: outside these no language model was ever trained.
PLAUSIBLE_RATIO, LARGEST_PARAMS = (RATIOS[0], 1e6), 1e14


def of_table(law: type[Law], table: Table) -> Iterator[Diagnostic]:
    """Warnings about the design of the table."""
    r = correlation(law, table)
    if r is not None and abs(r) > COLLINEAR:
        first, second = law.inputs[:2]
        yield Diagnostic(
            "collinear",
            f"ln {first} and ln {second} are collinear (r = {r:.2f}): the two exponents trade off. "
            + ("Let the smallest sizes run much longer" if law.allocates else "Vary them apart"),
            columns=[first, second],
            correlation=r,
        )
    if law.allocates:
        yield from _odd_units(table)
        yield from _few(table)
        yield from _flop_rule(table)
        if table.decayed is not None and not table.decayed.any():
            yield Diagnostic(
                "undecayed-rows",
                "no row is decayed: a decay is worth about .09 nats, so the law is of losses that "
                "no finished run has",
                rows=table.rows,
            )
    yield from of_rows(law.columns(), table)
    if table.has_trunks and np.bincount(table.trunk_index).max() < 2:
        yield Diagnostic(
            "one-row-trunks",
            "every trunk has one row: trunk and branch noise cannot be told apart",
            trunks=int(table.trunk_labels.size),
        )


def of_rows(columns: tuple[str, ...], table: Table) -> Iterator[Diagnostic]:
    """Warnings about the rows of a table, for any law."""
    rows = np.stack([table[name] for name in columns], axis=1)
    if table.has_trunks:
        rows = np.concatenate([rows, table.trunk_index[:, None]], axis=1)
    if again := table.rows - np.unique(rows, axis=0).shape[0]:
        yield Diagnostic(
            "duplicate-rows",
            f"{again} of {table.rows} rows repeat another one exactly: counted as independent runs "
            "they make the intervals too narrow. Drop them from the table",
            repeated=int(again),
            rows=table.rows,
        )
    if "loss" in columns and "unique_tokens" not in columns and "tokens" in table:
        passes = table["epochs"] if "epochs" in table else np.zeros(table.rows)
        if "unique_tokens" in table:
            passes = np.maximum(passes, table.tokens / table["unique_tokens"])
        yield from repeated_data(passes)
    executions = np.unique(table.labels["execution"]) if "execution" in table.labels else ()
    if len(executions) > 1:
        yield Diagnostic(
            "mixed-execution",
            f"rows were computed in {len(executions)} ways ({', '.join(executions[:4])}): between "
            "them results differ in the last digits or more",
            executions=[str(execution) for execution in executions],
        )


def repeated_data(passes: ArrayLike) -> tuple[Diagnostic, ...]:
    """The warning about rows with more than one pass over their data (nan: unknown), if any."""
    count = np.asarray(passes, np.float64)
    repeated = int(np.sum(count > ONCE))
    if not repeated:
        return ()
    return (
        Diagnostic(
            "repeated-data",
            f"{repeated} of {count.size} rows read their data more than once, up to "
            f"{np.nanmax(count):.3g} times, and this law counts every token as fresh: "
            "--law data-constrained fits repetition (--unique-tokens COL)",
            repeated=repeated,
            rows=int(count.size),
            passes=float(np.nanmax(count)),
        ),
    )


def _odd_units(table: Table) -> Iterator[Diagnostic]:
    """Implausible numbers: a unit was omitted, or columns were swapped."""
    ratio = float(np.median(table.tokens / table.params))
    low, high = PLAUSIBLE_RATIO
    if not low <= ratio <= high:
        yield Diagnostic(
            "odd-units",
            f"tokens per param is {ratio:.3g} in a typical row: {_likely_mistake(table, ratio)}",
            tokens_per_param=ratio,
            swapped=are_swapped(table.params, table.tokens),
            scale=likely_scale(table.params, table.tokens) or {},
        )
    largest = float(table.params.max())
    if largest > LARGEST_PARAMS:
        yield Diagnostic(
            "odd-units",
            f"params go up to {largest:.3g}: no model is that large; was it scaled twice?",
            params=largest,
        )


def _likely_mistake(table: Table, ratio: float) -> str:
    if are_swapped(table.params, table.tokens):
        return f"the two columns are swapped? Then it is {1 / ratio:.3g}: name them anew"
    if scale := likely_scale(table.params, table.tokens):
        right = ratio * scale.get("tokens", 1.0) / scale.get("params", 1.0)
        options = " ".join(f"--scale {name}={written(by)}" for name, by in scale.items())
        return (
            f"{' and '.join(scale)} in another unit? It is {right:.3g} with {options} (times what "
            "--scale multiplies by already)"
        )
    return (
        f"one of the two is no count of parameters ({_span(table.params)}) or of tokens "
        f"({_span(table.tokens)}), or is in another unit (--scale); look at the columns"
    )


def _span(values: Floats) -> str:
    return f"{values.min():.3g} to {values.max():.3g}"


def _few(table: Table) -> Iterator[Diagnostic]:
    sizes = np.unique(table.params).size
    if sizes < FEW_SIZES:
        yield Diagnostic(
            "few-sizes",
            f"{sizes} model sizes: the exponent in N rests on "
            f"{'no' if sizes < 4 else 'one'} size more than it needs. Add sizes",
            sizes=int(sizes),
        )
    horizons = np.unique(table.tokens).size
    if sizes <= table.rows / 2:
        index = np.unique(table.params, return_inverse=True)[1]
        each = [np.unique(table.tokens[index == size]).size for size in range(sizes)]
        horizons = int(np.median(each))
    if horizons < FEW_HORIZONS:
        yield Diagnostic(
            "few-horizons",
            f"a typical size has {horizons} horizons: the exponent in D rests on little. Branch "
            "off more of them",
            horizons=int(horizons),
        )


def _flop_rule(table: Table) -> Iterator[Diagnostic]:
    if "flops" not in table:
        return
    off = table["flops"] / table.budget
    if np.max(np.abs(off - 1)) > 0.02:
        yield Diagnostic(
            "flop-rule",
            f"the flops column is {off.min():.3g} to {off.max():.3g} times {table.flop_rule}: "
            f"budgets here are in {table.flop_rule}"
            + ("; it is in another unit, see --scale" if not 0.01 < off.max() < 100 else ""),
            low=float(off.min()),
            high=float(off.max()),
            rule=table.flop_rule,
        )


LACK_OF_FIT_P = 0.01
# Seeds that agree to this are copies, or a made-up table: there is no noise to judge a fit by.
ROUNDOFF = 1e-9
FEW_TRUNK_DF = 3.0
# Normal residuals have rms = 1.48 times their median size; rows where that doubles are not normal.
HEAVY_TAIL = 2.0
HEAVY_TAIL_ROWS = 20
# A group this many of its own standard errors above the law was not trained like the others.
UNDER_TUNED_SIGMAS = 4.0
UNDER_TUNED_LEAST = 0.003
# A rise of this many sigmas between neighbouring horizons is not noise.
RISE_SIGMAS = 4.0


def of_noise(
    point: Point,
    table: Table,
    noise: Noise,
    *,
    lack_of_fit_p: float | None,
    sigma_seed: float | None,
    known: KnownNoise | None = None,
) -> Iterator[Diagnostic]:
    """Warnings about noise and lack of fit."""
    rms = float(np.sqrt(np.mean(point.residual**2)))
    tested = lack_of_fit_p is not None and sigma_seed is not None and sigma_seed > ROUNDOFF
    if tested and lack_of_fit_p is not None and lack_of_fit_p < LACK_OF_FIT_P:
        yield Diagnostic(
            "lack-of-fit",
            f"lack of fit (p = {lack_of_fit_p:.1g}): residuals of {rms:.2%} against seed noise of "
            f"{sigma_seed:.2%}. The law bends away from this table",
            p=lack_of_fit_p,
            rms=rms,
            sigma_seed=sigma_seed,
        )
    usual = 1.4826 * float(np.median(np.abs(point.residual)))
    row = int(np.argmax(np.abs(point.residual)))
    worst = table.describe(row, point.problem.law.columns())
    if table.rows >= HEAVY_TAIL_ROWS and rms > HEAVY_TAIL * usual and not point.exact:
        yield Diagnostic(
            "heavy-tails",
            f"residuals have outliers (rms {rms:.2%}, most within {usual:.2%}), the worst "
            f"{worst} ({point.residual[row]:+.1%}): a diverged run? Intervals are wide because of "
            "them; decide whether they belong (--where, --drop-highest)",
            rms=rms,
            usual=usual,
            row=row,
            residual=float(point.residual[row]),
        )
    if known is None or not known.holds:
        yield from _identified(point, table, noise)
    if "tokens" in point.problem.law.inputs and not point.exact:
        yield from non_monotone(point.residual, table)


def of_known_noise(
    given: float | None, known: KnownNoise | None, measured: float | None
) -> Iterator[Diagnostic]:
    """The warning about a known noise that the seeds of the table measure themselves."""
    if given is not None and known is None and measured is not None:
        yield Diagnostic(
            "noise-measured",
            f"the seeds of this table measure their noise, {measured:.2%}: the given "
            f"{given:.2%} is not used",
            given=given,
            measured=measured,
        )


def _identified(point: Point, table: Table, noise: Noise) -> Iterator[Diagnostic]:
    """Warnings about trunk noise that the table hardly shows."""
    cells = table.cells(*point.problem.law.inputs)
    if not replicates(cells, table.trunk_index):
        yield Diagnostic(
            "noise-unidentified",
            "no cell has two seeds: trunk noise cannot be told from lack of fit, and the intervals "
            "count both as noise. Add a second seed",
            trunks=int(table.trunk_labels.size),
        )
    if noise.trunk_df < MIN_TRUNK_DF:
        yield Diagnostic(
            "noise-unidentified",
            f"{table.trunk_labels.size} trunks leave no degree of freedom for trunk noise, so no "
            "interval is given: add seeds or sizes",
            trunks=int(table.trunk_labels.size),
            trunk_df=float(noise.trunk_df),
        )
    elif noise.trunk_df < FEW_TRUNK_DF:
        yield Diagnostic(
            "few-trunks",
            f"trunk noise rests on {noise.trunk_df:.1f} degrees of freedom: intervals are wide "
            "because little is known. Add seeds",
            trunk_df=float(noise.trunk_df),
        )


def of_sizes(
    point: Point, base: Point, table: Table, layout: Layout, posterior: Posterior
) -> Iterator[Diagnostic]:
    """Warnings about a size whose rows all lie far above the law of the other sizes.

    With a second seed the posterior of the noise weighs it; without, the means of the sizes do.
    """
    law = point.problem.law
    if not law.allocates or point.exact:
        return
    off = posterior.likeliest
    if off != NONE_OFF:
        rows = layout.size == off
        chance = float(posterior.chance[posterior.off == off].sum())
        names = law.grids.keys()
        raw = base.problem.raw(base.theta)
        numbers = ", ".join(f"{name} {raw[law.index(name)]:.3g}" for name in names)
        yield Diagnostic(
            "under-tuned",
            f"the runs of params = {table.params[rows][0]:.4g} lie "
            f"{base.residual[rows].mean():.2%} above the law of the other sizes (probability "
            f"{chance:.2f}): a poor learning rate or batch there? The intervals leave that size "
            f"out where it is off; the coefficients do not, and are {numbers} without it. Tune "
            "it, or leave it out with --where",
            params=float(table.params[rows][0]),
            excess=float(base.residual[rows].mean()),
            probability=chance,
        )
    elif not layout.spare.size:
        yield from under_tuned(point.residual, table)


def under_tuned(residual: Floats, table: Table) -> Iterator[Diagnostic]:
    """The warning about a size far above the law; `residual` (R,) is of ln loss."""
    sizes = np.unique(table.params)
    if not FEW_SIZES - 1 <= sizes.size <= table.rows / 2:
        return
    means = np.array([residual[table.params == size].mean() for size in sizes])
    worst = int(np.argmax(means))
    # Sizes share a law, so their mean residuals scatter by the noise between trunks and no more.
    spread = 1.4826 * float(np.median(np.abs(np.delete(means, worst))))
    if means[worst] > UNDER_TUNED_SIGMAS * max(spread, UNDER_TUNED_LEAST / 4):
        yield Diagnostic(
            "under-tuned",
            f"the runs of params = {sizes[worst]:.4g} lie {means[worst]:.2%} above the law on "
            f"average, the other sizes within {spread:.2%}: a poor learning rate or batch there? "
            "Tune that size, or leave it out with --where",
            params=float(sizes[worst]),
            excess=float(means[worst]),
            spread=spread,
        )


def non_monotone(residual: Floats, table: Table) -> Iterator[Diagnostic]:
    """Loss that rises along a trunk (or a size) by more than steps usually miss the law."""
    keys = table.trunk if table.has_trunks else table.params
    order = np.lexsort((table.tokens, np.unique(keys, return_inverse=True)[1]))
    along = keys[order][1:] == keys[order][:-1]
    rise = np.diff(np.log(table.loss[order]))[along]
    miss = np.diff(residual[order])[along]
    if not miss.size:
        return
    usual = 1.4826 * float(np.median(np.abs(miss)))
    if rises := int(np.sum((rise > 0) & (miss > RISE_SIGMAS * usual))):
        yield Diagnostic(
            "non-monotone",
            f"loss rises with more tokens in {rises} places, by more than noise explains: look "
            "for diverged, undecayed or repeated-data runs",
            rises=rises,
        )


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
        yield Diagnostic(
            "ratio-wide",
            f"the interval of the optimal D/N at the largest budget is {ratio[0]:.3g} to "
            f"{ratio[1]:.3g} (x{width:.1f}): the ratio is barely known",
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


__all__ = [
    "non_monotone",
    "of_fixed",
    "of_holdout",
    "of_influence",
    "of_intervals",
    "of_known_noise",
    "of_noise",
    "of_ratio",
    "of_rows",
    "of_search",
    "of_sizes",
    "of_table",
    "of_use",
    "under_tuned",
]
