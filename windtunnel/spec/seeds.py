"""Seeds, and the names of experiments, as every kind of experiment writes them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from windtunnel.spec.lists import MOST_LISTED, differing


def _as_seeds(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{value!r}: expected how many seeds, such as 2, or a list of them, such as [0, 1]"
        )
    if value > MOST_LISTED:
        raise ValueError(f"{value}: at most {MOST_LISTED} seeds; ask for fewer")
    return tuple(range(value))


ExperimentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=150)]

Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_seeds, json_schema_input_type=int | list[int]),
    Field(
        min_length=1,
        max_length=MOST_LISTED,
        description="How many, or a list; a seed sets both init and data order",
    ),
    AfterValidator(differing),
]
