"""The trials of a search as an Optuna study on disk, for optuna-dashboard and the user's own code.

The journal follows the store and is never read back: a trial is added once all trials before it
have ended, so the file only grows. Without it nothing is lost, so that it never stops a sweep: a
damaged one is made again from the store.
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
from windtunnel.engine.samplers import distributions, told
from windtunnel.errors import cause_of
from windtunnel.runs.search.trials import TrialResult

NAME = "optuna.journal"

log = logging.getLogger(__name__)


class _NoLock(JournalFileOpenLock):
    """The study's lease lets one process write; a dead one's lock would be waited for."""

    def acquire(self) -> bool:
        """Nothing to wait for."""
        return True

    def release(self) -> None:
        """Nothing is held."""


def write_journal(
    folder: Path, study: StudyConfig, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> None:
    """Add to the journal in `folder` what has ended since; loss in nats per token, minimised.

    A journal that cannot be added to is replaced by a new one; that, and a new one that cannot be
    written either, is logged as a warning.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / NAME
    try:
        if path.exists() and not (path.is_file() and _ends_with_a_line(path)):
            raise ValueError("its last line is torn")
        _add(path, study, experiment, results)
    except Exception as broken:  # whatever Optuna makes of other bytes
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
    kept = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path)))),
        study_name=f"{study.study}/{experiment.name}",
        direction="minimize",
        load_if_exists=True,
    )
    known = len(kept.get_trials(deepcopy=False))
    for trial in told(distributions(study, experiment), results)[known:]:
        kept.add_trial(trial)


def _ends_with_a_line(path: Path) -> bool:
    """Whether the next line can be added; Optuna would put it behind half of one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in {b"\n", b""}
