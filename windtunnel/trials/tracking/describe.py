"""What a segment's run says of itself: its tags, and its parameters, which MLflow never changes."""

import subprocess
from functools import cache
from pathlib import Path

from windtunnel.spec import Branch, ScheduleChange
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.progress import name_of
from windtunnel.trials.reading import mixture_of
from windtunnel.trials.study import Study
from windtunnel.trials.tracking.limits import legal, legal_name


def tags(study: Study, planned: PlannedSegment, *, parent_run: str | None) -> dict[str, str]:
    """Study, kind, parent, data and commit; with `parent_run`, MLflow nests it there."""
    segment = planned.segment
    found = {
        "study": study.config.study,
        "kind": segment.kind,
        "parent": segment.parent.id if isinstance(segment, Branch) else "",
        "data": segment.stream,
        "mlflow.runName": name_of(planned),
        "mlflow.source.name": "windtunnel",
    }
    if commit := git_commit(study.file.resolve().parent):
        found["mlflow.source.git.commit"] = commit
    if parent_run:
        found["mlflow.parentRunId"] = parent_run
    return legal(found) | tags_of_study(study, planned)


def tags_of_study(study: Study, planned: PlannedSegment) -> dict[str, str]:
    """Which experiments of a study want a segment, and as which variant."""
    name = study.config.study
    experiments = dict.fromkeys(label.experiment for label in planned.labels)
    found = {study_tag(name): "yes", f"experiment.{name}": "+".join(experiments)}
    for experiment, variant in planned.variants.items():
        found[f"variant.{name}.{experiment}"] = variant
    return legal(found)


def study_tag(study: str) -> str:
    """The tag that every run of a study has, with the value `yes`."""
    return legal_name(f"study.{study}")


def params(planned: PlannedSegment) -> dict[str, str]:
    """Size, horizon, seed, what a branch changes, and every field of model and recipe."""
    segment, label = planned.segment, planned.labels[0]
    found: dict[str, object] = {
        "size": segment.model.size,
        "seed": label.seed,
        "params": segment.model.params,
        "fork_step": segment.fork_step,
    }
    if isinstance(segment, Branch):
        found |= {"horizon": label.horizon, "updates": planned.steps}
        mixture = mixture_of(segment) or {}
        whole = sum(mixture.values())  # one branch, however its weights were written
        found |= {f"mixture.{name}": f"{mixture[name] / whole:.4g}" for name in sorted(mixture)}
        if segment.objective != "full":
            found["objective"] = segment.objective
        if rate := segment.change(ScheduleChange):
            found |= {f"schedule.{key}": value for key, value in rate.model_dump().items()}
            del found["schedule.kind"]
        if segment.mixture and segment.mixture.ramp:
            found["ramp"] = segment.mixture.ramp
    found |= {f"model.{key}": value for key, value in segment.model.model_dump().items()}
    found |= {f"recipe.{key}": value for key, value in segment.recipe.model_dump().items()}
    return legal({key: str(value) for key, value in found.items()})


@cache
def git_commit(folder: Path) -> str | None:
    """The commit of the repository around `folder`, or None outside one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
