"""Rolling extrapolation: fit the cheaper runs of a table, and predict the next dearer ones.

What a form misses there decides how much it counts, and how much wider than their draws intervals
become.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.auto.draws import Draws
from windtunnel.laws.auto.model import FORMS, Model
from windtunnel.laws.auto.sampling import Mode, mode
from windtunnel.laws.noise import sizes_of
from windtunnel.laws.table import Table

TOPS = {"compute": (3.0, 10.0), "size": (2.0, 4.0)}
"""The top of a table that is left out: all within this factor of the largest."""

MIN_ROWS, MIN_SIZES = 9, 3
"""Of what stays: fewer rows carry no law of six coefficients."""

WALKERS, STEPS, KEPT = 100, 16, 4

PRIOR = {"coupled": 1.0, "chinchilla": 0.25, "no-floor": 0.1}
"""Weights before any extrapolation. These and the constants below were chosen on public tables."""

TEMPER = 2.0
"""Scores of folds are divided by this: the folds of one table overlap."""

PSEUDO_FOLDS = 1.0
"""Extrapolations that went as expected, added to those that were tried."""

OTHER_AXIS = 0.3
"""What a fold along the other axis counts."""

NARROWEST = 0.7
"""Least widening: where every miss was far smaller than expected."""

WORST = 9.0
"""Largest miss that counts, in predicted standard deviations."""

UNSCORED = -1e6
"""Score of a form whose forecasts are no numbers."""

Z90 = 3.29
"""Width of a normal's 90% interval in standard deviations."""


@dataclass(frozen=True)
class Extrapolation:
    """How one form, fitted to the cheaper runs, predicted the dearer ones; errors are of ln loss.

    Attributes:
        axis: `compute` or `size`.
        factor: all within this factor of the largest were left out.
        decades: how far beyond the fitted runs it lies, at most.
        error: mean of |predicted - measured|.
        bias: mean of predicted - measured.
        squared: mean square of the error over its predicted standard deviation.
        score: mean log density of a run.
    """

    form: str
    axis: str
    factor: float
    rows: int
    decades: float
    error: float
    bias: float
    squared: float
    score: float


@dataclass(frozen=True, eq=False)
class Fold:
    """The top of a table by one axis: its rows, and decades beyond the others."""

    axis: str
    factor: float
    held: NDArray[np.bool_]
    decades: float


def rolling(
    table: Table, modes: Mapping[str, Mode], rng: np.random.Generator
) -> tuple[Extrapolation, ...]:
    """Every form on every fold of a table; none where a table is too small to be split.

    Each climb starts at the mode of the whole table, which is near.
    """
    return tuple(
        _extrapolate(table, fold, top, rng) for fold in folds(table) for top in modes.values()
    )


def folds(table: Table) -> Iterator[Fold]:
    """The tops that leave enough rows and sizes; whole trunks, and no top twice."""
    seen: list[bytes] = []
    for axis, values in (("compute", table.budget), ("size", table.params)):
        for factor in TOPS[axis]:
            top = np.asarray(values > values.max() / factor * (1 + 1e-9))
            held = np.isin(table.trunk_index, table.trunk_index[top])
            kept = table.params[~held]
            is_large = kept.size >= MIN_ROWS and np.unique(sizes_of(kept)).size >= MIN_SIZES
            if not is_large or held.tobytes() in seen:
                continue
            seen.append(held.tobytes())
            yield Fold(axis, factor, held, float(np.log10(values.max() / values[~held].max())))


def _extrapolate(table: Table, fold: Fold, whole: Mode, rng: np.random.Generator) -> Extrapolation:
    rest, top = table.subset(~fold.held), table.subset(fold.held)
    form = whole.model.form
    near = mode(Model.of(rest, form, whole.model.noise), whole.coordinates)
    draws = Draws.of(near, walkers=WALKERS, steps=STEPS, kept=KEPT, rng=rng)
    predicted = draws.predict(top.params, top.tokens, top.trunk_index, rng)
    low, middle, high = np.quantile(predicted, [0.05, 0.5, 0.95], axis=0)
    miss, sigma = middle - np.log(top.loss), (high - low) / Z90
    return Extrapolation(
        form=form,
        axis=fold.axis,
        factor=fold.factor,
        rows=top.rows,
        decades=fold.decades,
        error=float(np.mean(np.abs(miss))),
        bias=float(np.mean(miss)),
        squared=float(np.mean((miss / sigma) ** 2)),
        score=float(np.mean(-((miss / sigma) ** 2) / 2 - np.log(sigma))),
    )


def weights_of(found: Sequence[Extrapolation]) -> Mapping[str, float]:
    """The weight of each form, by its scores over folds and its prior."""
    total = {
        form: np.log(PRIOR[form])
        + sum(_scored(each) for each in found if each.form == form) / TEMPER
        for form in FORMS
    }
    best = max(total.values())
    raw = {form: float(np.exp(value - best)) for form, value in total.items()}
    whole = sum(raw.values())
    return {form: value / whole for form, value in raw.items()}


def _scored(each: Extrapolation) -> float:
    return each.score if np.isfinite(each.score) else UNSCORED


def widening(found: Sequence[Extrapolation], weights: Mapping[str, float]) -> dict[str, float]:
    """By axis, the root mean square of misses over their predicted standard deviation."""
    squares: dict[tuple[str, float], float] = {}
    for each in found:
        fold = (each.axis, each.factor)
        square = each.squared if np.isfinite(each.squared) else WORST**2
        share = weights.get(each.form, 0.0) * min(square, WORST**2)
        squares[fold] = squares.get(fold, 0.0) + share
    factors = {}
    for axis in TOPS:
        counts = {fold: 1.0 if fold[0] == axis else OTHER_AXIS for fold in squares}
        total = PSEUDO_FOLDS + sum(counts[fold] * square for fold, square in squares.items())
        mean = total / (PSEUDO_FOLDS + sum(counts.values()))
        factors[axis] = max(NARROWEST, float(np.sqrt(mean)))
    return factors


def reach(found: Sequence[Extrapolation]) -> float:
    """Decades of the usual extrapolation among these."""
    return float(np.median([each.decades for each in found])) if found else 1.0
