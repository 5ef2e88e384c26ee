"""Ends a sweep within seconds when a server of its own Ray is lost, in our words.

Ray waits for its control server for a minute, in calls that nothing can interrupt, and then ends
the process with its own text. So this process ends itself: the store has all that was saved.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import psutil

from windtunnel.engine.ray.apart import Server, end, processes_of
from windtunnel.engine.ray.beside import beside

NEEDED = {"gcs_server": "control server", "raylet": "node manager"}

GLANCE_SECONDS = 0.5

SAVE_SECONDS = 2.0
"""For workers to save what they are at; what is not saved is computed again."""

EXIT_LOST = 3


def watched(servers: list[Server], on_lost: Callable[[str], None]) -> AbstractContextManager[None]:
    """While the body runs, a lost server ends this process; `on_lost` lets workers save before."""

    def look(over: threading.Event) -> None:
        for server in servers:
            if server.name in NEEDED and server.poll() is not None and not over.is_set():
                _end_all(server, servers, on_lost)

    return beside(look, seconds=GLANCE_SECONDS, name="watchdog")


def _end_all(lost: Server, servers: list[Server], on_lost: Callable[[str], None]) -> None:
    what = f"Ray's {NEEDED[lost.name]} ({lost.name}, process {lost.pid}) was lost"
    try:
        with suppress(Exception):  # a store that is gone too: nothing can be saved
            on_lost(what)
        processes = processes_of(servers)
        workers = [process for process in processes if _is_worker(process)]
        end([process for process in processes if process not in workers])  # each would tell of it
        time.sleep(SAVE_SECONDS)
        end(workers)
    finally:
        _say(
            f"error: {what}: killed, or out of memory; what was saved is kept: run the same "
            "command to continue\n"
        )
        os._exit(EXIT_LOST)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody listens
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "Trainable" in process.name()
    except psutil.Error:
        return False
