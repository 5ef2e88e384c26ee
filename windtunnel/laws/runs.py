"""The table that a law is fitted to: one row per finished run, labelled by the trunk it came from.

Arrays are one-dimensional and of one length, `rows`. The trunk is the unit of independence: two
branches of one trunk share its initialisation and its data order, so their noise is shared too.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import FitError

Floats = NDArray[np.float64]

# Two coefficients and one offset per axis: below three distinct values an exponent is a guess.
MIN_DISTINCT = 3
# Five coefficients leave one degree of freedom at six rows.
MIN_ROWS = 6
# Above this, N and D are one variable and their two terms cannot be told apart at all.
MAX_CORRELATION = 0.999


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Finished runs, raw units: `params` N, `tokens` D (cumulative), `loss` in `loss_unit`.

    Attributes:
        trunk: label of the trunk each row branched from, or the run itself where nothing is shared.
        flops: measured compute, if any; only compared with `flop_factor` * N * D.
        decayed: whether the learning rate had been decayed, if known.
        flop_factor: k in C = k N D, the compute that budgets are stated in.
        filters: sentences that say what was dropped before this table was made.

    Raises:
        FitError: lengths differ, the table is empty, or a value is not finite and positive.
    """

    params: Floats
    tokens: Floats
    loss: Floats
    trunk: NDArray[np.str_]
    flops: Floats | None = None
    decayed: NDArray[np.bool_] | None = None
    loss_unit: str = "nats per token"
    params_convention: str = "non-embedding"
    flop_factor: float = 6.0
    filters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("params", "tokens", "loss", "flops"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, _positive(name, values))
        object.__setattr__(self, "trunk", np.atleast_1d(np.asarray(self.trunk)).astype(np.str_))
        if self.decayed is not None:
            object.__setattr__(self, "decayed", np.atleast_1d(np.asarray(self.decayed, bool)))
        object.__setattr__(self, "filters", tuple(self.filters))
        for name in ("tokens", "loss", "trunk", "flops", "decayed"):
            values = getattr(self, name)
            if values is not None and values.shape != self.params.shape:
                raise FitError(
                    f"runs.{name} has shape {values.shape}, runs.params {self.params.shape}: "
                    "give one value per run in every column"
                )

    @property
    def rows(self) -> int:
        """Number of runs."""
        return int(self.params.size)

    @property
    def flop_rule(self) -> str:
        """The compute convention in words, such as `6ND`."""
        return f"{self.flop_factor:g}ND"

    @property
    def budget(self) -> Floats:
        """C = k N D of every row, in FLOPs, whatever the `flops` column says."""
        return self.flop_factor * self.params * self.tokens

    @property
    def trunk_labels(self) -> NDArray[np.str_]:
        """Distinct trunk labels, sorted."""
        return np.unique(self.trunk)

    @property
    def trunk_index(self) -> NDArray[np.intp]:
        """Position of every row's trunk in `trunk_labels`."""
        return np.unique(self.trunk, return_inverse=True)[1]

    @property
    def size_index(self) -> NDArray[np.intp]:
        """Number of every row's model size, from 0 for the smallest."""
        return np.unique(self.params, return_inverse=True)[1]

    @property
    def cell_index(self) -> NDArray[np.intp]:
        """Number of every row's cell; rows of one cell have equal params and equal tokens."""
        cells = np.stack([self.params, self.tokens], axis=1)
        return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def seeds(self) -> NDArray[np.intp]:
        """Number of distinct trunks in every cell, shape (cells,)."""
        pairs = np.unique(np.stack([self.cell_index, self.trunk_index]), axis=1)
        return np.bincount(pairs[0])

    def subset(self, keep: ArrayLike, *, why: str | None = None) -> "Runs":
        """The rows where `keep` is true; `why` is added to the filters."""
        mask = np.asarray(keep, bool)
        columns = ("params", "tokens", "loss", "trunk", "flops", "decayed")
        kept = {c: v[mask] for c in columns if (v := getattr(self, c)) is not None}
        return dataclasses.replace(self, **kept, filters=self.filters + ((why,) if why else ()))


def correlation(runs: Runs) -> float:
    """Pearson r of ln N and ln D over the rows; 1 or -1 means one variable, not two."""
    return float(np.corrcoef(np.log(runs.params), np.log(runs.tokens))[0, 1])


def require_identified(runs: Runs) -> None:
    """Refuse a table that cannot carry two exponents, and say what to add.

    Raises:
        FitError: fewer than six rows, three sizes or three token counts, or N tied to D.
    """
    for name, word in (("params", "model sizes"), ("tokens", "horizons")):
        distinct = np.unique(getattr(runs, name)).size
        if distinct < MIN_DISTINCT:
            raise FitError(
                f"L(N, D) needs at least {MIN_DISTINCT} distinct values of {name}; this table has "
                f"{distinct}: add {MIN_DISTINCT - distinct} or more {word}"
            )
    if runs.rows < MIN_ROWS:
        raise FitError(
            f"L(N, D) has five coefficients and needs at least {MIN_ROWS} rows; this table has "
            f"{runs.rows}: add branches at more horizons"
        )
    if abs(r := correlation(runs)) > MAX_CORRELATION:
        raise FitError(
            f"ln N and ln D are one variable in this table (r = {r:.4f}): the two terms cannot be "
            "told apart. Give every size several horizons, and let the smallest run the longest"
        )


def _positive(name: str, values: ArrayLike) -> Floats:
    array = np.atleast_1d(np.array(values, np.float64))
    array.flags.writeable = False
    if array.ndim != 1 or array.size == 0:
        raise FitError(f"runs.{name} has shape {array.shape}: give one number per run")
    if (bad := np.flatnonzero(~(np.isfinite(array) & (array > 0)))).size:
        raise FitError(
            f"runs.{name} row {bad[0]} is {array[bad[0]]}: a law takes finite positive numbers. "
            "Drop diverged and unfinished runs first, and say so in `filters`"
        )
    return array
