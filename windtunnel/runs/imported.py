"""Finished runs of other tools, kept beside a study as measurements for its law.

`imported.jsonl` in the study's folder is appended to and never rewritten. A line adds or removes
the run of a label; the last line of a label counts. A torn last line, as a crash leaves it, is
ignored. Any other unreadable line is an error, since its run would be missing from a law.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.accounting import flops_6nd
from windtunnel.errors import ConfigError, Diagnostic, Refused, did_you_mean
from windtunnel.runs.files import append_line, drop_torn, undamaged, whole_lines
from windtunnel.runs.measured import gather
from windtunnel.runs.run import KIND, Run
from windtunnel.runs.schemas import IMPORTED
from windtunnel.runs.study import Study


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The stated numbers of a run: all that a law may read of it.

    Attributes:
        loss: Mean over the study's validation sets, nats per token.
        losses: The same by validation set, where known.
        decayed: Whether the learning rate had been decayed when the loss was measured.
        trunk: A label shared by runs with shared noise; None for a run on its own.
        flops: As the other tool counts them, if it does.
    """

    experiment: str
    params: int
    tokens: int
    loss: float
    losses: Mapping[str, float]
    decayed: bool
    trunk: str | None = None
    flops: float | None = None
    batch_tokens: float | None = None
    lr: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Fields by name."""
        return {**vars(self), "losses": dict(self.losses)}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An imported run: its label, numbers, origin and time.

    Attributes:
        label: The name under which it can be replaced or removed.
        measured: The numbers that a law may read.
        origin: `tool` and `source` for people; a file's `sha256` or MLflow's `run_id`, by which the
            source can be checked; and the `columns` that were taken.
        time: Unix time of the import.
    """

    label: str
    measured: Measured
    origin: Mapping[str, Any]
    time: float

    @property
    def segment(self) -> str:
        """An id by content: the same numbers under the same label have the same one."""
        text = json.dumps([self.label, self.measured.as_json()], sort_keys=True, allow_nan=False)
        return f"{KIND}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def source(self) -> str:
        """Where it came from, in two words: `csv large.csv`."""
        return f"{self.origin['tool']} {self.origin['source']}"

    @property
    def run(self) -> Run:
        """The measurement, with `label` and `source`; None where nothing is known."""
        measured = self.measured
        six_nd = flops_6nd(measured.params, measured.tokens)
        return Run(
            segment=self.segment,
            kind="imported",
            trunk=self.segment if measured.trunk is None else f"{KIND}-{measured.trunk}",
            decayed=measured.decayed,
            experiments=(measured.experiment,),
            params=measured.params,
            tokens=measured.tokens,
            flops_6nd=six_nd,
            flops=six_nd if measured.flops is None else measured.flops,
            batch_tokens=measured.batch_tokens,
            lr=measured.lr,
            loss=measured.loss,
            losses=dict(sorted(measured.losses.items())),
            label=self.label,
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Runs that are offered, beside what the study has: new ones, known ones, changed ones."""

    new: tuple[Imported, ...]
    known: tuple[Imported, ...]
    changed: tuple[tuple[Imported, Imported], ...]
    """(as it is, as it would be), of one label each."""


def imported_file(folder: Path) -> Path:
    """Where a study's folder keeps them."""
    return folder / "imported.jsonl"


def read_imported(folder: Path) -> dict[str, Imported]:
    """The imported runs of a study by label, in the order of their first line.

    Raises:
        DamagedFile: A line is not such a run, or was edited.
    """
    path = imported_file(folder)
    runs: dict[str, Imported | None] = {}
    for number, text in whole_lines(path):
        with undamaged(path, IMPORTED.fix, line=number):
            label, run = _change(text.encode())
        runs[label] = run
    return {label: run for label, run in runs.items() if run is not None}


def _change(text: bytes) -> tuple[str, Imported | None]:
    """A label, and the run that it stands for from this line on; None where it is removed."""
    line = IMPORTED.read(text)
    if line["action"] == "remove":
        return line["label"], None
    fields = Measured.__dataclass_fields__
    if unknown := [key for key in line["measured"] if key not in fields]:
        raise Refused("unknown-key", f"measured.{unknown[0]}: unknown key", key=unknown[0])
    run = Imported(
        label=line["label"],
        measured=Measured(**line["measured"]),
        origin={"source": "", **line["origin"]},
        time=line["time"],
    )
    if run.segment != line["segment"]:
        raise Refused(
            "edited",
            f"run {run.label!r} is not what was imported under its id",
            label=run.label,
            segment=line["segment"],
        )
    return run.label, run


def _append(folder: Path, line: dict[str, Any]) -> None:
    path = imported_file(folder)
    drop_torn(path)  # behind another line it would count as damage
    append_line(path, line)


def imported_runs(folder: Path) -> list[Run]:
    """The runs that a study has imported.

    Raises:
        StoreError: The file of them is damaged.
    """
    return [imported.run for imported in read_imported(folder).values()]


def study_runs(study: Study) -> list[Run]:
    """A study's own runs, then those that it has imported: what its law is fitted to.

    Raises:
        StoreError: A file of the store is damaged.
    """
    return [*gather(study.store, study.plan), *imported_runs(study.folder)]


def arrivals(folder: Path, runs: Sequence[Imported]) -> Arrivals:
    """What importing `runs` would change."""
    have = read_imported(folder)
    same = {
        run.label for run in runs if run.label in have and have[run.label].segment == run.segment
    }
    return Arrivals(
        new=tuple(run for run in runs if run.label not in have),
        known=tuple(run for run in runs if run.label in same),
        changed=tuple(
            (have[run.label], run) for run in runs if run.label in have and run.label not in same
        ),
    )


def add_runs(folder: Path, runs: Iterable[Imported]) -> None:
    """Append runs; one whose label is known takes its place from here on.

    Raises:
        StoreError: Disk full, or no permission.
    """
    for run in runs:
        _append(
            folder,
            {
                "action": "add",
                "time": run.time,
                "label": run.label,
                "segment": run.segment,
                "measured": run.measured.as_json(),
                "origin": dict(run.origin),
            },
        )


def remove_run(folder: Path, label: str) -> Imported:
    """Take a run out again; its line stays in the file.

    Raises:
        ConfigError: No run of that label.
        StoreError: Disk full, or no permission.
    """
    have = read_imported(folder)
    if label not in have:
        known = ", ".join(map(repr, have)) or "none"
        raise ConfigError(
            "unknown-run",
            f"no imported run {label!r}{did_you_mean(label, have) or '.'} Imported: {known}",
            label=label,
            known=list(have),
        )
    line = {"action": "remove", "time": time.time(), "label": label}
    _append(folder, line | {"segment": have[label].segment})
    return have[label]


def imported_diagnostics(origins: Sequence[str | None]) -> tuple[Diagnostic, ...]:
    """What a fit must say of the imported runs among its own.

    Args:
        origins: `source` of each run of the fit; None of the study's own.
    """
    sources = Counter(source for source in origins if source is not None)
    if not sources:
        return ()
    rows, where = len(origins), ", ".join(f"{n} from {source}" for source, n in sources.items())
    return (
        Diagnostic(
            "imported-runs",
            f"{sources.total()} of {rows} rows are imported ({where}): another recipe, "
            "tokenizer or validation text is possible, what was stated of them is not checked, and "
            "without their exact FLOPs there is no exact ratio. To fit without them: --where "
            "'kind != imported'",
            rows=rows,
            imported=sources.total(),
            sources=dict(sources),
        ),
    )
