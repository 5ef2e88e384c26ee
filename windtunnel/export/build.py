"""The Handoff of a study and a request, with the fits that it rests on."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import ceil
from platform import python_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windtunnel.config import Recipe
from windtunnel.config.axes import varied
from windtunnel.config.model import ScheduleConfig
from windtunnel.errors import ConfigError, FitError, did_you_mean
from windtunnel.export.diagnostics import recipe_diagnostics, shape_diagnostics, winner_diagnostics
from windtunnel.export.extrapolation import beyond_of, check_reach, own_domain
from windtunnel.export.fits import (
    StudyFit,
    check_study_fit,
    fingerprint_of,
    fits_by_set,
    forecasts_of,
    kept_of,
    read_study_fit,
    transitions_of,
)
from windtunnel.export.handoff import (
    Best,
    Estimate,
    Handoff,
    Inputs,
    Law,
    Winner,
    counts_of,
    finite,
    kv_init_std_of,
    roles_of,
)
from windtunnel.export.recipe import (
    batch_of,
    check_updates,
    lr_rule_of,
    multipliers_of,
    steps_of,
)
from windtunnel.export.request import Request, StudyRecords, open_studies
from windtunnel.export.size import size_diagnostics, target_of
from windtunnel.export.transfer import TunedRecipe, as_tuned, transferred_recipe
from windtunnel.findings.track_record import past_forecasts
from windtunnel.laws import Fit
from windtunnel.laws.interval import quantiles
from windtunnel.runs.forecast import inputs_fingerprint, law_runs
from windtunnel.runs.imported import study_runs
from windtunnel.runs.search.summary import outcome_json
from windtunnel.runs.search.winner import search_outcomes
from windtunnel.runs.study import Study
from windtunnel.tracking.mirror import git_commit
from windtunnel.transfer import Place
from windtunnel.version import __version__


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """A Handoff, the fit behind each of its forecasts, and the rows that its loss is measured on.

    `validation` holds token ids (rows, context + 1) by set, at the study's context: those on which
    every loss of the study was measured, so that the large run's can be too.
    """

    handoff: Handoff
    fits: Mapping[str, Fit]
    validation: Mapping[str, NDArray[np.int64]]


def build_handoff(study: Study, request: Request, made: StudyFit | None = None) -> Export:
    """Everything that the target's training takes from the study, by a fit or the study's own.

    Raises:
        ConfigError: The study cannot answer the request.
        FitError: No fit, a failed one, or one of other runs than the store's.
    """
    request = request.filled(study).checked()
    made = made or read_study_fit(study, request)
    fitted, runs = made.fit, study_runs(study)
    warnings = check_study_fit(study, made, runs, accept=request.accept)
    studies = open_studies(study, request.extra_studies)
    winners, tuned = _tuned(studies, study, made.experiments, request)
    sized = target_of(study.study_context, fitted, request)
    model = sized.model
    own = own_domain(runs, made.experiments)
    warnings += study.token_diagnostics
    warnings += size_diagnostics(request, model)
    warnings += check_reach(fitted, own, model, sized.tokens, accepted=request.extrapolate)
    warnings += shape_diagnostics(study.study_context, model)
    loss = fitted.predict(model.params, sized.tokens).value
    batch, more = batch_of(
        studies, tuned.recipe, request, loss=loss, context=model.context, winners=winners
    )
    warnings += more
    rule, more = lr_rule_of(
        studies,
        tuned.at_its_batch,
        request,
        batch_tokens=batch.batch_tokens,
        own=study.config.transfer.lr.batch,
    )
    warnings += more
    end = ceil(sized.tokens / batch.batch_tokens)
    check_updates(end, batch.batch_tokens)
    tokens = end * batch.batch_tokens
    target = Place(
        batch_tokens=batch.batch_tokens,
        tokens=float(tokens),
        depth=model.depth,
        params=float(model.params),
    )
    longest = own["tokens"][1]
    if request.no_transfer:
        transferred = as_tuned(tuned, rule, target, longest=longest)
    else:
        transferred = transferred_recipe(
            studies, tuned, target, lr_rule=rule, loss=loss, longest=longest
        )
    recipe = transferred.recipe
    warnings += transferred.warnings
    steps = steps_of(
        tuned.schedule, model, warmup=recipe.warmup_steps, end=end, batch_tokens=batch.batch_tokens
    )
    by_set = fits_by_set(made, runs, accept=request.accept)
    warnings += by_set.warnings
    warnings += recipe_diagnostics(studies, recipe, model, steps)
    warnings += winner_diagnostics(winners, _flat(tuned.recipe, tuned.schedule))
    forecasts = forecasts_of(by_set.fits, params=model.params, tokens=tokens)
    warnings += [
        warning
        for each in forecasts.values()
        for warning in each.warnings
        if warning.code == "transition"
    ]
    counts = counts_of(model, tokens)
    beyond = beyond_of(fitted, model.params, tokens, past_forecasts(study.store))
    handoff = Handoff(
        study=study.config.study,
        written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        asked=request.as_typed,
        model=model,
        counts=counts,
        sized=sized.how,
        recipe=recipe,
        width_ratio=recipe.width_ratio(model),
        roles=roles_of(recipe, model),
        kv_init_std=kv_init_std_of(recipe, model),
        multipliers=multipliers_of(recipe, model, proxy_head_dim=study.config.model.head_dim),
        batch=batch,
        lr_rule=rule,
        transfer=transferred.settings,
        schedule=steps,
        checkpoints=kept_of(
            tuned.schedule, steps, fitted, params=model.params, batch_tokens=batch.batch_tokens
        ),
        loss_unit="nats per token",
        level=fitted.level,
        calibrated=all(each.holds for each in beyond.values()),
        forecast={name: Estimate.of(each) for name, each in forecasts.items()},
        transition=transitions_of(forecasts),
        bytes_per_token={each.name: each.bytes_per_token for each in study.validation},
        best=best_of(fitted, fitted.flop_factor * model.params * tokens),
        winners=tuple(winners),
        law=_law(fitted),
        inputs=_inputs(studies, fitted, by_set.fits),
        warnings=tuple(dict.fromkeys(warnings)),
    )
    measured, context = study.config.data.validation.tokens, study.config.model.context
    validation = {each.name: each.rows(context, measured) for each in study.validation}
    return Export(handoff=handoff, fits=by_set.fits, validation=validation)


def _tuned(
    studies: Sequence[StudyRecords],
    study: Study,
    experiments: tuple[str, ...],
    request: Request,
) -> tuple[list[Winner], TunedRecipe]:
    """Winners of the searches, and the tuned recipe: the fitted runs', or a requested winner's."""
    winners = [winner for each in studies for winner in _winners(each)]
    if request.winner is None:
        return winners, _fitted_recipe(study, experiments)
    chosen = [each for each in winners if each.experiment == request.winner]
    if len(chosen) != 1:
        known = [each.experiment for each in winners]
        raise ConfigError(
            "unknown-winner",
            f"--winner {request.winner}: "
            + ("two searches are called so" if chosen else "no finished search is called so")
            + f"{did_you_mean(request.winner, known)}; there "
            + (f"are: {', '.join(known)}" if known else "is none (`--with` takes other studies)"),
            option="--winner",
            value=request.winner,
            known=known,
        )
    _same_recipe(studies, study, chosen[0])
    family, recipe, schedule = varied(study.config, chosen[0].values)
    if family != study.config.model:
        raise ConfigError(
            "winner-varied-model",
            f"--winner {request.winner}: it varied the model; put its values into the study's "
            "`model:` section and fit the law of that model",
            winner=request.winner,
        )
    applied = chosen[0].replace(applied=True)
    winners = [applied if each is chosen[0] else each for each in winners]
    searched = next(each.study for each in studies if each.name == applied.study).study_context
    place = searched.searched_at(applied.experiment, recipe.batch_tokens)
    return winners, TunedRecipe(recipe=recipe, schedule=schedule, place=place)


def _fitted_recipe(study: Study, experiments: tuple[str, ...]) -> TunedRecipe:
    """The recipe of the experiments that the law was fitted to.

    Raises:
        ConfigError: They have different ones.
    """
    context = study.study_context
    known = [each for each in study.config.experiments if each.name in experiments]
    follows_batch = ("lr", "batch") in study.config.transfer.chosen
    found = list[TunedRecipe]()
    for each in known:
        own, place = context.of(each).config, context.tuned_at(each)
        if place is not None and not follows_batch:
            place = replace(place, batch_tokens=own.recipe.batch_tokens)
        tuned = TunedRecipe(recipe=own.recipe, schedule=own.schedule, place=place)
        if tuned not in found:
            found.append(tuned)
    if len(found) > 1:
        raise ConfigError(
            "recipes-differ",
            f"the law was fitted to {', '.join(each.name for each in known)}, which have different "
            "recipes: say which one is exported with --experiment",
            option="--experiment",
            experiments=[each.name for each in known],
        )
    if found:
        return found[0]
    recipe = study.config.recipe
    place = context.stated_place(recipe.batch_tokens)
    return TunedRecipe(recipe=recipe, schedule=study.config.schedule, place=place)


def _same_recipe(studies: Sequence[StudyRecords], study: Study, winner: Winner) -> None:
    """Refuse values that were found with another recipe: they are best there."""
    other = next(each.study for each in studies if each.name == winner.study).config
    mine, theirs = (
        _flat(study.config.recipe, study.config.schedule),
        _flat(other.recipe, other.schedule),
    )
    differing = [
        f"{name} = {theirs[name]} (here {mine[name]})"
        for name in mine
        if name not in winner.values and mine[name] != theirs[name]
    ]
    if differing:
        raise ConfigError(
            "winner-other-recipe",
            f"--winner {winner.experiment}: it was found in {winner.study} beside "
            f"{', '.join(differing)}: its values are best there; search again with this study's "
            "recipe",
            winner=winner.experiment,
            study=winner.study,
            differing=differing,
        )


def _winners(source: StudyRecords) -> list[Winner]:
    found = []
    for outcome in search_outcomes(source.study):
        written = outcome_json(source.study, outcome)
        winner = written["winner"]
        if winner is None:
            continue
        low, high = winner["interval"] or (None, None)
        found.append(
            Winner(
                study=source.name,
                experiment=written["experiment"],
                values=winner["values"],
                loss=winner["loss"],
                low=low,
                high=high,
                noise=written["noise"],
                applied=False,
            )
        )
    return found


def _flat(recipe: Recipe, schedule: ScheduleConfig) -> dict[str, object]:
    sections = {"recipe": recipe.model_dump(), "schedule": schedule.model_dump()}
    return {f"{name}.{key}": v for name, fields in sections.items() for key, v in fields.items()}


def best_of(fitted: Fit, flops: float) -> Best | None:
    """The best split of a budget; None where the fit has no optimum."""
    try:
        best = fitted.optimum(flops)
    except FitError:
        return None
    return Best(
        flops=flops,
        params=Estimate.of(best.params),
        tokens=Estimate.of(best.tokens),
        tokens_per_param=Estimate.of(best.ratio),
        loss=Estimate.of(best.loss),
    )


def _law(fitted: Fit) -> Law:
    names = fitted.form.names()
    spans = {name: quantiles(fitted.draws[:, at], fitted.level) for at, name in enumerate(names)}
    return Law(
        law=fitted.law,
        formula=fitted.form.formula,
        coefficients=fitted.coefficients,
        intervals={name: (finite(low), finite(high)) for name, (low, high) in spans.items()},
        domain=dict(fitted.domain),
        flop_rule=fitted.flop_rule,
        params_convention=fitted.params_convention,
        rows=fitted.rows,
        trunks=fitted.trunks,
    )


def _inputs(studies: Sequence[StudyRecords], fitted: Fit, fits: Mapping[str, Fit]) -> Inputs:
    study = studies[0].study
    executions: dict[str, dict[str, Any]] = {}
    for planned in study.plan.trunks:
        record = study.store.segment(planned.id).execution
        if record is not None:
            executions[json.dumps(record, sort_keys=True)] = record
    return Inputs(
        study=str(study.file.resolve()),
        study_sha256=_sha256(study.file.read_bytes()),
        stream=study.study_context.stream,
        tokenizer=study.tokenizer,
        end_of_text=study.config.data.end_of_text,
        validation={each.name: each.fingerprint for each in study.validation},
        runs=fitted.inputs["runs"],
        companions={
            each.name: {
                "study_sha256": _sha256(each.study.file.read_bytes()),
                "runs": inputs_fingerprint(law_runs(each.records.runs)),
            }
            for each in studies[1:]
        },
        fits={name: fingerprint_of(each) for name, each in fits.items()},
        git_commit=git_commit(study.file.resolve().parent),
        windtunnel=__version__,
        versions={"python": python_version()}
        | {name: version(name) for name in ("torch", "numpy", "scipy")},
        executions=tuple(executions.values()),
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
