"""Row selection: the kept rows of a table, and the reasons for leaving out the others.

Unfinished runs are recognised by the words of trackers, tuners and schedulers.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress, count
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import ConfigError, Diagnostic, did_you_mean
from windtunnel.laws.conditions import Condition, Mask, number, truth
from windtunnel.laws.table import COPYING, Floats, mixed_decay, name_words
from windtunnel.tables.check import (
    checked,
    column_for_condition,
    floats,
    is_missing,
    label,
)
from windtunnel.tables.columns import RULE, derive
from windtunnel.tables.file import TableFile

HOLDOUTS = ("largest", "none")
MAX_WORDS_SHOWN = 10
LABELS = ("run", "trunk", "execution", "variant")


@dataclass
class Selection:
    """The kept rows of a file, and the reasons why others are left out."""

    file: TableFile
    names: Mapping[str, str]
    kept: Mask
    filters: list[str] = field(default_factory=list)
    dropped: list[tuple[str, int]] = field(default_factory=list)

    @property
    def places(self) -> list[str]:
        """Positions of the kept rows in the file."""
        return list(compress(self.file.places, self.kept))

    def cells(self, name: str) -> list[object]:
        """Raw cells of a law's column in the kept rows."""
        return list(compress(self.file.columns[self.names[name]], self.kept))

    def drop(self, gone: Mask, why: str) -> None:
        """Leave out the kept rows that are `gone`, and count them."""
        count = int(np.sum(self.kept & gone))
        self.kept = self.kept & ~gone
        if count:
            self.dropped.append((why, count))

    def apply(self, condition: Condition, factor: float) -> None:
        """Keep the rows where the condition holds.

        Raises:
            ConfigError: No such column, the wrong kind of value, or no row is left.
        """
        column = self._column_of(condition, factor)
        before = column[self.kept]
        self.drop(~condition.mask(column), f"not {condition}")
        self.filters.append(str(condition))
        if not self.kept.any():
            raise ConfigError(
                "no-rows-left",
                f"{self.file.path}: no row is left after {str(condition)!r}; before it "
                f"{_range_of(condition.column, before)}",
                path=self.file.path,
                condition=str(condition),
                rows=before.size,
            )

    def _column_of(self, condition: Condition, factor: float) -> Floats | NDArray[np.str_]:
        name, columns = condition.column, self.file.columns
        if name not in columns and name not in self.names:
            inputs = RULE.get(name, ())
            if inputs and all(each in self.names for each in inputs):
                numbers = {each: floats(columns[self.names[each]]) for each in inputs}
                return derive(name, numbers, factor)
            raise ConfigError(
                "unknown-column",
                f"condition {str(condition)!r}: {self.file.path} has no column {name!r}. There "
                f"are: {self.file.names}{did_you_mean(name, [*self.file.own, *self.names])}",
                path=self.file.path,
                column=name,
                known=self.file.own,
            )
        return column_for_condition(columns[self.column_named(name)])

    def column_named(self, name: str) -> str:
        """The file's column with that name, or with that name of the law."""
        return name if name in self.file.columns else self.names.get(name, name)

    def drop_unfinished(self, decided: Collection[str]) -> list[Diagnostic]:
        """Leave out unfinished runs, by columns that no condition has `decided`.

        Raises:
            ConfigError: No row is left.
        """
        diagnostics = []
        for column in state_columns(self.file, frozenset(self.names.values())):
            if column.name in decided:
                continue
            rows = self.kept.tolist()
            gone = column.counts(rows, finished=False)
            cells = column_for_condition(self.file.columns[column.name])
            keep = Condition(column.name, "!=", _of_no_row(cells))
            for word in gone:
                these = np.array([each == word for each in column.words], bool)
                self.drop(these, f"{column.name} is {word}")
            text = ", ".join(f"{column.name} is {word} ({count})" for word, count in gone.items())
            left = f"{gone.total()} of {len(rows)} rows are left out as unfinished: {text}"
            if not self.kept.any():
                raise ConfigError(
                    "no-rows-left",
                    f"{self.file.path}: no finished run: {left}; to fit them: --where '{keep}'",
                    path=self.file.path,
                    column=column.name,
                    unfinished=dict(gone),
                    condition=str(keep),
                )
            if gone:
                text = f"{left}. A condition on that column decides instead; to keep all: --where"
                diagnostics.append(
                    Diagnostic(
                        "unfinished-runs",
                        f"{text} '{keep}'",
                        column=column.name,
                        rows=len(rows),
                        unfinished=dict(gone),
                        condition=str(keep),
                    )
                )
            unknown = column.counts(self.kept.tolist(), finished=None)
            if unknown:
                first = list(unknown.items())[:MAX_WORDS_SHOWN]
                text = ", ".join(f"{word} ({count})" for word, count in first)
                text += f" and {len(unknown) - len(first)} more" * (len(unknown) > len(first))
                diagnostics.append(
                    Diagnostic(
                        "unknown-state",
                        f"column {column.name!r} has values that are no known run states; "
                        f"these rows are kept: {text}; leave them out with --where",
                        column=column.name,
                        states=dict(first),
                    )
                )
        return diagnostics

    def drop_undecayed(self) -> list[Diagnostic]:
        """Leave out undecayed rows if there are decayed ones: the two are never mixed."""
        if "decayed" not in self.names:
            return []
        cells = self.file.columns[self.names["decayed"]]
        decayed = np.array([truth(str(cell)) is True for cell in cells], bool)
        undecayed = np.array([truth(str(cell)) is False for cell in cells], bool)
        if not (decayed[self.kept].any() and undecayed[self.kept].any()):
            return []
        gone = int(undecayed[self.kept].sum())
        self.drop(undecayed, "not decayed")
        return [mixed_decay(gone, self.file.rows)]

    def drop_incomplete(self, required: Sequence[str]) -> list[Diagnostic]:
        """Leave out rows that lack a number of the law, or have no tokens.

        Raises:
            ConfigError: No row is left.
        """
        before = len(self.dropped)
        for name in required:
            column = self.file.columns[self.names[name]]
            gone = np.array([is_missing(cell) for cell in column], bool)
            self.drop(gone, f"{self.names[name]} is missing")
            if name == "loss":
                self.drop(np.isinf(floats(column)), f"{self.names[name]} is infinite")
            if name in {"tokens", "flops"}:
                self.drop(floats(column) == 0, f"{self.names[name]} is 0, before the first update")
        reasons = ", ".join(f"{why} ({count})" for why, count in self.dropped[before:])
        gone_rows = sum(count for _, count in self.dropped[before:])
        if not self.kept.any():
            raise ConfigError(
                "no-rows-left",
                f"{self.file.path}: no row is complete: {reasons}; a law needs "
                f"{', '.join(self.names[name] for name in required)} in every row",
                path=self.file.path,
                needs=[self.names[name] for name in required],
                dropped=dict(self.dropped[before:]),
            )
        if not gone_rows:
            return []
        total = self.file.rows
        text = f"{gone_rows} of {total} rows are left out: {reasons}"
        return [Diagnostic("incomplete-rows", text, left_out=gone_rows, rows=total)]

    def take_along(
        self, name: str, *, named: bool, scale: Mapping[str, float]
    ) -> tuple[dict[str, Floats], list[Diagnostic]]:
        """An optional column of the law, or a warning why it is left out.

        Raises:
            ConfigError: A cell is wrong in a column that was `named` by the user.
        """
        column = self.names[name]
        missing, rows = sum(map(is_missing, self.cells(name))), int(self.kept.sum())
        if missing:
            return {}, [_left_out(name, column, missing, rows)]
        try:
            values = checked(name, column, self.file, self.kept, names=self.names, scale=scale)
        except ConfigError as problem:
            if named:
                raise
            return {}, [
                Diagnostic(
                    "column-left-out",
                    f"{name} is not used: {problem}",
                    **{"name": name, "reason": problem.code} | problem.values,
                )
            ]
        return {name: values}, []

    def other_columns(
        self, taken: Collection[str], categories: Collection[str]
    ) -> dict[str, Floats]:
        """The columns of numbers that no name of the law takes, and those of `categories`."""
        used = {self.names[name] for name in (*taken, *LABELS, "decayed") if name in self.names}
        found = {}
        for column in self.file.columns:
            if column in used or column in taken:
                continue
            cells = column_for_condition(list(compress(self.file.columns[column], self.kept)))
            if cells.dtype.kind == "f" and np.isfinite(np.asarray(cells, np.float64)).all():
                found[column] = np.asarray(cells, np.float64)
            elif cells.dtype.kind == "f" or column in categories:
                found[column] = np.unique(cells, return_inverse=True)[1].astype(np.float64)
        return found

    def drop_highest(self, values: Mapping[str, Floats], count: int) -> Mask:
        """A mask of the highest losses among the kept rows; of equal ones the first goes first.

        Raises:
            ConfigError: There is no loss, or not fewer than the rows.
        """
        rows = int(self.kept.sum())
        gone = np.zeros(rows, bool)
        if count == 0:
            return gone
        name = next((each for each in ("loss", "y") if each in values), None)
        if name is None or not 0 < count < rows:
            allowed = f"0 to {rows - 1} of {rows} rows" if name else "0, as the law reads no loss"
            raise ConfigError(
                "out-of-range",
                f"{count} highest losses cannot be dropped: allowed are {allowed}",
                drop_highest=count,
                rows=rows,
            )
        gone[np.argsort(-values[name], kind="stable")[:count]] = True
        many = "losses" if name == "loss" else f"{name} values"
        which = f"the highest {name}" if count == 1 else f"the {count} highest {many}"
        self.filters.append(f"{which} dropped")
        whole = np.zeros(self.file.rows, bool)
        whole[np.flatnonzero(self.kept)[gone]] = True
        self.drop(whole, which)
        return gone

    def held_out(self, text: str, factor: float) -> Mask | Literal["largest"] | None:
        """The kept rows that a condition holds out, or the option's word for them.

        Raises:
            ConfigError: No such column, or no condition.
        """
        if text == "largest":
            return "largest"
        if text == "none":
            return None
        try:
            condition = Condition.parse(text)
        except ConfigError as problem:
            hint = did_you_mean(text, HOLDOUTS)
            raise ConfigError(
                problem.code,
                f"hold-out rows: {problem}; or {' or '.join(HOLDOUTS)}{hint}",
                **problem.values,
            ) from None
        return condition.mask(self._column_of(condition, factor)[self.kept])

    def labels(self) -> dict[str, NDArray[np.str_]]:
        """Text columns of the kept rows; a row without a known trunk is its own trunk."""
        labels = {}
        for name in LABELS:
            if name in self.names:
                cells = self.cells(name)
                words = [
                    place if name == "trunk" and is_missing(cell) else label(cell)
                    for cell, place in zip(cells, self.places, strict=True)
                ]
                labels[name] = np.array(words, np.str_)
        return labels

    def copying(self) -> Floats | None:
        """Copy gains of the kept rows and their standard errors (n, 2), nan where missing."""
        if COPYING[0] not in self.names:
            return None
        rows = int(self.kept.sum())
        columns = (
            floats(self.cells(name)) if name in self.names else np.full(rows, np.nan)
            for name in COPYING
        )
        return np.stack(list(columns), axis=1)

    def decayed(self) -> tuple[Mask | None, list[Diagnostic]]:
        """Whether each kept row was decayed; None unless the file states it for every row.

        Raises:
            ConfigError: A cell is not a truth value.
        """
        if "decayed" not in self.names:
            return None, []
        cells, column = self.cells("decayed"), self.names["decayed"]
        for cell, place in zip(cells, self.places, strict=True):
            if not is_missing(cell) and truth(str(cell)) is None:
                raise ConfigError(
                    "not-a-boolean",
                    f"{self.file.path}, {place}, column {column!r}: {cell!r}: allowed are true, "
                    "false, yes, no, 1 and 0",
                    path=self.file.path,
                    place=place,
                    column=column,
                    cell=cell,
                )
        if missing := sum(map(is_missing, cells)):
            return None, [_left_out("decayed", column, missing, len(cells))]
        return np.array([truth(str(cell)) for cell in cells], bool), []


