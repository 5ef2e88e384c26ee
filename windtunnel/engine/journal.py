"""The Optuna journal of a search: its trials on disk, for optuna-dashboard and user code.

The journal is derived from the store and never read back. A trial is added once all trials before
it have ended, so the file only grows. A failure to write it never stops a sweep, and a damaged
journal is rebuilt from the store.
"""

import logging
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from windtunnel.config import StudyConfig
from windtunnel.config.search import SearchExperiment
from windtunnel.engine.samplers import distributions, frozen_trials
from windtunnel.errors import Refused, cause_of
from windtunnel.runs.search.trials import TrialResult

NAME = "optuna.journal"

log = logging.getLogger(__name__)


class _NoLock(JournalFileOpenLock):
    """No lock: the study's lease admits one writer, and a dead writer's lock would block."""

    def acquire(self) -> bool:
        """Succeed at once."""
        return True

    def release(self) -> None:
        """Nothing to release."""


def write_journal(
    folder: Path, study: StudyConfig, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> None:
    """Append newly ended trials to the journal in `folder`; loss in nats per token, minimised.

    A damaged journal is rebuilt. Both a rebuild and a failed rebuild are logged as warnings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / NAME
    try:
        if path.exists() and not (path.is_file() and _ends_with_a_line(path)):
            raise Refused("torn-line", "its last line is torn")
        _add(path, study, experiment, results)
    except Exception as broken:  # Optuna raises anything on malformed bytes
        problem = cause_of(broken)
    else:
        return
    scratch = path.with_name(f".{NAME}.{uuid.uuid4().hex}")
    try:
        _add(scratch, study, experiment, results)
        scratch.replace(path)
    except Exception as refused:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        log.warning("%s: cannot be written (%s); nothing is lost", path, cause_of(refused))
    else:
        log.warning("%s: was damaged (%s) and is made again from the store", path, problem)


def _add(
    path: Path, study: StudyConfig, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> None:
    optuna_study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path)))),
        study_name=f"{study.study}/{experiment.name}",
        direction="minimize",
        load_if_exists=True,
    )
    known = len(optuna_study.get_trials(deepcopy=False))
    for trial in frozen_trials(distributions(study, experiment), results)[known:]:
        optuna_study.add_trial(trial)


def _ends_with_a_line(path: Path) -> bool:
    """Whether the last line is complete; Optuna would append to half of one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in {b"\n", b""}
