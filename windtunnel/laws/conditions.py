"""Conditions on rows, such as `Training FLOP>=1e21`: read by a small grammar, never evaluated.

A condition is `COLUMN OP VALUE`. OP is one of `<= >= == != < >`, or a single `=` for `==`, or `in`
with a list of values, `family in a,b`. A value is a number, a word, true, false or a text in
quotes; for a column of numbers, the word `1.2B` is a number too. The first operator splits the
text, so a column may hold spaces; a column that itself holds an operator is written in quotes.

A missing cell (NaN, None or empty text) satisfies `!=` and nothing else: an exclusion removes only
the rows that are known to be what it excludes.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import ConfigError, Diagnostic
from windtunnel.quantities import read_count

Mask = NDArray[np.bool_]
Value = float | bool | str

OPERATORS = ("<=", ">=", "==", "!=", "<", ">", "in")
EXAMPLES = "for example 'params<1e9', 'Training FLOP>=1e21', 'family in a,b'"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SYMBOL = re.compile(r"<=|>=|==|!=|<|>|=")
_COLUMN = (
    r"""\s*(?:(?P<quote>["'])(?P<quoted>(?:(?!(?P=quote)).)*)(?P=quote)"""
    r"""|(?P<plain>(?:"[^"]*"|'[^']*'|[^"'])*?))"""
)
# A comparison is looked for before `in`: `loss in nats < 3` is about the column `loss in nats`.
_FORMS = (
    re.compile(_COLUMN + rf"\s*(?P<operator>{_SYMBOL.pattern})(?P<value>.*)", re.DOTALL),
    re.compile(_COLUMN + r"\s+(?P<operator>in)\s+(?P<value>.*)", re.DOTALL),
)
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*)\s*,""")
_TRUTH = {
    "true": True, "1": True, "1.0": True, "yes": True, "y": True, "t": True,
    "false": False, "0": False, "0.0": False, "no": False, "n": False, "f": False,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A test of one column: `value` is a tuple where `operator` is `in`, one value elsewhere."""

    column: str
    operator: str
    value: Value | tuple[Value, ...]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """The condition written in `text`.

        Raises:
            ConfigError: No operator, no column or no value, or more than one comparison.
        """
        found = next((match for form in _FORMS if (match := form.fullmatch(text.strip()))), None)
        if found is None:
            raise ConfigError(
                "incomplete-condition",
                f"condition {text!r}: no operator outside quotes; write COLUMN OP VALUE with OP "
                f"one of {' '.join(OPERATORS)}, {EXAMPLES}",
                condition=text,
                known=list(OPERATORS),
            )
        column = (found["quoted"] if found["quote"] else found["plain"]).strip()
        if not column:
            raise ConfigError(
                "incomplete-condition",
                f"condition {text!r}: no column before the operator; {EXAMPLES}",
                condition=text,
            )
        _refuse_both_quotes(column, text)
        operator = "==" if found["operator"] == "=" else found["operator"]
        if operator != "in":
            return cls(column, operator, _value(found["value"], text))
        return cls(column, operator, tuple(_value(item, text) for item in _items(found["value"])))

    def __str__(self) -> str:
        quoted = _SYMBOL.search(self.column) or re.search(r"""["']|\bin\b""", self.column)
        column = _quote(self.column) if quoted else self.column
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return f"{column} {self.operator} {', '.join(map(_spell, values))}"

    def mask(self, values: ArrayLike) -> Mask:
        """Where the condition holds; `values` is the column, numbers or text, shape (R,).

        Raises:
            ConfigError: A text value for a column of numbers, or an order asked of a text column.
        """
        column = np.atleast_1d(np.asarray(values))
        if column.dtype.kind in "biuf":
            return self._mask_numbers(column.astype(np.float64))
        return self._mask_text(["" if _is_missing(c) else str(c).strip() for c in column.tolist()])

    def _mask_numbers(self, column: NDArray[np.float64]) -> Mask:
        given = self.value if isinstance(self.value, tuple) else (self.value,)
        wanted = [read_count(value) if isinstance(value, str) else value for value in given]
        if None in wanted:
            word = given[wanted.index(None)]
            raise ConfigError(
                "not-a-number",
                f"condition {str(self)!r}: column {self.column!r} holds numbers and {word!r} "
                "is not one; write a number such as 1e21, 2.4B or 1000",
                condition=str(self),
                column=self.column,
                value=word,
            )
        numbers = np.array(wanted, np.float64)
        number = numbers[0]
        match self.operator:
            case "<":
                return np.asarray(column < number)
            case "<=":
                return np.asarray(column <= number)
            case ">":
                return np.asarray(column > number)
            case ">=":
                return np.asarray(column >= number)
            case "!=":
                return np.asarray(column != number)
        return np.isin(column, numbers)

    def _mask_text(self, cells: list[str]) -> Mask:
        if self.operator not in {"==", "!=", "in"}:
            shown = next((cell for cell in cells if cell and number(cell) is None), "")
            raise ConfigError(
                "text-without-order",
                f"condition {str(self)!r}: column {self.column!r} holds text"
                f"{f' such as {shown!r}' if shown else ''}; a text has no order: allowed are "
                f"== != in, for example {self.column}=={shown or 'word'}",
                condition=str(self),
                column=self.column,
                operator=self.operator,
            )
        wanted = self.value if isinstance(self.value, tuple) else (self.value,)
        equal = np.array([any(_same(cell, each) for each in wanted) for cell in cells], bool)
        return ~equal if self.operator == "!=" else equal


def widen(mask: ArrayLike, trunk: ArrayLike) -> tuple[Mask, tuple[str, ...]]:
    """The rows of every trunk with a row in `mask`, and the labels of the trunks it split.

    The trunk is the unit of independence: a hold-out that shares a trunk with the fitted rows
    shares their noise, and would flatter the law.
    """
    held, labels = np.atleast_1d(np.asarray(mask, bool)), np.atleast_1d(np.asarray(trunk))
    touched, left = np.unique(labels[held]), np.unique(labels[~held])
    return np.isin(labels, touched), tuple(str(label) for label in np.intersect1d(touched, left))


def number(text: str) -> float | None:
    """A finite decimal number such as 1e21 or 3.5; None for all else, 1_000 and 2,5 included."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def truth(text: str) -> bool | None:
    """True for true, yes and 1, False for false, no and 0, in any case; None for all else."""
    return _TRUTH.get(text.strip().lower())


def _value(text: str, whole: str) -> Value:
    word = text.strip()
    if word[:1] in {'"', "'"}:
        if len(word) < 2 or word.find(word[0], 1) != len(word) - 1:
            raise ConfigError(
                "open-quote",
                f"condition {whole!r}: the quote in {word!r} does not close; {EXAMPLES}",
                condition=whole,
                value=word,
            )
        if not word[1:-1].strip():
            raise ConfigError(
                "empty",
                f"condition {whole!r}: the value is an empty text; {EXAMPLES}",
                condition=whole,
            )
        return word[1:-1].strip()
    if not word:
        raise ConfigError(
            "incomplete-condition",
            f"condition {whole!r}: no value after the operator; {EXAMPLES}",
            condition=whole,
        )
    if _SYMBOL.search(word):
        raise ConfigError(
            "several-comparisons",
            f"condition {whole!r}: more than one comparison; give one condition for each, or put "
            f"{word!r} in quotes if it is a text; {EXAMPLES}",
            condition=whole,
            value=word,
        )
    _refuse_both_quotes(word, whole)
    if word.lower() in {"true", "false"}:
        return word.lower() == "true"
    return word if (found := number(word)) is None else found


def _refuse_both_quotes(word: str, whole: str) -> None:
    if '"' in word and "'" in word:  # it could not be written down again
        raise ConfigError(
            "both-quotes",
            f"condition {whole!r}: {word!r} holds both kinds of quotes; {EXAMPLES}",
            condition=whole,
            value=word,
        )


def _items(text: str) -> list[str]:
    inner = text.strip()
    if (inner[:1], inner[-1:]) in {("(", ")"), ("[", "]")}:
        inner = inner[1:-1]
    return [found[1] for found in _ITEM.finditer(inner + ",")]


def _same(cell: str, wanted: Value) -> bool:
    if isinstance(wanted, bool):
        return truth(cell) is wanted
    if isinstance(wanted, str):
        return cell == wanted
    if (found := number(cell)) is not None:
        return found == wanted
    return wanted in {0.0, 1.0} and truth(cell) is bool(wanted)


def _is_missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _spell(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    other = number(value) is not None or value.lower() in {"true", "false"}
    return _quote(value) if other or re.search(r"""[,()<>=!"'\[\]]""", value) else value


def _quote(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'


def whole_trunks(
    condition: Condition, mask: Mask, trunk: NDArray[np.str_], *, of: int
) -> tuple[Mask, tuple[Diagnostic, ...]]:
    """The rows of a hold-out, widened to whole trunks, and a warning where that added rows.

    `mask` and `trunk` are of the rows that are fitted, of a table with `of` rows.

    Raises:
        ConfigError: no row is held out, or every one.
    """
    wide, cut = widen(mask, trunk)
    if not wide.any() or wide.all():
        which = "every row" if wide.all() else "no row"
        left = f"{wide.size}" if wide.size == of else f"the {wide.size} kept of {of}"
        raise ConfigError(
            "empty-holdout",
            f"holdout {condition}: {which} of {left} is held out; want some",
            condition=str(condition),
            held=int(wide.sum()),
            kept=int(wide.size),
            rows=of,
        )
    if not cut:
        return wide, ()
    shown = ", ".join(cut[:3]) + (", ..." if len(cut) > 3 else "")
    return wide, (
        Diagnostic(
            "holdout-widened",
            f"holdout {condition} cuts {len(cut)} trunks ({shown}), whose rows share their noise: "
            f"all rows of them are held out, {int(wide.sum())} in all",
            condition=str(condition),
            trunks=list(cut),
            held=int(wide.sum()),
        ),
    )
