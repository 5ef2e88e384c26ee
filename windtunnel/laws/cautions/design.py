"""What the rows of a table earn, before any law is fitted."""

from collections.abc import Iterator

import numpy as np

from windtunnel.laws.caution import Caution, repeated_data
from windtunnel.laws.cautions.units import RATIOS, are_swapped, likely_scale, written
from windtunnel.laws.forms.law import Law
from windtunnel.laws.identify import correlation
from windtunnel.laws.table import Floats, Table

COLLINEAR = 0.8
# Three sizes fix a curve and four leave one degree of freedom to doubt it.
FEW_SIZES, FEW_HORIZONS = 5, 4
# Assumed: outside these no language model was ever trained.
PLAUSIBLE_RATIO, LARGEST_PARAMS = (RATIOS[0], 1e6), 1e14


def of_table(law: type[Law], table: Table) -> Iterator[Caution]:
    """Cautions that the design alone earns."""
    r = correlation(law, table)
    if r is not None and abs(r) > COLLINEAR:
        first, second = law.inputs[:2]
        yield Caution(
            "collinear",
            f"ln {first} and ln {second} are collinear (r = {r:.2f}): the two exponents trade off. "
            + ("Let the smallest sizes run much longer" if law.allocates else "Vary them apart"),
        )
    if law.allocates:
        yield from _odd_units(table)
        yield from _few(table)
        yield from _flop_rule(table)
        if table.decayed is not None and not table.decayed.any():
            yield Caution(
                "undecayed-rows",
                "no row is decayed: a decay is worth about .09 nats, so the law is of losses that "
                "no finished run has",
            )
    yield from of_rows(law.columns(), table)
    if table.has_trunks and np.bincount(table.trunk_index).max() < 2:
        yield Caution(
            "one-row-trunks",
            "every trunk has one row: trunk and branch noise cannot be told apart",
        )


def of_rows(columns: tuple[str, ...], table: Table) -> Iterator[Caution]:
    """Cautions about the rows of a table, whatever the law."""
    rows = np.stack([table[name] for name in columns], axis=1)
    if table.has_trunks:
        rows = np.concatenate([rows, table.trunk_index[:, None]], axis=1)
    if again := table.rows - np.unique(rows, axis=0).shape[0]:
        yield Caution(
            "duplicate-rows",
            f"{again} of {table.rows} rows repeat another one exactly: counted as independent runs "
            "they make the intervals too narrow. Drop them from the table",
        )
    if "loss" in columns and "unique_tokens" not in columns and "tokens" in table:
        passes = table["epochs"] if "epochs" in table else np.zeros(table.rows)
        if "unique_tokens" in table:
            passes = np.maximum(passes, table.tokens / table["unique_tokens"])
        yield from repeated_data(passes)
    ways = np.unique(table.labels["execution"]) if "execution" in table.labels else ()
    if len(ways) > 1:
        yield Caution(
            "mixed-execution",
            f"rows were computed in {len(ways)} ways ({', '.join(ways[:4])}): between them results "
            "differ in the last digits or more",
        )


def _odd_units(table: Table) -> Iterator[Caution]:
    """Numbers that no training run has: a unit was left out, or columns were swapped."""
    ratio = float(np.median(table.tokens / table.params))
    low, high = PLAUSIBLE_RATIO
    if not low <= ratio <= high:
        yield Caution(
            "odd-units",
            f"tokens per param is {ratio:.3g} in a typical row: {_likely_mistake(table, ratio)}",
        )
    largest = float(table.params.max())
    if largest > LARGEST_PARAMS:
        yield Caution(
            "odd-units",
            f"params go up to {largest:.3g}: no model is that large; was it scaled twice?",
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


def _few(table: Table) -> Iterator[Caution]:
    sizes = np.unique(table.params).size
    if sizes < FEW_SIZES:
        yield Caution(
            "few-sizes",
            f"{sizes} model sizes: the exponent in N rests on "
            f"{'no' if sizes < 4 else 'one'} size more than it needs. Add sizes",
        )
    horizons = np.unique(table.tokens).size
    if sizes <= table.rows / 2:
        index = np.unique(table.params, return_inverse=True)[1]
        each = [np.unique(table.tokens[index == size]).size for size in range(sizes)]
        horizons = int(np.median(each))
    if horizons < FEW_HORIZONS:
        yield Caution(
            "few-horizons",
            f"a typical size has {horizons} horizons: the exponent in D rests on little. Branch "
            "off more of them",
        )


def _flop_rule(table: Table) -> Iterator[Caution]:
    if "flops" not in table:
        return
    off = table["flops"] / table.budget
    if np.max(np.abs(off - 1)) > 0.02:
        yield Caution(
            "flop-rule",
            f"the flops column is {off.min():.3g} to {off.max():.3g} times {table.flop_rule}: "
            f"budgets here are in {table.flop_rule}"
            + ("; it is in another unit, see --scale" if not 0.01 < off.max() < 100 else ""),
        )
