"""The table that a law is fitted to: one row per finished run, labelled by its trunk.

Columns are one-dimensional and of one length, R. The trunk is the unit of independence: branches of
one trunk share its initialisation and its data order, and so part of their noise.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import ColumnError, Diagnostic, FitError, did_you_mean


def mixed_decay(undecayed: int, rows: int) -> Diagnostic:
    """The warning about decayed and undecayed rows in one table."""
    return Diagnostic(
        "mixed-decay",
        f"{undecayed} of {rows} rows are not decayed and were left out: a decay is worth about .09 "
        "nats, more than most effects fitted here, so the two are never mixed. To fit the others "
        "alone: --where 'decayed == false'",
        undecayed=undecayed,
        rows=rows,
    )


Floats = NDArray[np.float64]

COPYING = ("copy_gain", "copy_gain_se")
"""Columns of `Table.copying` in a source."""


def name_words(column: str) -> list[str]:
    """The words of a column's name in lower case: `valPPL`, `val_ppl` and `val/PPL` alike."""
    return re.findall(r"[a-z]+|\d+", camel_apart(column))


def camel_apart(column: str) -> str:
    """A column's name in lower case, its joined words apart: `val_ppl` of `valPPL`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", column).lower()


class Table:
    """Columns by the names that laws use: `params` N, `tokens` D (cumulative), `loss`, and others.

    Attributes:
        columns: finite numbers, raw units, shape (R,); read-only.
        trunk: label of the trunk each row branched from; else its run, where a run has many rows;
            else the row itself.
        labels: text columns by name, such as `run` or `execution`.
        decayed: whether the learning rate had been decayed, if known.
        copying: copy gain of every row in nats per token and its standard error, shape (R, 2), nan
            where unknown; None if no row has one. No law reads them (see `transition`).
        places: where each row stands in its source, such as `line 7`; `row 5` unless given.
        names: how the source spells a column, where it differs.
        loss_unit: of `loss`.
        params_convention: which parameters `params` counts.
        flop_factor: k in C = k N D, the compute that budgets are stated in.
        filters: sentences that say what was selected before this table was made.
        dropped: (reason, number of rows) of everything that was left out.

    Raises:
        FitError: lengths differ, the table is empty, or a value is not finite.
    """

    def __init__(
        self,
        columns: Mapping[str, ArrayLike] | None = None,
        *,
        trunk: ArrayLike | None = None,
        labels: Mapping[str, ArrayLike] | None = None,
        decayed: ArrayLike | None = None,
        copying: ArrayLike | None = None,
        places: ArrayLike | None = None,
        names: Mapping[str, str] | None = None,
        loss_unit: str = "nats per token",
        params_convention: str = "non-embedding",
        flop_factor: float = 6.0,
        filters: tuple[str, ...] = (),
        dropped: tuple[tuple[str, int], ...] = (),
        **more: ArrayLike,
    ) -> None:
        given = {**(columns or {}), **more}
        self.columns = {name: _numbers(name, values) for name, values in given.items()}
        if not self.columns:
            raise FitError("empty", "a table needs at least one column of numbers")
        self.rows = next(iter(self.columns.values())).size
        self.labels = {name: _text(values) for name, values in (labels or {}).items()}
        run = self.labels.get("run")
        if trunk is None and run is not None and np.unique(run).size < run.size:
            trunk = run
        self.has_trunks = trunk is not None
        self.trunk = _text(np.arange(self.rows) if trunk is None else trunk)
        rows = [f"row {row}" for row in range(self.rows)] if places is None else places
        self.places = _text(rows)
        self.decayed = None if decayed is None else np.atleast_1d(np.asarray(decayed, bool))
        self.copying = _pairs(copying)
        self.names = dict(names or {})
        self.loss_unit, self.params_convention = loss_unit, params_convention
        self.flop_factor = float(flop_factor)
        self.filters, self.dropped = tuple(filters), tuple(dropped)
        others: dict[str, Any] = {**self.columns, "trunk": self.trunk, **self.labels}
        others["places"] = self.places
        if self.decayed is not None:
            others["decayed"] = self.decayed
        if self.copying is not None:
            others["copy_gain"] = self.copying[:, 0]
        for name, values in others.items():
            if values.shape != (self.rows,):
                raise FitError(
                    "wrong-length",
                    f"column {name!r} has shape {values.shape}, the others ({self.rows},): give "
                    "one value per run in every column",
                    column=name,
                    length=len(values),
                    rows=self.rows,
                )

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Floats:
        if name not in self.columns:
            known = sorted(self.columns)
            raise FitError(
                "unknown-column",
                f"no column {name!r}; there are: {', '.join(known)}{did_you_mean(name, known)}",
                column=name,
                known=known,
            )
        return self.columns[name]

    @property
    def params(self) -> Floats:
        """N of every row, parameters."""
        return self["params"]

    @property
    def tokens(self) -> Floats:
        """D of every row, tokens from step 0."""
        return self["tokens"]

    @property
    def loss(self) -> Floats:
        """Loss of every row, in `loss_unit`."""
        return self["loss"]

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

    def cells(self, *names: str) -> NDArray[np.intp]:
        """Number of every row's cell; rows of one cell agree in all the named columns."""
        stacked = np.stack([self[name] for name in names], axis=1)
        return np.unique(stacked, axis=0, return_inverse=True)[1].reshape(-1)

    def subset(self, keep: ArrayLike, *, why: str | None = None) -> "Table":
        """The rows where `keep` is true; with `why`, the others are counted as dropped for it."""
        mask = np.asarray(keep, bool)
        gone = int(mask.size - mask.sum())
        return Table(
            {name: values[mask] for name, values in self.columns.items()},
            trunk=self.trunk[mask] if self.has_trunks else None,
            labels={name: values[mask] for name, values in self.labels.items()},
            decayed=None if self.decayed is None else self.decayed[mask],
            copying=None if self.copying is None else self.copying[mask],
            places=self.places[mask],
            names=self.names,
            loss_unit=self.loss_unit,
            params_convention=self.params_convention,
            flop_factor=self.flop_factor,
            filters=self.filters + ((why,) if why else ()),
            dropped=self.dropped + (((why, gone),) if why and gone else ()),
        )

    def with_columns(self, **columns: ArrayLike) -> "Table":
        """This table with columns added or replaced."""
        whole = self.subset(np.ones(self.rows, bool))
        whole.columns.update({name: _numbers(name, values) for name, values in columns.items()})
        return whole

    def stated(self, *, loss_unit: str, params_convention: str) -> "Table":
        """This table with another loss unit and params convention."""
        whole = self.subset(np.ones(self.rows, bool))
        whole.loss_unit, whole.params_convention = loss_unit, params_convention
        return whole

    def describe(self, row: int, names: Iterable[str]) -> str:
        """The place of one row and some of its columns, as text."""
        return f"{self.places[row]}: " + ", ".join(f"{n}={self[n][row]:.4g}" for n in names)

    def groups(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Every trunk's label and the mask of its rows."""
        for label in self.trunk_labels:
            yield str(label), self.trunk == label


NUMBERS = (
    "params",
    "tokens",
    "unique_tokens",
    "loss",
    "flops",
    "x",
    "y",
    "z",
    "lr",
    "batch_tokens",
    "score",
)
"""Columns that laws read; of others, such as ids, only axes are read."""
MOST = 1e30
"""Of a number or its inverse: a thousand times the FLOPs of the largest run."""


def _text(values: ArrayLike) -> NDArray[np.str_]:
    return np.atleast_1d(np.asarray(values)).astype(np.str_)


def _pairs(values: ArrayLike | None) -> Floats | None:
    """Numbers (R, 2); None where no row has one in its first column."""
    if values is None:
        return None
    found = np.asarray(values, np.float64).reshape(-1, 2)
    return found if np.isfinite(found[:, 0]).any() else None


def _numbers(name: str, values: ArrayLike) -> Floats:
    try:
        array = np.atleast_1d(np.array(values, np.float64))
    except (TypeError, ValueError) as error:
        raise ColumnError("not-a-number", f"is not all numbers: {error}", name) from None
    array.flags.writeable = False
    if array.ndim != 1 or array.size == 0:
        raise ColumnError(
            "wrong-shape",
            f"has shape {array.shape}: give one number per run",
            name,
            shape=array.shape,
        )
    if (bad := np.flatnonzero(~np.isfinite(array))).size:
        raise ColumnError(
            "not-finite",
            f"is {array[bad[0]]}: a law takes finite numbers. "
            "Drop diverged and unfinished runs first, and say so in `filters`",
            name,
            int(bad[0]),
            value=str(array[bad[0]]),
        )
    size = np.abs(array) if name in NUMBERS else np.zeros(0)
    if (bad := np.flatnonzero((size > MOST) | ((size < 1 / MOST) & (size > 0)))).size:
        raise ColumnError(
            "out-of-range",
            f"is {array[bad[0]]:g}: no run has so large or small a number; look at its unit "
            "(--scale)",
            name,
            int(bad[0]),
            value=float(array[bad[0]]),
            most=MOST,
        )
    return array
