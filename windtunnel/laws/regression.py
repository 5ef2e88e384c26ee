"""The full fit of one formula: optimum, noise, intervals, hold-out, influence and warnings.

`fit_optima` fits `power2` to a table of trials: it takes the best y of every (x, z), at the best of
any other axis swept, fits the law to these optima, and reports its regret. The loss is flat around
an optimal learning rate or batch, so exponents say little. What counts is the loss given up by
following the law instead of the local optimum (StepLaw, arXiv 2503.04715; users.md, lesson 5).
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import fit_warnings, profile, residual_warnings, table_warnings
from windtunnel.laws.baselines import baselines
from windtunnel.laws.bootstrap import Resamples, resample, resample_cases, without
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.forms import Law
from windtunnel.laws.interval import HoldOut, Span, beyond_bounds, domain_of, quantiles
from windtunnel.laws.known_noise import KnownNoise, known_noise
from windtunnel.laws.noise import (
    MIN_TRUNK_DF,
    Noise,
    estimate,
    lack_of_fit,
    replicates,
    seed_sigma,
)
from windtunnel.laws.point_estimate import Point, best_point, correlation, require_identified
from windtunnel.laws.posterior import NONE_OFF, Layout, Posterior, noise_posterior
from windtunnel.laws.powers import Power2
from windtunnel.laws.problem import Problem
from windtunnel.laws.result import Fit
from windtunnel.laws.solver import ObjectiveName
from windtunnel.laws.swept import best_trials, settings_of
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.validation import (
    Chosen,
    held_out_rows,
    hold_out,
    influence,
    no_holdout,
    other_top,
)

Method = Literal["two-level", "case", "profile", "none"]
METHODS: tuple[Method, ...] = ("two-level", "case", "profile", "none")
# A residual this many robust sigmas out is not noise of the kind that the others have.
OUTLIER_SIGMAS = 4.0
NAMED = 5
# Which size is off settles at once or not at all; two answers may take turns.
MAX_TURNS = 3
# A lack-of-fit test builds matrices of rows by rows.
MOST_TESTED_ROWS = 1500


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fit: everything but the table and the law."""

    objective: ObjectiveName
    delta: float | Literal["auto"] | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    intervals: Method = "two-level"
    bootstrap: int = 1000
    seed: int = 0
    level: float = 0.9
    noise: float | None = None
    """Known seed noise of ln loss, for a table without repeated seeds."""