def _left_out(name: str, column: str, missing: int, rows: int) -> Diagnostic:
    return Diagnostic(
        "column-left-out",
        f"{name} is not used: column {column!r} is missing in {missing} of {rows} rows",
        name=name,
        column=column,
        missing=missing,
        rows=rows,
    )


def _range_of(column: str, values: Floats | NDArray[np.str_]) -> str:
    if values.dtype.kind == "f":
        known = np.asarray(values, np.float64)
        known = known[~np.isnan(known)]
        if not known.size:
            return f"{column} was missing in all {values.size} rows"
        return f"{column} ran from {known.min():.4g} to {known.max():.4g} over {known.size} rows"
    words = sorted({str(word) for word in values if word})
    more = f" and {len(words) - 10} more" if len(words) > 10 else ""
    return f"{column} was one of {', '.join(words[:10])}{more} over {values.size} rows"


def trunk_diagnostics(
    file: TableFile, names: Mapping[str, str], trunk: NDArray[np.str_] | None
) -> list[Diagnostic]:
    """A warning where rows may share a trunk that the table does not name."""
    share_noise = "rows of one trunk share their noise"
    if trunk is None:
        likely = [name for name in file.columns if name.lower().startswith("trunk")]
        if not likely:
            return []
        message = f"column {likely[0]!r} looks like the trunk's; name it with --trunk {likely[0]!r}"
        return [Diagnostic("trunk-column", f"{message}: {share_noise}", column=likely[0])]
    column = names["trunk"]
    blank = sum(map(is_missing, file.columns[column]))
    if not blank:
        return []
    message = f"{blank} rows have no trunk and count as trunks of their own: {share_noise}"
    return [Diagnostic("trunk-column", message, column=column, blank=blank)]


