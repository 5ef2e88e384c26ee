"""What a search has suggested so far: one small file a search in the study's folder.

It is written whole, by rename, before the first segment of a batch starts, and the plan of a study
follows from it: whoever opens the study sees its trials without asking a sampler again.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from windtunnel.errors import ConfigError, StoreError
from windtunnel.spec.search import SearchExperiment
from windtunnel.spec.strict import Strict
from windtunnel.trials.json_file import read_json, write_json

MAY_CHANGE = {"trials", "top", "repeats", "longer", "kind"}
"""Fields of a search that may change while it goes on; any other makes it another search."""


class SuggestedTrial(Strict):
    """One suggestion: a value for each axis, and how many of its horizons it was let train to."""

    number: int
    batch: int
    values: dict[str, Any]
    admitted: int = 1


class Suggested(Strict):
    """The trials of a search in the order of their numbers, and which of them are repeated."""

    trials: tuple[SuggestedTrial, ...] = ()
    finalists: tuple[int, ...] | None = None

    @property
    def batches(self) -> int:
        """How many batches have been suggested."""
        return self.trials[-1].batch + 1 if self.trials else 0


def read_suggested(folder: Path, experiment: SearchExperiment) -> Suggested:
    """What a search of the study in `folder` has suggested.

    Raises:
        ConfigError: The search was begun with another space, sampler, horizon or objective.
        StoreError: The file is damaged.
    """
    path = _file(folder, experiment)
    written = read_json(path)
    if written is None:
        return Suggested()
    asked = _asked(experiment)
    if written.get("asked") != asked:
        before = written.get("asked") or {}
        changed = [key for key in asked if before.get(key) != asked[key]]
        raise ConfigError(
            f"experiment {experiment.name!r}: {', '.join(changed)} changed since this search began "
            f"({path}); give the changed search a `name:` of its own: runs that both need are not "
            "run again"
        )
    try:
        return Suggested.model_validate(written["suggested"])
    except (KeyError, ValidationError) as broken:
        raise StoreError(f"{path}: damaged: {broken}") from None


def write_suggested(folder: Path, experiment: SearchExperiment, suggested: Suggested) -> None:
    """Keep what was suggested.

    Raises:
        StoreError: The store cannot be written.
    """
    write_json(
        _file(folder, experiment),
        {"asked": _asked(experiment), "suggested": suggested.model_dump(mode="json")},
    )


def _file(folder: Path, experiment: SearchExperiment) -> Path:
    return folder / f"search.{experiment.name}.json"


def _asked(experiment: SearchExperiment) -> dict[str, Any]:
    """What must not change under a search that goes on."""
    return experiment.model_dump(mode="json", exclude=MAY_CHANGE) | {
        "sampler": experiment.sampler_taken
    }