def regress(table: Table, law: type[Law], settings: Settings, holdout: Chosen) -> Fit:
    """The law through all rows; the hold-out is a second fit without some trunks.

    Raises:
        FitError: the table cannot carry the law (the message says what to add).
    """
    level = settings.level
    rng = np.random.default_rng([settings.seed, 0])
    found = _explain(table, law, settings, rng)
    point, noise, resamples = found.point, found.noise, found.resamples
    problem, cells, trunks = point.problem, table.cells(*law.inputs), table.trunk_index
    spans, failed = _intervals(table, point, resamples, settings)
    sigma_seed = seed_sigma(point.residual, cells, trunks)
    p, known = None, found.known
    if known is not None:
        sigma_seed, p = known.sigma, known.p
    elif table.rows <= MOST_TESTED_ROWS:
        p = lack_of_fit(point.residual, point.tangent, cells, trunks, rng=rng)
    leave_one_out = influence(point, table)
    held, missing = _held(table, law, holdout, settings, rng)
    further = _held_by_compute(table, law, holdout, settings, rng)
    domain = domain_of(law, table)
    scaled = law.in_units(resamples.draws, problem.units) if len(resamples.draws) else np.empty(0)
    warnings = (
        *table_warnings.of_table(law, table),
        *fit_warnings.of_search(point),
        *residual_warnings.of_noise(
            point, table, noise, lack_of_fit_p=p, sigma_seed=sigma_seed, known=known
        ),
        *residual_warnings.of_known_noise(settings.noise, known, sigma_seed),
        *residual_warnings.of_sizes(point, found.base, table, found.layout, found.posterior),
        *fit_warnings.of_intervals(law, resamples, scaled, spans.get("ratio"), level=level),
        *(fit_warnings.of_fixed(settings.fixed, settings.tied) if spans else ()),
        *fit_warnings.of_influence(leave_one_out, spans, _without_outliers(table, point)),
        *fit_warnings.of_use(law, _best(table, point), domain),
        *fit_warnings.of_holdout(held, level),
        *fit_warnings.of_holdout(further, level),
        *missing,
    )
    trunks_per_cell = np.bincount(np.unique(np.stack([cells, trunks]), axis=1)[0])
    return Fit(
        form=point.form,
        intervals=spans,
        level=level,
        method=settings.intervals,
        resamples_failed=failed,
        scaled=dict(zip(law.names(), point.theta.tolist(), strict=True)),
        scales=dict(zip(law.inputs, problem.units.tolist(), strict=True)),
        objective=settings.objective,
        delta=point.objective.delta if point.objective.is_huber else None,
        objective_value=point.cost,
        gradient_norm=point.gradient_norm,
        starts=point.starts,
        starts_agreeing=point.starts_agreeing,
        converged=point.converged,
        rows=table.rows,
        trunks=table.trunk_labels.size,
        seeds_per_cell=(int(trunks_per_cell.min()), int(trunks_per_cell.max())),
        sigma_trunk=known.trunk if known is not None and known.holds else noise.trunk,
        sigma_branch=known.branch if known is not None and known.holds else noise.branch,
        sigma_seed=sigma_seed,
        lack_of_fit_p=p,
        correlation=correlation(law, table),
        residual_rms=float(np.sqrt(np.mean(point.residual**2))),
        worst=_worst(point, table),
        domain=domain,
        columns={name: table.names.get(name, name) for name in (*law.inputs, law.output)},
        loss_unit=table.loss_unit,
        params_convention=table.params_convention,
        flop_factor=table.flop_factor,
        filters=table.filters,
        dropped=table.dropped,
        holdout=held,
        holdout_by_compute=further,
        influence=leave_one_out,
        warnings=warnings,
        seed=settings.seed,
        exact=ExactRule.of_table(table) if law.allocates else None,
        draws=resamples.draws,
        sigma_draws=resamples.sigmas,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Explained:
    """The law of a table, what it leaves over, and what else it could have been.

    `point` minimises the objective over all rows. `base` is the same, or the law of the other sizes
    where one is likelier off than not: noise is measured from it, and drawn around it.
    """

    point: Point
    base: Point
    layout: Layout
    posterior: Posterior
    noise: Noise
    known: KnownNoise | None
    resamples: Resamples


def _explain(
    table: Table, law: type[Law], settings: Settings, rng: np.random.Generator
) -> _Explained:
    problem = Problem.of(law, table, fixed=settings.fixed, tied=settings.tied)
    require_identified(law, table, len(problem.coordinates.free))
    law.check_design(table, problem.coordinates.free)
    point = best_point(problem, table, settings.objective, settings.delta, known=settings.noise)
    layout = Layout.of(law, table, len(problem.coordinates.free))
    base, posterior = _based(point, layout)
    noise = estimate(point.residual, point.tangent, table.trunk_index)
    known = None
    if settings.noise and not replicates(table.cells(*law.inputs), table.trunk_index):
        known = known_noise(settings.noise, point.residual, point.tangent, table.trunk_index)
        if known.holds:
            base, posterior = point, known.posterior
    found = Resamples.none(point.theta.size)
    if noise.trunk_df >= MIN_TRUNK_DF or (known is not None and known.holds):
        count = settings.bootstrap
        if settings.intervals == "two-level":
            found = resample(base, layout, posterior, count=count, rng=rng)
        elif settings.intervals == "case":
            found = resample_cases(point, layout, posterior, count=count, rng=rng)
    return _Explained(
        point=point,
        base=base,
        layout=layout,
        posterior=posterior,
        noise=noise,
        known=known,
        resamples=found,
    )


def _based(point: Point, layout: Layout) -> tuple[Point, Posterior]:
    """The law without the size that is likeliest off, if any is, and the posterior there.

    The posterior is linear in the law, so it is taken again at the optimum that it points to.
    """
    base, left_out = point, NONE_OFF
    posterior = noise_posterior(base.residual, base.tangent, layout)
    for _ in range(MAX_TURNS):
        if posterior.likeliest == left_out:
            break
        left_out = posterior.likeliest
        base = point if left_out == NONE_OFF else without(point, layout.size == left_out)
        posterior = noise_posterior(base.residual, base.tangent, layout)
    return base, posterior


def _intervals(
    table: Table, point: Point, resamples: Resamples, settings: Settings
) -> tuple[dict[str, Span], int]:
    """Intervals by the method asked for, and how many refits of it failed."""
    law, level = point.problem.law, settings.level
    if settings.intervals == "profile":
        return profile.intervals(point, table, level), 0
    draws = resamples.draws
    if not len(draws):
        return {}, 0
    spans = {name: quantiles(draws[:, k], level) for k, name in enumerate(law.names())}
    for name in spans.keys() - settings.fixed.keys():
        spans[name] = beyond_bounds(spans[name], law.bounds[name])
    if law.allocates:
        a, b = law.split(draws)
        spans |= {"a": quantiles(a, level), "b": quantiles(b, level)}
        flops = float(table.budget.max())
        log_params, log_tokens = law.log_optimum(draws, flops, flop_factor=table.flop_factor)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.exp(log_tokens - log_params)
        # A resample without either term has no optimum: any ratio, so it widens both ends.
        free = np.isnan(ratio)
        low, high = (quantiles(np.where(free, end, ratio), level) for end in (0.0, np.inf))
        spans["ratio"] = low[0], high[1]
    return spans, resamples.failed


def _best(table: Table, point: Point) -> dict[str, float]:
    """The optimum at the largest budget of the table; empty where there is none."""
    law = point.problem.law
    if not law.allocates:
        return {}
    log_params, log_tokens = law.log_optimum(
        point.problem.raw(point.theta), float(table.budget.max()), flop_factor=table.flop_factor
    )
    if not (np.isfinite(log_params) and np.isfinite(log_tokens)):
        return {}
    params, tokens = float(np.exp(log_params)), float(np.exp(log_tokens))
    return {"params": params, "tokens": tokens, "ratio": tokens / params}


def _held(
    table: Table, law: type[Law], holdout: Chosen, settings: Settings, rng: np.random.Generator
) -> tuple[HoldOut | None, tuple[Diagnostic, ...]]:
    """Fit the other trunks and predict these; where too few are left, a diagnostic instead."""
    if holdout is None:
        return None, ()
    try:
        mask, what = held_out_rows(law, table, holdout)
        return _scored(table, law, mask, what, settings, rng), ()
    except FitError as error:
        if not (isinstance(holdout, str) and holdout == "largest"):
            raise
        return None, (no_holdout(error),)


def _held_by_compute(
    table: Table, law: type[Law], holdout: Chosen, settings: Settings, rng: np.random.Generator
) -> HoldOut | None:
    """The top of compute, where it is not the largest size; None where too few are left."""
    if not law.allocates or (chosen := other_top(law, table, holdout)) is None:
        return None
    with contextlib.suppress(FitError):
        return _scored(table, law, *chosen, settings, rng)
    return None


def _scored(
    table: Table,
    law: type[Law],
    mask: NDArray[np.bool_],
    what: str,
    settings: Settings,
    rng: np.random.Generator,
) -> HoldOut:
    rest, held = table.subset(~mask), table.subset(mask)
    # A profile gives no draws to predict from; the hold-out then has the default's.
    method: Method = "two-level" if settings.intervals == "profile" else settings.intervals
    count = min(settings.bootstrap, 1000)
    kept = dataclasses.replace(settings, intervals=method, bootstrap=count)
    found = _explain(rest, law, kept, rng)
    return hold_out(
        held,
        what,
        found.point.form,
        found.resamples,
        span=found.layout.span,
        baselines=baselines(rest, held) if law.inputs == ("params", "tokens") else {},
        level=settings.level,
        rng=rng,
    )


def _without_outliers(table: Table, point: Point) -> tuple[int, dict[str, float]]:
    """How many rows lie far off the law, and what the main numbers are without them."""
    usual = 1.4826 * float(np.median(np.abs(point.residual)))
    far = np.abs(point.residual) > OUTLIER_SIGMAS * usual
    if point.exact or not 0 < far.sum() <= table.rows / 10:
        return 0, {}
    law = point.problem.law
    raw = point.problem.raw(without(point, far).theta)
    numbers = {name: float(raw[law.index(name)]) for name in law.grids}
    if law.allocates:
        log_params, log_tokens = law.log_optimum(
            raw, float(table.budget.max()), flop_factor=table.flop_factor
        )
        with np.errstate(over="ignore"):
            numbers["ratio"] = float(np.exp(log_tokens - log_params))
    return int(far.sum()), numbers


def _worst(point: Point, table: Table) -> tuple[tuple[str, float], ...]:
    """The rows farthest off the law, with their residuals."""
    law = point.problem.law
    order = np.argsort(-np.abs(point.residual), kind="stable")[:NAMED]
    return tuple((table.describe(row, law.columns()), float(point.residual[row])) for row in order)


# A cell of fewer trials has no neighbours on both sides of its best one.
MIN_TRIALS = 3
# Cells of a planted law recover its exponents only from this many on.
MIN_CELLS = 4


def fit_optima(table: Table, settings: Settings, over: Sequence[str] | None = None) -> Fit:
    """`power2` through the best y of each cell of equal x and z, judged by regret.

    Seeds of one setting are averaged; the loss of a y is its lowest over the axes in `over` (None:
    the columns that look swept). Where the table has one trial per cell, the rows are the optima
    already and are fitted as they are.

    Raises:
        FitError: fewer than four cells whose optimum lies inside what was tried; a wrong axis.
    """
    axes, diagnostics = settings_of(table, over)
    cells = table.cells("x", "z")
    if cells.max() + 1 == table.rows:
        return regress(table, Power2, settings, "largest")
    tried = [best_trials(table, cells == cell, axes) for cell in range(cells.max() + 1)]
    found = [(rates, losses, _optimum(rates, losses)) for rates, losses in tried]
    first = [int(np.flatnonzero(cells == cell)[0]) for cell in range(cells.max() + 1)]
    used = [k for k, (_, _, best) in enumerate(found) if np.isfinite(best)]
    edge = len(found) - len(used)
    if len(used) < MIN_CELLS:
        raise FitError(
            "too-few-optima",
            f"power2: {len(used)} of {len(found)} cells of (x, z) have their lowest loss inside "
            f"the y tried, need {MIN_CELLS}. Try y beyond the lowest loss in the others",
            optima=len(used),
            cells=len(found),
            needed=MIN_CELLS,
        )
    rows = [first[k] for k in used]
    optima = Table(
        x=table["x"][rows],
        z=table["z"][rows],
        y=np.exp([found[k][2] for k in used]),
        flop_factor=table.flop_factor,
        filters=(
            *table.filters,
            *(f"lowest loss over {name}" for name in axes),
            f"best y of each of {len(used)} cells of (x, z)",
        ),
        dropped=(*table.dropped, ("not the best of its cell", table.rows - len(used))),
        names=table.names,
    )
    fit = regress(optima, Power2, settings, "largest")
    if edge:
        diagnostics += (
            Diagnostic(
                "edge-minimum",
                f"{edge} of {len(found)} cells have their lowest loss at the smallest or largest y "
                "tried and are left out: try y beyond it",
                edge=edge,
                cells=len(found),
            ),
        )
    judged = [_regret(fit, table, found[k], first[k]) for k in range(len(found))]
    details = {**_regrets(judged), "cells": judged}
    return fit.detailed(details).warned(*diagnostics)


def _optimum(rates: Floats, losses: Floats) -> float:
    """Ln y of the parabola through the lowest trial and its neighbours; nan at an edge."""
    best = int(np.argmin(losses))
    if rates.size < MIN_TRIALS or best in {0, rates.size - 1}:
        return float("nan")
    bend, slope, _ = np.polyfit(
        rates[best - 1 : best + 2] - rates[best], losses[best - 1 : best + 2], 2
    )
    return float(rates[best] - slope / (2 * bend))


def _regret(
    fit: Fit, table: Table, cell: tuple[Floats, Floats, float], row: int
) -> dict[str, float | None]:
    """What the law's y costs against the lowest trial: loss interpolated in ln y; never below 0.

    None where the law's y lies outside what was tried.
    """
    rates, losses, best = cell
    wanted = float(np.log(fit.form(table["x"][row], table["z"][row])))
    inside = rates[0] <= wanted <= rates[-1]
    at_law = float(np.interp(wanted, rates, losses)) if inside else None
    return {
        "x": float(table["x"][row]),
        "z": float(table["z"][row]),
        "y_best": float(np.exp(best)) if np.isfinite(best) else None,
        "y_law": float(np.exp(wanted)),
        "lowest_loss": float(losses.min()),
        "regret": None if at_law is None else max(at_law - float(losses.min()), 0.0),
    }


def _regrets(cells: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean and worst regret, in the unit of loss and in per cent of the lowest loss of a cell."""
    known = [(cell["regret"], cell["lowest_loss"]) for cell in cells if cell["regret"] is not None]
    found = {"": [regret for regret, _ in known]}
    found["_percent"] = [100 * regret / lowest for regret, lowest in known if lowest > 0]
    return {
        f"regret_{name}{unit}": float(of(values)) if values else None
        for unit, values in found.items()
        for name, of in (("mean", np.mean), ("worst", np.max))
    }
