"""The base of every value a user can write: frozen, and without unknown keys.

Values with a text form of their own in a study file, such as `10N` and `64x4`.

Lists of values as a study file writes them: none too long, no value twice.

Durations with a unit: `10N` (multiples of the parameter count), `2.5e6 tokens`, `5000 steps`.

Room on a disk: a number of bytes, or text such as `20 GB`.

Size: the (width, depth) of one model of a family, written `WIDTHxDEPTH`.

Seeds, and the names of experiments, as every kind of experiment writes them.

Paths as a study file writes them: `~` means the home; anything else is taken as it stands.

What a shell or a cluster would give another meaning, `$VAR` and URLs, is refused: it would make a
folder of that very name.
"""

import difflib
import math
import re
import unicodedata
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema


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


class Written:
    """Read by `parse`, written by `str`; `json_schema` is what editors are told."""

    __slots__ = ()

    json_schema: ClassVar[dict[str, Any]]

    @classmethod
    def parse(cls, value: object) -> Self:
        """The value that `value` stands for; a ValueError says what is allowed."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return cls.json_schema


Item = TypeVar("Item", bound=Hashable)

MOST_LISTED = 1000
"""Values of one list: horizons, seeds, an axis (assumed: a study of more is a mistake)."""


def differing(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same items.

    Raises:
        ValueError: Two are equal.
    """
    seen = set[Item]()
    for item in items:
        if item in seen:
            raise ValueError(f"{item} is there twice; write it once")
        seen.add(item)
    return items


NUMBER = r"[0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?"
DURATION_PATTERN = rf"^\s*({NUMBER})\s*(N|tokens|steps)\s*$"
LONGEST = 1e18
"""Of any unit (assumed); what follows from a duration stays a finite number."""
DURATION_UNITS = {"n": "N", "tokens": " tokens", "steps": " steps"}
"""As a guess at a mistyped one knows them, and as they are written after a number."""


