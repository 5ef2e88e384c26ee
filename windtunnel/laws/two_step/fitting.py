"""The fit of a two-step law: noise, intervals, hold-out and influence of its points."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import fit_warnings, table_warnings
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.interval import (
    HoldOut,
    Influence,
    LeaveOneOut,
    Span,
    beyond_bounds,
    quantiles,
)
from windtunnel.laws.noise import MIN_TRUNK_DF, Noise, estimate
from windtunnel.laws.registry import TWO_STEP
from windtunnel.laws.regression import Settings
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.two_step import isoflop
from windtunnel.laws.two_step.base import TwoStepLaw, TwoStepProblem
from windtunnel.laws.validation import NAMED, Chosen, chosen_rows, score_holdout

READING_DRAWS = 200
"""Resamples of every reading of `isoflop` that a fit keeps."""
# The headline exponent of each law.
HEADLINES = {"isoflop": "a", "envelope": "b", "lr-valley": "b", "batch": "p"}


def fit_two_step(
    table: Table, name: str, settings: Settings, holdout: Chosen, interpolate: isoflop.Reading
) -> Fit:
    """The law through the points that the first step finds in a table.

    Raises:
        FitError: the table has too few points, or an option does not apply to two-step laws.
    """
    _refuse(settings, name)

    def prepare(part: Table) -> TwoStepProblem:
        if name == "isoflop":
            return isoflop.two_step_problem(part, interpolate=interpolate)
        return TWO_STEP[name].prepare(part)

    rng = np.random.default_rng([settings.seed, 0])
    made = prepare(table)
    vector = made.log_vector
    if not np.all(np.isfinite(vector)):
        raise FitError(
            "no-law", f"{name}: the points of this table carry no law; see docs/fit.md", law=name
        )
    form = made.solved
    noise = estimate(made.observed - made.expected, made.tangent, made.trunk)
    draws, failed, judged = _draws(table, made, vector, noise, settings, prepare, rng)
    raw = made.law.raw(draws) if len(draws) else np.empty((0, vector.size))
    spans = _spans(form, raw, table, settings.level) if len(draws) else {}
    domain = _domain(table, made)
    x, y = made.points
    scatter = np.log(y) - np.log(form(x))
    spare = max(x.size - 2, 1)
    apart = np.random.default_rng([settings.seed, 4])
    held, missing = _held(table, made, holdout, settings, prepare, apart)
    details, warnings = dict(made.details), [*made.diagnostics, *judged]
    if isinstance(form, isoflop.Isoflop) and len(raw):
        details["readings"] = _readings(table, form, raw, settings, interpolate)
        largest = float(table["flops"].max())
        if found := isoflop.readings_disagree(details["readings"], largest, settings.level):
            warnings.append(found)
    warnings += fit_warnings.of_holdout(held, settings.level)
    warnings += table_warnings.of_rows(tuple(c for c in form.columns() if c in table), table)
    if noise.trunk_df < MIN_TRUNK_DF:
        warnings.append(
            Diagnostic(
                "noise-unidentified",
                "the points leave no degree of freedom for noise, so no interval is given: add "
                "runs, or seeds of the same runs",
                trunk_df=float(noise.trunk_df),
            )
        )
    return Fit(
        form=form,
        intervals=spans,
        level=settings.level,
        method=settings.intervals,
        resamples_failed=failed,
        scaled=form.coefficients,
        scales=dict.fromkeys(form.inputs, 1.0),
        objective="mse-log",
        delta=None,
        objective_value=float(np.sum(scatter**2) / 2),
        gradient_norm=0.0,
        starts=1,
        starts_agreeing=1,
        converged=True,
        rows=table.rows,
        trunks=table.trunk_labels.size,
        seeds_per_cell=(1, 1),
        sigma_trunk=noise.trunk,
        sigma_branch=noise.branch,
        sigma_seed=None,
        lack_of_fit_p=None,
        correlation=None,
        residual_rms=float(np.sqrt(np.mean(scatter**2))),
        worst=_worst(form, x, y, scatter),
        domain=domain,
        columns={c: table.names.get(c, c) for c in form.columns()},
        loss_unit=table.loss_unit,
        params_convention=table.params_convention,
        flop_factor=table.flop_factor,
        filters=table.filters,
        dropped=table.dropped,
        holdout=held,
        influence=_influence(form, x, y),
        warnings=(*warnings, *missing),
        seed=settings.seed,
        exact=ExactRule.of_table(table) if form.allocates else None,
        draws=raw,
        # A new optimum scatters about the line as the present ones do.
        sigma_draws=_scatter_draws(scatter, spare, len(raw), rng),
        details=details,
    )


def _readings(
    table: Table,
    form: isoflop.Isoflop,
    raw: Floats,
    settings: Settings,
    interpolate: isoflop.Reading,
) -> dict[str, Any]:
    """The laws of all readings that give one, with resamples about the largest budget."""
    largest = float(table["flops"].max())
    few = dataclasses.replace(settings, bootstrap=min(settings.bootstrap, READING_DRAWS))
    rng = np.random.default_rng([settings.seed, 3])
    found: dict[str, Any] = {
        interpolate: isoflop.reading_document(form, raw[:READING_DRAWS], largest)
    }
    for other in isoflop.READINGS:
        if other == interpolate:
            continue

        def prepare(part: Table, other: isoflop.Reading = other) -> TwoStepProblem:
            return isoflop.two_step_problem(part, interpolate=other)

        with contextlib.suppress(FitError):
            problem = prepare(table)
            draws = _of_rest(problem, table, few, prepare, rng)
            law = problem.solved
            if len(draws) and isinstance(law, isoflop.Isoflop):
                found[other] = isoflop.reading_document(law, draws, largest)
    return found


def _spans(form: TwoStepLaw, raw: Floats, table: Table, level: float) -> dict[str, Span]:
    """Intervals of the coefficients, and of D/N at the largest budget where the law has it."""
    spans = {name: quantiles(raw[:, k], level) for k, name in enumerate(form.names())}
    for name, bounds in form.bounds().items():
        spans[name] = beyond_bounds(spans[name], bounds)
    if form.allocates:
        log_params, log_tokens = form.log_optimum(raw, float(table["flops"].max()))
        spans["ratio"] = quantiles(np.exp(log_tokens - log_params), level)
    return spans


def _refuse(settings: Settings, name: str) -> None:
    if settings.fixed or settings.tied:
        raise FitError(
            "contradicting-options",
            f"{name} is found in stages: no coefficient of it can be fixed or tied",
            law=name,
            options=["fix", "tie"],
        )
    if settings.intervals == "profile":
        raise FitError(
            "contradicting-options",
            f"{name} is found in stages and has no profile: use two-level or case",
            law=name,
            options=["intervals"],
        )


def _draws(
    table: Table,
    made: TwoStepProblem,
    vector: Floats,
    noise: Noise,
    settings: Settings,
    prepare: Callable[[Table], TwoStepProblem],
    rng: np.random.Generator,
) -> tuple[Floats, int, tuple[Diagnostic, ...]]:
    """Log vectors (S, K) of other tables like this one, how many carried no law, and warnings."""
    count = settings.bootstrap
    judged: tuple[Diagnostic, ...] = ()
    if settings.intervals == "case":
        found = np.array([_case(table, vector.size, prepare, rng) for _ in range(count)])
    elif settings.intervals == "two-level" and noise.trunk_df >= MIN_TRUNK_DF and count:
        sigmas = noise.draw(rng, count)
        shared = rng.standard_normal((count, made.trunk.max() + 1))[:, made.trunk]
        alone = rng.standard_normal((count, made.observed.size))
        drawn = made.expected + sigmas[:, :1] * shared + sigmas[:, 1:] * alone
        # The reference is smoother than the table; what that alone changes is taken out again.
        found = made.solve(drawn) + (vector - made.solve(made.expected[None])[0])
        judged = made.judge(drawn, settings.level)
    else:
        return np.empty((0, vector.size)), 0, ()
    sound = np.all(np.isfinite(found), axis=1) if count else np.zeros(0, bool)
    return found[sound], int(np.sum(~sound)), judged


def _case(
    table: Table, width: int, prepare: Callable[[Table], TwoStepProblem], rng: np.random.Generator
) -> Floats:
    """Coefficients of a table whose trunks (or runs) are drawn with replacement."""
    unit = table.labels.get("run", table.trunk) if not table.has_trunks else table.trunk
    names = np.unique(unit)
    rows, labels = [], []
    for copy, name in enumerate(rng.choice(names, names.size)):
        chosen = np.flatnonzero(unit == name)
        rows.append(chosen)
        labels.append(np.full(chosen.size, f"{name}/{copy}"))
    index, copies = np.concatenate(rows), np.concatenate(labels)
    part = Table(
        {name: values[index] for name, values in table.columns.items()},
        trunk=copies,
        labels={
            name: np.char.add(np.char.add(values[index], "/"), copies)
            for name, values in table.labels.items()
        },
        decayed=None if table.decayed is None else table.decayed[index],
        flop_factor=table.flop_factor,
    )
    try:
        return prepare(part).log_vector
    except FitError:
        return np.full(width, np.nan)


def _domain(table: Table, made: TwoStepProblem) -> dict[str, Span]:
    domain = dict(made.domain)
    if made.law.allocates:
        ratio = table["flops"] / table.flop_factor / table.params**2
        domain["ratio"] = (float(ratio.min()), float(ratio.max()))
    return domain


def _held(
    table: Table,
    made: TwoStepProblem,
    holdout: Chosen,
    settings: Settings,
    prepare: Callable[[Table], TwoStepProblem],
    rng: np.random.Generator,
) -> tuple[HoldOut | None, tuple[Diagnostic, ...]]:
    """Points held out from the law, against its predictions for them."""
    if holdout is None:
        return None, ()
    x, y = made.points
    default = isinstance(holdout, str)
    if default:
        column = made.law.inputs[0]
        if made.law.name not in {"isoflop", "lr-valley"}:
            return None, ()
        mask = np.asarray(table[column] >= x.max() * (1 - 0.05))
    else:
        mask = chosen_rows(table, holdout)
    try:
        rest = prepare(table.subset(~mask))
        form = rest.solved
    except FitError as error:
        if not default:
            raise
        return None, (
            Diagnostic(
                "no-holdout", f"no hold-out of the largest point: {error}", reason=error.code
            ),
        )
    low, high = float(rest.points[0].min()), float(rest.points[0].max())
    unseen = (x < low * (1 - 1e-6)) | (x > high * (1 + 1e-6))
    if not unseen.any():
        return None, (
            Diagnostic(
                "no-holdout",
                "the rows held out leave the law's points where they were: hold out whole budgets, "
                "sizes or loss levels",
                rows=int(mask.sum()),
            ),
        )
    law = type(form)
    points = Table({law.inputs[0]: x[unseen], law.output: y[unseen]})
    count = f"{points.rows} point{'s' if points.rows > 1 else ''} of {int(mask.sum())} rows"
    scored = score_holdout(
        points,
        f"{'largest' if default else 'outer'} {law.inputs[0]}, {count}",
        law,
        form(x[unseen]),
        _point_draws(
            rest, x[unseen], _of_rest(rest, table.subset(~mask), settings, prepare, rng), rng
        ),
        baselines={},
        level=settings.level,
    )
    trunks = int(np.unique(table.trunk[mask]).size)
    return dataclasses.replace(scored, rows=int(mask.sum()), trunks=trunks), ()


def _of_rest(
    rest: TwoStepProblem,
    table: Table,
    settings: Settings,
    prepare: Callable[[Table], TwoStepProblem],
    rng: np.random.Generator,
) -> Floats:
    """Draws (S, K) of the coefficients without the rows that are held out."""
    noise = estimate(rest.observed - rest.expected, rest.tangent, rest.trunk)
    vector = rest.log_vector
    draws, _, _ = _draws(table, rest, vector, noise, settings, prepare, rng)
    return rest.law.raw(draws) if len(draws) else np.empty((0, vector.size))


def _point_draws(rest: TwoStepProblem, x: Floats, raw: Floats, rng: np.random.Generator) -> Floats:
    """Ln of new points (S, P): they scatter about the line as the others do.

    Two points lie on their line and say nothing about scatter, so there are no draws.
    """
    seen, y = rest.points
    if not len(raw) or np.unique(seen).size < 3:
        return np.empty((0, x.size))
    form = rest.solved
    scatter = np.log(y) - np.log(form(seen))
    sigma = _scatter_draws(scatter, max(seen.size - 2, 1), len(raw), rng)[:, :1]
    with np.errstate(all="ignore"):
        line = np.log(form.values(raw, x[None]))
    return np.asarray(line + sigma * rng.standard_normal(line.shape))


def _influence(form: TwoStepLaw, x: Floats, y: Floats) -> Influence | None:
    """The main exponent without each point, where the law is a line in logs."""
    headline = HEADLINES[form.name]
    if x.size < 4 or form.name == "envelope":
        return None
    sign = -1.0 if form.name == "batch" else 1.0
    value = form.coefficients[headline]
    effects = []
    for k in range(x.size):
        rest = np.arange(x.size) != k
        slope = sign * float(np.polyfit(np.log(x[rest]), np.log(y[rest]), 1)[0])
        effects.append(LeaveOneOut(f"point {form.inputs[0]}={x[k]:.4g}", slope, slope - value))
    effects.sort(key=lambda effect: -abs(effect.shift))
    return Influence(headline, value, tuple(effects[:NAMED]), ())


def _worst(
    form: TwoStepLaw, x: Floats, y: Floats, scatter: Floats
) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-np.abs(scatter), kind="stable")[:NAMED]
    return tuple(
        (f"point {form.inputs[0]}={x[k]:.4g}, {form.output}={y[k]:.4g}", float(scatter[k]))
        for k in order
    )


def _scatter_draws(scatter: Floats, spare: int, count: int, rng: np.random.Generator) -> Floats:
    """(scatter of a new point, 0, 0) drawn from its posterior, shape (count, 3)."""
    sigma = np.sqrt(np.sum(scatter**2) / rng.chisquare(spare, count)) if count else np.empty(0)
    return np.stack([sigma, np.zeros(count), np.zeros(count)], axis=1)
