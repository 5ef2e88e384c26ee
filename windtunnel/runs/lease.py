"""One writer at a time: a lease is a file that only one process can create.

Its owner keeps it fresh. Readers of results never look at it. No wall clock decides anything: on
the owner's machine the process itself is looked at, elsewhere the file's own modification times are
compared with each other, and a jump of the clock that set them is seen through by waiting. A file
that names no process, as a power cut may leave one, is abandoned unless it shows a heartbeat.

Beside a lease whose holder works lies its pulse, a file whose time moves while the work does: a
process that hangs goes on holding its lease, and shows here.
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
"""So long is a lease that looks abandoned watched for a heartbeat before it is taken away."""


NAMES = {"token": str, "host": str, "pid": int}
"""What a lease must say for somebody to hold it."""


class LeaseHeld(StoreError):
    """Another live process holds the lease."""


class Lease:
    """Hold `path` while inside the context.

    On the owner's machine a lease ends with its process; elsewhere it ends after two minutes
    without a heartbeat, which is a new modification time of the file.

    Args:
        work: Something that is another one whenever the work has gone on; its pulse is watched.

    Attributes:
        note: What was odd about the file that stood in the way, and was removed; empty if nothing.
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
        """Nothing, while the lease is ours.

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
            os.link(scratch, self.path)  # atomic, and whole: never an empty lease to be read
        except FileExistsError:
            return False
        except FileNotFoundError as gone:
            if self.path.parent.is_dir():  # a new holder has cleared our scratch file away
                return False
            raise cannot_write(self.path.parent, gone, "the store is gone") from None
        except OSError as refused:
            raise cannot_write(self.path.parent, refused, "the store cannot be written") from None
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
        return True

    def _remove_if_stale(self) -> None:
        """Clear the way for another try, or say who holds the lease.

        Whoever removes an abandoned file holds a lock on it, and looks whether it still is the one
        at `path`: of several that find it abandoned none removes the lease of the next holder.
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
                return  # released, or taken by another, between our two looks
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
        """Remove a file that names no process, once it has been watched for a heartbeat."""
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
    """When the work under the lease at `path` last went on, by the file server's clock; or None."""
    try:
        return _pulse(path).stat().st_mtime
    except OSError:
        return None


def quiet_seconds(path: Path) -> float | None:
    """Since the work under the lease at `path` last went on; None where it has no pulse.

    By this machine's clock, and by the file server's before a silence is called one.
    """
    pulse = pulse_of(path)
    if pulse is None:
        return None
    quiet = time.time() - pulse
    if quiet > STALE_SECONDS / 2:
        with suppress(OSError):  # a store that may only be read
            quiet = _now(path) - pulse
    return max(0.0, quiet)


def end_holder(path: Path, pulse: float) -> str | None:
    """Kill the live holder of a lease, if it is of this machine and has shown no other pulse since.

    Returns:
        Which process it was; None where it is none that this one can kill.
    """
    owner = _owner(path)
    if owner is None or owner.get("machine") != _machine() or not _is_alive(owner, path):
        return None
    if pulse_of(path) != pulse:
        return None
    try:
        os.kill(int(str(owner["pid"])), signal.SIGKILL)
    except OSError:  # gone meanwhile, or another user's
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
    """Who holds a lease; None where the file is not there, or names nobody."""
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
    except OSError:  # a store that may only be read
        return True


def _now(path: Path) -> float:
    """The time by the clock that sets the times of files beside `path`.

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
    """Whether a lease of another machine, which looks abandoned, shows a sign of life after all.

    The clock of a file server may jump by hours, so that a fresh file looks old or old by far.
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
    """Where process numbers mean the same: one boot of one host and, in it, one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return socket.gethostname()


def process_started(pid: int) -> str | None:
    """When a live process started; None when there is no such process.

    On Linux counted from boot, for the time of day that is made of it moves with the clock.
    """
    try:
        if sys.platform != "linux":
            return f"{psutil.Process(pid).create_time():.1f}"
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (psutil.NoSuchProcess, OSError):
        return None
    return None if fields[0] in "ZX" else fields[19]  # dead, or fields 3 and 22 of proc(5)
