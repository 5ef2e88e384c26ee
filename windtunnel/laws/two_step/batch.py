"""The batch size that reaches a loss with the fewest tokens: batch* = k / L^p.

MiniCPM (arXiv 2404.06395) section 3.2. At about thirty loss levels, the tokens that each batch size
needs to reach the level first are read off its curve. A parabola of ln tokens over ln batch gives
the best batch of the level, and a line in logs joins the minima of all sizes (there 1.21e9 /
L^6.24, L on C4).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws.schema import plain
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.two_step.base import (
    Quadratic,
    TwoStepLaw,
    TwoStepProblem,
    block_diagonal,
    line,
    logs,
    numbered,
    span,
    sustained_rises,
)

# A parabola through 3 batches is exact and says nothing about its own error.
MIN_BATCHES = 4
# Finished runs; rows before the decay; rows along runs, of unknown decay; last rows, likewise.
Kind = Literal["decayed", "undecayed", "mid-run", "ends"]


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve's record losses.

    Attributes:
        size: params, or nan where the table has none.
        log_batch: ln tokens per update.
        log_tokens: ln tokens at each record, rising, (n,).
        log_loss: ln loss of each record, strictly falling, (n,).
    """

    size: float
    log_batch: float
    log_tokens: Floats
    log_loss: Floats

    def log_tokens_to(self, level: float) -> float:
        """Ln tokens at the first crossing of ln loss `level`, between records a line in logs."""
        return float(np.interp(-level, -self.log_loss, self.log_tokens))


def curves_of(table: Table) -> tuple[list[Curve], Kind, Floats]:
    """Curves, what their points are, and how far each curve rises.

    Rows of equal tokens on one curve (seeds) are averaged in ln loss. Where decayed points are too
    few, the undecayed rows alone are used: the two are never mixed.
    """
    log_batch, log_tokens = logs(table, "batch_tokens"), logs(table, "tokens")
    log_loss = logs(table, "loss")
    sized = "params" in table
    cell = table.cells(*["params"] * sized, "batch_tokens")
    size = table.params if sized else np.full(table.rows, np.nan)
    keep, kind, curve = _curve_rows(table, cell)
    curve = numbered(curve[keep])
    order = np.lexsort((log_tokens[keep], curve))
    rows = np.flatnonzero(keep)[order]
    parts = np.split(rows, np.flatnonzero(np.diff(curve[order])) + 1)
    rises = sustained_rises(curve, log_tokens[keep], log_loss[keep])
    found = []
    for part in parts:
        tokens, losses = _means(log_tokens[part], log_loss[part])
        record = losses < np.minimum.accumulate(np.concatenate([[np.inf], losses[:-1]]))
        if record.sum() >= 2:
            head = float(size[part[0]]), float(log_batch[part[0]])
            found.append(Curve(*head, tokens[record], losses[record]))
    if not found:
        raise FitError(
            "too-few-curves",
            "batch: no curve with two points of falling loss. Give several token counts per batch "
            "size (rows along each run, or decayed branches of several lengths)",
            curves=0,
            needed=1,
        )
    return found, kind, rises


def _curve_rows(
    table: Table, cell: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], Kind, NDArray[np.intp]]:
    """Rows to use, what they are, and the number of every row's curve.

    Finished runs of one batch and size form one curve; otherwise each run is one.
    """
    everything = np.ones(table.rows, bool)
    run = table.labels.get("run", table.trunk if table.has_trunks else None)
    per_run = cell if run is None else cell * table.rows + numbered(run)
    decayed = table.decayed
    if decayed is not None and decayed.any():
        pairs = np.unique(np.stack([cell, table.tokens], axis=1)[decayed], axis=0)
        lengths = np.bincount(pairs[:, 0].astype(np.intp))
        if decayed.all() or np.sum(lengths >= 2) >= MIN_BATCHES:
            return decayed, "decayed", cell
    if decayed is not None:
        return ~decayed, "undecayed", per_run
    # One row per run is a table of ends, whatever is known of their decay.
    ends = run is not None and np.bincount(numbered(per_run)).max() == 1
    return everything, "ends" if ends else "mid-run", cell if ends else per_run


