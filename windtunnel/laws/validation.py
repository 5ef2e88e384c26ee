"""Hold-out and influence: forecasts of unseen trunks, and the law without each row or trunk."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws.bootstrap import Resamples, refit
from windtunnel.laws.forms import Formula, Law
from windtunnel.laws.interval import HoldOut, Influence, LeaveOneOut, quantiles
from windtunnel.laws.misfit import MisfitDraws
from windtunnel.laws.point_estimate import Point, enough
from windtunnel.laws.posterior import trunk_sigma
from windtunnel.laws.table import Floats, Table

# A table without noise has intervals of no width; ln loss is not known beyond this.
ROUNDOFF = 1e-9
MOST_REFITS = 600
NAMED = 5
# Fewer held-out rows say little about a law.
MIN_HELD = 3
TOP = 3.0
"""All within this factor of the largest budget are the top of compute."""

Chosen = ArrayLike | Literal["largest"] | None


def no_holdout(why: FitError) -> Diagnostic:
    """The warning where the default hold-out leaves too little."""
    return Diagnostic("no-holdout", f"no hold-out of the largest runs: {why}", reason=why.code)


def other_top(
    law: type[Law], table: Table, holdout: Chosen
) -> tuple[NDArray[np.bool_], str] | None:
    """The top of compute beside the largest size; None where they are the same rows."""
    if not (isinstance(holdout, str) and holdout == "largest"):
        return None
    mask, what = by_compute(table)
    size = np.isin(table.trunk, table.trunk[_largest(law, table)[0]])
    return None if np.array_equal(mask, size) else (mask, what)


def by_compute(table: Table) -> tuple[NDArray[np.bool_], str]:
    """The rows of the top of compute with their whole trunks, and in words.

    The tenth with the most compute where the top has hardly any row, or most of them.
    """
    flops, least = table.budget, max(MIN_HELD, int(np.ceil(table.rows / 10)))
    top = flops > flops.max() / TOP * (1 + 1e-9)
    whole = np.isin(table.trunk, table.trunk[top])
    if whole.sum() >= least and 2 * whole.sum() <= table.rows:
        return whole, f"runs within a factor of {TOP:g} of the largest compute"
    top = flops >= np.sort(flops)[-least]
    return np.isin(table.trunk, table.trunk[top]), "tenth with the largest compute"


def held_out_rows(
    law: type[Law], table: Table, holdout: ArrayLike | str
) -> tuple[NDArray[np.bool_], str]:
    """The rows to hold out, and in words: `largest`, by a row mask, or by trunk labels.

    Raises:
        FitError: as `chosen_rows`.
    """
    if isinstance(holdout, str):
        if holdout != "largest":
            raise FitError(
                "unknown-value",
                f"holdout = {holdout!r}: 'largest', a mask, trunk labels or None",
                option="holdout",
                value=holdout,
            )
        chosen, what = _largest(law, table)
        return _some_whole_trunks(table, np.isin(table.trunk, table.trunk[chosen])), what
    return chosen_rows(table, holdout), "trunks"


def chosen_rows(table: Table, holdout: ArrayLike) -> NDArray[np.bool_]:
    """The rows of a mask, or of trunk labels.

    Raises:
        FitError: an unknown trunk, a mask that splits a trunk, or nothing left on one side.
    """
    given = np.asarray(holdout)
    if given.dtype != np.bool_:
        labels = given.astype(np.str_)
        if (unknown := np.setdiff1d(labels, table.trunk_labels)).size:
            raise FitError(
                "unknown-trunk",
                f"holdout: no trunk {str(unknown[0])!r} in the table",
                trunk=str(unknown[0]),
            )
        given = np.isin(table.trunk, labels)
    return _some_whole_trunks(table, given)


def _some_whole_trunks(table: Table, given: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if given.shape != (table.rows,) or given.all() or not given.any():
        raise FitError(
            "empty-holdout",
            f"holdout: a mask over {table.rows} rows with some, not all, of them true",
            held=int(given.sum()),
            rows=table.rows,
        )
    if (split := np.intersect1d(table.trunk[given], table.trunk[~given])).size:
        raise FitError(
            "split-trunk",
            f"holdout: trunk {str(split[0])!r} is on both sides. Its rows share their noise: "
            "hold out whole trunks",
            trunk=str(split[0]),
        )
    return given


def _largest(law: type[Law], table: Table) -> tuple[NDArray[np.bool_], str]:
    """Rows of the largest first input; where those are too few to tell, the largest tenth."""
    first, word = table[law.inputs[0]], law.inputs[0]
    what = "largest size" if word == "params" else f"largest {word}"
    least = max(MIN_HELD, int(np.ceil(table.rows / 10)))
    whole = np.asarray(first == first.max())
    if whole.sum() >= MIN_HELD or table.rows < 4 * MIN_HELD:
        return whole, what
    return np.asarray(first >= np.sort(first)[-least]), f"tenth with the largest {word}"


def hold_out(
    held: Table,
    what: str,
    form: Law,
    resamples: Resamples,
    *,
    span: tuple[float, float],
    baselines: Mapping[str, Floats],
    level: float,
    rng: np.random.Generator,
) -> HoldOut:
    """Score `form`, fitted without them to sizes of `span`, on `held`; errors of ln."""
    inputs = np.stack([held[name] for name in form.inputs])
    rows = row_draws(
        form, resamples.draws, resamples.sigmas, inputs, held.trunk_index, span=span, rng=rng
    )
    rows = rows[~np.isnan(rows).any(axis=1)]  # a resample of a table of few rows may have no value
    return score_holdout(
        held, what, type(form), form(*inputs), rows, baselines=baselines, level=level
    )


def score_holdout(
    held: Table,
    what: str,
    law: type[Formula],
    predicted: Floats,
    draws: Floats,
    *,
    baselines: Mapping[str, Floats],
    level: float,
) -> HoldOut:
    """Score predictions (R,) of the held-out rows, and draws (S, R) of them; errors of ln."""
    measured = held[law.output]
    errors = _difference(law, predicted, measured)
    at = _level(law, measured)
    error = float(errors.mean())
    with np.errstate(invalid="ignore"):  # an unbounded forecast of infinite draws
        low, high = quantiles(error - (draws - at).mean(axis=1), level)
        ends = _ends(draws, level)
    inside, covered = None, None
    if not np.isnan([low, high, error]).any():
        inside = low - ROUNDOFF <= error <= high + ROUNDOFF
    if not np.isnan(ends).any():
        covered = float(np.mean((ends[0] - ROUNDOFF <= at) & (at <= ends[1] + ROUNDOFF)))
    first = held[law.inputs[0]]
    return HoldOut(
        what=what,
        rows=held.rows,
        trunks=held.trunk_labels.size,
        mean_relative_error=_relative(predicted, measured),
        error=error,
        rms=float(np.sqrt(np.mean(errors**2))),
        low=low,
        high=high,
        inside=inside,
        covered=covered,
        by_group={
            f"{law.inputs[0]}={value:.6g}": float(errors[first == value].mean())
            for value in np.unique(first)[-20:]
        },
        baselines={name: _relative(values, measured) for name, values in baselines.items()},
        baseline_p={
            name: _luck(measured, predicted, values, draws, held.trunk_index)
            for name, values in baselines.items()
            if _relative(values, measured) < _relative(predicted, measured)
        },
        points=tuple(
            zip(
                measured.tolist(),
                predicted.tolist(),
                *(_output(law, end).tolist() for end in ends),
                strict=True,
            )
        ),
    )


def _luck(
    measured: Floats, predicted: Floats, baseline: Floats, draws: Floats, trunks: NDArray[np.intp]
) -> float:
    """The chance that a baseline errs less than the law by as much as here, though it is no better.

    The larger of two. Noise of trunks alone may favour it: a paired t test over the means of their
    differences, which one trunk cannot show. And the law may miss by no more than it says: how
    often it would lose so, were the runs as it foretells, by `draws` (S, R) of ln output. Without
    draws, the former.
    """
    from scipy.special import stdtr

    lead = _lead(measured, predicted, baseline)
    count = np.bincount(trunks)
    means = np.bincount(trunks, lead) / count
    if means.size < 2:
        return 1.0
    error = float(np.std(means, ddof=1)) / np.sqrt(means.size)
    p = float(stdtr(means.size - 1, -means.mean() / max(error, np.finfo(float).tiny)))
    if not len(draws):
        return p
    foretold = _lead(np.exp(draws), predicted, baseline).mean(axis=1)
    return max(p, float(np.mean(foretold >= lead.mean())))


def _lead(measured: Floats, predicted: Floats, baseline: Floats) -> Floats:
    """By how much (..., R) the relative error of a baseline is below that of the law."""
    return np.asarray(np.abs(predicted / measured - 1) - np.abs(baseline / measured - 1))


def _ends(draws: Floats, level: float) -> Floats:
    """Both ends (2, R) of the central interval of draws (S, R) of every row; nan without draws.

    Between infinite draws, an order statistic.
    """
    if not len(draws):
        return np.full((2, draws.shape[1]), np.nan)
    tail = np.array([(1 - level) / 2, (1 + level) / 2])
    ends = np.quantile(draws, tail, axis=0)
    outer = (
        np.quantile(draws, tail[0], axis=0, method="lower"),
        np.quantile(draws, tail[1], axis=0, method="higher"),
    )
    return np.where(np.isnan(ends), np.stack(outer), ends)


def headline(law: type[Law], raw: Floats, flops: float | None, flop_factor: float) -> Floats:
    """The headline of a law, for raw coefficients (P, K): ln D/N, or its main exponent."""
    if law.headline == "ratio" and flops is not None:
        log_params, log_tokens = law.log_optimum(raw, flops, flop_factor=flop_factor)
        return np.asarray(log_tokens - log_params)
    return np.asarray(raw[:, law.index(law.headline)])


def influence(point: Point, table: Table) -> Influence | None:
    """The headline without each row and each trunk; every refit starts at the fit.

    None where nothing can be spared, or the table has no optimum to move.
    """
    law = point.problem.law
    flops = float(table.budget.max()) if law.headline == "ratio" else None
    before = headline(law, point.problem.raw(point.theta)[None], flops, table.flop_factor)[0]
    if not np.isfinite(before):
        return None

    def effects(labels: list[str], kept: list[NDArray[np.bool_]]) -> tuple[LeaveOneOut, ...]:
        return _strongest(point, table, labels, kept, before=float(before), flops=flops)

    rows = _candidates(point)
    whole = np.ones(table.rows, bool)
    without_row = [_but(whole, row) for row in rows]
    row_labels = [table.describe(row, law.columns()) for row in rows]
    trunks = list(table.groups()) if table.has_trunks else []
    named = Influence(
        quantity=law.headline,
        value=float(np.exp(before)) if flops is not None else float(before),
        rows=effects(row_labels, without_row),
        trunks=effects([label for label, _ in trunks], [~mask for _, mask in trunks]),
    )
    return named if named.rows or named.trunks else None


def _strongest(
    point: Point,
    table: Table,
    labels: list[str],
    kept: list[NDArray[np.bool_]],
    *,
    before: float,
    flops: float | None,
) -> tuple[LeaveOneOut, ...]:
    law, free = point.problem.law, len(point.problem.coordinates.free)
    spare = [k for k, keep in enumerate(kept) if enough(law, table, keep, free)]
    if not spare:
        return ()
    weight = np.array([kept[k] for k in spare], np.float64)
    found = refit(point, np.broadcast_to(point.problem.output, weight.shape), weight=weight)
    after = headline(law, point.problem.raw(found.theta), flops, table.flop_factor)
    shift = after - before
    order = np.argsort(-np.abs(shift), kind="stable")[:NAMED]
    with np.errstate(over="ignore"):
        value = np.exp(after) if flops is not None else after
    return tuple(LeaveOneOut(labels[spare[k]], float(value[k]), float(shift[k])) for k in order)


def _candidates(point: Point) -> NDArray[np.intp]:
    """Rows to leave out: all of a small table, else those with the largest influence.

    The influence of a row on a linear fit is its residual times the root of its leverage.
    """
    rows = point.residual.size
    if rows <= MOST_REFITS:
        return np.arange(rows)
    left = np.linalg.svd(point.tangent.T, full_matrices=False)[0]
    shift = np.abs(point.residual) * np.sqrt(np.sum(left**2, axis=1))
    return np.sort(np.argsort(-shift)[:MOST_REFITS])


def _but(whole: NDArray[np.bool_], row: int) -> NDArray[np.bool_]:
    keep = whole.copy()
    keep[row] = False
    return keep


def _level(form: Formula | type[Formula], values: Floats) -> Floats:
    """Where noise is additive: the logarithm, or the output itself."""
    with np.errstate(invalid="ignore", divide="ignore"):  # of a law that foretells 0 or less: nan
        return np.log(values) if form.multiplicative else values


def _output(form: type[Formula], level: Floats) -> Floats:
    """Undo `_level`."""
    return np.exp(level) if form.multiplicative else level


def _difference(form: type[Formula], predicted: Floats, measured: Floats) -> Floats:
    return _level(form, predicted) - _level(form, measured)


def _relative(predicted: Floats, measured: Floats) -> float:
    return float(np.mean(np.abs(predicted / measured - 1)))


def row_draws(
    form: Law | type[Law],
    coefficients: Floats,
    sigmas: Floats,
    inputs: Floats,
    trunk_index: NDArray[np.intp],
    *,
    span: tuple[float, float],
    rng: np.random.Generator,
    misfit: MisfitDraws | None = None,
) -> Floats:
    """Predictive draws (S, R) of new runs at inputs (I, R); ln for loss-like laws.

    `coefficients` (S, K) and `sigmas` (S, 3) are those of a Fit, with its `misfit` if it has one.
    Runs of one trunk share its noise; `span` holds the extreme sizes that it was fitted to.
    """
    with np.errstate(all="ignore"):
        law = _level(form, form.values(coefficients, inputs))
    count = len(sigmas)
    trunk = rng.standard_normal((count, trunk_index.max() + 1))[:, trunk_index]
    branch = rng.standard_normal((count, trunk_index.size))
    if misfit is not None:
        law = law + misfit.draw(inputs[0], inputs[1], rng)
    sigma = trunk_sigma(sigmas[:, None, :], inputs[0], span)
    return np.asarray(law + sigma * trunk + sigmas[:, 1:2] * branch)
