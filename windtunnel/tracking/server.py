"""MLflow's own server over a database, on loopback, without the parts that a laptop never needs."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from urllib.request import ProxyHandler, build_opener

from windtunnel.errors import ConfigError, TrackingError, cause_of
from windtunnel.runs.child_python import child_environment
from windtunnel.tracking.experiment_page import view_query
from windtunnel.tracking.mlflow import Location, create_database
from windtunnel.user_folders import user_cache

LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""With job execution it starts in 13 s and takes 2.4 GB, without it 6 s and 0.5 GB (measured)."""

HIGHEST_PORT = 65_535


READY_SECONDS = 60.0


def link(base: str, experiment_id: str, study: str) -> str:
    """The address of a study's runs in MLflow's pages, by the view that selects them.

    MLflow ignores a view beside any other selection in the address.
    """
    return f"{base}/#/experiments/{experiment_id}/runs?{view_query(study)}"


def serve(location: Location, *, port: int) -> subprocess.Popen[bytes]:
    """Start the server on 127.0.0.1; the caller waits for it or ends it.

    Raises:
        ConfigError: The port is in use, or out of range.
        TrackingError: The database file cannot be written.
    """
    create_database(location)
    if not 1 <= port <= HIGHEST_PORT:
        raise ConfigError(
            "out-of-range",
            f"--port {port}: allowed are 1 to {HIGHEST_PORT}",
            port=port,
            lowest=1,
            highest=HIGHEST_PORT,
        )
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as refused:
            raise ConfigError(
                "in-use",
                f"--port {port} cannot be used on 127.0.0.1: {cause_of(refused)}; choose another",
                port=port,
                cause=cause_of(refused),
            ) from None
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    served = {"MLFLOW_BACKEND_STORE_URI": location.absolute().uri}  # no password in a command line
    if artifacts := location.artifacts:
        served["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = artifacts
    # The server must neither find modules nor write files in the working folder.
    return subprocess.Popen(
        command,
        env=child_environment() | LEAN | served,
        cwd=user_cache("server"),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until_ready(server: subprocess.Popen[bytes], *, port: int) -> None:
    """Return once the server answers.

    Raises:
        TrackingError: The server ended, or did not answer within a minute.
    """
    here = build_opener(ProxyHandler({}))  # a proxy of the environment does not know this machine
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with here.open(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.5)
    raise TrackingError(
        "no-answer",
        f"MLflow's server does not answer on 127.0.0.1:{port}; try another --port",
        port=port,
        seconds=READY_SECONDS,
    )


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the workers it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
            return
