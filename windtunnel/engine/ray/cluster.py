"""Connection to Ray: a private Ray on loopback, or an existing cluster, which receives our code."""

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
    isolated_servers,
    kill_and_wait,
    own_token,
    processes_of,
    quiet,
)
from windtunnel.engine.ray.settings import ray_folder
from windtunnel.engine.ray.watchdog import server_watchdog
from windtunnel.errors import ConfigError, boundary
from windtunnel.runs.child_python import code_folder, package

CONNECT_SECONDS = 5.0

OBJECT_STORE_BYTES = 100 * 2**20
"""Only ids and reports pass through Ray, whose default would reserve 30% of memory."""


class _WorkersPath(list[str]):
    """The first entries of the workers' `sys.path`, without Ray's own additions.

    Ray adds the driver's working folder and its script's folder, whose modules would shadow the
    installed ones.
    """

    def extend(self, more: Iterable[str]) -> None:
        """Ignore the additions."""


@contextmanager
def connected(address: str | None, on_lost: Callable[[str], None]) -> Iterator[None]:
    """Connect to a private Ray, or to the cluster at `address`, while the body runs.

    When a server of the private Ray dies, `on_lost` gets the reason and this process ends.

    Raises:
        ConfigError: Ray does not start, or no cluster answers at `address`.
    """
    for name in ("ray", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is not None:
        _require_listener(address)
        options |= {"address": address, "runtime_env": {"py_modules": [str(package())]}}
        with _initialised(
            f"--address {address}: no Ray cluster answers there, or it refuses our token",
            "start one with `ray start --head` and give its token in RAY_AUTH_TOKEN, write the "
            "address as `ray start` prints it, for example --address 10.0.0.1:6379, or leave "
            "--address out",
            code="no-cluster",
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
            code="ray-does-not-start",
            on_lost=on_lost,
            job_config=JobConfig(_py_driver_sys_path=_WorkersPath([str(code_folder())])),
            **options,
        ):
            yield


@contextmanager
def _initialised(
    where: str,
    fix: str,
    *,
    code: str,
    on_lost: Callable[[str], None] | None = None,
    **options: Any,
) -> Iterator[None]:
    """Ray while the body runs; a private one if there is an `on_lost`."""
    if ray.is_initialized():
        raise ConfigError(
            "ray-already-runs", "this process has a Ray already; end it by ray.shutdown() first"
        )
    servers: list[Server] = []
    try:
        with boundary(where, fix, ConfigError, code=code), quiet():
            if on_lost is None:
                ray.init(**options)
            else:
                ports = OpenPorts()
                with isolated_servers() as servers:
                    ray.init(**options)
                ports.refuse_new()
        with server_watchdog(servers, on_lost) if on_lost else nullcontext():
            yield
    finally:
        remaining = processes_of(servers)
        _shutdown()
        kill_and_wait(remaining)


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
    """Refuse a closed port at once; Ray would retry for half a minute."""
    if address.startswith("ray://"):
        raise ConfigError(
            "ray-client-address",
            f"--address {address}: the sweep must run on a node of the cluster, not through Ray's "
            "client; run it there with --address auto",
            address=address,
        )
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # auto
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as refused:
        cause = refused.strerror or str(refused)
        raise ConfigError(
            "no-cluster",
            f"--address {address}: {cause}; start a cluster with "
            "`ray start --head`, or leave --address out",
            address=address,
            cause=cause,
        ) from None
