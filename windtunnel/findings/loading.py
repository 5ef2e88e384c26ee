"""Records by the name of their study, from MLflow: for a notebook that has no store at hand."""

from pathlib import Path
from tempfile import TemporaryDirectory

from windtunnel.findings.records import Records, read_records
from windtunnel.trials.tracking.download import download_result


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
