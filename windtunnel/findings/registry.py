"""The kinds of findings: one reader each, and the records that they read."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from windtunnel.findings.adaptation import adaptations
from windtunnel.findings.base import Finding
from windtunnel.findings.batch import batches
from windtunnel.findings.branches import branchings
from windtunnel.findings.coordcheck import coordinates
from windtunnel.findings.dynamics import training_dynamics
from windtunnel.findings.lr_batch import joints
from windtunnel.findings.lr_sensitivity import sensitivities
from windtunnel.findings.lr_transfer import transfers, weight_decays
from windtunnel.findings.mixture import mixture_laws
from windtunnel.findings.overtraining import overtraining_pairs
from windtunnel.findings.ranking import rankings
from windtunnel.findings.records import Records, read_records
from windtunnel.findings.scaling_law import data_model_laws
from windtunnel.findings.schedules import schedules
from windtunnel.tracking.read import download_result

READERS: tuple[Callable[[Records], tuple[Finding, ...]], ...] = (
    coordinates,
    sensitivities,
    transfers,
    joints,
    data_model_laws,
    training_dynamics,
    batches,
    schedules,
    branchings,
    rankings,
    adaptations,
    mixture_laws,
    overtraining_pairs,
    weight_decays,
)
"""Each looks for experiments of its kind, recognised by their axes, and may find none."""


def findings_of(records: Records) -> tuple[Finding, ...]:
    """Every question that the records can answer, in the order of `READERS`."""
    return tuple(finding for read in READERS for finding in read(records))


def load_records(study: str, *, uri: str | None = None, experiment: str | None = None) -> Records:
    """What `windtunnel sync` logged of a study.

    >>> records = load_records("quickstart")  # doctest: +SKIP

    Args:
        study: its name, as in the study file.
        uri: a tracking URI. None: MLFLOW_TRACKING_URI, else the databases of this user.
        experiment: MLflow's experiment, where several stores have a study of that name.

    Raises:
        TrackingError: No such study, several of them, or a server that does not answer.
        ConfigError: What was logged is no whole set of records.
    """
    with TemporaryDirectory() as scratch:
        download_result(study, "records", Path(scratch), uri=uri, experiment=experiment)
        return read_records(Path(scratch))
