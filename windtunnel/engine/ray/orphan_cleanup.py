"""Ends what Ray leaves behind for a minute where its driver is killed.

Ray's servers die with their driver, and its workers within two seconds; but its two agents first
try, for 60 s, to tell the server that is gone of the raylet that is gone (Ray 2.60, measured).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from windtunnel.runs.child_python import child_environment
from windtunnel.runs.lease import process_started


@contextmanager
def reaper() -> Iterator[None]:
    """A small process beside this one, which kills Ray's when this one is killed."""
    known = {child.pid: process_started(child.pid) for child in psutil.Process().children(True)}
    beside = subprocess.Popen(
        [sys.executable, "-m", __name__, *(f"{pid}:{start}" for pid, start in known.items())],
        stdin=subprocess.PIPE,  # it ends with us, however we end
        env=child_environment(),
        start_new_session=True,
    )
    try:
        yield
    finally:
        beside.kill()
        beside.communicate()


def main() -> None:
    """Wait for the end of the input, then kill those of the processes that are still there."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a service manager signals this process too
    sys.stdin.read()
    for argument in sys.argv[1:]:
        pid, _, start = argument.partition(":")
        if process_started(int(pid)) == start:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main()