@dataclass(frozen=True, slots=True)
class Duration(Written):
    """A length of training in the unit that the user chose."""

    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": DURATION_PATTERN,
        "examples": ["10N", "2.5e6 tokens"],
    }

    amount: float
    unit: Literal["N", "tokens", "steps"]

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Read `10N`, `2.5e6 tokens` or `5000 steps`; a bare number has no unit and is refused."""
        if isinstance(text, Duration):
            return text
        match = re.match(DURATION_PATTERN, text) if isinstance(text, str) else None
        if match is None:
            hint = f"{text}N, '{text} tokens' or '{text} steps'" if _is_number(text) else "10N"
            raise ValueError(
                f"{text!r} is no duration: write a number with its unit "
                f"(N = params, tokens or steps), for example {hint}{_meant(text)}"
            )
        amount = float(match[1].replace("_", ""))
        if amount <= 0:
            raise ValueError(f"{text!r}: a duration is above zero")
        if amount > LONGEST:
            raise ValueError(
                f"{str(text)[:40]!r}: a duration is at most {LONGEST:g}; write a smaller one"
            )
        return cls(amount=amount, unit=match[2])  # type: ignore[arg-type]

    def steps(self, *, params: int, batch_tokens: int) -> int:
        """Updates that cover the duration: ceil(tokens / batch_tokens)."""
        if self.unit == "steps":
            return math.ceil(self.amount)
        tokens = self.amount * params if self.unit == "N" else self.amount
        return math.ceil(tokens / batch_tokens)

    def __str__(self) -> str:
        amount = f"{self.amount:g}"
        return f"{amount}N" if self.unit == "N" else f"{amount} {self.unit}"


def _meant(value: object) -> str:
    """A clause that guesses at a mistyped unit."""
    match = re.match(rf"^\s*({NUMBER})\s*([A-Za-z]+)\s*$", str(value))
    near = difflib.get_close_matches(match[2].lower(), DURATION_UNITS, n=1) if match else ()
    return f"; did you mean '{match[1]}{DURATION_UNITS[near[0]]}'?" if match and near else ""


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


BYTES_OF_UNIT = {"": 1, "B": 1} | {
    f"{prefix}{i}B": (1024 if i else 1000) ** power
    for power, prefix in enumerate("kMGT", start=1)
    for i in ("", "i")
}

MOST_BYTES = 1e18
DISK_SIZE_PATTERN = r"^\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*((?:[kMGT]i?)?B)?\s*$"


@dataclass(frozen=True, slots=True)
class DiskSize(Written):
    """Bytes, above zero."""

    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string", "pattern": DISK_SIZE_PATTERN, "examples": ["20 GB", "1.5 TiB"]},
            {"type": "number", "exclusiveMinimum": 0},
        ],
    }

    bytes: int

    @classmethod
    def parse(cls, value: object) -> "DiskSize":
        """Read `20 GB`, `500 MiB` or a number of bytes."""
        if isinstance(value, DiskSize):
            return value
        usable = isinstance(value, str | int | float) and not isinstance(value, bool)
        match = re.match(DISK_SIZE_PATTERN, str(value)) if usable else None
        size = float(match[1]) * BYTES_OF_UNIT[match[2] or ""] if match else 0.0
        count = int(size) if size < MOST_BYTES else 0
        if count < 1:
            raise ValueError(
                f"{value!r} is no size on a disk: write bytes, or a number with its unit "
                f"(kB, MB, GB, TB or kiB, MiB, GiB, TiB), below {MOST_BYTES:.0e} bytes, for "
                "example 20 GB"
            )
        return cls(bytes=count)

    def __str__(self) -> str:
        return f"{self.bytes} B"


SIZE_PATTERN = r"^([1-9][0-9]*)(?:x([1-9][0-9]*))?$"
WIDEST, DEEPEST = 10**6, 10**5
"""Beyond any model (assumed); what follows from a size stays a finite number."""


@dataclass(frozen=True, slots=True)
class Size(Written):
    """Width and, unless a depth rule gives it, depth."""

    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 1}],
        "examples": ["64x4"],
    }

    width: int
    depth: int | None = None

    @classmethod
    def parse(cls, value: object) -> "Size":
        """Read `64x4`, or `64` where the family has a depth rule."""
        if isinstance(value, Size):
            return value
        match = re.match(SIZE_PATTERN, str(value)) if isinstance(value, str | int) else None
        if match is None or isinstance(value, bool):
            raise ValueError(f"{value!r} is no size: write WIDTHxDEPTH, for example 64x4")
        if any(len(each or "") > 7 for each in match.groups()) or (
            int(match[1]) > WIDEST or int(match[2] or 1) > DEEPEST
        ):
            raise ValueError(
                f"{str(value)[:40]!r}: at most {WIDEST} wide and {DEEPEST} deep; write a smaller "
                "size"
            )
        return cls(width=int(match[1]), depth=int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return f"{self.width}x{self.depth}" if self.depth else f"{self.width}"


Sizes = Annotated[
    tuple[Size, ...], Field(min_length=1, max_length=MOST_LISTED), AfterValidator(differing)
]


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


VARIABLE = re.compile(r"\$(?:[A-Za-z_]|\{)")
URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
NO_TEXT = {"Cc", "Cs"}
"""Unicode's categories of control characters, such as NUL and newline, and of half characters."""
LONGEST_NAME = 255
"""Bytes of one part of a path on the file systems in use."""


def checked_path(text: str) -> str:
    """The path as it was written.

    Raises:
        ValueError: It is empty, holds a variable, a URL or a control character, or has a part that
            no file system takes.
    """
    if not text.strip():
        raise ValueError("the path is empty; write a path, such as ./store")
    if odd := next((each for each in text if unicodedata.category(each) in NO_TEXT), None):
        raise ValueError(f"{text!r}: a path holds no {odd!r}; remove it")
    if VARIABLE.search(text):
        raise ValueError(
            f"{text!r}: environment variables are not filled in here; write the path itself, or "
            "begin it with ~ for the home"
        )
    if url := URL.match(text):
        bare = re.sub(r"^file:/+", "/", text, flags=re.IGNORECASE)
        fix = f"write {bare}" if url[1].lower() == "file" else "mount it, and write where"
        raise ValueError(f"{text!r}: a URL is no path; {fix}")
    if long := next((p for p in text.split("/") if len(p.encode()) > LONGEST_NAME), None):
        raise ValueError(
            f"{text[:60]!r}...: {len(long.encode())} bytes between two slashes, and file systems "
            f"take {LONGEST_NAME}; shorten it"
        )
    return text


def expanded(text: str) -> Path:
    """The path with `~` and `~user` filled in.

    Raises:
        ValueError: There is no such user, or this user has no home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise ValueError(
            f"{text!r}: there is no home for {user}; write the path from / on"
        ) from None


def is_relative(text: str) -> bool:
    """Whether a path is meant from the folder of the file that holds it."""
    return not (text.startswith("~") or Path(text).is_absolute() or URL.match(text))
