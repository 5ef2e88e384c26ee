"""One mirror of a store at a time: two that each make the run of a segment would double it."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from windtunnel.errors import StoreError, TrackingError
from windtunnel.trials.lease import Lease, LeaseHeld
from windtunnel.trials.store import Store

WAIT_SECONDS = 20.0
"""For a pass of another mirror to end, which takes a second or two as a rule."""

GLANCE_SECONDS = 0.2


class Turn:
    """The right of one process to mirror a store, taken anew for every pass."""

    def __init__(self, store: Store) -> None:
        self._folder = store.root / "tracking"
        self._token = uuid.uuid4().hex

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """While the body runs nobody else mirrors; whether somebody else may have since our last.

        Where nothing can be written, as in a store that may only be read, no turn is kept.

        Raises:
            TrackingError: Another process goes on mirroring.
        """
        lease = self._lease()
        try:
            yield self._changed_hands()
        finally:
            if lease is not None:
                lease.__exit__(None, None, None)

    def _lease(self) -> Lease | None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return Lease(
                    self._folder / "lease.json", what="the mirror of this store"
                ).__enter__()
            except LeaseHeld as held:
                if time.monotonic() > deadline:
                    raise TrackingError(f"{held}; `windtunnel sync` fills the gap then") from None
                time.sleep(GLANCE_SECONDS)
            except StoreError:
                return None

    def _changed_hands(self) -> bool:
        """Whether the last turn was not ours; it is now."""
        last = self._folder / "last"
        with suppress(OSError):
            if last.read_text() == self._token:
                return False
        with suppress(OSError):
            last.write_text(self._token)
        return True
