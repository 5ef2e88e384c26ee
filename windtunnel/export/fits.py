"""Fit selection: the fits that a Handoff rests on, and their forecasts of the target's loss."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from windtunnel.config.model import ScheduleConfig
from windtunnel.config.study import LadderExperiment
from windtunnel.errors import ConfigError, Diagnostic, FitError, did_you_mean
from windtunnel.export.handoff import Estimate, Kept, Steps, Transition, finite
from windtunnel.export.request import Request
from windtunnel.laws import Fit, Interval, fit
from windtunnel.runs.forecast import as_table, law_inputs, law_runs
from windtunnel.runs.run import Run
from windtunnel.runs.study import Study
from windtunnel.runs.table import split

LAWS_OF_SIZE = ("auto", "coupled", "chinchilla")
"""Laws of fresh tokens that forecast the loss of any size and length."""

FAILING = {
    "start-point": "the solver did not move",
    "not-converged": "the solver did not converge",
    "few-starts": "few starts reached the optimum",
    "at-bound": "the runs do not determine a coefficient",
    "holdout-missed": "the law failed its own hold-out",
    "non-monotone": "loss rises with data",
    "odd-units": "units are wrong",
    "resamples-failed": "the intervals rest on resamples that failed",
}
"""Warnings with which a number is not handed over unless `accept` names them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyFit:
    """A fit as a study's file has it; `experiments` is empty where the file does not say."""

    path: Path
    fit: Fit
    experiments: tuple[str, ...]


def read_study_fit(study: Study, request: Request) -> StudyFit:
    """The requested fit, or the one that the study's last sweep or report wrote.

    Raises:
        ConfigError: There is none yet, or the study has several.
        FitError: It is damaged, or no law of size and data.
    """
    if request.fit is not None and request.experiment is not None:
        raise ConfigError(
            "contradicting-options",
            "--fit and --experiment: a fit in a file is of its own experiment: give one",
            options=["--fit", "--experiment"],
        )
    path = request.fit or _own(study, request.experiment)
    write_one = f"`windtunnel fit {study.file} --out FIT.json` writes one"
    try:
        fitted = Fit.read(path)
    except (ConfigError, FitError) as damaged:
        raise type(damaged)(damaged.code, f"{damaged}: {write_one}", **damaged.values) from None
    if fitted.law not in LAWS_OF_SIZE:
        raise FitError(
            "wrong-law",
            f"{path}: law {fitted.law!r} forecasts no loss of a size and its data: export needs "
            "`windtunnel fit STUDY.yaml --out FIT.json`",
            path=path,
            law=fitted.law,
            allowed=list(LAWS_OF_SIZE),
        )
    return StudyFit(path=path, fit=fitted, experiments=split(fitted.inputs.get("experiments")))


def fingerprint_of(fitted: Fit) -> str:
    """16 hex digits over a fit as it is written."""
    return fingerprint_of_text(fitted.to_json())


