"""`windtunnel sync`: everything that MLflow lacks, from the store."""

from windtunnel.cli.options import StudyFile


def sync(study: StudyFile) -> None:
    """Copy everything that MLflow lacks from the store to MLflow."""
    from windtunnel.cli.tracking import log_results, mirror_of
    from windtunnel.runs.study import open_study

    mirror = mirror_of(open_study(study))
    done = mirror.sync()
    log_results(mirror)
    print(f"{mirror.location.shown}: {done.runs} new runs, {done.metrics} new metrics")
