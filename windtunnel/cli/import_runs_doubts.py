"""What is odd about runs that are taken in: FLOPs that are not C = 6ND, repeats, undecayed ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from windtunnel.errors import ConfigError
from windtunnel.laws.table import Table
from windtunnel.runs.imported import Imported

TOLERATED = 0.02
"""By how much FLOPs may be off 6ND without a word, as the warning `flop-rule` of a fit has it."""
IMPOSSIBLE = 100.0
"""Assumed: attention, head and recomputation stay far below it, so that beyond it a unit is off."""
NEAR = 3.0
"""A factor within which a gap is taken for a unit."""
OF_FLOPS = MappingProxyType(
    {1e9: "gigaFLOPs", 1e12: "teraFLOPs", 1e15: "petaFLOPs", 1e18: "exaFLOPs",
     8.64e19: "petaFLOP/s-days", 1e21: "zettaFLOPs"}
)  # fmt: skip
OF_COUNTS = MappingProxyType({1e3: "thousands", 1e6: "millions", 1e9: "billions"})


def check_flops(rows: Table, columns: Mapping[str, str], path: Path) -> list[str]:
    """What a reader must know of FLOPs that were given beside params and tokens.

    Raises:
        ConfigError: They are off 6ND by more than a factor of 100.
    """
    if "flops" not in rows:
        return []
    off = rows["flops"] / rows.budget
    worst = int(np.argmax(np.abs(np.log(off))))
    if not 1 / IMPOSSIBLE <= off[worst] <= IMPOSSIBLE:
        where = f"{path}, {rows.places[worst]}, column {columns.get('flops', 'flops')!r}"
        raise ConfigError(
            f"{where}: {rows['flops'][worst]:.3g} FLOPs are {off[worst]:.3g} times {rows.flop_rule}"
            f" = {rows.budget[worst]:.3g} of {rows.params[worst]:.3g} params and "
            f"{rows.tokens[worst]:.3g} tokens: {_likely_fix(float(off[worst]))}, or give no FLOPs: "
            f"{rows.flop_rule} is taken then"
        )
    beyond = int(np.sum(np.abs(off - 1) > TOLERATED))
    if not beyond:
        return []
    return [
        f"the FLOPs of {beyond} of {rows.rows} runs are not {rows.flop_rule}: all are "
        f"{off.min():.3g} to {off.max():.3g} times it. They are kept, and the law's budgets are in "
        f"{rows.flop_rule}"
    ]


def _likely_fix(off: float) -> str:
    """What to type where FLOPs are `off` times what they should be."""
    units = OF_FLOPS if off < 1 else OF_COUNTS
    gap = max(off, 1 / off)
    near = next((unit for unit in units if 1 / NEAR < unit / gap < NEAR), None)
    if near is None:
        return "check the units of the three (--scale COL=FACTOR)"
    if off < 1:
        return f"if they are {units[near]}, --scale flops={near:g}"
    return f"if tokens are {units[near]}, --scale tokens={near:g} (or params={near:g})"


def doubts(runs: Sequence[Imported]) -> list[str]:
    """What a reader must know of the runs."""
    said = []
    seen: dict[tuple[int, int, float], str] = {}
    for run in runs:
        numbers = (run.measured.params, run.measured.tokens, run.measured.loss)
        if numbers in seen:
            said.append(
                f"{run.label!r} repeats {seen[numbers]!r} exactly: one run twice? --exclude it"
            )
        seen.setdefault(numbers, run.label)
    if undecayed := sum(not run.measured.decayed for run in runs):
        said.append(f"{undecayed} runs are not decayed: they are kept, and the law leaves them out")
    return said
