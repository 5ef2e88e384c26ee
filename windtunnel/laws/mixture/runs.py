"""The runs behind a mixture law: branches of the same trunks that differ only in their mixture.

A run is one decayed branch: the shares of the sources in its decay, and its loss on every
validation set. Branches of one trunk share most of their noise. A *point* of the law is therefore a
mixture with its losses on the average trunk, from an additive fit of mixtures and trunks to ln
loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.table import Floats, Table

WEIGHT, LOSS = "weight_", "loss_"
SAME = ("params", "tokens", "fork_tokens", "batch_tokens", "lr")
"""What all runs must agree in, for their losses to differ by their mixtures."""
# Tokens are whole updates, so lengths that are meant to be equal may differ by less than this.
SAME_WITHIN = 1e-3
# Assumed: a mixture's loss is low up to twice as far above the lowest as the median mixture's is.
LOW_WITHIN = 2.0
# Shares as files print them, with three digits, sum to one within this.
SUM_WITHIN = 0.02
SHARE_DIGITS = 6
# As records keep them, so that a study and its records give the same law: trees turn on the last.
DIGITS = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureRuns:
    """R runs: what each read in its decay, and its losses.

    Attributes:
        sources: names, K of them.
        sets: names of the validation sets, S of them.
        weights: shares by source, shape (R, K); each row sums to 1.
        losses: in `loss_unit`, shape (R, S).
        trunk: label of the trunk that each run left.
        variant: what each run is called; empty where it has no name.
        same: params, tokens and fork of all runs, where the table has them.
        filters: sentences that say what was selected.
        dropped: (reason, rows) of what was left out.
    """

    sources: tuple[str, ...]
    sets: tuple[str, ...]
    weights: Floats
    losses: Floats
    trunk: tuple[str, ...]
    variant: tuple[str, ...]
    same: Mapping[str, float]
    loss_unit: str = "nats per token"
    filters: tuple[str, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.trunk)

    @property
    def trunks(self) -> int:
        """How many."""
        return len(set(self.trunk))


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """M mixtures on the average trunk, and what the runs say of noise.

    Attributes:
        names: of the mixtures.
        weights: shares, shape (M, K).
        log_loss: ln loss on the average trunk, shape (M, S).
        runs: how many runs each mixture has, shape (M,).
        trunk_effects: ln loss of each trunk above the average one, shape (T, S); T = 0 where
            trunks share no mixtures, as then nothing tells them from mixtures.
        branch_residuals: what is left of each run, scaled up for the degrees of freedom that are
            gone, shape (R, S); empty where no degree is left.
    """

    names: tuple[str, ...]
    weights: Floats
    log_loss: Floats
    runs: Floats
    trunk_effects: Floats
    branch_residuals: Floats

    @property
    def emphasis(self) -> Floats:
        """How much each mixture counts for the law of each set, shape (M, S)."""
        return emphasis(self.log_loss)


def emphasis(log_loss: Floats) -> Floats:
    """Of ln losses (M, S): 1 where the loss is low, less the further it lies above that.

    A best mixture is sought among low losses. No formula also follows how steeply a loss rises
    where nothing like its text is read, and squares of what it misses there would outweigh all
    else. So a miss counts relative to how high the loss is.
    """
    above = log_loss - log_loss.min(axis=0)
    low = LOW_WITHIN * np.median(above, axis=0)
    low = np.where(low > 0, low, np.maximum(above.max(axis=0), 1.0))  # ties: all count
    return np.asarray((low / np.maximum(above, low)) ** 2)


Rows = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""One mapping a row, or columns by name: a dict of arrays, or a DataFrame."""


def as_rows(given: Rows) -> list[dict[str, Any]]:
    """One mapping a row, with None for a missing cell.

    Raises:
        FitError: neither rows nor columns, or columns of different length.
    """
    if not hasattr(given, "keys"):
        if isinstance(given, str) or not all(isinstance(row, Mapping) for row in given):
            raise FitError(
                "wrong-type",
                f"mixture: rows as dicts, a dict of arrays or a DataFrame, not "
                f"{type(given).__name__}",
                type=type(given).__name__,
            )
        return [{name: _known(cell) for name, cell in row.items()} for row in given]
    by_name: Any = given
    columns = {str(name): np.asarray(by_name[name]).tolist() for name in by_name}
    lengths = {len(cells) if isinstance(cells, list) else 1 for cells in columns.values()}
    if len(lengths) > 1:
        raise FitError(
            "wrong-length",
            f"mixture: columns of {', '.join(map(str, sorted(lengths)))} rows",
            lengths=sorted(lengths),
        )
    filled = (each if isinstance(each, list) else [each] for each in columns.values())
    cells = zip(*filled, strict=True)
    return [dict(zip(columns, map(_known, row), strict=True)) for row in cells]


