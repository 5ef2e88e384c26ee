"""Seeds, and the names of experiments, as every kind of experiment writes them."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _as_seeds(value: Any) -> Any:
    return tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


ExperimentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_seeds, json_schema_input_type=int | list[int]),
    Field(min_length=1, description="How many, or a list; a seed sets both init and data order"),
]
