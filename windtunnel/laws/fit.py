"""Fit L(N, D) to a table of runs: optimum, noise, intervals, hold-out, influence, warnings."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import FitError
from windtunnel.laws import cautions
from windtunnel.laws.chinchilla import COEFFICIENTS, log_optimum
from windtunnel.laws.chinchilla_solver import ObjectiveName
from windtunnel.laws.interval import Domain, HoldOut, quantiles
from windtunnel.laws.noise import Noise, estimate, lack_of_fit, seed_sigma
from windtunnel.laws.point import Point, best_point
from windtunnel.laws.result import Fit
from windtunnel.laws.runs import Floats, Runs, correlation, require_identified
from windtunnel.laws.uncertainty import Resamples, resample
from windtunnel.laws.validation import held_out_rows, hold_out, most_influential


def fit_chinchilla(
    runs: Runs,
    *,
    objective: ObjectiveName = "huber-log",
    delta: float | None = None,
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
    intervals: Literal["two-level", "none"] = "two-level",
    holdout: ArrayLike | Literal["largest"] | None = "largest",
) -> Fit:
    """The law that minimises `objective` on all rows, with its intervals and its warnings.

    Args:
        runs: the table; drop diverged and undecayed rows first, and say so in its filters.
        objective: `huber-log` or `mse-log` of ln(predicted / measured), `huber` or `mse` of the
            difference in loss units. Sums over rows.
        delta: where Huber turns linear, in the residual's unit. None: 1.345 sigma, measured from
            seed replicates, or else from the residuals. Hoffmann et al. used 1e-3.
        level: of every interval.
        bootstrap: number of resamples.
        seed: of the resamples and of the noise in predictions.
        intervals: `two-level` (see `uncertainty`), or none.
        holdout: what a second fit leaves out and predicts: the `largest` size, a row mask or trunk
            labels (whole trunks), or None. The returned coefficients always use every row.

    Raises:
        FitError: the table cannot carry the law (the message says what to add), or a bad argument.
    """
    if not (0 < level < 1 and bootstrap >= 0 and intervals in ("two-level", "none")):
        raise FitError(
            f"level = {level}, bootstrap = {bootstrap}, intervals = {intervals!r}: want a level "
            "between 0 and 1, bootstrap of at least 0, and intervals 'two-level' or 'none'"
        )
    settings = _Settings(objective, delta, bootstrap if intervals == "two-level" else 0)
    rng = np.random.default_rng([seed, 0])
    point, noise, resamples = _explain(runs, settings, rng)
    spans = _intervals(runs, resamples.draws, level)
    sigma_seed = seed_sigma(runs)
    p = lack_of_fit(point.residual, point.tangent, runs, rng=rng)
    influence = most_influential(runs, point)
    held, missing = _hold_out(runs, holdout, settings, level, rng)
    warnings = (
        *cautions.of_table(runs),
        *cautions.of_search(point),
        *cautions.of_noise(runs, point, noise, p, sigma_seed),
        *cautions.of_intervals(spans.get("ratio"), resamples, influence),
        *cautions.of_use(runs, point, held),
        *missing,
    )
    return Fit(
        form=point.form,
        intervals=spans,
        level=level,
        objective=objective,
        delta=point.objective.delta if point.objective.is_huber else None,
        objective_value=point.cost,
        gradient=point.gradient,
        starts=point.starts,
        starts_agreeing=point.starts_agreeing,
        converged=point.converged,
        rows=runs.rows,
        trunks=runs.trunk_labels.size,
        seeds_per_cell=(int(runs.seeds.min()), int(runs.seeds.max())),
        sigma_trunk=noise.trunk,
        sigma_branch=noise.branch,
        sigma_seed=sigma_seed,
        lack_of_fit_p=p,
        correlation=correlation(runs),
        domain=Domain.of(runs),
        loss_unit=runs.loss_unit,
        params_convention=runs.params_convention,
        flop_factor=runs.flop_factor,
        filters=runs.filters,
        holdout=held,
        influence=influence,
        warnings=warnings,
        seed=seed,
        draws=resamples.draws,
        sigma_draws=resamples.sigmas,
    )


@dataclass(frozen=True)
class _Settings:
    """What a fit and the fit of its hold-out share."""

    objective: ObjectiveName
    delta: float | None
    bootstrap: int


def _explain(
    runs: Runs, settings: _Settings, rng: np.random.Generator
) -> tuple[Point, Noise, Resamples]:
    """The law, what it leaves over, and what else it could have been."""
    require_identified(runs)
    point = best_point(runs, settings.objective, settings.delta)
    noise = estimate(point.residual, point.tangent, runs.trunk_index)
    return point, noise, resample(runs, point, noise, count=settings.bootstrap, rng=rng)


def _intervals(runs: Runs, draws: Floats, level: float) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the coefficients, of eta, and of D/N at the largest budget."""
    if not len(draws):
        return {}
    spans = {name: quantiles(draws[:, k], level) for k, name in enumerate(COEFFICIENTS)}
    alpha, beta = draws[:, 3], draws[:, 4]
    spans["exponent"] = quantiles((beta - alpha) / (alpha + beta), level)
    flops = float(runs.budget.max())
    log_params, log_tokens = log_optimum(draws, flops, flop_factor=runs.flop_factor)
    with np.errstate(over="ignore"):
        spans["ratio"] = quantiles(np.exp(log_tokens - log_params), level)
    return spans


def _hold_out(
    runs: Runs,
    holdout: ArrayLike | Literal["largest"] | None,
    settings: _Settings,
    level: float,
    rng: np.random.Generator,
) -> tuple[HoldOut | None, tuple[str, ...]]:
    """Fit the other trunks and predict these; where too few are left, a sentence instead."""
    if holdout is None:
        return None, ()
    mask = held_out_rows(runs, holdout)
    what = "largest size" if isinstance(holdout, str) else "trunks"
    rest, held = runs.subset(~mask), runs.subset(mask)
    try:
        point, _, resamples = _explain(rest, settings, rng)
    except FitError as error:
        return None, (f"no hold-out of the {what}: {error}",)
    return hold_out(held, what, point.form, resamples, level=level, rng=rng), ()