def _known(cell: Any) -> Any:
    """The cell; None for nan, pandas' mark of a missing one."""
    return None if cell is None or cell != cell else cell  # noqa: PLR0124 - nan is not itself


def runs_of_rows(given: Rows) -> MixtureRuns:
    """Finished, decayed rows such as those of a study; no share means 0.

    Raises:
        FitError: no row is finished and decayed, or as `runs_of_table`.
    """
    rows = as_rows(given)
    names = dict.fromkeys(name for row in rows for name in row)
    weights = [name for name in names if name.startswith(WEIGHT)]
    losses = [name for name in names if name.startswith(LOSS)]
    kept = [
        row
        for row in rows
        if row.get("decayed", True)
        and any(row.get(name) is not None for name in weights)
        and all(row.get(name) is not None for name in losses)
    ]
    if not kept or not losses:
        raise FitError(
            "too-few-rows",
            f"mixture: no finished, decayed row with {WEIGHT}SOURCE and {LOSS}SET columns among "
            f"{len(rows)}: the law needs branches that leave a trunk in several mixtures",
            rows=len(rows),
        )
    columns = {name: [row.get(name) or 0.0 for row in kept] for name in weights}
    same = [name for name in SAME if all(row.get(name) is not None for row in kept)]
    columns |= {name: [row[name] for row in kept] for name in (*losses, *same)}
    trunk = [str(row.get("trunk")) for row in kept] if "trunk" in names else None
    variant = [str(row.get("variant") or "") for row in kept]
    return runs_of_table(Table(columns, trunk=trunk, labels={"variant": variant}))


def runs_of_table(table: Table) -> MixtureRuns:
    """The runs of a table with columns `weight_SOURCE` and `loss_SET`; shares are normalised.

    Raises:
        FitError: no such columns, shares that are none, losses of 0 or less, or runs that differ in
            more than their mixtures.
    """
    sources, sets = (
        tuple(name.removeprefix(mark) for name in table.columns if name.startswith(mark))
        for mark in (WEIGHT, LOSS)
    )
    if len(sources) < 2 or not sets:
        raise FitError(
            "missing-column",
            f"mixture: the law reads two columns {WEIGHT}SOURCE or more, the shares of the data, "
            f"and a column {LOSS}SET for each validation set; there are: "
            f"{', '.join(table.columns)}. `windtunnel runs` writes them where mixtures change",
            known=list(table.columns),
        )
    weights = _kept([table[WEIGHT + name] for name in sources])
    losses = _kept([table[LOSS + name] for name in sets])
    _check_shares(table, weights)
    if np.any(losses <= 0):
        row, column = np.argwhere(losses <= 0)[0]
        raise FitError(
            "out-of-range",
            f"mixture: {table.places[row]}, column {LOSS}{sets[column]}: {losses[row, column]:g}: "
            "a loss is above 0, in nats",
            column=f"{LOSS}{sets[column]}",
            row=int(row),
            value=float(losses[row, column]),
            above=0,
        )
    same = _same(table)
    read = np.any(weights > 0, axis=0)
    unread = [name for name, any_read in zip(sources, read, strict=True) if not any_read]
    filters = table.filters
    if unread:
        filters += (f"{', '.join(unread)}: no run reads any, so the law does not know of it",)
    if read.sum() < 2:
        raise FitError(
            "one-source",
            "mixture: all runs read one source alone; the law compares mixtures of two",
            sources=int(read.sum()),
        )
    shares = weights[:, read] / weights.sum(axis=1, keepdims=True)
    variant = table.labels.get("variant", np.full(table.rows, ""))
    runs = MixtureRuns(
        sources=tuple(name for name in sources if name not in unread),
        sets=sets,
        weights=np.asarray(shares, np.float64),
        losses=losses,
        trunk=tuple(table.trunk.tolist()),
        variant=tuple(variant.tolist()),
        same=same,
        loss_unit=table.loss_unit,
        filters=filters,
        dropped=table.dropped,
    )
    _check_variants(runs)
    return runs


