"""Fit one formula to a table: optimum, noise, intervals, hold-out, influence, warnings."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws import cautions, profile
from windtunnel.laws.caution import Caution
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.forms.law import Law
from windtunnel.laws.identify import correlation, require_identified
from windtunnel.laws.interval import HoldOut, Span, domain_of, quantiles
from windtunnel.laws.naive import compute_line, nearest_size
from windtunnel.laws.noise import MIN_TRUNK_DF, Noise, estimate, lack_of_fit, seed_sigma
from windtunnel.laws.posterior import NONE_OFF, Layout, Posterior, noise_posterior
from windtunnel.laws.result import Fit
from windtunnel.laws.solver.objective import ObjectiveName
from windtunnel.laws.solver.point import Point, best_point
from windtunnel.laws.solver.problem import Problem
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.uncertainty import Resamples, resample, resample_cases, without
from windtunnel.laws.validation import Chosen, held_out_rows, hold_out, influence

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
    p = None
    if table.rows <= MOST_TESTED_ROWS:
        p = lack_of_fit(point.residual, point.tangent, cells, trunks, rng=rng)
    pulls = influence(point, table)
    held, missing = _held(table, law, holdout, settings, rng)
    domain = domain_of(law, table)
    scaled = law.in_units(resamples.draws, problem.units) if len(resamples.draws) else np.empty(0)
    warnings = (
        *cautions.of_table(law, table),
        *cautions.of_search(point),
        *cautions.of_noise(point, table, noise, lack_of_fit_p=p, sigma_seed=sigma_seed),
        *cautions.of_sizes(point, found.base, table, found.layout, found.posterior),
        *cautions.of_intervals(law, resamples, scaled, spans.get("ratio"), level=level),
        *cautions.of_influence(pulls, spans, _without_outliers(table, point)),
        *cautions.of_use(law, _best(table, point), domain, held, level),
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
        sigma_trunk=noise.trunk,
        sigma_branch=noise.branch,
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
        influence=pulls,
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
    resamples: Resamples


def _explain(
    table: Table, law: type[Law], settings: Settings, rng: np.random.Generator
) -> _Explained:
    problem = Problem.of(law, table, fixed=settings.fixed, tied=settings.tied)
    require_identified(problem, table)
    point = best_point(problem, table, settings.objective, settings.delta)
    layout = Layout.of(law, table, len(problem.coordinates.free))
    base, posterior = _based(point, layout)
    noise = estimate(point.residual, point.tangent, table.trunk_index)
    found = Resamples.none(point.theta.size)
    if noise.trunk_df >= MIN_TRUNK_DF:
        count = settings.bootstrap
        if settings.intervals == "two-level":
            found = resample(base, layout, posterior, count=count, rng=rng)
        elif settings.intervals == "case":
            found = resample_cases(point, layout, posterior, count=count, rng=rng)
    return _Explained(
        point=point, base=base, layout=layout, posterior=posterior, noise=noise, resamples=found
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
    if law.allocates:
        a, b = law.split(draws)
        spans |= {"a": quantiles(a, level), "b": quantiles(b, level)}
        flops = float(table.budget.max())
        log_params, log_tokens = law.log_optimum(draws, flops, flop_factor=table.flop_factor)
        with np.errstate(over="ignore"):
            spans["ratio"] = quantiles(np.exp(log_tokens - log_params), level)
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
) -> tuple[HoldOut | None, tuple[Caution, ...]]:
    """Fit the other trunks and predict these; where too few are left, a sentence instead."""
    if holdout is None:
        return None, ()
    largest = isinstance(holdout, str) and holdout == "largest"
    try:
        mask, what = held_out_rows(law, table, holdout)
        rest, held = table.subset(~mask), table.subset(mask)
        # A profile gives no draws to predict from; the hold-out then has the default's.
        method: Method = "two-level" if settings.intervals == "profile" else settings.intervals
        count = min(settings.bootstrap, 1000)
        kept = dataclasses.replace(settings, intervals=method, bootstrap=count)
        found = _explain(rest, law, kept, rng)
    except FitError as error:
        if not largest:
            raise
        return None, (Caution("no-holdout", f"no hold-out of the largest runs: {error}"),)
    naive: dict[str, Floats] = {}
    if law.inputs == ("params", "tokens"):
        naive["nearest size at that D/N"] = nearest_size(rest, held.params, held.tokens)
        # Where no run improves on the cheapest there is no line to draw.
        with contextlib.suppress(FitError):
            naive["power law in compute"] = compute_line(rest, held.params, held.tokens)
    scored = hold_out(
        held,
        what,
        found.point.form,
        found.resamples,
        span=found.layout.span,
        naive=naive,
        level=settings.level,
        rng=rng,
    )
    return scored, ()


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
