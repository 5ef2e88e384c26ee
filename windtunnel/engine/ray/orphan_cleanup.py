"""Cleanup of Ray's orphaned processes after its driver is killed.

Ray's servers die with their driver, and its workers within two seconds. Its two agents, however,
retry for 60 s to reach a server that is gone (Ray 2.60, measured).
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
def orphan_cleanup() -> Iterator[None]:
    """Run a helper process that kills Ray's processes if this process is killed."""
    known = {child.pid: process_started(child.pid) for child in psutil.Process().children(True)}
    helper = subprocess.Popen(
        [sys.executable, "-m", __name__, *(f"{pid}:{start}" for pid, start in known.items())],
        stdin=subprocess.PIPE,  # closes when this process ends, however it ends
        env=child_environment(),
        start_new_session=True,
    )
    try:
        yield
    finally:
        helper.kill()
        helper.communicate()


def main() -> None:
    """Wait for the end of stdin, then kill the given processes that still run."""
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
