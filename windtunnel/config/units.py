"""Values of a study file: the frozen base model, and quantities with a text form of their own.

`Duration` is a length of training with its unit (`10N`, `2.5M tokens`, `5000 steps`), `DiskSize` a
number of bytes (`20 GB`), `Size` the width and depth of a model (`64x4`); `WrittenCount` reads a
number of tokens or FLOPs (`4M`). Lists are bounded, and no value is listed twice. In paths `~` is
the home directory; `$VAR` and URLs are refused, because they would name a literal directory.
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

from windtunnel.errors import Refused
from windtunnel.quantities import COUNT_PATTERN, UNITS, count_of, read_count


class Strict(BaseModel):
    """A frozen model without unknown keys; `replace` makes a checked variation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with `changes` applied."""
        return type(self)(**{**self.model_dump(), **changes})


class Misfit(Refused):
    """A value that does not fit the rest of the study, and its place.

    Args:
        code: As of every error.
        message: As of every error, without the place.
        place: Keys and positions that lead to the value from the model that is being checked.
        values: The values of the message.

    >>> raise Misfit("unknown-source", "no source 'a'", "sources", 0, source="a")  # doctest: +SKIP
    """

    def __init__(self, code: str, message: str, /, *place: str | int, **values: object) -> None:
        super().__init__(code, message, **values)
        self.place = place


@contextmanager
def at(*place: str | int) -> Iterator[None]:
    """Prefix the place of every value refused in the body, so that its own line is reported."""
    try:
        yield
    except Refused as refused:
        within = refused.place if isinstance(refused, Misfit) else ()
        raise Misfit(refused.code, str(refused), *place, *within, **refused.values) from None
    except ValueError as refused:
        raise Misfit("invalid-value", str(refused), *place) from None


class Written:
    """A value with a text form: `parse` reads it, `str` writes it, editors use `json_schema`."""

    __slots__ = ()

    json_schema: ClassVar[dict[str, Any]]

    @classmethod
    def parse(cls, value: object) -> Self:
        """The value of a text or number in a study file.

        Raises:
            Refused: The text has another form, or is out of range.
        """
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
        return dict(cls.json_schema)  # pydantic adds to what it is given


Item = TypeVar("Item", bound=Hashable)

MOST_LISTED = 1000
"""Most values of one list: horizons, seeds, an axis (assumed; more are a mistake)."""


def differing(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same items, if all differ.

    Raises:
        Refused: Two items are equal.
    """
    seen = set[Item]()
    for item in items:
        if item in seen:
            raise Refused("duplicate-value", f"{item} occurs twice; write it once", repeated=item)
        seen.add(item)
    return items


def read_counts(value: Any) -> Any:
    """The number of a text such as `4M`, also within lists; any other value as it is.

    Raises:
        Refused: A text that writes no count.
    """
    if isinstance(value, list | tuple):
        return tuple(read_counts(each) for each in value)
    if not isinstance(value, str):
        return value
    number = count_of(value, example="4M")
    return int(number) if number.is_integer() else number


