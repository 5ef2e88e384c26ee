"""A given law against a table that it was not fitted to: objective, errors, and drift.

The law may be that of a fit, whose prediction intervals then say what errors were to be expected,
or one whose coefficients are all stated. Nothing is fitted but the drift: a line of the residuals
against ln compute, by generalised least squares, since rows of one trunk share their noise. In a
table of sizes and tokens without trunks, rows of one size may share one, so sizes stand for them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import fit_warnings, table_warnings
from windtunnel.laws.codec import holdout_document
from windtunnel.laws.fitting import as_table, decayed_only
from windtunnel.laws.forms import Law
from windtunnel.laws.interval import HoldOut
from windtunnel.laws.misfit import decades_by_axis
from windtunnel.laws.noise import Noise, estimate, sizes_of, weighted
from windtunnel.laws.point_estimate import DELTA_PER_SIGMA, PUBLISHED_DELTA
from windtunnel.laws.result import Fit
from windtunnel.laws.schema import json_text
from windtunnel.laws.solver import Objective, ObjectiveName, huber
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.two_step.base import TwoStepLaw
from windtunnel.laws.validation import row_draws, score_holdout

SIGNIFICANT = 0.01
"""Chance of a slope this steep without any drift, below which it is told."""
MIN_GROUPS = 4
"""Two go into the line, and two more say how much it scatters."""
NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A line of the residuals over the ln of an input.

    Attributes:
        against: `flops`, or the first input of a law without size and data.
        bias: mean of ln(measured / predicted); of the difference where noise is additive.
        slope: change of it per unit of the logarithm.
        standard_error: of the slope.
        p: chance of a slope this steep without drift.
        groups: what rows that share noise have in common: `trunk`, or `params` where the table has
            no trunks.
    """

    against: str
    bias: float
    slope: float
    standard_error: float
    p: float
    groups: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How a given law fares on a table, every row of it unseen.

    Attributes:
        law: its name.
        coefficients: by name, raw units; of `auto` those of its heaviest form.
        given: the name of the fit, or `coefficients`.
        objective_value: its sum over the rows.
        score: as of a hold-out; intervals and `covered` are of the fit's predictions.
        residual_rms: root mean square of ln(measured / predicted).
        worst: the rows farthest off: label and residual.
        drift: None where too few trunks, sizes or inputs could show one.
    """

    law: str
    formula: str
    given: str
    coefficients: dict[str, float]
    objective: str
    delta: float | None
    objective_value: float
    level: float
    rows: int
    trunks: int
    columns: dict[str, str]
    filters: tuple[str, ...]
    dropped: tuple[tuple[str, int], ...]
    score: HoldOut
    residual_rms: float
    worst: tuple[tuple[str, float], ...]
    drift: Drift | None
    warnings: tuple[Diagnostic, ...]

    def document(self) -> dict[str, Any]:
        """As plain data, with the keys of a fit's document (docs/fit.md) and `drift`."""
        drift = self.drift
        return {
            "law": self.law,
            "formula": self.formula,
            "given": self.given,
            "n": self.rows,
            "n_trunks": self.trunks,
            "n_dropped": sum(rows for _, rows in self.dropped),
            "dropped": [{"reason": reason, "rows": rows} for reason, rows in self.dropped],
            "columns": self.columns,
            "filters": list(self.filters),
            "objective": {
                "name": self.objective,
                "delta": self.delta,
                "value": self.objective_value,
            },
            "coefficients": self.coefficients,
            "level": self.level,
            "holdout": holdout_document(self.score),
            "residuals": {
                "rms_log": self.residual_rms,
                "worst": [{"row": label, "residual": value} for label, value in self.worst],
            },
            "drift": None if drift is None else vars(drift),
            "warnings": [warning.document() for warning in self.warnings],
        }

    def to_json(self, path: Path | str | None = None) -> str:
        """The document as JSON text, also written to `path`."""
        text = json_text(self.document(), with_digest=False)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