def fingerprint_of_text(text: str) -> str:
    """16 hex digits over a fit's text; a fit that is read again is rounded, so its text differs."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_study_fit(
    study: Study, made: StudyFit, runs: Sequence[Run], *, accept: tuple[str, ...]
) -> list[Diagnostic]:
    """Warnings of the fit, with the accepted ones.

    Raises:
        FitError: The fit is of other runs than the store's, has no intervals, or has failed.
    """
    path, fitted = made.path, made.fit
    _same_runs(study, made, runs)
    if columns := fitted.inputs.get("columns"):
        raise FitError(
            "other-columns",
            f"{path}: made with {columns}: its numbers are of other columns or units than the "
            "study's own params, tokens and loss, and a forecast would be of something else; fit "
            "without these options (export forecasts every validation set by itself)",
            path=path,
            columns=columns,
        )
    if not fitted.intervals:
        raise FitError(
            "no-intervals",
            f"{path}: the fit has no intervals, and no number is handed over without one: fit "
            "again with --intervals two-level --bootstrap 1000",
            path=path,
        )
    for code in accept:
        if code not in FAILING:
            hint = did_you_mean(code, FAILING)
            raise ConfigError(
                "unknown-warning",
                f"--accept {code}: allowed are {', '.join(FAILING)}{hint}",
                option="--accept",
                value=code,
                known=list(FAILING),
            )
    found = unless_failed(fitted, what=str(path), accept=accept)
    if options := fitted.inputs.get("options"):
        found.append(
            Diagnostic(
                "fit-options",
                f"the fit was made with {options}; so only the mean over the validation "
                "sets is forecast, and no set by itself",
                options=options,
            )
        )
    return found


def unless_failed(
    fitted: Fit, *, what: str, accept: tuple[str, ...], origin: str = "", prefix: str = ""
) -> list[Diagnostic]:
    """Warnings of a fit; `origin` precedes each message and `prefix` each code.

    Raises:
        FitError: One of them says that it failed, and `accept` does not name it.
    """
    found = []
    for warning in fitted.warnings:
        code = prefix + warning.code
        found.append(Diagnostic(code, origin + warning.message, **warning.values))
        if warning.code not in FAILING:
            continue
        if warning.code not in accept:
            raise FitError(
                "failed-fit",
                f"{what}: not handed over, {FAILING[warning.code]} ({warning.code}): "
                f"{warning.message}. Mend the study (docs/fit.md says how each warning arises), or "
                f"take the fit as it is with --accept {warning.code}, which the Handoff will say",
                what=what,
                warning=warning.code,
            )
        accepted = f"{origin}{warning.code}: {FAILING[warning.code]}; accepted at export"
        found.append(Diagnostic("accepted", accepted, warning=warning.code))
    return found


def _own(study: Study, experiment: str | None) -> Path:
    scaling = [e.name for e in study.config.experiments if isinstance(e, LadderExperiment)]
    if not scaling:
        raise ConfigError(
            "no-experiment",
            f"{study.file}: the study has no scaling or forecast experiment, so nothing says what "
            "loss to expect of a size: add one (docs/study.md), or export the study that has it",
            path=study.file,
        )
    if experiment is not None and experiment not in scaling:
        raise ConfigError(
            "unknown-experiment",
            f"--experiment {experiment}: {study.file} has these scaling experiments: "
            f"{', '.join(scaling)}{did_you_mean(experiment, scaling)}",
            experiment=experiment,
            known=scaling,
        )
    if experiment is None and len(scaling) > 1:
        raise ConfigError(
            "several-experiments",
            f"{study.file}: several scaling experiments, {', '.join(scaling)}: name one with "
            "--experiment",
            path=study.file,
            known=scaling,
        )
    name = "fit.json" if len(scaling) == 1 else f"fit.{experiment}.json"
    path = study.folder / name
    if not path.exists():
        raise ConfigError(
            "missing-fit",
            f"{study.file}: no fit yet ({path} is not there): finish `windtunnel sweep "
            f"{study.file}`, which ends with one; it needs at least 6 finished decay branches",
            study=study.file,
            path=path,
        )
    return path


def _same_runs(study: Study, made: StudyFit, runs: Sequence[Run]) -> None:
    name, path, fitted = study.config.study, made.path, made.fit
    if not fitted.inputs and path.parent == study.folder:
        raise FitError(
            "fit-without-runs",
            f"{path}: this fit does not say which runs it was made from, for an earlier version "
            f"wrote it: fit again with `windtunnel report {study.file}`",
            path=path,
            key="inputs",
        )
    if fitted.inputs.get("study") != name:
        of = fitted.inputs.get("study")
        what = f"study {of!r}" if of else "a table"
        raise FitError(
            "other-study",
            f"{path}: this fit is of {what}, not of study {name!r}: write one with `windtunnel fit "
            f"{study.file} --out FIT.json` (`windtunnel import-runs` adds runs of your own)",
            path=path,
            study=name,
            found=of,
        )
    for key in ("experiments", "runs"):
        if key not in fitted.inputs:
            raise FitError(
                "fit-without-runs",
                f"{path}: inputs.{key}: is missing, so that the fit does not say which runs it was "
                f"made from: fit again with `windtunnel fit {study.file} --out FIT.json`",
                path=path,
                key=f"inputs.{key}",
            )
    now = law_inputs(name, runs, made.experiments)
    if now["runs"] == fitted.inputs["runs"]:
        return
    count = sum(run.is_of(*made.experiments) for run in law_runs(runs))
    if not count:
        raise FitError(
            "no-finished-runs",
            f"{path}: no run of {study.file} as it is now is finished, so this fit is of another "
            f"recipe, model or data: `windtunnel sweep {study.file}` runs it and fits again; give "
            "the changed study a `study:` name of its own to keep both",
            path=path,
            study=study.file,
        )
    fix = "report" if path.parent == study.folder else "fit"
    raise FitError(
        "other-runs",
        f"{path}: the store has changed since this fit: it was made from {fitted.rows} runs "
        f"(fingerprint {fitted.inputs['runs']}), and the study now has {count} ({now['runs']}). "
        f"`windtunnel sweep {study.file}` makes what is missing and fits again; `windtunnel {fix} "
        f"{study.file}` only fits what is there",
        path=path,
        fitted=fitted.rows,
        now=count,
        fitted_runs=fitted.inputs["runs"],
        runs=now["runs"],
    )


MEAN = "mean"
"""The unweighted mean over the validation sets: the loss that a study's law is fitted to."""
EARLY = (0.25, 0.5)
"""Shares of the run at which a decay branch checks the forecast before the run is over."""


