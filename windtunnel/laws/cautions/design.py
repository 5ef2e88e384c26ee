"""What the rows of a table earn, before any law is fitted."""

from collections.abc import Iterator

import numpy as np

from windtunnel.laws.caution import Caution
from windtunnel.laws.forms.law import Law
from windtunnel.laws.identify import correlation
from windtunnel.laws.table import Table

COLLINEAR = 0.8
# Three sizes fix a curve and four leave one degree of freedom to doubt it.
FEW_SIZES, FEW_HORIZONS = 5, 4
# Assumed: outside these no language model was ever trained.
PLAUSIBLE_RATIO, LARGEST_PARAMS = (0.02, 1e6), 1e14


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
            f"tokens per param is {ratio:.3g} in a typical row: one of the two columns is in "
            "another unit, or they are swapped. Laws take parameters and tokens: "
            "--scale tokens=1e6, or name the columns",
        )
    largest = float(table.params.max())
    if largest > LARGEST_PARAMS:
        yield Caution(
            "odd-units",
            f"params go up to {largest:.3g}: no model is that large; was it scaled twice?",
        )


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
