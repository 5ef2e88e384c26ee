"""Which runs of a table never finished, in the words of trackers, tuners and schedulers."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from windtunnel.cli.check_table import is_missing, label, name_words
from windtunnel.cli.table_file import TableFile
from windtunnel.laws.conditions import number, truth

NAMED = re.compile(r"(?:^| )(?:(?:run|job|trial|task)?(?:state|status)|outcome)$")
"""Columns that say how a run ended, by the last of the words of their name."""
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
"""What its `sys/state` calls them; a run that failed has `sys/failed`."""
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
"""Columns of truths, and which truth a finished run has."""
FLAG_PREFIX = re.compile(r"^(?:(?:is|has|was|did|run|job|trial|training|sys|config|summary) )+")
MOSTLY = 0.75
"""The share of a column's cells that are known words, from which on it says how runs ended."""
SHORTEST_CUT = 4
"""Letters that are left of a word that sacct cut short, such as `OUT_OF_ME+`."""
Ended = tuple[bool | None, ...]


class StateColumn(NamedTuple):
    """A column that says of each row whether its run finished.

    Attributes:
        finished: by row; None where the cell is missing, or no word that is known.
        words: the cells.
    """

    name: str
    finished: Ended
    words: tuple[str, ...]

    def counts(self, rows: Sequence[bool], *, finished: bool | None) -> Counter[str]:
        """How often each word stands in `rows` of which that is known."""
        words = zip(self.words, self.finished, rows, strict=True)
        return Counter(word or "empty" for word, ended, row in words if row and ended is finished)


def state_columns(file: TableFile, taken: Collection[str] = ()) -> list[StateColumn]:
    """The columns of a file that say whether runs finished, by their name or by their cells.

    `taken` are columns that are something else, such as labels.
    """
    found = []
    for name in file.own:
        if name in taken:
            continue
        words = tuple("" if is_missing(cell) else label(cell) for cell in file.columns[name])
        ended = _of_column(" ".join(name_words(name)), words)
        if ended is not None:
            found.append(StateColumn(name, ended, words))
    return found


def _of_column(name: str, words: Sequence[str]) -> Ended | None:
    """Of each row whether its run finished; None where the column says nothing of it."""
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
    told = sum(each is not None for each in ended)
    return ended if NAMED.search(name) or told >= MOSTLY * known else None


def _truth(word: str) -> bool | None:
    """A truth, also one that became a number beside empty cells: 1.0."""
    value = number(word)
    return bool(value) if value in {0, 1} else truth(word)


def _exit(word: str) -> bool | None:
    """Whether an exit code is 0, which sacct writes `0:0`, with the signal."""
    found = re.fullmatch(r"(-?\d+)(?:\.0+)?(?::(\d+))?", word)
    return None if found is None else not any(int(part) for part in found.groups() if part)


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
    """What a word that begins so says, where all that do say the same."""
    if len(start) < SHORTEST_CUT:
        return None
    found = {known in FINISHED for known in FINISHED | UNFINISHED if known.startswith(start)}
    return found.pop() if len(found) == 1 else None
