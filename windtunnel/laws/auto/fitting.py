"""The fit of `--law auto`: forms weighted by how they extrapolate, and what they leave open."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws import fit_warnings, residual_warnings, table_warnings
from windtunnel.laws.auto.draws import Draws
from windtunnel.laws.auto.linear import (
    MOST_ROWS,
    UNUSUAL,
    Linear,
    OffSize,
    influence,
    noise_given,
    off_size,
)
from windtunnel.laws.auto.model import FORMS, Model
from windtunnel.laws.auto.needs import COEFFICIENTS
from windtunnel.laws.auto.rolling import TOPS, Extrapolation, reach, rolling, weights_of, widening
from windtunnel.laws.auto.sampling import Mode, mode
from windtunnel.laws.baselines import baselines
from windtunnel.laws.chinchilla import Auto
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.interval import HoldOut, Influence, domain_of, quantiles
from windtunnel.laws.known_noise import KnownNoise
from windtunnel.laws.misfit import decades_by_axis
from windtunnel.laws.noise import replicates, seed_sigma
from windtunnel.laws.point_estimate import correlation, require_identified
from windtunnel.laws.regression import Settings
from windtunnel.laws.result import Fit, frontier_exponents
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.validation import Chosen, held_out_rows, no_holdout, other_top, score_holdout

WALKERS, STEPS, KEPT = 200, 40, 5

ALONE = "chinchilla"
"""The form of a table that is too small to be split: nothing there tells whether a misfit, or a
bend between size and data, goes on beyond it. On ladders of three sizes, with a target at 9 times
the params and 8 times the tokens, both carried the forecast 5 to 18% off, and this form alone less
than 2% (experiments 019 and 020)."""

ALONE_WIDENING = 1.7
"""Of the intervals of that form, beyond the table: so much wider they held 90% of planted targets,
of three sizes with laws of Chinchilla, coupled at k = 0.8, and Chinchilla bent by 0.5%."""

GENERAL = "coupled"
"""The form that holds Chinchilla's, and nearly the one without a floor."""

MIN_FOLDS = 2
"""One extrapolation cannot tell both which form holds and how far a misfit goes on."""

MIN_WEIGHT = 0.02
"""Forms with less are left out of the draws."""

MISFIT = 0.001
"""A misfit of this standard deviation, half a table from its middle, is worth a warning."""

NAMED = 5

