"""Warnings of a table, before any law: its units, its span, rows that repeat, its FLOP rule.

Each function compares numbers with a threshold; docs/fit.md lists the codes.
"""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import Diagnostic
from windtunnel.laws.forms import Law
from windtunnel.laws.point_estimate import correlation
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
