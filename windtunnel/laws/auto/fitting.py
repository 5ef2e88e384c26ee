"""The fit of `--law auto`: forms weighted by how they extrapolate, and what they leave open."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import diagnostics
from windtunnel.laws.auto.draws import Draws
from windtunnel.laws.auto.model import FORMS
from windtunnel.laws.auto.rolling import Extrapolation, reach, rolling, weights_of, widening
from windtunnel.laws.baselines import compute_line, nearest_size
from windtunnel.laws.chinchilla import Auto
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.interval import HoldOut, Span, domain_of, quantiles
from windtunnel.laws.misfit import decades_by_axis
from windtunnel.laws.noise import seed_sigma
from windtunnel.laws.point_estimate import correlation
from windtunnel.laws.regression import Settings
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.validation import Chosen, held_out_rows, score_holdout

WALKERS, STEPS, KEPT = 200, 40, 5

MIN_ROWS = 7
"""One more than the coupled law has coefficients."""

MIN_DRAWS = 50
"""Fewer draws have no 90% interval."""

MIN_WEIGHT = 0.02
"""Forms with less are left out of the draws."""

MISFIT = 0.001
"""A misfit of this standard deviation, half a table from its middle, is worth a warning."""

NAMED = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class _Explained:
    tried: tuple[Extrapolation, ...]
    weights: dict[str, float]
    draws: Draws


def fit_auto(table: Table, settings: Settings, holdout: Chosen) -> Fit:
    """The weighted forms through all rows; the hold-out is the same without some trunks.

    Raises:
        FitError: the table cannot carry a law of size and data.
    """
    _require_identified(table)
    if settings.bootstrap < MIN_DRAWS:
        raise FitError(
            "out-of-range",
            f"bootstrap = {settings.bootstrap}: law auto needs at least {MIN_DRAWS} draws, since "
            "its forecasts are made of them",
            option="bootstrap",
            value=settings.bootstrap,
            low=MIN_DRAWS,
        )
    rng = np.random.default_rng([settings.seed, 0])
    found = _explain(table, settings, rng)
    form = Auto.of(found.draws.best)
    held, missing = _held(table, holdout, settings, rng)
    domain = domain_of(Auto, table)
    residual = np.log(table.loss) - np.log(form(table.params, table.tokens))
    order = np.argsort(-np.abs(residual), kind="stable")[:NAMED]
    cells, trunks = table.cells("params", "tokens"), table.trunk_index
    per_cell = np.bincount(np.unique(np.stack([cells, trunks]), axis=1)[0])
    sigma = np.median(found.draws.sigma, axis=0)
    best = _optimum(table, form)
    warnings = (
        *diagnostics.of_table(Auto, table),
        *diagnostics.of_use(Auto, best, domain, held, settings.level),
        *_of_misfit(found.draws),
        *_of_outliers(found.draws, table),
        *missing,
    )
    return Fit(
        form=form,
        intervals=_intervals(table, found.draws, settings.level),
        level=settings.level,
        method="posterior",
        resamples_failed=0,
        scaled={name: float(value) for name, value in form.coefficients.items()},
        scales={"params": 1.0, "tokens": 1.0},
        objective="posterior",
        delta=None,
        objective_value=float(np.sum(residual**2)),
        gradient_norm=0.0,
        starts=1,
        starts_agreeing=1,
        converged=True,
        rows=table.rows,
        trunks=table.trunk_labels.size,
        seeds_per_cell=(int(per_cell.min()), int(per_cell.max())),
        sigma_trunk=float(sigma[0]),
        sigma_branch=float(sigma[1]),
        sigma_seed=seed_sigma(residual, cells, trunks),
        lack_of_fit_p=None,
        correlation=correlation(Auto, table),
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        worst=tuple((table.describe(row, Auto.columns()), float(residual[row])) for row in order),
        domain=domain,
        columns={name: table.names.get(name, name) for name in Auto.columns()},
        loss_unit=table.loss_unit,
        params_convention=table.params_convention,
        flop_factor=table.flop_factor,
        filters=table.filters,
        dropped=table.dropped,
        holdout=held,
        influence=None,
        warnings=warnings,
        seed=settings.seed,
        exact=ExactRule.of_table(table),
        draws=found.draws.coefficients,
        sigma_draws=np.column_stack([found.draws.sigma, np.zeros(len(found.draws.sigma))]),
        misfit=found.draws.misfit,
        details=_details(table, found),
    )


def _require_identified(table: Table) -> None:
    if table.rows < MIN_ROWS:
        raise FitError(
            "too-few-rows",
            f"law auto needs at least {MIN_ROWS} rows; this table has {table.rows}: add runs, or "
            "fit --law chinchilla",
            rows=table.rows,
            needed=MIN_ROWS,
        )
    for name, least in Auto.distinct.items():
        distinct = np.unique(table[name]).size
        if distinct < least:
            raise FitError(
                "too-few-values",
                f"law auto needs at least {least} distinct values of {name}; this table has "
                f"{distinct}: add {least - distinct} or more",
                column=name,
                values=distinct,
                needed=least,
            )
    Auto.check({name: table[name] for name in Auto.inputs}, table.loss)


def _explain(table: Table, settings: Settings, rng: np.random.Generator) -> _Explained:
    """Forms, their weights, and draws over them, widened by what past extrapolations missed."""
    tried = rolling(table, rng)
    weights = {name: w for name, w in weights_of(tried).items() if w >= MIN_WEIGHT}
    parts = [
        Draws.of(table, name, walkers=WALKERS, steps=STEPS, kept=KEPT, rng=rng) for name in weights
    ]
    heights = np.array(list(weights.values()))
    draws = Draws.weighted(parts, heights, settings.bootstrap, rng)
    shares = {name: float(w) for name, w in zip(weights, heights / heights.sum(), strict=True)}
    return _Explained(
        tried=tried,
        weights={name: shares.get(name, 0.0) for name in FORMS},
        draws=draws.calibrated(widening(tried, shares), reach(tried)),
    )


def _intervals(table: Table, draws: Draws, level: float) -> dict[str, Span]:
    found = draws.coefficients
    spans = {name: quantiles(found[:, k], level) for k, name in enumerate(Auto.names())}
    a, b = Auto.split(found)
    log_params, log_tokens = Auto.log_optimum(
        found, float(table.budget.max()), flop_factor=table.flop_factor
    )
    with np.errstate(over="ignore"):
        ratio = np.exp(log_tokens - log_params)
    return spans | {
        "a": quantiles(a, level),
        "b": quantiles(b, level),
        "ratio": quantiles(ratio, level),
    }


def _optimum(table: Table, form: Auto) -> dict[str, float]:
    """The optimum at the largest budget of the table."""
    log_params, log_tokens = form.log_optimum(
        form.vector, float(table.budget.max()), flop_factor=table.flop_factor
    )
    params, tokens = float(np.exp(log_params)), float(np.exp(log_tokens))
    return {"params": params, "tokens": tokens, "ratio": tokens / params}


def _held(
    table: Table, holdout: Chosen, settings: Settings, rng: np.random.Generator
) -> tuple[HoldOut | None, tuple[Diagnostic, ...]]:
    if holdout is None:
        return None, ()
    try:
        mask, what = held_out_rows(Auto, table, holdout)
        rest, held = table.subset(~mask), table.subset(mask)
        _require_identified(rest)
    except FitError as error:
        if not (isinstance(holdout, str) and holdout == "largest"):
            raise
        return None, (
            Diagnostic(
                "no-holdout", f"no hold-out of the largest runs: {error}", reason=error.code
            ),
        )
    draws = _explain(rest, settings, rng).draws
    found = draws.predict(held.params, held.tokens, held.trunk_index, rng)
    domain = domain_of(Auto, rest)
    beyond = decades_by_axis(domain, held.params, held.tokens, table.flop_factor)
    baselines: dict[str, Floats] = {
        "nearest size at that D/N": nearest_size(rest, held.params, held.tokens)
    }
    with contextlib.suppress(FitError):  # no run improves on the cheapest
        baselines["power law in compute"] = compute_line(rest, held.params, held.tokens)
    widened = draws.misfit.widened(found, beyond)
    return score_holdout(
        held,
        what,
        Auto,
        np.exp(np.median(found, axis=0)),
        widened,
        baselines=baselines,
        level=settings.level,
    ), ()


def _of_misfit(draws: Draws) -> Iterator[Diagnostic]:
    size = float(np.median(draws.misfit.amplitude))
    if size > MISFIT:
        yield Diagnostic(
            "misfit",
            f"the runs bend away from the law smoothly, by about {size:.1%} half a table from its "
            "middle; beyond the table this grows, and intervals grow with it",
            sigma=size,
        )


def _of_outliers(draws: Draws, table: Table) -> Iterator[Diagnostic]:
    if draws.weighted_down:
        yield Diagnostic(
            "weighted-down",
            f"{draws.weighted_down} of {table.rows} rows lie so far off the others that they count "
            "less than half: look at them, and drop failed runs",
            rows=table.rows,
            weighted_down=draws.weighted_down,
        )


def _details(table: Table, found: _Explained) -> dict[str, Any]:
    """The forms, what each missed by, and where each puts the optimum."""
    flops = float(table.budget.max())
    forms = []
    for number, (name, weight) in enumerate(found.weights.items()):
        rows = found.draws.coefficients[found.draws.misfit.form == number]
        ratio = None
        if len(rows):
            log_params, log_tokens = Auto.log_optimum(rows, flops, flop_factor=table.flop_factor)
            ratio = float(np.exp(np.median(log_tokens - log_params)))
        forms.append({"form": name, "weight": weight, "ratio": ratio})
    return {
        "forms": forms,
        "extrapolations": [asdict(each) for each in found.tried],
        "widening": dict(found.draws.misfit.widening),
        "misfit": float(np.median(found.draws.misfit.amplitude)),
        "size_effect": float(np.median(found.draws.misfit.sigma_size)),
        "weighted_down": found.draws.weighted_down,
    }