@dataclass(frozen=True, eq=False)
class SetFits:
    """The fits of the mean and of each validation set, and why some sets have none."""

    fits: Mapping[str, Fit]
    warnings: list[Diagnostic]


def fits_by_set(made: StudyFit, runs: Sequence[Run], *, accept: tuple[str, ...]) -> SetFits:
    """The same law fitted to each validation set of the same experiments.

    One set alone is the mean. Of a fit that was made with options of its own the mean alone is
    known.

    Raises:
        ConfigError: A set is called as the mean is.
        FitError: A set's fit has failed, and `accept` does not name how.
    """
    mean = made.fit
    names = sorted({name for run in runs for name in run.losses})
    if MEAN in names:
        raise ConfigError(
            "reserved-name",
            f"a validation set is called {MEAN!r}, as the mean over the sets is: give its source "
            "another `name:` in the study file",
            name=MEAN,
        )
    if mean.inputs.get("options"):
        return SetFits({MEAN: mean}, [])
    fits, warnings = {MEAN: mean}, []
    for name in names:
        if len(names) == 1:
            fits[name] = mean
            continue
        chosen = [
            replace(run, loss=run.losses[name])
            for run in law_runs(runs)
            if run.is_of(*made.experiments) and name in run.losses
        ]
        try:
            found = fit(as_table(chosen), mean.law, level=mean.level)
            fits[name] = found.made_from(mean.inputs)
        except FitError as refused:
            warnings.append(
                Diagnostic(
                    "set-not-forecast",
                    f"validation set {name}: {refused}",
                    set=name,
                    cause=refused.code,
                )
            )
            continue
        what = f"validation set {name}"
        warnings += unless_failed(fits[name], what=what, accept=accept, origin=f"{what}: ")
    return SetFits(fits, warnings)


def forecasts_of(fits: Mapping[str, Fit], *, params: int, tokens: int) -> dict[str, Interval]:
    """Prediction interval of one new run, by validation set; the mean first."""
    return {name: each.predict(params, tokens) for name, each in fits.items()}


def transitions_of(forecasts: Mapping[str, Interval]) -> dict[str, Transition]:
    """What the lower ends of forecasts hold for a transition, by validation set."""
    return {
        name: Transition(share=each.transition.share, low=finite(each.transition.low))
        for name, each in forecasts.items()
        if each.transition is not None
    }


def kept_of(
    schedule: ScheduleConfig, steps: Steps, mean: Fit, *, params: int, batch_tokens: int
) -> tuple[Kept, ...]:
    """Checkpoints to keep: where early decays leave the trunk, where the decay starts, the end."""
    found = []
    for share in EARLY:
        end = math.ceil(share * steps.end)
        start = end - max(1, round(schedule.decay_share * end))
        if schedule.decay_share == 1.0 or start < steps.warmup:
            continue  # too early to decay
        loss = mean.predict(params, end * batch_tokens)
        found.append(
            Kept(
                step=start,
                tokens=start * batch_tokens,
                why=f"a decay from here ends at {share:.0%} of the run: an early check of the "
                "forecast",
                horizon_tokens=end * batch_tokens,
                horizon_step=end,
                loss=Estimate.of(loss),
            )
        )
    found.append(
        Kept(
            step=steps.decay_start,
            tokens=steps.decay_start * batch_tokens,
            why="the decay starts: a longer run, other data or another decay leave from here",
        )
    )
    found.append(Kept(step=steps.end, tokens=steps.end * batch_tokens, why="the end"))
    return tuple(sorted(found, key=lambda kept: kept.step))
