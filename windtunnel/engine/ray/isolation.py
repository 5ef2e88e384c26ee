"""Isolation of a private Ray: loopback only, its own token, and none of our signals.

Ray has no setting for this, so three of its private functions are replaced while it starts (Ray
2.60). A Ray version without these functions starts unchanged, and is refused if it listens beyond
this machine.
"""

import ipaddress
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from windtunnel.errors import ConfigError
from windtunnel.runs.lease import process_started

STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}

TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

END_SECONDS = 2.0
"""Timeout for killed processes to disappear."""


@contextmanager
def own_token() -> Iterator[None]:
    """A random token for one cluster, in this process's environment only.

    The user's own token and token file are not used.
    """
    before = {name: os.environ.get(name) for name in TOKEN}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    read_token_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        read_token_again()


def read_token_again() -> None:
    """Make Ray read mode and token again, which it caches; older Rays have no tokens."""
    with suppress(ImportError, AttributeError):
        raylet: Any = __import__("ray._raylet", fromlist=["Config"])
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def quiet() -> Iterator[None]:
    """Start Ray in the body without its signal handlers and its output.

    Its handler would exit at once without saving. The record says how a segment failed.
    """
    with (
        _replaced("ray._private.utils", "set_sigterm_handler", lambda handler: None),
        _replaced("ray._private.worker", "listen_error_messages", lambda *arguments: None),
    ):
        yield


class Server(subprocess.Popen[bytes]):
    """A Ray server in its own session; only SIGKILL ends it and its workers."""

    def __init__(
        self, *arguments: Any, preexec_fn: Callable[[], None] | None = None, **options: Any
    ) -> None:
        def begin() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
            if preexec_fn is not None:
                preexec_fn()

        options |= {"preexec_fn": begin, "start_new_session": True}
        super().__init__(*arguments, **options)
        self.name = Path(self.args[0]).name  # type: ignore[index, arg-type]

    def terminate(self) -> None:
        """Kill it, because SIGTERM does not reach it."""
        self.kill()


@contextmanager
def isolated_servers() -> Iterator[list[Server]]:
    """The servers of a Ray started in the body: on loopback, and out of reach of our signals.

    `timeout`, schedulers and service managers signal every process of a group. Only the driver
    handles a signal, so that its workers save first.
    """
    servers: list[Server] = []

    def start(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    services = "ray._private.services"
    with ExitStack() as replaced:
        replaced.enter_context(_replaced(services, "resolve_ip_for_localhost", lambda host: host))
        if sys.platform != "win32":
            replaced.enter_context(_replaced(services, "ConsolePopen", start))
        yield servers


@contextmanager
def _replaced(module: str, name: str, by: Any) -> Iterator[None]:
    """Replace an attribute of a module while the body runs, if it exists."""
    try:
        place = __import__(module, fromlist=[name])
        before = getattr(place, name)
    except (ImportError, AttributeError):
        yield
        return
    setattr(place, name, by)
    try:
        yield
    finally:
        setattr(place, name, before)


class OpenPorts:
    """Ports that this process and its children open from now on."""

    def __init__(self) -> None:
        self._before = {port for process in _family() for port in _open_ports(process)}

    def refuse_new(self) -> None:
        """Check the ports opened since.

        Raises:
            ConfigError: Another machine could connect to one of them.
        """
        now = {port for process in _family() for port in _open_ports(process)}
        if opened := sorted(now - self._before):
            raise ConfigError(
                "listens-beyond-loopback",
                f"this version of Ray listens beyond this machine ({', '.join(opened)}); "
                "install the version that constraints.txt names, or use --engine local",
                addresses=opened,
            )


def _family() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def processes_of(servers: list[Server]) -> list[psutil.Process]:
    """The servers and all processes that they started, orphans included."""
    sessions = {server.pid for server in servers}
    members = []
    for process in psutil.process_iter() if sessions else ():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) in sessions:
                members.append(process)
    return members


def _open_ports(process: psutil.Process) -> set[str]:
    """Non-loopback addresses that a process listens on."""
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.Error:  # ended meanwhile, or another user's
        return set()
    return {
        f"{connection.laddr.ip}:{connection.laddr.port}"
        for connection in connections
        if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr.ip)
    }


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def kill_and_wait(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they are gone; zombies count as gone."""
    started = {process.pid: process_started(process.pid) for process in processes}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + END_SECONDS
    while any(begun and process_started(pid) == begun for pid, begun in started.items()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