def evaluate(
    given: Fit | Law,
    runs: Table | Mapping[str, ArrayLike],
    *,
    objective: ObjectiveName | None = None,
    delta: float | Literal["auto"] | None = None,
    level: float = 0.9,
    seed: int = 0,
    name: str = "coefficients",
) -> Evaluation:
    """How a law fares on a table that it was not fitted to.

    Args:
        given: a fit, or a law with its coefficients, which has no intervals.
        runs: a Table, or columns by the law's names, as `fit` takes them.
        objective: None: that of the fit; `mse-log` of `auto`, `huber-log` of stated coefficients.
        delta: where Huber turns linear; `auto`: 1.345 robust sigma of the residuals. None: that of
            the fit, or 1e-3.
        level: of intervals; of a fit its own.
        seed: of the noise in predictions of stated coefficients; of a fit its own.
        name: of what is evaluated.

    Raises:
        FitError: a law of points, a missing column, or a row that the law cannot predict.
    """
    form = given.form if isinstance(given, Fit) else given
    if isinstance(form, TwoStepLaw) or not isinstance(form, Law):
        raise FitError(
            "wrong-law",
            f"law {form.name} goes through points that its first step finds, and predicts no row: "
            "fit the new table, and compare the coefficients",
            law=form.name,
        )
    known, _, incomplete = as_table(runs, needs=form.columns())
    table, mixed = decayed_only(known)
    form.check({column: table[column] for column in form.inputs}, table[form.output])
    inputs = np.stack([table[column] for column in form.inputs])
    measured, predicted = table[form.output], _predicted(given, inputs)
    draws = np.empty((0, table.rows))
    if isinstance(given, Fit):
        level, seed = given.level, given.seed
        draws = _draws(given, inputs, table.trunk_index, np.random.default_rng([seed, 4]))
    residual = np.log(measured / predicted) if form.multiplicative else measured - predicted
    if not np.isfinite(residual).all():
        row = int(np.flatnonzero(~np.isfinite(residual))[0])
        raise FitError(
            "not-finite",
            f"{table.describe(row, form.columns())}: the law predicts {predicted[row]:.4g} there",
            row=row,
            predicted=str(predicted[row]),
        )
    goal = _objective(given, objective, delta, residual)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = goal.target(predicted) - goal.target(measured)
    score = score_holdout(
        table, "rows of the table", type(form), predicted, draws, baselines={}, level=level
    )
    drift = drift_of(form, table, residual, _curves(given, inputs))
    order = np.argsort(-np.abs(residual), kind="stable")[:NAMED]
    return Evaluation(
        law=form.name,
        formula=form.formula,
        given=name,
        coefficients=form.coefficients,
        objective=goal.name,
        delta=goal.delta if goal.is_huber else None,
        objective_value=float(huber(off, np.ones_like(off), goal.delta)),
        level=level,
        rows=table.rows,
        trunks=table.trunk_labels.size,
        columns={each: table.names.get(each, each) for each in form.columns()},
        filters=table.filters,
        dropped=table.dropped,
        score=score,
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        worst=tuple((table.describe(k, form.columns()), float(residual[k])) for k in order),
        drift=drift,
        warnings=(
            *incomplete,
            *mixed,
            *fit_warnings.of_holdout(score, level),
            *_of_drift(drift),
            *table_warnings.of_rows(form.columns(), table),
        ),
    )


def drift_of(
    form: Law, table: Table, residual: Floats, curves: Floats | None = None
) -> Drift | None:
    """The line of residuals (R,) over ln compute, or over the ln of the first input.

    `curves` are draws (S, R) of the law in the residual's unit: what the law itself leaves open is
    no drift. Where sizes stand for trunks, the degrees of freedom of the slope's variance are those
    of Satterthwaite (1946): independent rows of a size have many, rows of one trunk few.
    """
    from scipy.special import stdtr

    against = "flops" if {"params", "tokens"} <= set(form.inputs) else form.inputs[0]
    values = table.budget if against == "flops" else table[against]
    x = np.log(values) - np.log(values).mean()
    by_size = against == "flops" and not table.has_trunks
    groups = sizes_of(table.params) if by_size else table.trunk_index
    if np.unique(x).size < 3 or groups.max() + 1 < MIN_GROUPS:
        return None
    design = np.stack([np.ones_like(x), x], axis=1)
    # Noise is measured from what the plain line leaves over.
    left = residual - design @ np.linalg.lstsq(design, residual)[0]
    noise = estimate(left, design.T, groups)
    solved = weighted(design, groups, noise.trunk**2, noise.branch**2)
    covariance = np.linalg.pinv(design.T @ solved)
    bias, slope = covariance @ solved.T @ residual
    own = float(covariance[1, 1])
    if not own > 0:
        return None
    weights = solved @ covariance[1]
    freedom = _freedom(weights, groups, noise) if by_size else float(groups.max() - 1)
    whole = own if curves is None else own + float(np.var(curves @ weights))
    p = 2 * float(stdtr(freedom * (whole / own) ** 2, -abs(slope) / math.sqrt(whole)))
    return Drift(
        against=against,
        bias=float(bias),
        slope=float(slope),
        standard_error=math.sqrt(whole),
        p=p,
        groups="params" if by_size else "trunk",
    )


