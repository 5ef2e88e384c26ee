"""Leases: files that only one process can create, so each segment has one writer at a time.

The holder keeps its lease fresh; readers of results ignore leases. No wall clock decides anything.
On the holder's machine the process itself is checked. From other machines the file's modification
times are compared with each other, and waiting shows whether the clock that set them has jumped. A
file that names no process, as a power cut may leave it, is abandoned unless it shows a heartbeat.

Beside a lease lies its pulse, a file whose modification time advances only while work does. A
hanging process keeps its lease, but its pulse stops.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from windtunnel.errors import StoreError, cannot_write, cause_of
from windtunnel.runs.files import make_folder

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
"""Silence after which a lease of another machine counts as abandoned (assumed: many heartbeats)."""

WATCH_SECONDS = 3 * HEARTBEAT_SECONDS
"""A lease that looks abandoned is watched so long for a heartbeat before it is removed."""


NAMES = {"token": str, "host": str, "pid": int}
"""Keys that a lease must have to name a holder."""


class LeaseHeld(StoreError):
    """Another live process holds the lease."""


class Lease:
    """A context manager that holds the lease at `path`.

    On the holder's machine a lease ends with its process; elsewhere it ends after two minutes
    without a heartbeat, which is a new modification time of the file.

    Args:
        work: A value that changes whenever the work advances; it drives the pulse.

    Attributes:
        note: What was wrong with a leftover lease that was removed; empty if there was none.
    """

    def __init__(self, path: Path, *, what: str, work: Callable[[], object] | None = None) -> None:
        self.path, self.what, self.note = path, what, ""
        self._work = work
        self.token = uuid.uuid4().hex
        self._released = threading.Event()

    def __enter__(self) -> Self:
        while not self._create():
            self._remove_if_stale()
        for left in self.path.parent.glob(f".{self.path.name}.*"):  # by holders that were killed
            left.unlink(missing_ok=True)
        if self._work is not None:
            with suppress(OSError):
                _pulse(self.path).touch()
        threading.Thread(target=self._beat, name=f"lease {self.what}", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        if self._is_ours():
            _pulse(self.path).unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Verify that the lease is still ours.

        Raises:
            LeaseHeld: Another process has taken it, after this one was suspended for minutes.
        """
        if not self._is_ours():
            raise LeaseHeld(
                "lease-lost",
                f"{self.what}: its lease was lost while this process gave no sign of life; "
                "run the same command again",
                what=self.what,
            )

    def _is_ours(self) -> bool:
        return (_owner(self.path) or {}).get("token") == self.token

    def _create(self) -> bool:
        owner = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": _machine(),
            "process_started": process_started(os.getpid()),
        }
        scratch = self.path.with_name(f".{self.path.name}.{self.token}")
        try:
            make_folder(self.path.parent)
            with scratch.open("w") as file:
                file.write(json.dumps(owner))
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave an empty lease
            os.link(scratch, self.path)  # atomic: readers never see an empty lease
        except FileExistsError:
            return False
        except FileNotFoundError as gone:
            if self.path.parent.is_dir():  # a new holder has removed our scratch file
                return False
            raise cannot_write(self.path.parent, gone, "the store is gone") from None
        except OSError as refused:
            raise cannot_write(self.path.parent, refused, "the store cannot be written") from None
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
        return True

    def _remove_if_stale(self) -> None:
        """Remove an abandoned lease, or refuse with its holder.

        The remover locks the abandoned file and checks that it is still the one at `path`. So of
        several processes that find it abandoned, none removes the lease of the next holder.
        """
        try:
            file = self.path.open("r+b")
        except FileNotFoundError:
            return
        except OSError as refused:
            raise StoreError(
                "unreadable",
                f"{self.path}: the lease of {self.what} cannot be read: {cause_of(refused)}; "
                "correct its permissions, or remove it once nothing uses the store",
                file=self.path,
                what=self.what,
                cause=cause_of(refused),
            ) from None
        with suppress(FileNotFoundError), file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            owner = _owner(self.path)
            if not os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                return  # released, or taken by another process, between our two reads
            if owner is None:
                self._remove_nameless()
                return
            if _is_alive(owner, self.path) or _beats(owner, self.path):
                raise LeaseHeld(
                    "in-use",
                    f"{self.what} is in use by {_named(owner)}; wait for it, or stop it first",
                    what=self.what,
                    process=owner["pid"],
                    host=owner["host"],
                )
            self.path.unlink()

    def _remove_nameless(self) -> None:
        """Remove a file that names no process, after watching it for a heartbeat."""
        if _changes(self.path):
            raise LeaseHeld(
                "in-use",
                f"{self.what} is in use by a process that keeps {self.path} fresh, though the file "
                "no longer says which; wait for it, or stop it first",
                what=self.what,
                file=self.path,
            )
        self.path.unlink()
        self.note = f"{self.path} named no process (empty, torn or foreign) and was removed"
        log.warning("%s", self.note)

    def _beat(self) -> None:
        before = self._work() if self._work else None
        while not self._released.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self.path)
                if self._work and (now := self._work()) != before:
                    before = now
                    os.utime(_pulse(self.path))


