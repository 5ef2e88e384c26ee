"""The trials of a search as an Optuna study on disk, for optuna-dashboard and the user's own code.

The journal follows the store and is never read back: a trial is added once all trials before it
have ended, so the file only grows. Without it nothing is lost.
"""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from windtunnel.engine.search.samplers import distributions, told
from windtunnel.errors import StoreError
from windtunnel.spec import StudyConfig
from windtunnel.spec.search import SearchExperiment
from windtunnel.trials.search import TrialResult

NAME = "optuna.journal"


def write_journal(
    folder: Path, study: StudyConfig, experiment: SearchExperiment, results: Sequence[TrialResult]
) -> None:
    """Add to the journal in `folder` what has ended since; loss in nats per token, minimised.

    Raises:
        StoreError: It cannot be written, or is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / NAME
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        kept = optuna.create_study(
            storage=storage,
            study_name=f"{study.study}/{experiment.name}",
            direction="minimize",
            load_if_exists=True,
        )
        known = len(kept.get_trials(deepcopy=False))
        for trial in told(distributions(study, experiment), results)[known:]:
            kept.add_trial(trial)
    except (OSError, ValueError, KeyError) as broken:
        raise StoreError(
            f"{path}: the Optuna journal cannot be written ({broken}); free space, or delete the "
            "file: it is made again from the store"
        ) from None
