"""A Ray of our own on loopback, or an existing cluster; how many trials it holds at once."""

import logging
import socket
from typing import Any

import ray

from windtunnel.errors import ConfigError
from windtunnel.spec.config import Resources

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
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as unreachable:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({unreachable}); "
            "start one with `ray start --head` and give its token in RAY_AUTH_TOKEN, or leave "
            "--address out"
        ) from None


def _require_listener(address: str) -> None:
    """Ray would retry for half a minute; a closed port says at once that nobody is there."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # auto, or a ray:// address
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as refused:
        raise ConfigError(
            f"--address {address}: {refused.strerror or refused}; start a cluster with "
            "`ray start --head`, or leave --address out"
        ) from None


def slots_of(resources: Resources) -> int:
    """How many trials the cluster holds at once.

    Raises:
        ConfigError: Not one.
    """
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    slots = int(have.get("CPU", 0) // resources.cpus_per_trial)
    if resources.gpus_per_trial:
        slots = min(slots, int(have.get("GPU", 0) / resources.gpus_per_trial))
    if slots < 1:
        raise ConfigError(
            f"a trial asks for {resources.cpus_per_trial} CPUs and {resources.gpus_per_trial:g} "
            f"GPUs; the cluster has {have.get('CPU', 0):g} and {have.get('GPU', 0):g}; "
            "lower resources.cpus_per_trial or gpus_per_trial"
        )
    return min(slots, resources.concurrency or slots)
