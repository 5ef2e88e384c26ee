"""The base of every value a user can write: frozen, and without unknown keys."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen model that refuses unknown keys; vary it through `replace`, which checks again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with `changes` applied."""
        return type(self)(**{**self.model_dump(), **changes})
