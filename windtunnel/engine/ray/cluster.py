"""A Ray of our own on loopback, or an existing cluster, which is sent our code."""

import logging
import socket
from typing import Any

import ray

from windtunnel.engine.ray.nodes import package
from windtunnel.errors import ConfigError

CONNECT_SECONDS = 5.0

OBJECT_STORE_BYTES = 100 * 2**20
"""Only ids and reports pass through Ray; its default would take 30% of memory."""


def start(address: str | None) -> None:
    """Start a Ray of our own, or join the cluster at `address`.

    Raises:
        ConfigError: Nothing answers there.
    """
    for name in ("ray", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        _require_listener(address)
        options |= {"address": address, "runtime_env": {"py_modules": [str(package())]}}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as unreachable:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there, or it refuses our token "
            f"({unreachable}); start one with `ray start --head` and give its token in "
            "RAY_AUTH_TOKEN, or leave --address out"
        ) from None


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