def _freedom(weights: Floats, groups: NDArray[np.intp], noise: Noise) -> float:
    """Degrees of freedom of the variance of a weighted sum of rows (R,), by Satterthwaite."""
    fewest, most = float(groups.max() - 1), float(weights.size - 2)
    if not noise.branch_df:
        return most
    shared, own = float(np.sum(np.bincount(groups, weights) ** 2)), float(weights @ weights)
    trunk, branch = noise.trunk**2, noise.branch**2
    count, total = noise.share.size, float(noise.share.sum())
    of_branch = 2 * branch**2 / noise.branch_df
    of_squares = 2 * float(np.sum((branch + noise.share * trunk) ** 2))
    of_trunk = (of_squares + count**2 * of_branch) / total**2
    both = -count * of_branch / total
    spread = shared**2 * of_trunk + own**2 * of_branch + 2 * shared * own * both
    return float(np.clip(2 * (shared * trunk + own * branch) ** 2 / spread, fewest, most))


def _of_drift(drift: Drift | None) -> tuple[Diagnostic, ...]:
    if drift is None or not drift.p < SIGNIFICANT:
        return ()
    return (
        Diagnostic(
            "law-drifted",
            f"the law drifts: ln(measured / predicted) changes by {drift.slope * math.log(10):+.2%}"
            f" per decade of {drift.against} (standard error "
            f"{drift.standard_error * math.log(10):.2%}, p = {drift.p:.1g}), {drift.bias:+.2%} on "
            "average: fit it again",
            against=drift.against,
            bias=drift.bias,
            slope=drift.slope,
            standard_error=drift.standard_error,
            p=drift.p,
        ),
    )


def _objective(
    given: Fit | Law,
    name: ObjectiveName | None,
    delta: float | Literal["auto"] | None,
    residual: Floats,
) -> Objective:
    fitted = isinstance(given, Fit) and given.misfit is None
    form = given.form if isinstance(given, Fit) else given
    plain: Any = given.objective if fitted and isinstance(given, Fit) else "mse-log"
    if not isinstance(given, Fit):
        plain = "huber-log" if form.multiplicative else "huber"
    chosen = Objective(name or plain)
    if not chosen.is_huber:
        if delta not in (None, "auto"):
            raise FitError(
                "contradicting-options",
                f"delta = {delta} given, but objective {chosen.name!r} has none: leave it out",
                options=["delta", "objective"],
                objective=chosen.name,
            )
        return chosen
    if delta == "auto":
        usual = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        delta = max(DELTA_PER_SIGMA * usual, np.finfo(float).tiny)
    if delta is None:
        delta = (given.delta if isinstance(given, Fit) else None) or PUBLISHED_DELTA
    return Objective(chosen.name, float(delta))


def _predicted(given: Fit | Law, inputs: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(given(*inputs))


def _curves(given: Fit | Law, inputs: Floats) -> Floats | None:
    """Draws (S, R) of a fitted law without noise, in the residual's unit; None without any."""
    if not (isinstance(given, Fit) and len(given.draws)):
        return None
    with np.errstate(all="ignore"):
        found = given.curves(*inputs)
        found = np.log(found) if given.form.multiplicative else found
    found = found[np.isfinite(found).all(axis=1)]
    return found if len(found) else None


def _draws(fit: Fit, inputs: Floats, trunks: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """Predictive draws (S, R) of new runs in rows of these trunks; ln for a loss-like law."""
    if not len(fit.draws):
        return np.empty((0, trunks.size))
    span = fit.domain[fit.form.inputs[0]]
    found = row_draws(
        cast("Law", fit.form),
        fit.draws,
        fit.sigma_draws,
        inputs,
        trunks,
        span=span,
        rng=rng,
        misfit=fit.misfit,
    )
    if fit.misfit is None:
        return np.asarray(found[~np.isnan(found).any(axis=1)])
    beyond = decades_by_axis(fit.domain, inputs[0], inputs[1], fit.flop_factor)
    return fit.misfit.widened(found, beyond)