class _ReadsCounts:
    """Makes a field of numbers read texts such as `4M` too; stands behind the field's limits."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(read_counts, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = handler(schema)
        if handler.mode == "serialization":  # what is written is a number
            return number
        text = {"type": "string", "pattern": COUNT_PATTERN, "examples": ["4M"]}
        return {"anyOf": [*number.get("anyOf", [number]), text]}


WrittenCount = _ReadsCounts()


NUMBER = r"[0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?"
DURATION_PATTERN = rf"^\s*({NUMBER})\s*(N|([kKMBT]?)\s*(tokens|steps))\s*$"
LONGEST = 1e18
"""Largest amount in any unit (assumed); everything computed from a duration stays finite."""
DURATION_UNITS = {"n": "N", "tokens": " tokens", "steps": " steps"}
"""Units in lower case, for guesses at a mistyped one, and their text after a number."""


@dataclass(frozen=True, slots=True)
class Duration(Written):
    """A length of training in multiples of the parameter count, in tokens or in updates."""

    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": DURATION_PATTERN,
        "examples": ["10N", "2.5M tokens"],
    }

    amount: float
    unit: Literal["N", "tokens", "steps"]

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """The duration of `10N`, `2.5M tokens` or `5000 steps`.

        Raises:
            Refused: No unit, another unit, or an amount out of range.
        """
        if isinstance(text, Duration):
            return text
        match = re.match(DURATION_PATTERN, text) if isinstance(text, str) else None
        if match is None:
            hint = "10N"
            if read_count(str(text)) is not None:
                times_params = "" if str(text).strip()[-1].isalpha() else f"{text}N, "
                hint = f"{times_params}'{text} tokens' or '{text} steps'"
            raise Refused(
                "not-a-duration",
                f"{text!r} is not a duration: write a number with its unit "
                f"(N = params, tokens or steps), for example {hint}{_meant(text)}",
                value=text,
            )
        unit = UNITS.get((match[3] or "").lower(), 1.0)
        amount = float(f"{float(match[1].replace('_', '')) * unit:.15g}")  # 0.07B is exactly 7e7
        if amount <= 0:
            raise Refused(
                "out-of-range", f"{text!r}: a duration is above zero", value=text, above=0
            )
        if amount > LONGEST:
            raise Refused(
                "out-of-range",
                f"{str(text)[:40]!r}: a duration is at most {LONGEST:g}; write a smaller one",
                value=text,
                most=LONGEST,
            )
        return cls(amount=amount, unit=match[4] or match[2])  # type: ignore[arg-type]

    def steps(self, *, params: int, batch_tokens: int) -> int:
        """Number of updates that cover the duration: ceil(tokens / batch_tokens)."""
        if self.unit == "steps":
            return math.ceil(self.amount)
        tokens = self.amount * params if self.unit == "N" else self.amount
        return math.ceil(tokens / batch_tokens)

    def __str__(self) -> str:
        amount = f"{self.amount:g}"
        return f"{amount}N" if self.unit == "N" else f"{amount} {self.unit}"


def _meant(value: object) -> str:
    """A `did you mean` clause for a mistyped unit, or the empty string."""
    match = re.match(rf"^\s*({NUMBER})\s*([A-Za-z]+)\s*$", str(value))
    near = difflib.get_close_matches(match[2].lower(), DURATION_UNITS, n=1) if match else ()
    return f"; did you mean '{match[1]}{DURATION_UNITS[near[0]]}'?" if match and near else ""


BYTES_OF_UNIT = {"": 1, "B": 1} | {
    f"{prefix}{i}B": (1024 if i else 1000) ** power
    for power, prefix in enumerate("kMGT", start=1)
    for i in ("", "i")
}

MOST_BYTES = 1e18
DISK_SIZE_PATTERN = r"^\s*([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*((?:[kMGT]i?)?B)?\s*$"


@dataclass(frozen=True, slots=True)
class DiskSize(Written):
    """A positive number of bytes."""

    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string", "pattern": DISK_SIZE_PATTERN, "examples": ["20 GB", "1.5 TiB"]},
            {"type": "number", "exclusiveMinimum": 0},
        ],
    }

    bytes: int

    @classmethod
    def parse(cls, value: object) -> "DiskSize":
        """The size of `20 GB`, `500 MiB` or a number of bytes.

        Raises:
            Refused: No size, or one out of range.
        """
        if isinstance(value, DiskSize):
            return value
        usable = isinstance(value, str | int | float) and not isinstance(value, bool)
        match = re.match(DISK_SIZE_PATTERN, str(value)) if usable else None
        size = float(match[1]) * BYTES_OF_UNIT[match[2] or ""] if match else 0.0
        count = int(size) if size < MOST_BYTES else 0
        if count < 1:
            raise Refused(
                "not-a-disk-size",
                f"{value!r} is not a size on disk: write bytes, or a number with its unit "
                f"(kB, MB, GB, TB or kiB, MiB, GiB, TiB), below {MOST_BYTES:.0e} bytes, for "
                "example 20 GB",
                value=value,
                below=MOST_BYTES,
            )
        return cls(bytes=count)

    def __str__(self) -> str:
        return f"{self.bytes} B"


SIZE_PATTERN = r"^([1-9][0-9]*)(?:x([1-9][0-9]*))?$"
WIDEST, DEEPEST = 10**6, 10**5
"""Limits beyond any model (assumed); everything computed from a size stays finite."""


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
        """The size of `64x4`, or of `64` where the family has a depth rule.

        Raises:
            Refused: No size, or one out of range.
        """
        if isinstance(value, Size):
            return value
        match = re.match(SIZE_PATTERN, str(value)) if isinstance(value, str | int) else None
        if match is None or isinstance(value, bool):
            raise Refused(
                "not-a-size",
                f"{value!r} is not a size: write WIDTHxDEPTH, for example 64x4",
                value=value,
            )
        if any(len(each or "") > 7 for each in match.groups()) or (
            int(match[1]) > WIDEST or int(match[2] or 1) > DEEPEST
        ):
            raise Refused(
                "out-of-range",
                f"{str(value)[:40]!r}: at most {WIDEST} wide and {DEEPEST} deep; write a smaller "
                "size",
                value=str(value)[:40],
                widest=WIDEST,
                deepest=DEEPEST,
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
        raise Refused(
            "not-a-seed-count",
            f"{value!r}: expected how many seeds, such as 2, or a list of them, such as [0, 1]",
            value=value,
        )
    if value > MOST_LISTED:
        raise Refused(
            "out-of-range",
            f"{value}: at most {MOST_LISTED} seeds; ask for fewer",
            value=value,
            most=MOST_LISTED,
        )
    return tuple(range(value))


ExperimentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=150)]

Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_seeds, json_schema_input_type=int | list[int]),
    Field(
        min_length=1,
        max_length=MOST_LISTED,
        description="Number of seeds, or a list; a seed sets both init and data order",
    ),
    AfterValidator(differing),
]


VARIABLE = re.compile(r"\$(?:[A-Za-z_]|\{)")
URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
NO_TEXT = {"Cc", "Cs"}
"""Unicode categories of control characters, such as NUL and newline, and of lone surrogates."""
LONGEST_NAME = 255
"""Bytes of one component of a path on common file systems."""


def checked_path(text: str) -> str:
    """The path as written.

    Raises:
        Refused: The path is empty, contains a variable, a URL or a control character, or has a
            component that is too long for a file system.
    """
    if not text.strip():
        raise Refused("empty", "the path is empty; write a path, such as ./store")
    if odd := next((each for each in text if unicodedata.category(each) in NO_TEXT), None):
        raise Refused(
            "bad-character",
            f"{text!r}: a path holds no {odd!r}; remove it",
            path=text,
            character=odd,
        )
    if VARIABLE.search(text):
        raise Refused(
            "variable-in-path",
            f"{text!r}: environment variables are not filled in here; write the path itself, or "
            "begin it with ~ for the home",
            path=text,
        )
    if url := URL.match(text):
        bare = re.sub(r"^file:/+", "/", text, flags=re.IGNORECASE)
        fix = f"write {bare}" if url[1].lower() == "file" else "mount it, and write where"
        raise Refused("url-as-path", f"{text!r}: a URL is not a path; {fix}", path=text)
    if long := next((p for p in text.split("/") if len(p.encode()) > LONGEST_NAME), None):
        raise Refused(
            "name-too-long",
            f"{text[:60]!r}...: {len(long.encode())} bytes between two slashes, and file systems "
            f"take {LONGEST_NAME}; shorten it",
            path=text,
            bytes=len(long.encode()),
            most=LONGEST_NAME,
        )
    return text


def expanded(text: str) -> Path:
    """The path with `~` and `~user` expanded.

    Raises:
        Refused: There is no such user, or the user has no home directory.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.partition("/")[0]
        raise Refused(
            "no-home",
            f"{text!r}: there is no home for {user}; write the path from / on",
            path=text,
            user=user,
        ) from None


def is_relative(text: str) -> bool:
    """Whether a path is relative to the folder of the file that contains it."""
    return not (text.startswith("~") or Path(text).is_absolute() or URL.match(text))
