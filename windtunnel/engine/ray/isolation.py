"""A Ray of our own stands apart: loopback only, a token of its own, and no signal of ours.

Ray has no setting for any of it, so three of its private functions are replaced while it starts
(Ray 2.60). A Ray that keeps them elsewhere starts as it is, and is refused if it listens beyond
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
"""For killed processes to be gone."""


@contextmanager
def own_token() -> Iterator[None]:
    """A token that nobody else has, in this process's environment alone, for one cluster.

    Neither the user's token nor a file in the home folder has a part in it.
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
    """Ray reads mode and token once; a Ray without tokens has nothing to read."""
    with suppress(ImportError, AttributeError):
        raylet: Any = __import__("ray._raylet", fromlist=["Config"])
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def quiet() -> Iterator[None]:
    """A Ray that starts in here keeps our signal handlers, and prints nothing of its own.

    Its handler would exit at once and save nothing; how a segment failed is in its record.
    """
    with (
        _replaced("ray._private.utils", "set_sigterm_handler", lambda handler: None),
        _replaced("ray._private.worker", "listen_error_messages", lambda *arguments: None),
    ):
        yield


class Server(subprocess.Popen[bytes]):
    """A server of Ray in a session of its own; it and its workers are ended by SIGKILL alone."""

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
        """As `kill`: SIGTERM does not reach it."""
        self.kill()


@contextmanager
def apart() -> Iterator[list[Server]]:
    """A Ray that starts in here listens on loopback, and no signal to us or our group reaches it.

    `timeout`, schedulers and service managers signal every process of a group. The driver alone
    decides what a signal means: its workers save first. Yields the servers that Ray starts.
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
    """An attribute of a module is another one meanwhile, if module and attribute are there."""
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
    """What this process and its children listen on from now on."""

    def __init__(self) -> None:
        self._before = {port for process in _family() for port in _open_ports(process)}

    def refuse_new(self) -> None:
        """Look at the ports that were opened since.

        Raises:
            ConfigError: Another machine could connect to one.
        """
        found = {port for process in _family() for port in _open_ports(process)} - self._before
        if found:
            raise ConfigError(
                f"this version of Ray listens beyond this machine ({', '.join(sorted(found))}); "
                "install the version that constraints.txt names, or use --engine local"
            )


def _family() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def processes_of(servers: list[Server]) -> list[psutil.Process]:
    """Servers, and whatever they started; also what has lost its parent."""
    sessions = {server.pid for server in servers}
    found = []
    for process in psutil.process_iter() if sessions else ():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return found


def _open_ports(process: psutil.Process) -> set[str]:
    """Addresses off loopback that a process listens on."""
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.Error:  # ended meanwhile, or another user's
        return set()
    return {
        f"{each.laddr.ip}:{each.laddr.port}"
        for each in connections
        if each.status == psutil.CONN_LISTEN and not is_loopback(each.laddr.ip)
    }


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def end(processes: list[psutil.Process]) -> None:
    """Kill processes, and wait until they are gone; one that nobody has reaped is gone too."""
    started = {process.pid: process_started(process.pid) for process in processes}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + END_SECONDS
    while any(begun and process_started(pid) == begun for pid, begun in started.items()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