def _means(position: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Distinct positions, and the mean of the values at each."""
    distinct, index = np.unique(position, return_inverse=True)
    return distinct, np.bincount(index, values) / np.bincount(index)


LEVELS = 30
WINDOW = 5
OFF = (2.0, 4.0)


@dataclass(frozen=True)
class BatchLaw(TwoStepLaw):
    """batch* = k / L^p, in tokens per update; L in the unit of the table's loss."""

    k: float
    p: float

    name: ClassVar[str] = "batch"
    formula: ClassVar[str] = "batch* = k / L^p"
    source: ClassVar[str] = "MiniCPM (arXiv 2404.06395) section 3.2 and appendix A.2"
    reads: ClassVar[tuple[str, ...]] = ("batch_tokens", "tokens", "loss")
    inputs: ClassVar[tuple[str, ...]] = ("loss",)
    output: ClassVar[str] = "batch_tokens"
    scales: ClassVar[tuple[str, ...]] = ("k",)

    @staticmethod
    def equation(loss: Any, k: Any, p: Any) -> Any:
        """Tokens per update that reach `loss` with the fewest tokens."""
        return k / loss**p


@dataclass(frozen=True, eq=False)
class _Level:
    """One equal-loss curve: ln tokens (m,) that curves number `curve` (m,) need, over ln batch."""

    size: float
    log_loss: float
    curve: NDArray[np.intp]
    log_batch: Floats
    log_tokens: Floats
    quadratic: Quadratic
    fitted: Floats

    def minimum(self, fitted: Floats) -> Floats:
        """Ln batch* (...); nan for a minimum at or beyond an end, and for a maximum."""
        return self.quadratic.minimum(fitted, *span(self.log_batch))

    @property
    def why(self) -> str | None:
        """Why this level has no minimum, if so."""
        if np.isfinite(self.minimum(self.fitted)):
            return None
        return "edge-minimum" if self.fitted[2] > 0 else "negative-curvature"


def two_step_problem(table: Table, *, levels: int = LEVELS) -> TwoStepProblem:
    """The equal-loss curves of every size, their minima, and the line through all of them.

    Args:
        table: columns batch_tokens, tokens and loss, and where known params, label `run` and
            `decayed`. Decayed rows are used where a batch has two token counts of them: its runs
            then form one curve. Otherwise every run is a curve of its own.
        levels: losses per size, evenly in ln loss between those that 4 batches reach.

    Raises:
        FitError: too few batches or levels.
    """
    if levels < 2:
        raise FitError(
            "out-of-range", f"batch: levels = {levels}, need at least 2", levels=levels, least=2
        )
    curves, kind, rises = curves_of(table)
    found = [level for size in _by_size(curves) for level in _levels(curves, size, levels)]
    used = [level for level in found if level.why is None]
    _require(found, used, curves)
    x = np.array([level.log_loss for level in used])
    ends = np.cumsum([level.curve.size for level in used])[:-1]

    def solve(observed: Floats) -> Floats:
        parts = zip(used, np.split(observed, ends, axis=1), strict=True)
        minima = [level.minimum(level.quadratic.fit(y)) for level, y in parts]
        offset, slope = line(x, np.stack(minima, axis=1)).T
        return np.stack([offset, -slope], axis=1)

    minima = np.array([float(level.minimum(level.fitted)) for level in used])
    details = {
        "curves": kind,
        "levels": [_level_details(level) for level in found],
        "minima": {
            "loss": np.exp(x),
            "batch_tokens": np.exp(minima),
            "params": [level.size for level in used],
        },
        "regret": _regret(used),
        "rejected": {
            why: sum(level.why == why for level in found)
            for why in ("edge-minimum", "negative-curvature")
        },
    }
    return TwoStepProblem(
        observed=np.concatenate([level.log_tokens for level in used]),
        expected=np.concatenate([level.fitted @ level.quadratic.design for level in used]),
        tangent=block_diagonal([level.quadratic.design for level in used]),
        trunk=numbered(np.concatenate([level.curve for level in used])),
        solve=solve,
        law=BatchLaw,
        points=(np.exp(x), np.exp(minima)),
        details=plain(details),
        diagnostics=tuple(_diagnostics(found, kind, rises)),
        domain={"loss": span(np.exp(x)), "batch_tokens": span(np.exp(minima))},
    )


def _by_size(curves: list[Curve]) -> list[NDArray[np.intp]]:
    """Numbers of the curves of every size."""
    number = numbered(np.array([curve.size for curve in curves]))
    return [np.flatnonzero(number == size) for size in range(number.max() + 1)]


def _levels(curves: list[Curve], group: NDArray[np.intp], count: int) -> list[_Level]:
    """Equal-loss curves of one size, at levels that 4 batch sizes reach; none if there are none."""
    batch = np.array([curves[i].log_batch for i in group])
    start, reached = (np.array([curves[i].log_loss[end] for i in group]) for end in (0, -1))
    batches = np.unique(batch)
    if batches.size < MIN_BATCHES:
        return []
    high = np.sort([start[batch == b].max() for b in batches])[-MIN_BATCHES]
    low = np.sort([reached[batch == b].min() for b in batches])[MIN_BATCHES - 1]
    out = []
    for level in np.linspace(low, high, count) if low < high else ():
        covers = (start >= level) & (reached <= level)
        if np.unique(batch[covers]).size < MIN_BATCHES:
            continue
        tokens = np.array([curves[i].log_tokens_to(float(level)) for i in group[covers]])
        near = _near_minimum(batch[covers], tokens)
        members, x, tokens = group[covers][near], batch[covers][near], tokens[near]
        quadratic = Quadratic(x)
        fitted = quadratic.fit(tokens[None])[0]
        size = curves[group[0]].size
        out.append(_Level(size, float(level), members, x, tokens, quadratic, fitted))
    return out


def _near_minimum(log_batch: Floats, log_tokens: Floats) -> NDArray[np.bool_]:
    """The five batch sizes around the cheapest: a parabola through a wide lopsided grid is biased.

    Measured on curves of a planted exponent of 6.0 with ten batch sizes over two decades: 6.5
    through all of them.
    """
    batches, index = np.unique(log_batch, return_inverse=True)
    mean = np.bincount(index, log_tokens) / np.bincount(index)
    last = min(int(np.argmin(mean)) + WINDOW // 2 + 1, batches.size)
    first = max(0, min(int(np.argmin(mean)) - WINDOW // 2, last - WINDOW))
    last = min(first + WINDOW, batches.size)
    return np.asarray((index >= first) & (index < last))


def _require(found: list[_Level], used: list[_Level], curves: list[Curve]) -> None:
    if len({level.log_loss for level in used}) >= 2:
        return
    batches = [
        int(np.unique([curves[i].log_batch for i in group]).size) for group in _by_size(curves)
    ]
    if not found:
        raise FitError(
            "too-few-batches",
            f"batch: no loss that {MIN_BATCHES} batch sizes reach (batch sizes per size of model: "
            f"{', '.join(map(str, batches))}). Add batch sizes, or train the slow ones longer",
            batches=batches,
            needed=MIN_BATCHES,
        )
    edge = sum(level.why == "edge-minimum" for level in found)
    raise FitError(
        "too-few-optima",
        f"batch: {len(used)} of {len(found)} loss levels have a best batch inside the batches "
        f"tried, need 2 ({edge} at or beyond an end, {len(found) - len(used) - edge} curve the "
        "wrong way). Add smaller and larger batches",
        optima=len(used),
        levels=len(found),
        edge=edge,
        needed=2,
    )


def _regret(used: list[_Level]) -> dict[str, float]:
    """Extra tokens, as a fraction, for a batch 2x and 4x off its best: the median over levels."""
    bend = np.array([float(level.quadratic.curvature(level.fitted)) for level in used])
    return {f"{off:g}x": float(np.median(np.expm1(bend * np.log(off) ** 2))) for off in OFF}


def _level_details(level: _Level) -> dict[str, Any]:
    best = level.minimum(level.fitted)
    return {
        "params": level.size,
        "loss": float(np.exp(level.log_loss)),
        "batch_tokens": np.exp(level.log_batch),
        "tokens": np.exp(level.log_tokens),
        "best_batch_tokens": np.exp(best),
        "fewest_tokens": np.exp(level.quadratic.values(level.fitted, best)),
        "curvature": float(level.quadratic.curvature(level.fitted)),
        "used": level.why is None,
        "why_not": level.why,
    }


def _diagnostics(found: list[_Level], kind: Kind, rises: Floats) -> Iterator[Diagnostic]:
    levels = len(found)
    if count := sum(level.why == "edge-minimum" for level in found):
        yield Diagnostic(
            "edge-minimum",
            f"{count} of {levels} loss levels have their best batch at or beyond an end of those "
            "tried and are left out",
            count=count,
            levels=levels,
        )
    if count := sum(level.why == "negative-curvature" for level in found):
        yield Diagnostic(
            "negative-curvature",
            f"{count} of {levels} loss levels have no minimum over batch (the parabola curves "
            "down) and are left out",
            count=count,
            levels=levels,
        )
    if kind in ("undecayed", "mid-run"):
        known = "are not decayed" if kind == "undecayed" else "are read along the runs"
        yield Diagnostic(
            "undecayed-curves",
            f"the curves {known}: a decay takes out gradient noise, which is not the same at every "
            "batch, so the best batch of finished runs may differ. Add decayed branches",
            curves=kind,
        )
    if (rising := int(np.sum(rises > 0))) and rises.size:
        yield Diagnostic(
            "non-monotone",
            f"{rising} of {rises.size} curves rise for a stretch, by up to {rises.max():.1%}: only "
            "their first crossing of a loss counts",
            rising=rising,
            curves=int(rises.size),
            rise=float(rises.max()),
        )
