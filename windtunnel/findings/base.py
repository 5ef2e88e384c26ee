"""Findings and their quantities, and the text files that records are read from."""

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, cast

import numpy as np

from windtunnel.errors import ConfigError, Diagnostic, Refused, boundary
from windtunnel.findings.labels import Field, label_of
from windtunnel.laws import Fit, Interval
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.runs.dynamics import CHANGE, SERIES
from windtunnel.runs.json_schema import Schema, parse
from windtunnel.runs.schemas import ANYTHING
from windtunnel.runs.search.noise import Difference, interval_of_mean
from windtunnel.runs.table import COLUMNS, PREFIXES, Row

LEVEL = 0.9
"""Of every interval here."""
NATS = "nats per token"


@dataclass(frozen=True, kw_only=True)
class QuantityId:
    """The identity of a number, unique among the quantities of a study.

    As text: `widths/lr-transfer/drift[along=width,variant=muP]`.

    Attributes:
        experiment: of the study.
        finding: the kind of finding, such as `lr-transfer`.
        quantity: which of its numbers, such as `drift`.
        fields: (name, value) pairs: size, variant, validation set and so on.
    """

    experiment: str
    finding: str
    quantity: str
    fields: tuple[tuple[str, Field], ...] = ()

    def __str__(self) -> str:
        fields = ",".join(f"{name}={_field(value)}" for name, value in self.fields)
        path = f"{self.experiment}/{self.finding}/{self.quantity}"
        return f"{path}[{fields}]" if fields else path


def _field(value: Field) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A measured number, and the interval in which it lies at `LEVEL`.

    `low` and `high` are None where nothing tells how sure it is, and the number stands alone.
    """

    id: QuantityId
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    """Empty for a plain number, a ratio or a share."""

    @property
    def name(self) -> str:
        """Its label, for people; look a number up by its id."""
        return label_of(self.id.finding, self.id.quantity, dict(self.id.fields))

    def row(self) -> dict[str, str | float | None]:
        """Label, value, interval and unit, for a table."""
        return {
            "name": self.name,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
        }


@dataclass(frozen=True, kw_only=True)
class Finding(ABC):
    """The result of one experiment, for one kind of question."""

    experiment: str

    kind: ClassVar[str]
    """In the ids of its quantities."""
    title: ClassVar[str]
    """The question, as a heading."""

    @property
    @abstractmethod
    def lead(self) -> str:
        """The result, in one to three sentences."""

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """Its numbers, the most important first."""

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What a reader must know before using them."""
        return ()

    def quantity(
        self, quantity: str, value: Interval | float, unit: str = "", /, **fields: Field | None
    ) -> Quantity:
        """A number of this finding, with its interval where it has one.

        Args:
            quantity: The number's id within the finding; findings/labels.py has its label.
            value: An interval without ends, or a plain number, stands alone.
            unit: Empty for a plain number, a ratio or a share.
            fields: What else it is of; None leaves one out.
        """
        known = tuple((name, field) for name, field in fields.items() if field is not None)
        of = QuantityId(
            experiment=self.experiment, finding=self.kind, quantity=quantity, fields=known
        )
        if not isinstance(value, Interval):
            return Quantity(id=of, value=value, unit=unit)
        if np.isnan(value.low) or np.isnan(value.high):
            return Quantity(id=of, value=value.value, unit=unit)
        return Quantity(id=of, value=value.value, low=value.low, high=value.high, unit=unit)


def coefficient(fitted: Fit, name: str) -> Interval:
    """A coefficient of a fit, with its interval where it has one."""
    return Interval(fitted.coefficients[name], *fitted.intervals.get(name, NO_INTERVAL))