HALF = 0.5
"""Probability from which a size is likelier off than not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Explained:
    modes: Mapping[str, Mode]
    tried: tuple[Extrapolation, ...]
    alone: bool
    """Whether too few extrapolations were tried, so that the law stands without a misfit."""
    weights: dict[str, float]
    general: Mode
    """Of the form that holds the others, by which rows and sizes are judged."""
    draws: Draws


def fit_auto(table: Table, settings: Settings, holdout: Chosen) -> Fit:
    """The weighted forms through all rows; the hold-out is the same without some trunks.

    `needs.require_rows` has passed the table.
    """
    cells, trunks = table.cells("params", "tokens"), table.trunk_index
    given, known = settings.noise, None
    if given is not None and not replicates(cells, trunks):
        known = noise_given(table, given)
    settings = dataclasses.replace(settings, noise=given if known and known.holds else None)
    rng = np.random.default_rng([settings.seed, 0])
    found = _explain(table, settings, rng)
    form = Auto.of(found.draws.best)
    held, further, missing = _held(table, holdout, settings, rng, found.modes)
    law = found.draws.curve(table.params, table.tokens)
    residual = np.log(table.loss) - np.median(law, axis=0)
    order = np.argsort(-np.abs(residual), kind="stable")[:NAMED]
    moved, of_rows = _of_rows(table, found, law, residual, settings.level)
    sigma_seed = known.sigma if known else seed_sigma(residual, cells, trunks)
    per_cell = np.bincount(np.unique(np.stack([cells, trunks]), axis=1)[0])
    sigma = np.median(found.draws.sigma, axis=0)
    fit = Fit(
        form=form,
        intervals={},
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
        sigma_seed=sigma_seed,
        lack_of_fit_p=known.p if known else None,
        correlation=correlation(Auto, table),
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        worst=tuple((table.describe(row, Auto.columns()), float(residual[row])) for row in order),
        domain=domain_of(Auto, table),
        columns={name: table.names.get(name, name) for name in Auto.columns()},
        loss_unit=table.loss_unit,
        params_convention=table.params_convention,
        flop_factor=table.flop_factor,
        filters=table.filters,
        dropped=table.dropped,
        holdout=held,
        holdout_by_compute=further,
        influence=moved,
        warnings=(
            *of_rows,
            *residual_warnings.of_known_noise(given, known, sigma_seed),
            *_of_known_noise(known),
            *missing,
        ),
        seed=settings.seed,
        exact=ExactRule.of_table(table),
        draws=found.draws.coefficients,
        sigma_draws=found.draws.sigma,
        misfit=found.draws.misfit,
    )
    if given is not None:
        fit = fit.detailed({"known_noise": {"given": given, "used": settings.noise is not None}})
    return _completed(fit, table, found, residual)


def _explain(
    table: Table,
    settings: Settings,
    rng: np.random.Generator,
    near: Mapping[str, Mode] | None = None,
) -> _Explained:
    """Forms, their weights, and draws over them, widened by what past extrapolations missed.

    `near` are modes of a table that holds this one.
    """
    modes = {
        form: mode(Model.of(table, form, settings.noise), near[form].coordinates if near else None)
        for form in FORMS
    }
    tried = rolling(table, modes, rng)
    alone = len(tried) < MIN_FOLDS * len(FORMS)
    weights = {name: w for name, w in weights_of(tried).items() if w >= MIN_WEIGHT}
    used = modes
    if alone:
        model = Model.of(table, ALONE, settings.noise, misfit=False)
        weights, used = {ALONE: 1.0}, {ALONE: mode(model, modes[ALONE].coordinates)}
    parts = [
        Draws.of(used[name], walkers=WALKERS, steps=STEPS, kept=KEPT, rng=rng) for name in weights
    ]
    heights = np.array(list(weights.values()))
    draws = Draws.weighted(parts, heights, settings.bootstrap, rng)
    shares = {name: float(w) for name, w in zip(weights, heights / heights.sum(), strict=True)}
    factor = dict.fromkeys(TOPS, ALONE_WIDENING) if alone else widening(tried, shares)
    return _Explained(
        modes=modes,
        tried=tried,
        alone=alone,
        weights={name: shares.get(name, 0.0) for name in FORMS},
        general=used[ALONE] if alone else modes[GENERAL],
        draws=draws.as_written().calibrated(factor, reach(tried)),
    )


def _completed(fit: Fit, table: Table, found: _Explained, residual: Floats) -> Fit:
    """The fit with what its own frontier says: intervals, warnings and the forms' optima."""
    draws, level = found.draws, fit.level
    log_params, log_tokens = fit.splits(fit.domain["flops"][1])
    ratio = log_tokens - log_params
    a, b = frontier_exponents(fit)
    with np.errstate(over="ignore"):
        spans = {"a": a[1:], "b": b[1:], "ratio": np.exp(ratio[1:])}
        best = {
            "params": float(np.exp(log_params[0])),
            "tokens": float(np.exp(log_tokens[0])),
            "ratio": float(np.exp(ratio[0])),
        }
    spans = {name: draws.coefficients[:, k] for k, name in enumerate(Auto.names())} | spans
    # Between two optima at infinity there is no slope.
    known = {name: values[~np.isnan(values)] for name, values in spans.items()}
    intervals = {name: quantiles(values, level) for name, values in known.items()}
    warnings = (
        *table_warnings.of_table(Auto, table),
        *fit_warnings.of_use(Auto, best if fit.has_optimum else {}, fit.domain),
        *(each for held in fit.holdouts for each in fit_warnings.of_holdout(held, level)),
        *fit_warnings.of_ratio(intervals["ratio"]),
        *residual_warnings.non_monotone(residual, table),
        *_of_misfit(draws),
        *(_form_assumed() if found.alone else ()),
        *_of_outliers(draws, table, residual),
    )
    details = {
        "forms": _forms(found, ratio[1:]),
        "extrapolations": [asdict(each) for each in found.tried],
        "widening": dict(draws.misfit.widening),
        "misfit": float(np.median(draws.misfit.amplitude)),
        "size_effect": float(np.median(draws.misfit.sigma_size)),
        "weighted_down": draws.weighted_down,
        "assumed": found.alone,
    }
    return dataclasses.replace(
        fit,
        intervals=intervals,
        warnings=(*warnings, *fit.warnings),
        details={**details, **fit.details},
    )


def _forms(found: _Explained, log_ratio: Floats) -> list[dict[str, Any]]:
    """The forms, their weights, and where each puts the optimal D/N at the largest budget."""
    forms = []
    for number, (name, weight) in enumerate(found.weights.items()):
        own = log_ratio[found.draws.misfit.form == number]
        ratio = None
        if own.size and np.isfinite(middle := float(np.median(own))):
            ratio = float(np.exp(middle))
        forms.append({"form": name, "weight": weight, "ratio": ratio})
    return forms


