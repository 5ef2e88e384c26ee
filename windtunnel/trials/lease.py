"""One writer at a time: a lease is a file that only one process can create.

Its owner keeps it fresh. Readers of results never look at it.
"""

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from windtunnel.errors import StoreError

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
"""Silence after which a lease of another host counts as abandoned (assumed: many heartbeats)."""


class LeaseHeld(StoreError):
    """Another live process holds the lease."""


class Lease:
    """Hold `path` while inside the context.

    On the owner's host a lease ends with its process; elsewhere it ends after two minutes without a
    heartbeat. The heartbeat is the file's own modification time, so clocks need not agree.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self.path, self.what = path, what
        self.token = uuid.uuid4().hex
        self._released = threading.Event()

    def __enter__(self) -> Self:
        while not self._create():
            self._remove_if_stale()
        threading.Thread(target=self._beat, name=f"lease {self.what}", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        if _owner(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        owner = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
        }
        scratch = self.path.with_name(f".{self.path.name}.{self.token}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps(owner))
            os.link(scratch, self.path)  # atomic, and whole: never an empty lease to be read
        except FileExistsError:
            return False
        except OSError as refused:
            raise StoreError(
                f"{self.path.parent}: the store cannot be written: {refused.strerror}; "
                "check `store:` in the study file, its permissions and free space"
            ) from None
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
        return True

    def _remove_if_stale(self) -> None:
        """Clear the way for another try, or say who holds the lease."""
        owner = _owner(self.path)
        if not owner:
            return  # released between our two looks
        if _is_alive(owner, self.path):
            raise LeaseHeld(
                f"{self.what} is in use by process {owner['pid']} on {owner['host']}; "
                "wait for it, or stop it first"
            )
        aside = self.path.with_name(f".{self.path.name}.stale.{self.token}")
        with suppress(FileNotFoundError):  # of several that find it stale, one moves it
            self.path.rename(aside)
            aside.unlink()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self.path)


def holder(path: Path) -> str | None:
    """Process and host of the live holder of the lease at `path`; None when it is free."""
    owner = _owner(path)
    if not owner or not _is_alive(owner, path):
        return None
    return f"process {owner['pid']} on {owner['host']}"


def _owner(path: Path) -> dict[str, object]:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_alive(owner: dict[str, object], path: Path) -> bool:
    if owner["host"] == socket.gethostname():
        try:
            process = psutil.Process(int(str(owner["pid"])))
            same = abs(process.create_time() - float(str(owner["process_started"]))) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
    now = path.with_name(f".{path.name}.now")
    try:
        now.touch()
        return now.stat().st_mtime - path.stat().st_mtime < STALE_SECONDS
    except FileNotFoundError:
        return False
    finally:
        now.unlink(missing_ok=True)
