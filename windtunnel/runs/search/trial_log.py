"""The trial log: everything that a search has suggested, in one file in the study's folder.

The file is written whole, by rename, before the first segment of a batch starts. The plan of a
study follows from it, so opening the study needs no sampler.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from windtunnel.config.search import SearchExperiment
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError
from windtunnel.laws.schema import SHORT
from windtunnel.runs.files import DamagedFile, read_json, write_json
from windtunnel.runs.json_schema import Schema

MAY_CHANGE = {"trials", "top", "repeats", "longer", "kind"}
"""Fields of a search that may change while it runs; any other change makes it another search."""


class SuggestedTrial(Strict):
    """One suggestion: a value for each axis, and the number of horizons it may train to."""

    number: int
    batch: int
    values: dict[str, Any]
    admitted: int = 1


class TrialLog(Strict):
    """The trials of a search in the order of their numbers, and the repeated ones."""

    trials: tuple[SuggestedTrial, ...] = ()
    finalists: tuple[int, ...] | None = None

    @property
    def batches(self) -> int:
        """Number of suggested batches."""
        return self.trials[-1].batch + 1 if self.trials else 0


class SearchFile(Strict):
    """search.*.json: the search as first configured, and its suggestions."""

    asked: dict[str, Any]
    suggested: TrialLog


SEARCH: Schema[SearchFile] = Schema(
    TypeAdapter(SearchFile),
    "put back a copy, or remove the file: the next sweep suggests the same trials again, and runs "
    "none of them twice",
)


def read_suggested(folder: Path, experiment: SearchExperiment) -> TrialLog:
    """The trial log of a search of the study in `folder`.

    Raises:
        ConfigError: The search was begun with another space, sampler, horizon or objective.
        StoreError: The file is damaged, or no search of this experiment has suggested that.
    """
    path = _file(folder, experiment)
    written = read_json(path, SEARCH)
    if written is None:
        return TrialLog()
    requested, before = _requested(experiment), written.asked
    if before != requested:
        changed = [key for key in {**requested, **before} if before.get(key) != requested.get(key)]
        raise ConfigError(
            "search-changed",
            f"experiment {experiment.name!r}: {', '.join(changed)} changed since this search began "
            f"({path}); give the changed search a `name:` of its own: runs that both need are not "
            "run again",
            experiment=experiment.name,
            changed=changed,
            file=path,
        )
    if (wrong := next(_contradictions(experiment, written.suggested), None)) is not None:
        place, problem = wrong
        raise DamagedFile(
            "out-of-range",
            f"{path}: damaged: suggested.{place}{problem}; {SEARCH.fix}",
            file=path,
            place=f"suggested.{place}",
        )
    return written.suggested


def _contradictions(experiment: SearchExperiment, suggested: TrialLog) -> Iterator[tuple[str, str]]:
    """Entries that no search of this experiment can have written, each with the reason."""
    most = 1 + (len(experiment.early_stopping.rungs) if experiment.early_stopping else 0)
    space = experiment.model_dump(mode="json")["space"]
    batch = 0
    for place, trial in enumerate(suggested.trials):
        where = f"trials.{place}"
        if trial.number != place:
            yield f"{where}.number", f": {trial.number}, expected {place}"
        if trial.batch not in {batch, batch + 1}:
            yield f"{where}.batch", f": {trial.batch}, expected {batch} or {batch + 1}"
        batch = trial.batch
        if not 1 <= trial.admitted <= most:
            yield f"{where}.admitted", f": {trial.admitted}, expected 1 to {most}"
        if trial.values.keys() != space.keys():
            yield f"{where}.values", f": of {', '.join(trial.values)}, expected {', '.join(space)}"
        for axis, value in trial.values.items():
            if axis in space and not _lies_in(value, space[axis]):
                yield f"{where}.values.{axis}", f": {SHORT.repr(value)}, outside {space[axis]}"
    numbers = range(len(suggested.trials))
    finalists = suggested.finalists or ()
    if len(set(finalists)) < len(finalists) or any(each not in numbers for each in finalists):
        shown = ", ".join(map(str, finalists))
        yield "finalists", f": {shown}, expected numbers of trials, each once"


def _lies_in(value: Any, space: Any) -> bool:
    """Whether a value is in a list or within a range."""
    if isinstance(space, list):
        return any(type(value) is type(each) and value == each for each in space)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    slack = 1e-9 * max(abs(space["low"]), abs(space["high"]))
    return bool(space["low"] - slack <= value <= space["high"] + slack)


def write_suggested(folder: Path, experiment: SearchExperiment, suggested: TrialLog) -> None:
    """Store the trial log.

    Raises:
        StoreError: The store cannot be written.
    """
    write_json(
        _file(folder, experiment),
        {"asked": _requested(experiment), "suggested": suggested.model_dump(mode="json")},
    )


def _file(folder: Path, experiment: SearchExperiment) -> Path:
    return folder / f"search.{experiment.name}.json"


def _requested(experiment: SearchExperiment) -> dict[str, Any]:
    """The fields that must not change while a search runs.

    Logs of before there were recipes of an experiment's own have none, as one without has.
    """
    empty = {name for name in ("recipe", "schedule") if not getattr(experiment, name)}
    return experiment.model_dump(mode="json", exclude=MAY_CHANGE | empty) | {
        "sampler": experiment.sampler_taken
    }