def _held(
    table: Table,
    holdout: Chosen,
    settings: Settings,
    rng: np.random.Generator,
    modes: Mapping[str, Mode],
) -> tuple[HoldOut | None, HoldOut | None, tuple[Diagnostic, ...]]:
    """The hold-out, that of the top of compute, and why there is none."""
    if holdout is None:
        return None, None, ()
    held, further = None, None
    missing: tuple[Diagnostic, ...] = ()
    try:
        mask, what = held_out_rows(Auto, table, holdout)
        held = _scored(table, mask, what, settings, rng, modes)
    except FitError as error:
        if not (isinstance(holdout, str) and holdout == "largest"):
            raise
        missing = (no_holdout(error),)
    if (chosen := other_top(Auto, table, holdout)) is not None:
        with contextlib.suppress(FitError):
            further = _scored(table, *chosen, settings, rng, modes)
    return held, further, missing


def _scored(
    table: Table,
    mask: NDArray[np.bool_],
    what: str,
    settings: Settings,
    rng: np.random.Generator,
    modes: Mapping[str, Mode],
) -> HoldOut:
    rest, held = table.subset(~mask), table.subset(mask)
    require_identified(Auto, rest, COEFFICIENTS)
    draws = _explain(rest, settings, rng, modes).draws
    found = draws.predict(held.params, held.tokens, held.trunk_index, rng)
    beyond = decades_by_axis(domain_of(Auto, rest), held.params, held.tokens, table.flop_factor)
    return score_holdout(
        held,
        what,
        Auto,
        np.exp(np.median(found, axis=0)),
        draws.misfit.widened(found, beyond),
        baselines=baselines(rest, held),
        level=settings.level,
    )


def _form_assumed() -> Iterator[Diagnostic]:
    yield Diagnostic(
        "form-assumed",
        "the table is too small for two extrapolations from a part of it, so nothing tells which "
        "form of the law holds, or how far a misfit goes on: it is Chinchilla's, without a misfit; "
        "add sizes",
        form=ALONE,
    )


def _of_rows(
    table: Table, found: _Explained, law: Floats, residual: Floats, level: float
) -> tuple[Influence | None, tuple[Diagnostic, ...]]:
    """The influence of rows and trunks on the loss of the largest run, and warnings about rows.

    `law` (S, R) are draws of ln loss at the rows, and `residual` (R,) is beside their median.
    """
    if table.rows > MOST_ROWS:
        return None, tuple(residual_warnings.under_tuned(residual, table))
    linear = Linear.of(found.general)
    at = int(np.argmax(table.budget))
    with np.errstate(over="ignore"):
        largest = np.exp(law[:, at])
    loss, span = float(np.median(largest)), {"loss": quantiles(largest, level)}
    # The only trunk of the largest size decides much of its own loss: that alone is no warning.
    unusual = influence(linear, table, at, loss, least=UNUSUAL)
    return influence(linear, table, at, loss), (
        *_of_off_size(off_size(found.general, linear, table)),
        *fit_warnings.of_influence(unusual, span, (0, {})),
    )


def _of_off_size(found: OffSize | None) -> Iterator[Diagnostic]:
    if found is not None and found.probability > HALF:
        yield Diagnostic(
            "under-tuned",
            f"the runs of params = {found.params:.4g} lie {found.excess:.2%} above the law of the "
            f"other sizes (probability {found.probability:.2f}): a poor learning rate or batch "
            "there? Forecasts follow that size. Tune it, or leave it out with --where",
            params=found.params,
            excess=found.excess,
            probability=found.probability,
        )


def _of_known_noise(known: KnownNoise | None) -> Iterator[Diagnostic]:
    if known is not None and not known.holds:
        yield Diagnostic(
            "lack-of-fit",
            f"lack of fit (p = {known.p:.1g}): runs scatter about law, misfit and sizes by more "
            f"than a seed noise of {known.sigma:.2%}, which is not used. Is it of these runs?",
            p=known.p,
            sigma_seed=known.sigma,
        )


def _of_misfit(draws: Draws) -> Iterator[Diagnostic]:
    size = float(np.median(draws.misfit.amplitude))
    if size > MISFIT:
        yield Diagnostic(
            "misfit",
            f"the runs bend away from the law smoothly, by about {size:.1%} half a table from its "
            "middle; beyond the table this grows, and intervals grow with it",
            sigma=size,
        )


def _of_outliers(draws: Draws, table: Table, residual: Floats) -> Iterator[Diagnostic]:
    if draws.weighted_down:
        row = int(np.argmax(np.abs(residual)))
        farthest = table.describe(row, Auto.columns())
        yield Diagnostic(
            "weighted-down",
            f"{draws.weighted_down} of {table.rows} rows lie so far off the others that they count "
            f"less than a fifth, the farthest {farthest} ({residual[row]:+.1%}): look at them, and "
            "drop failed runs",
            rows=table.rows,
            weighted_down=draws.weighted_down,
            row=row,
            residual=float(residual[row]),
        )
