"""Whether, and how often, a study records what gradients and steps look like while it trains."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from windtunnel.spec.strict import Strict


class DynamicsConfig(Strict):
    """Series of gradients and steps beside every curve; no part of what is computed."""

    every: Annotated[int, Field(ge=1, description="Updates between rows")] = 1
    window: Annotated[
        int,
        Field(
            ge=1,
            description="Updates between the weights that a checkpoint difference compares; a "
            "multiple of `every`",
        ),
    ] = 50

    @model_validator(mode="after")
    def _a_window_ends_on_a_row(self) -> Self:
        if self.window % self.every:
            raise ValueError(
                f"window = {self.window} is not a multiple of every = {self.every}: the row on "
                "which a window ends would be missing"
            )
        return self