def _of_no_row(cells: np.ndarray) -> float | str:
    """A value that no row has, so that `!=` keeps all rows."""
    if cells.dtype.kind == "f":
        known = cells[np.isfinite(cells)]
        return float(np.floor(min(known, default=0.0))) - 1.0
    words = {str(each) for each in cells}
    return next(
        word for word in chain(["none"], map("none{}".format, count())) if word not in words
    )


NAMED = re.compile(r"(?:^| )(?:(?:run|job|trial|task)?(?:state|status)|outcome)$")
"""Names of columns with a run's final state, by the last word."""
EXIT = re.compile(r"(?:^| )(?:exit ?code|exit ?status|return ?code)$")
FINISHED = frozenset(
    {"finished", "complete", "completed", "done", "success", "succeeded", "successful", "ok",
     "terminated", "ended", "converged"}
)  # fmt: skip
UNFINISHED = frozenset(
    {"crashed", "crash", "failed", "fail", "failure", "killed", "running", "preempting",
     "preempted", "pending", "scheduled", "queued", "starting", "diverged", "boot fail",
     "cancelled", "canceled", "configuring", "completing", "deadline", "node fail",
     "out of memory", "oom", "oomkilled", "requeued", "requeue hold", "resizing", "revoked",
     "signaling", "special exit", "stage out", "stopped", "suspended", "timeout", "timed out",
     "pruned", "waiting", "error", "errored", "paused", "aborted", "interrupted", "incomplete",
     "unfinished", "not finished", "not completed", "in progress", "lost", "dead",
     "crashloopbackoff"}
)  # fmt: skip
NEPTUNE = {"inactive": "finished", "active": "running"}
"""Values of its `sys/state`; a failed run has `sys/failed`."""
FLAGS = {
    **dict.fromkeys(
        ("finished", "completed", "complete", "done", "success", "succeeded", "successful"), True
    ),
    **dict.fromkeys(
        ("crashed", "crash", "failed", "failure", "diverged", "killed", "preempted", "pruned",
         "interrupted", "aborted", "cancelled", "canceled", "oom", "timed out",
         "errored", "incomplete", "unfinished"), False
    ),
}  # fmt: skip
"""Boolean columns, and their value for a finished run."""
FLAG_PREFIX = re.compile(r"^(?:(?:is|has|was|did|run|job|trial|training|sys|config|summary) )+")
MOSTLY = 0.75
"""Share of a column's cells that are known words, above which it holds run states."""
SHORTEST_CUT = 4
"""Fewest letters of a word that sacct has truncated, such as `OUT_OF_ME+`."""
Ended = tuple[bool | None, ...]