def pulse_of(path: Path) -> float | None:
    """Time of the last progress under the lease at `path`, by the file server's clock; or None."""
    try:
        return _pulse(path).stat().st_mtime
    except OSError:
        return None


def quiet_seconds(path: Path) -> float | None:
    """Seconds since the last progress under the lease at `path`; None where it has no pulse.

    Measured by this machine's clock, and confirmed by the file server's clock before a silence is
    reported.
    """
    pulse = pulse_of(path)
    if pulse is None:
        return None
    quiet = time.time() - pulse
    if quiet > STALE_SECONDS / 2:
        with suppress(OSError):  # a read-only store
            quiet = _now(path) - pulse
    return max(0.0, quiet)


def end_holder(path: Path, pulse: float) -> str | None:
    """Kill the live holder of a lease if it is on this machine and its pulse has not moved since.

    Returns:
        The process that was killed; None where this process cannot kill it.
    """
    owner = _owner(path)
    if owner is None or owner.get("machine") != _machine() or not _is_alive(owner, path):
        return None
    if pulse_of(path) != pulse:
        return None
    try:
        os.kill(int(str(owner["pid"])), signal.SIGKILL)
    except OSError:  # already gone, or another user's
        return None
    return _named(owner)


def _pulse(path: Path) -> Path:
    return path.with_name(f".{path.name}.pulse")


def holder(path: Path) -> str | None:
    """Process and host of the live holder of the lease at `path`; None when it is free."""
    owner = _owner(path)
    if owner is None or not _is_alive(owner, path):
        return None
    return _named(owner)


def _named(owner: dict[str, object]) -> str:
    return f"process {owner['pid']} on {owner['host']}"


def _owner(path: Path) -> dict[str, object] | None:
    """The holder of a lease; None where the file is missing or names nobody."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(owner, dict) or not NAMES.items() <= _types(owner).items():
        return None
    is_here = owner.get("machine") == _machine()
    return owner if not is_here or isinstance(owner.get("process_started"), str) else None


def _types(owner: dict[str, object]) -> dict[str, type]:
    return {name: type(value) for name, value in owner.items()}


def _is_alive(owner: dict[str, object], path: Path) -> bool:
    if owner.get("machine") == _machine():
        return process_started(int(str(owner["pid"]))) == owner["process_started"]
    try:
        return abs(_now(path) - path.stat().st_mtime) < STALE_SECONDS
    except FileNotFoundError:  # the lease was released, or our file cleared away by a new holder
        return path.exists()
    except OSError:  # a read-only store
        return True


def _now(path: Path) -> float:
    """The time by the clock that sets modification times beside `path`.

    Raises:
        FileNotFoundError: A new holder has cleared our file away.
    """
    now = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        now.touch()
        return now.stat().st_mtime
    finally:
        with suppress(OSError):
            now.unlink(missing_ok=True)


def _beats(owner: dict[str, object], path: Path) -> bool:
    """Whether a lease of another machine that looks abandoned still shows a heartbeat.

    The clock of a file server may jump by hours, which makes a fresh file look old.
    """
    return owner.get("machine") != _machine() and _changes(path)


def _changes(path: Path) -> bool:
    """Whether a lease gets a new modification time while it is watched."""
    with suppress(FileNotFoundError):
        before = path.stat().st_mtime_ns
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(HEARTBEAT_SECONDS / 5)
            if path.stat().st_mtime_ns != before:
                return True
    return False


def _machine() -> str:
    """The scope in which process ids are unique: one boot of one host and, in it, one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return socket.gethostname()


def process_started(pid: int) -> str | None:
    """Start time of a live process; None when there is no such process.

    On Linux it is counted from boot, because the time of day derived from it moves with the clock.
    """
    try:
        if sys.platform != "linux":
            return f"{psutil.Process(pid).create_time():.1f}"
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (psutil.NoSuchProcess, OSError):
        return None
    return None if fields[0] in "ZX" else fields[19]  # dead, or fields 3 and 22 of proc(5)
