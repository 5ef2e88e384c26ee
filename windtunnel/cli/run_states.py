"""Which runs of a table never finished, in the words of W&B, MLflow, SLURM, Optuna and Ray."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from windtunnel.cli.check_table import is_missing, label
from windtunnel.cli.table_file import TableFile
from windtunnel.laws.conditions import truth

COLUMNS = frozenset(
    {"outcome", "state", "status", "runstate", "runstatus", "jobstate", "jobstatus", "trialstate"}
)
"""Columns that say how a run ended: the last part of a dotted name, in small letters alone."""
FINISHED = frozenset(
    {"finished", "complete", "completed", "done", "success", "succeeded", "successful", "ok",
     "terminated", "ended", "converged"}
)  # fmt: skip
UNFINISHED = frozenset(
    {"crashed", "crash", "failed", "fail", "failure", "killed", "running", "preempting",
     "preempted", "pending", "scheduled", "queued", "starting", "diverged", "boot fail",
     "cancelled", "canceled", "configuring", "completing", "deadline", "node fail",
     "out of memory", "oom", "requeued", "requeue hold", "resizing", "revoked", "signaling",
     "special exit", "stage out", "stopped", "suspended", "timeout", "timed out", "pruned",
     "waiting", "error", "errored", "paused", "aborted", "interrupted", "incomplete",
     "unfinished", "not finished", "not completed", "in progress", "lost", "dead"}
)  # fmt: skip
FLAGS = {
    "finished": True, "isfinished": True, "completed": True, "iscompleted": True,
    "crashed": False, "failed": False, "diverged": False, "isdiverged": False,
}  # fmt: skip
"""Columns of truths, and which truth a finished run has."""


class StateColumn(NamedTuple):
    """A column that says of each row whether its run finished.

    Attributes:
        finished: by row; None where the cell is missing, or no word that is known.
        words: the cells.
    """

    name: str
    finished: tuple[bool | None, ...]
    words: tuple[str, ...]

    def counts(self, rows: Sequence[bool], *, finished: bool | None) -> Counter[str]:
        """How often each word stands in `rows` of which that is known."""
        words = zip(self.words, self.finished, rows, strict=True)
        return Counter(word or "empty" for word, ended, row in words if row and ended is finished)


def state_columns(file: TableFile) -> list[StateColumn]:
    """The columns of a file that say whether runs finished; of others no cell is a known word."""
    found = []
    for name in file.own:
        cells, kind = file.columns[name], _kind(name)
        words = tuple("" if is_missing(cell) else label(cell) for cell in cells)
        if kind in FLAGS:
            truths = [truth(word) for word in words]
            if any(each is None and word for each, word in zip(truths, words, strict=True)):
                continue
            ended = tuple(None if each is None else each is FLAGS[kind] for each in truths)
        elif kind in COLUMNS:
            ended = tuple(map(_finished, words))
        else:
            continue
        if any(each is not None for each in ended):
            found.append(StateColumn(name, ended, words))
    return found


def _kind(name: str) -> str:
    return re.sub(r"[^a-z]", "", re.split(r"[./]", name)[-1].lower())


def _finished(word: str) -> bool | None:
    plain = re.sub(r"[^a-z]+", " ", word.lower()).strip()
    if plain in FINISHED:
        return True
    # `CANCELLED by 1000`, `failed (exit 1)`
    if plain in UNFINISHED or plain.partition(" ")[0] in UNFINISHED:
        return False
    return None