class StateColumn(NamedTuple):
    """A column that states for each row whether its run finished.

    Attributes:
        finished: by row; None where the cell is missing or its word is unknown.
        words: the cells.
    """

    name: str
    finished: Ended
    words: tuple[str, ...]

    def counts(self, rows: Sequence[bool], *, finished: bool | None) -> Counter[str]:
        """Count of each word in `rows` whose run did (or did not) finish."""
        words = zip(self.words, self.finished, rows, strict=True)
        return Counter(word or "empty" for word, ended, row in words if row and ended is finished)


def state_columns(file: TableFile, taken: Collection[str] = ()) -> list[StateColumn]:
    """Columns of a file that state whether runs finished, by their name or by their cells.

    `taken` are columns with another use, such as labels.
    """
    states = []
    for name in file.own:
        if name in taken:
            continue
        words = tuple("" if is_missing(cell) else label(cell) for cell in file.columns[name])
        ended = _of_column(" ".join(name_words(name)), words)
        if ended is not None:
            states.append(StateColumn(name, ended, words))
    return states


def _of_column(name: str, words: Sequence[str]) -> Ended | None:
    """Whether each row's run finished; None if the column holds no states."""
    known = sum(map(bool, words))
    if not known:
        return None
    if EXIT.search(name):
        ended = tuple(map(_exit, words))
        return ended if any(each is not None for each in ended) else None
    right = FLAGS.get(FLAG_PREFIX.sub("", name))
    if right is not None:
        truths = [_truth(word) for word in words]
        if sum(each is not None for each in truths) == known:
            return tuple(None if each is None else each is right for each in truths)
    if name.endswith("sys state"):
        words = [NEPTUNE.get(word.lower(), word) for word in words]
    ended = tuple(map(_finished, words))
    recognised = sum(each is not None for each in ended)
    return ended if NAMED.search(name) or recognised >= MOSTLY * known else None