def points_of(runs: MixtureRuns) -> Points:
    """Mixtures on the average trunk."""
    weights, mixture = mixtures_of(runs)
    trunks, trunk = np.unique(np.array(runs.trunk), return_inverse=True)
    count, rows = len(weights), runs.rows
    log_loss = np.log(runs.losses)
    # Effects of trunks sum to 0: the last is minus the sum of the others.
    indicator = np.eye(trunks.size)[trunk]
    contrast = indicator[:, :-1] - indicator[:, -1:]
    design = np.concatenate([np.eye(count)[mixture], contrast], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        contrast, design = contrast[:, :0], design[:, :count]
    found = np.linalg.lstsq(design, log_loss, rcond=None)[0]
    effects = found[count:]
    if contrast.shape[1]:
        effects = np.concatenate([effects, -effects.sum(axis=0, keepdims=True)])
    spare = rows - design.shape[1]
    left = log_loss - design @ found
    first = [int(np.flatnonzero(mixture == k)[0]) for k in range(count)]
    return Points(
        names=tuple(runs.variant[row] or named(runs.sources, weights[k])
                    for k, row in enumerate(first)),
        weights=weights,
        log_loss=found[:count],
        runs=np.bincount(mixture).astype(np.float64),
        trunk_effects=effects,
        branch_residuals=left * np.sqrt(rows / spare) if spare else left[:0],
    )  # fmt: skip


def mixtures_of(runs: MixtureRuns) -> tuple[Floats, Any]:
    """The distinct mixtures (M, K), in the order of their first run, and each run's number (R,)."""
    shares = np.round(runs.weights, SHARE_DIGITS)
    _, first, number = np.unique(shares, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return runs.weights[first[order]], rank[number.reshape(-1)]


def named(sources: Sequence[str], shares: Floats) -> str:
    """`docs 0.70, code 0.30`: what is read, the most first."""
    order = np.argsort(-shares, kind="stable")
    return ", ".join(f"{sources[k]} {shares[k]:.2f}" for k in order if shares[k] >= 0.005)


def without_noise_of_trunks(runs: MixtureRuns, points: Points) -> Floats:
    """Losses of the runs as they would be on the average trunk, shape (R, S)."""
    if not points.trunk_effects.size:
        return runs.losses
    trunk = np.unique(np.array(runs.trunk), return_inverse=True)[1]
    return np.asarray(runs.losses * np.exp(-points.trunk_effects[trunk]))


def _kept(columns: list[Floats]) -> Floats:
    """Columns of R numbers as an array (R, C), with as many digits as records have."""
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return np.array([[float(f"{value:.{DIGITS}g}") for value in row] for row in rows])


def _check_shares(table: Table, weights: Floats) -> None:
    sums = weights.sum(axis=1)
    for row in range(table.rows):
        if weights[row].min() < 0 or abs(sums[row] - 1) > SUM_WITHIN:
            raise FitError(
                "wrong-sum",
                f"mixture: {table.places[row]}: the {WEIGHT}SOURCE columns are "
                f"{', '.join(f'{share:g}' for share in weights[row])}, sum {sums[row]:.4g}: they "
                "are shares, 0 or more, with sum 1; is a source's column missing?",
                row=row,
                shares=weights[row].tolist(),
                sum=float(sums[row]),
            )


def _same(table: Table) -> dict[str, float]:
    """What all runs agree in.

    Raises:
        FitError: they do not.
    """
    out = {}
    for name in SAME:
        if name not in table:
            continue
        values = np.unique(table[name])
        if values[-1] > values[0] * (1 + SAME_WITHIN):
            shown = ", ".join(f"{value:.6g}" for value in values[:6])
            raise FitError(
                "varying-column",
                f"mixture: {name} differs between runs ({shown}{', ...' if len(values) > 6 else ''}"
                f"): the law compares runs that differ in their mixture alone. Keep one: --where "
                f"'{table.names.get(name, name)} == {values[0]:.15g}'",
                column=name,
                values=values[:6].tolist(),
            )
        out[name] = float(values[0])
    return out


def _check_variants(runs: MixtureRuns) -> None:
    """Refuse two names for one mixture off one trunk: something else must tell them apart."""
    seen: dict[tuple[str, int], str] = {}
    for trunk, number, name in zip(runs.trunk, mixtures_of(runs)[1].tolist(), runs.variant,
                                   strict=True):  # fmt: skip
        other = seen.setdefault((trunk, number), name)
        if name and other and other != name:
            raise FitError(
                "same-mixture",
                f"mixture: variants {other!r} and {name!r} are one mixture off trunk {trunk}, so "
                f"they differ in something else; leave one out: --where 'variant != {name}'",
                variants=[other, name],
                trunk=trunk,
            )
