"""Imported runs from the rows of a source: columns, units, selection and checks, as in `fit`.

Losses are converted to nats per token, the mean over the validation sets of the study.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from windtunnel.cli.import_sources import Source, left_out, only
from windtunnel.cli.options import check_choice, numbered, pairs
from windtunnel.config import StudyConfig
from windtunnel.config.study import LadderExperiment
from windtunnel.errors import ConfigError, did_you_mean
from windtunnel.laws.conditions import Condition, number
from windtunnel.laws.table import Floats, Table
from windtunnel.quantities import read_count
from windtunnel.runs.imported import Imported, Measured
from windtunnel.runs.study import Study
from windtunnel.tables.check import checked, column_for_condition
from windtunnel.tables.columns import find_columns
from windtunnel.tables.file import TableFile
from windtunnel.tables.read import numbers_of, read_table
from windtunnel.tables.warnings import loss_unit

OPTIONAL = ("flops", "batch_tokens", "lr")
CONSTANT = ("params", "tokens", *OPTIONAL)
"""Columns that one number may replace for all runs."""
PLACE = "--run"
"""Column of the generated labels of a source without labels."""
TOLERATED = 0.02
"""Relative difference between FLOPs and 6ND that is not noted; as in the warning `flop-rule`."""
IMPOSSIBLE = 100.0
"""Assumed: attention, head and recomputation stay far below it; beyond it a unit is wrong."""
NEAR = 3.0
"""Factor within which a discrepancy is taken for a wrong unit."""
OF_FLOPS = MappingProxyType(
    {1e9: "gigaFLOPs", 1e12: "teraFLOPs", 1e15: "petaFLOPs", 1e18: "exaFLOPs",
     8.64e19: "petaFLOP/s-days", 1e21: "zettaFLOPs"}
)  # fmt: skip
OF_COUNTS = MappingProxyType({1e3: "thousands", 1e6: "millions", 1e9: "billions"})
UNITS = ("nats-per-token", "nats-per-byte", "bits-per-byte", "bits-per-token")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """The options of `import-runs` about columns and rows, as typed."""

    columns: Mapping[str, str] = field(default_factory=dict)
    loss_of: tuple[str, ...] = ()
    decayed: str | None = None
    scale: tuple[str, ...] = ()
    unit: str | None = None
    experiment: str | None = None
    where: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class LossUnit:
    """The factors from losses of a unit to nats per token of a study.

    Raises:
        ConfigError: An unknown unit, or a unit per byte without known bytes per token.
    """

    def __init__(self, study: Study, unit: str) -> None:
        check_choice("--unit", unit, UNITS)
        self.unit = unit
        self._nats = math.log(2) if unit.startswith("bits") else 1.0
        self._bytes = {each.name: each.bytes_per_token for each in study.validation}
        if self._is_per_token:
            return
        if study.dataset is None:
            raise self._unusable("its data is not prepared yet: `windtunnel sweep` does it")
        if unknown := [name for name, known in self._bytes.items() if known is None]:
            raise self._unusable(
                f"the bytes per token of its validation set {unknown[0]!r} are not known, which "
                "came as tokens"
            )

    @property
    def _is_per_token(self) -> bool:
        return self.unit.endswith("per-token")

    def of_set(self, name: str) -> float:
        """The factor for a loss on one validation set."""
        return self._nats if self._is_per_token else self._nats * (self._bytes[name] or math.nan)

    def of_mean(self) -> float:
        """The factor for a mean over sets.

        Raises:
            ConfigError: Sets differ in bytes per token, so that a mean per byte tells none per
                token.
        """
        if self._is_per_token:
            return self._nats
        known = {round(each or math.nan, 6) for each in self._bytes.values()}
        if len(known) != 1:
            each = ", ".join(f"{name} {value:.4g}" for name, value in self._bytes.items())
            raise self._unusable(
                f"its validation sets differ in bytes per token ({each}): give the loss on each of "
                "them with --loss-of SET=COL"
            )
        return self.of_set(next(iter(self._bytes)))

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            "unknown-unit",
            f"--unit {self.unit}: cannot be turned into the study's nats per token: {why}",
            option="--unit",
            unit=self.unit,
            reason=why,
        )


def read_runs(
    study: Study, source: Source, options: ImportOptions
) -> tuple[list[Imported], tuple[str, ...]]:
    """The selected runs of a source, and notes about them.

    Raises:
        ConfigError: A column, a condition, a cell or a unit cannot be used as it is.
    """
    experiment = experiment_of(study.config, options.experiment)
    unit = LossUnit(study, options.unit or UNITS[0])
    table, columns = stated_columns(source, options)
    columns |= loss_columns(study, options.loss_of)
    sets = sorted(name for name in columns if name.startswith("loss_"))
    of_sets = "loss" not in columns and set(sets) == {f"loss_{name}" for name in set_names(study)}
    missing = sorted({f"loss_{name}" for name in set_names(study)} - set(sets))
    if sets and missing and "loss" not in columns and "loss" not in table.columns:
        raise ConfigError(
            "missing-column",
            f"{table.path}: the law is fitted to the mean over the study's validation sets: name "
            f"its column with --loss COL, or give --loss-of {missing[0].removeprefix('loss_')}=COL "
            "too",
            path=table.path,
            column=missing[0],
            missing=missing,
        )
    if options.unit is None:
        _refuse_other_unit(table, columns, sets)
    needs = ("params", "tokens", *(sets if of_sets else ["loss"]))
    optional = (*OPTIONAL, *(() if of_sets else sets))
    scale = pairs("--scale", options.scale, numbered)
    read_as = numbers_of(table, find_columns(table, columns, (*needs, *optional)), scale)
    table, notes = without(table, read_as, columns, options.exclude)
    read = read_table(
        table,
        columns=columns,
        needs=needs,
        optional=optional,
        where=options.where,
        holdout="none",
        scale=scale,
    )
    rows = read.table
    if rows.decayed is None:
        raise ConfigError(
            "missing-value",
            f"{source.table.path}: column {columns['decayed']!r} does not say of every run whether "
            "its learning rate was decayed: fill it in, or give --decayed true or false",
            path=source.table.path,
            column=columns["decayed"],
        )
    flop_notes = check_flops(rows, columns, table.path)
    losses = {name.removeprefix("loss_"): _set_loss(rows, name, unit, table) for name in sets
              if name in rows}  # fmt: skip
    mean = np.mean(list(losses.values()), axis=0) if of_sets else rows.loss * unit.of_mean()
    labels = _labels(rows, source, columns["run"])
    origin = {
        "tool": source.tool, "source": source.name, "loss_unit": unit.unit,
        "columns": _taken(table, columns, sets),
        "filters": list(rows.filters),
    }  # fmt: skip
    now = time.time()
    runs = [
        Imported(
            label=labels[i],
            measured=Measured(
                experiment=experiment,
                params=round(rows.params[i]),
                tokens=round(rows.tokens[i]),
                loss=float(mean[i]),
                losses={name: float(values[i]) for name, values in losses.items()},
                decayed=bool(rows.decayed[i]),
                trunk=_trunk(rows, i),
                **{name: float(rows[name][i]) for name in OPTIONAL if name in rows},
            ),
            origin={**origin, **source.origins[str(rows.places[i])]},
            time=now,
        )
        for i in range(rows.rows)
    ]
    read_notes = (diagnostic.message for diagnostic in read.diagnostics)
    notes_of_runs = [*notes, *read_notes, *flop_notes, *notes_of(runs)]
    if of_sets and len(losses) > 1:
        notes_of_runs.append(f"the loss is the mean over {', '.join(losses)}")
    if options.unit is None:
        notes_of_runs.append(
            "losses are taken as nats per token of the study's tokenizer; --unit says otherwise"
        )
    return runs, tuple(notes_of_runs)


def _refuse_other_unit(table: TableFile, columns: Mapping[str, str], sets: Sequence[str]) -> None:
    """Refuse losses whose name states another unit than nats per token, if --unit is not given."""
    for name in ("loss", *sets):
        column = columns.get(name, name)
        if column in table.columns and (unit := loss_unit(column)):
            known = unit.replace(" ", "-")
            how = f"--unit {known}, or " if known in UNITS else ""
            raise ConfigError(
                "other-unit",
                f"{table.path}: column {column!r} is in {unit} by its name: say {how}--unit "
                f"{UNITS[0]} if it is not",
                path=table.path,
                column=column,
                unit=unit,
            )


def _taken(table: TableFile, columns: Mapping[str, str], sets: Sequence[str]) -> dict[str, str]:
    """The column of the source that each value was read from."""
    names = ("params", "tokens", "loss", *sets, *OPTIONAL, "decayed", "run", "trunk")
    every = {name: columns.get(name, name) for name in names}
    return {name: column for name, column in every.items() if column in table.columns}


def _set_loss(rows: Table, name: str, unit: LossUnit, table: TableFile) -> Floats:
    """The loss on one set in nats per token.

    Raises:
        ConfigError: It is 0 or below, or looks like a perplexity.
    """
    shown = TableFile(
        path=table.path, columns={name: rows[name].tolist()}, places=rows.places.tolist()
    )
    values = checked("loss", name, shown, np.ones(rows.rows, bool))
    return values * unit.of_set(name.removeprefix("loss_"))


def _labels(rows: Table, source: Source, column: str) -> list[str]:
    """The label of each run.

    Raises:
        ConfigError: A label is blank, or two runs share one.
    """
    labels = [str(label) for label in rows.labels["run"]]
    counts = Counter(labels)
    for label, place in zip(labels, rows.places, strict=True):
        where = f"{source.table.path}, {place}, column {column!r}"
        if not label:
            raise ConfigError(
                "missing-label",
                f"{where}: no label: fill it in, or name another column with --run",
                path=source.table.path,
                place=place,
                column=column,
            )
        if counts[label] > 1:
            other = "run_id" if "run_id" in source.table.columns else "COL"
            raise ConfigError(
                "duplicate-label",
                f"{where}: {counts[label]} runs are called {label!r}, and each needs a label of "
                f"its own: --run {other} (runs that share their start have one --trunk)",
                path=source.table.path,
                column=column,
                label=label,
                count=counts[label],
            )
    return labels


def _trunk(rows: Table, i: int) -> str | None:
    """The label of the trunk of a run, or None."""
    label = str(rows.trunk[i])
    return label if rows.has_trunks and label != rows.places[i] else None


def experiment_of(config: StudyConfig, requested: str | None) -> str:
    """The scaling experiment to import into: the named one, or the only one.

    Raises:
        ConfigError: No such scaling experiment, or several to choose from.
    """
    names = [each.name for each in config.experiments if isinstance(each, LadderExperiment)]
    if requested is not None and requested not in names:
        raise ConfigError(
            "unknown-experiment",
            f"--experiment {requested}: no scaling experiment of study {config.study!r}"
            f"{did_you_mean(requested, names) or '.'} It has: {', '.join(names) or 'none'}",
            study=config.study,
            experiment=requested,
            known=names,
        )
    if requested is None and len(names) != 1:
        has = f"several ({', '.join(names)}): choose one with --experiment" if names else "none"
        raise ConfigError(
            "no-experiment",
            f"study {config.study!r}: runs are imported for the law of a scaling experiment, and "
            f"it has {has}",
            study=config.study,
            experiments=names,
        )
    return requested or names[0]


def set_names(study: Study) -> list[str]:
    """Names of the validation sets of a study, prepared or not."""
    if study.dataset is not None:
        return [each.name for each in study.validation]
    return list(study.config.data.set_names)


def stated_columns(source: Source, options: ImportOptions) -> tuple[TableFile, dict[str, str]]:
    """The table with a column for each number given for all runs, and the column of each name."""
    table = source.table
    cells = dict(table.columns)
    columns = {name: column for name, column in options.columns.items() if column}
    for name in CONSTANT:
        given = columns.get(name, "")
        value = number(given) if name == "lr" else read_count(given)
        if given not in cells and value is not None:
            columns[name] = f"--{name.replace('_', '-')} {given}"
            cells[columns[name]] = [value] * table.rows
    word = options.decayed
    if word is None and "decayed" not in cells:
        raise ConfigError(
            "missing-column",
            f"{table.path}: it is not known whether the learning rate of these runs had decayed "
            "when the loss was measured. A law never mixes the two, so state it: --decayed true, "
            f"--decayed false or --decayed COL. There are: {table.names}",
            path=table.path,
            column="decayed",
            known=list(table.own),
        )
    if word is not None and word not in cells and word.lower() in {"true", "false"}:
        cells["--decayed"] = [word.lower()] * table.rows
        word = "--decayed"
    columns["decayed"] = word or "decayed"
    if "run" not in columns:
        if source.label is None:
            cells[PLACE] = [f"{source.name} {place}" for place in table.places]
        columns["run"] = source.label or PLACE
    stated = frozenset(cells) - frozenset(table.columns)
    return replace(table, columns=cells, stated=stated), columns


def loss_columns(study: Study, texts: tuple[str, ...]) -> dict[str, str]:
    """`--loss-of SET=COL` as columns `loss_SET`."""
    known, columns = set_names(study), {}
    for text in texts:
        name, sign, column = (part.strip() for part in text.partition("="))
        if not (name and sign and column):
            raise ConfigError(
                "not-a-pair",
                f"--loss-of {text}: write NAME=VALUE, for example --loss-of {known[0]}=COL",
                option="--loss-of",
                value=text,
            )
        if name not in known:
            raise ConfigError(
                "unknown-set",
                f"--loss-of {text}: the study measures no validation set {name!r}"
                f"{did_you_mean(name, known) or '.'} It has: {', '.join(known)}",
                set=name,
                known=known,
            )
        if f"loss_{name}" in columns:
            raise ConfigError(
                "duplicate-name",
                f"--loss-of {name} is given twice: give it once",
                option="--loss-of",
                name=name,
            )
        columns[f"loss_{name}"] = column
    return columns


def without(
    table: TableFile,
    read_as: TableFile,
    columns: Mapping[str, str],
    conditions: tuple[str, ...],
) -> tuple[TableFile, list[str]]:
    """The rows that meet none of the conditions, compared by the numbers `read_as`, and a note."""
    gone = np.zeros(table.rows, bool)
    counts: Counter[str] = Counter()
    for text in conditions:
        condition = Condition.parse(text)
        column = columns.get(condition.column, condition.column)
        if condition.column in table.columns:
            column = condition.column
        if column not in table.columns:
            raise ConfigError(
                "unknown-column",
                f"--exclude {text!r}: {table.path} has no column {condition.column!r}. There are: "
                f"{table.names}{did_you_mean(condition.column, table.own)}",
                path=table.path,
                column=condition.column,
                known=list(table.own),
            )
        mask = condition.mask(column_for_condition(read_as.columns[column])) & ~gone
        counts[str(condition)] += int(mask.sum())
        gone |= mask
    if not gone.any():
        return table, []
    note = left_out({text: count for text, count in counts.items() if count}, table.rows)
    if gone.all():
        raise ConfigError(
            "no-rows-left",
            f"{table.path}: no run is left after --exclude: {note}",
            path=table.path,
            rows=0,
            excluded=dict(counts),
        )
    return only(table, (~gone).tolist()), [note]


def check_flops(rows: Table, columns: Mapping[str, str], path: Path) -> list[str]:
    """Notes about FLOPs that differ from 6ND.

    Raises:
        ConfigError: They are off 6ND by more than a factor of 100.
    """
    if "flops" not in rows:
        return []
    off = rows["flops"] / rows.budget
    worst = int(np.argmax(np.abs(np.log(off))))
    if not 1 / IMPOSSIBLE <= off[worst] <= IMPOSSIBLE:
        where = f"{path}, {rows.places[worst]}, column {columns.get('flops', 'flops')!r}"
        raise ConfigError(
            "flops-mismatch",
            f"{where}: {rows['flops'][worst]:.3g} FLOPs are {off[worst]:.3g} times {rows.flop_rule}"
            f" = {rows.budget[worst]:.3g} of {rows.params[worst]:.3g} params and "
            f"{rows.tokens[worst]:.3g} tokens: {_likely_fix(float(off[worst]))}, or give no FLOPs: "
            f"{rows.flop_rule} is taken then",
            path=path,
            place=rows.places[worst],
            flops=float(rows["flops"][worst]),
            expected=float(rows.budget[worst]),
            factor=float(off[worst]),
        )
    beyond = int(np.sum(np.abs(off - 1) > TOLERATED))
    if not beyond:
        return []
    return [
        f"the FLOPs of {beyond} of {rows.rows} runs are not {rows.flop_rule}: all are "
        f"{off.min():.3g} to {off.max():.3g} times it. They are kept, and the law's budgets are in "
        f"{rows.flop_rule}"
    ]


def _likely_fix(off: float) -> str:
    """The likely fix for FLOPs that are `off` times 6ND."""
    units = OF_FLOPS if off < 1 else OF_COUNTS
    gap = max(off, 1 / off)
    near = next((unit for unit in units if 1 / NEAR < unit / gap < NEAR), None)
    if near is None:
        return "check the units of the three (--scale COL=FACTOR)"
    if off < 1:
        return f"if they are {units[near]}, --scale flops={near:g}"
    return f"if tokens are {units[near]}, --scale tokens={near:g} (or params={near:g})"


def notes_of(runs: Sequence[Imported]) -> list[str]:
    """Notes about repeated and undecayed runs."""
    notes = []
    seen: dict[tuple[int, int, float], str] = {}
    for run in runs:
        numbers = (run.measured.params, run.measured.tokens, run.measured.loss)
        if numbers in seen:
            notes.append(
                f"{run.label!r} repeats {seen[numbers]!r} exactly: one run twice? --exclude it"
            )
        seen.setdefault(numbers, run.label)
    if undecayed := sum(not run.measured.decayed for run in runs):
        notes.append(
            f"{undecayed} runs are not decayed: they are kept, and the law leaves them out"
        )
    return notes