def mean_of_seeds(values: Sequence[float]) -> Interval:
    """The mean with Student's interval over seeds; of one seed without."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, *NO_INTERVAL)
    return Interval(mean, *interval_of_mean(mean, stdev(values), len(values)))


def difference_interval(gap: Difference) -> Interval:
    """A difference with its interval where it has one."""
    if gap.low is None or gap.high is None:
        return Interval(gap.value, *NO_INTERVAL)
    return Interval(gap.value, gap.low, gap.high)


def doubled(exponent: Interval) -> Interval:
    """The factor of a power law when its input doubles."""
    return Interval(2**exponent.value, 2**exponent.low, 2**exponent.high)


def scaled(found: Interval, factor: float) -> Interval:
    """A number and its interval times a factor."""
    return Interval(found.value * factor, found.low * factor, found.high * factor)


def with_ends(found: Interval, digits: str = ".3g") -> str:
    """`0.97 (0.92 to 1.03)`."""
    if np.isnan(found.low) or np.isnan(found.high):
        return f"{found.value:{digits}}"
    return f"{found.value:{digits}} ({found.low:{digits}} to {found.high:{digits}})"


def one_seed() -> Diagnostic:
    """The warning that nothing measures the noise."""
    return Diagnostic(
        "one-seed", "one seed: nothing tells how large noise is, so no interval is given", seeds=1
    )


def missing_runs(count: int) -> Diagnostic:
    """The warning of planned runs that have not ended."""
    return Diagnostic("missing-runs", f"{count} planned runs are not there yet", runs=count)


def diverged_runs(count: int) -> Diagnostic:
    """The warning of runs that no number here rests on."""
    return Diagnostic("diverged-runs", f"{count} runs diverged and are left out", runs=count)


TEXT = frozenset(
    {"segment", "kind", "parent", "trunk", "experiment", "outcome", "horizon", "size", "variant"}
    | {"label", "source"}  # of imported runs
)
"""Columns that are never numbers, whatever they look like: an id may be all digits."""
WORDS = {"kind": ("trunk", "branch", "imported"), "outcome": ("finished", "diverged")}
FLAGS = frozenset({"decayed", "held_out"})
NUMBERS = (frozenset(COLUMNS) | {"after", "step", *SERIES}) - TEXT - FLAGS
OF_SETS = (*PREFIXES, CHANGE)
"""How the names of further columns of numbers begin."""
LARGEST = 1e300
WRITE_AGAIN = "put back a copy, or write it again: windtunnel records STUDY.yaml --out FOLDER"


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows under the columns that any of them has; nothing for None."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: Path, needs: Mapping[str, bool]) -> Iterator[Row]:
    """Rows that `csv_text` wrote, with each value in its type.

    Args:
        path: The file.
        needs: Columns that it must have where it has rows, and whether each row has a value there.

    Raises:
        ConfigError: It cannot be read, or a line or a value is none that was written; with its
            line and column.
    """
    line = 0

    def place() -> str:
        return f"{path}, line {line}" if line else str(path)

    with boundary(place, WRITE_AGAIN, ConfigError), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        for row in reader:
            line = reader.line_num
            names = reader.fieldnames or ()
            if missing := [name for name in needs if name not in names]:
                raise Refused(
                    "missing-column", f"the table has no column {missing[0]!r}", column=missing[0]
                )
            if len(set(names)) < len(names):
                raise Refused(
                    "duplicate-column", "a column stands twice in the table", columns=names
                )
            if None in row or None in row.values():
                raise Refused(
                    "ragged-row",
                    f"the line has other than {len(names)} cells, one a column",
                    expected=len(names),
                )
            found = {name: _parsed(name, text) for name, text in row.items()}
            for name, has_value in needs.items():
                if has_value and found[name] is None:
                    raise Refused("empty", f"column {name!r} is empty", column=name)
            yield found


def read_rows_if_any(path: Path, needs: Mapping[str, bool]) -> Iterator[Row]:
    """Rows as `read_rows`; none where there is no file.

    Raises:
        ConfigError: As `read_rows`.
    """
    return read_rows(path, needs) if path.exists() else iter(())


def json_text(value: object) -> str:
    """A value as JSON, with null for NaN."""
    return json.dumps(_finite(value), indent=1, allow_nan=False) + "\n"


def read_list(path: Path, schema: Schema[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects in a file, each as its schema has it; none where there is no file.

    Raises:
        ConfigError: It cannot be read, or is damaged: with the place.
    """
    if not path.exists():
        return []
    with boundary(path, WRITE_AGAIN, ConfigError, what="damaged"):
        found = parse(path.read_bytes())
        if not isinstance(found, list):
            raise Refused(
                "wrong-type", "expected a list", expected="list", found=type(found).__name__
            )
        return [schema.at(each, place) for place, each in enumerate(found)]


def read_object(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none.

    Raises:
        ConfigError: It cannot be read, or is damaged.
    """
    if not path.exists():
        return {}
    with boundary(path, WRITE_AGAIN, ConfigError, what="damaged"):
        return ANYTHING.read(path.read_bytes())


def _parsed(name: str, text: str) -> Any:
    if name in WORDS and text not in WORDS[name]:
        raise Refused(
            "unknown-value",
            f"column {name!r}: {text[:40]!r}, expected {' or '.join(WORDS[name])}",
            column=name,
            value=text[:40],
            known=list(WORDS[name]),
        )
    if name in TEXT:
        return text or None
    if text in {"", "True", "False"}:
        if name in FLAGS or not text:
            return None if not text else text == "True"
        if name in NUMBERS or name.startswith(OF_SETS):
            raise Refused(
                "not-a-number",
                f"column {name!r}: {text}, expected a number",
                column=name,
                value=text,
            )
        return text == "True"
    if name in FLAGS:
        raise Refused(
            "not-a-boolean",
            f"column {name!r}: {text[:40]!r}, expected True or False",
            column=name,
            value=text[:40],
        )
    for read in (int, float):
        with suppress(ValueError):
            found = cast("Any", read)(text)
            if not abs(found) < LARGEST:
                break
            return found
    if name in NUMBERS or name.startswith(OF_SETS):
        raise Refused(
            "not-a-number",
            f"column {name!r}: {text[:40]!r}, expected a number",
            column=name,
            value=text[:40],
        )
    return text


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float():
            return value if math.isfinite(value) else None
    return value