def _truth(word: str) -> bool | None:
    """A boolean, also one that became a number beside empty cells: 1.0."""
    value = number(word)
    return bool(value) if value in {0, 1} else truth(word)


def _exit(word: str) -> bool | None:
    """Whether an exit code is 0, which sacct writes `0:0`, with the signal."""
    match = re.fullmatch(r"(-?\d+)(?:\.0+)?(?::(\d+))?", word)
    return None if match is None else not any(int(part) for part in match.groups() if part)


def _finished(word: str) -> bool | None:
    bare = re.sub(r"^<?[A-Za-z_]+\.(?=[A-Za-z])", "", word)  # Python's `TrialState.PRUNED`
    plain = re.sub(r"[^a-z]+", " ", bare.lower()).strip()
    plain = re.sub(r"^(?:(?:job|run|trial|task) )?(?:state|status) ", "", plain)
    if word.endswith("+"):
        return _cut_short(plain)
    if plain in FINISHED:
        return True
    # `CANCELLED by 1000`, `failed (exit 1)`
    if plain in UNFINISHED or plain.partition(" ")[0] in UNFINISHED:
        return False
    return None


def _cut_short(start: str) -> bool | None:
    """The meaning of a truncated word, if all words with that beginning agree."""
    if len(start) < SHORTEST_CUT:
        return None
    meanings = {known in FINISHED for known in FINISHED | UNFINISHED if known.startswith(start)}
    return meanings.pop() if len(meanings) == 1 else None
