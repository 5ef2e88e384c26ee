"""A look that is taken again and again, in a thread beside the work that it watches."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

JOIN_SECONDS = 10.0
"""For a look in progress when the work is over; one that waits for a lost node is left behind."""


@contextmanager
def beside(look: Callable[[threading.Event], None], *, seconds: float, name: str) -> Iterator[None]:
    """While the body runs, `look` every so many seconds; the event says that it is over."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            look(over)

    watcher = threading.Thread(target=watch, name=name, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(timeout=JOIN_SECONDS)
