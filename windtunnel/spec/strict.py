"""The base of every value a user can write: frozen, and without unknown keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen model that refuses unknown keys; vary it through `replace`, which checks again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with `changes` applied."""
        return type(self)(**{**self.model_dump(), **changes})


class Misfit(ValueError):
    """What does not fit the rest; `place` leads to it: keys and positions, from who checks on."""

    def __init__(self, message: str, *place: str | int) -> None:
        super().__init__(message)
        self.place = place


@contextmanager
def at(*place: str | int) -> Iterator[None]:
    """Say of what is refused within that it lies there, so that its own line can be named."""
    try:
        yield
    except ValueError as refused:
        within = refused.place if isinstance(refused, Misfit) else ()
        raise Misfit(str(refused), *place, *within) from None
