"""`windtunnel ui`: the pages of MLflow about a study."""

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from windtunnel.cli.options import StudyFile
from windtunnel.errors import TrackingError
from windtunnel.redact import HIDDEN

if TYPE_CHECKING:
    from windtunnel.tracking import Location


def ui(
    study: StudyFile,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open a study in the MLflow UI.

    Serves the MLflow database on loopback until interrupted. A running server is only linked to.
    """
    from windtunnel.cli.tracking import mirror_of
    from windtunnel.runs.study import open_study
    from windtunnel.tracking.mlflow import kind_of
    from windtunnel.tracking.server import link

    opened = open_study(study)
    mirror = mirror_of(opened)
    experiment = mirror.experiment_id()
    location = mirror.location
    match kind_of(location.uri):
        case "http":
            base = location.shown.replace(f"{HIDDEN}@", "").rstrip("/")
            print(link(base, experiment, opened.config.study))
        case "other":
            print(f"{location.shown} has pages of its own: open experiment {location.experiment}")
        case _:
            _serve(
                location, link(f"http://127.0.0.1:{port}", experiment, opened.config.study), port
            )


def _serve(location: "Location", address: str, port: int) -> None:
    from windtunnel.tracking import serve
    from windtunnel.tracking.server import stop, wait_until_ready

    server = serve(location, port=port)
    try:
        wait_until_ready(server, port=port)
    except TrackingError:
        stop(server)
        raise
    print(address, flush=True)
    print("Ctrl-C ends the server", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        stop(server)
