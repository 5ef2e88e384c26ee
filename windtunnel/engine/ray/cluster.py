"""A Ray of our own on loopback, or an existing cluster, which is sent our code."""

import gc
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray.job_config import JobConfig

from windtunnel.engine.ray.isolation import (
    OpenPorts,
    Server,
    apart,
    end,
    own_token,
    processes_of,
    quiet,
)
from windtunnel.engine.ray.settings import ray_folder
from windtunnel.engine.ray.watchdog import watched
from windtunnel.errors import ConfigError, boundary
from windtunnel.runs.child_python import code_folder, package

CONNECT_SECONDS = 5.0

OBJECT_STORE_BYTES = 100 * 2**20
"""Only ids and reports pass through Ray; its default would take 30% of memory."""


class _WorkersPath(list[str]):
    """What workers have first on their path; Ray's own additions are left out.

    Ray adds the driver's working folder and its script's, and whatever lies there would be run
    instead of what is installed.
    """

    def extend(self, more: Iterable[str]) -> None:
        """Nothing is added."""


@contextmanager
def connected(address: str | None, on_lost: Callable[[str], None]) -> Iterator[None]:
    """A Ray of our own, or the cluster at `address`, while the body runs.

    Where a server of our own is lost, `on_lost` is told why this process ends.

    Raises:
        ConfigError: Ray does not start here, or nothing answers there.
    """
    for name in ("ray", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is not None:
        _require_listener(address)
        options |= {"address": address, "runtime_env": {"py_modules": [str(package())]}}
        with _initialised(
            f"--address {address}: no Ray cluster answers there, or it refuses our token",
            "start one with `ray start --head` and give its token in RAY_AUTH_TOKEN, or leave "
            "--address out",
            job_config=JobConfig(_py_driver_sys_path=_WorkersPath()),
            **options,
        ):
            yield
        return
    with ray_folder() as folder, own_token():
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(folder),
        }
        with _initialised(
            "Ray does not start here",
            f"its logs are in {folder}; --engine local does without it",
            on_lost=on_lost,
            job_config=JobConfig(_py_driver_sys_path=_WorkersPath([str(code_folder())])),
            **options,
        ):
            yield


@contextmanager
def _initialised(
    where: str, fix: str, *, on_lost: Callable[[str], None] | None = None, **options: Any
) -> Iterator[None]:
    """Ray while the body runs; one of our own if there is an `on_lost`."""
    if ray.is_initialized():
        raise ConfigError("this process has a Ray already; end it by ray.shutdown() first")
    servers: list[Server] = []
    try:
        with boundary(where, fix, ConfigError), quiet():
            if on_lost is None:
                ray.init(**options)
            else:
                ports = OpenPorts()
                with apart() as servers:
                    ray.init(**options)
                ports.refuse_new()
        with watched(servers, on_lost) if on_lost else nullcontext():
            yield
    finally:
        left = processes_of(servers)
        _shutdown()
        end(left)


def _shutdown() -> None:
    """End Ray with no garbage of its own left.

    Tune leaves references to objects in cycles. Where another thread collects them while Ray shuts
    down, Ray ends this process with exit code 1 (Ray 2.60, `core_worker_process.cc`).
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


def _require_listener(address: str) -> None:
    """Ray would retry for half a minute; a closed port says at once that nobody is there."""
    if address.startswith("ray://"):
        raise ConfigError(
            f"--address {address}: the sweep must run on a node of the cluster, not through Ray's "
            "client; run it there with --address auto"
        )
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # auto
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as refused:
        raise ConfigError(
            f"--address {address}: {refused.strerror or refused}; start a cluster with "
            "`ray start --head`, or leave --address out"
        ) from None
