"""The mirror beside a sweep: passes in the background and one at the end, never in the way."""

import sys
import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from windtunnel.cli.tracking import log_results
from windtunnel.errors import TrackingError, WindtunnelError, boundary
from windtunnel.redact import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from windtunnel.runs.study import Study
    from windtunnel.tracking import Mirror

MIRROR_SECONDS = 20.0
"""Between two passes of the mirror: seldom enough to leave the cores to training."""

EXIT_SECONDS = 30.0
"""For the pass in progress when training has ended; a server that hangs is given up after 10."""


class Mirroring(AbstractContextManager["Mirroring"]):
    """Mirrors `study()` while the body runs, if there is a mirror.

    A server that is away is said once, and not waited for: a pass ends with its first request that
    fails, and the last one is left out when the one before it failed.
    """

    def __init__(self, mirror: "Mirror | None", study: "Callable[[], Study]") -> None:
        self.mirror, self.study = mirror, study
        self._away = self._said = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._passes, name="mirror", daemon=True)

    def __enter__(self) -> Self:
        if self.mirror is not None:
            self._thread.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._ended.set()
        if self.mirror is not None:
            self._thread.join(timeout=EXIT_SECONDS)
            if self._thread.is_alive():
                self._complain(f"{self.mirror.location.shown} is slow; `windtunnel sync` goes on")

    def finish(self) -> None:
        """Mirror what the last pass left, and the results."""
        if self.mirror is not None and not self._away:
            self._pass(results=True)

    def _passes(self) -> None:
        while not self._ended.wait(MIRROR_SECONDS):
            self._pass(results=False)

    def _pass(self, *, results: bool) -> None:
        assert self.mirror is not None
        self.mirror.study = self.study()
        try:
            with boundary(self.mirror.location.shown, "`windtunnel sync` goes on", TrackingError):
                self.mirror.sync()
                if results:
                    log_results(self.mirror)
            self._away = False
        except WindtunnelError as away:  # training goes on, whatever it is
            self._complain(str(away))

    def _complain(self, text: str) -> None:
        if not self._said:
            print(f"tracking: {redacted(text)}", file=sys.stderr)
        self._away = self._said = True
