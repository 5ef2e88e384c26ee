"""From a source's cells to runs that a study can take in: columns mapped, checked as `fit` does."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from windtunnel.cli.fit_pairs import once
from windtunnel.cli.import_runs_columns import (
    OPTIONAL,
    ImportOptions,
    experiment_of,
    loss_columns,
    scale_of,
    set_names,
    stated_columns,
    without,
)
from windtunnel.cli.import_runs_doubts import check_flops, doubts
from windtunnel.cli.import_runs_source import Source
from windtunnel.cli.import_runs_units import UNITS, LossUnit
from windtunnel.errors import ConfigError
from windtunnel.laws.table import Floats, Table
from windtunnel.runs.imported import Imported, Measured
from windtunnel.runs.study import Study
from windtunnel.tables.check import checked
from windtunnel.tables.columns import find_columns
from windtunnel.tables.file import TableFile
from windtunnel.tables.read import numbers_of, read_table
from windtunnel.tables.warnings import loss_unit


def read_runs(
    study: Study, source: Source, options: ImportOptions
) -> tuple[list[Imported], tuple[str, ...]]:
    """The runs that the options take from a source, and what a reader must know of the taking.

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
            f"{table.path}: the law is fitted to the mean over the study's validation sets: name "
            f"its column with --loss COL, or give --loss-of {missing[0].removeprefix('loss_')}=COL "
            "too"
        )
    if options.unit is None:
        _refuse_other_unit(table, columns, sets)
    needs = ("params", "tokens", *(sets if of_sets else ["loss"]))
    optional = (*OPTIONAL, *(() if of_sets else sets))
    scale = once("--scale", map(scale_of, options.scale))
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
            f"{source.table.path}: column {columns['decayed']!r} does not say of every run whether "
            "its learning rate was decayed: fill it in, or give --decayed true or false"
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
    said = [*notes, *read_notes, *flop_notes, *doubts(runs)]
    if of_sets and len(losses) > 1:
        said.append(f"the loss is the mean over {', '.join(losses)}")
    if options.unit is None:
        said.append(
            "losses are taken as nats per token of the study's tokenizer; --unit says otherwise"
        )
    return runs, tuple(said)


def _refuse_other_unit(table: TableFile, columns: Mapping[str, str], sets: Sequence[str]) -> None:
    """Refuse losses that are no nats per token by their name, where no option states the unit."""
    for name in ("loss", *sets):
        column = columns.get(name, name)
        if column in table.columns and (unit := loss_unit(column)):
            known = unit.replace(" ", "-")
            how = f"--unit {known}, or " if known in UNITS else ""
            raise ConfigError(
                f"{table.path}: column {column!r} is in {unit} by its name: say {how}--unit "
                f"{UNITS[0]} if it is not"
            )


def _taken(table: TableFile, columns: Mapping[str, str], sets: Sequence[str]) -> dict[str, str]:
    """The source's column of everything that was read, by our name."""
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
    """A label for each run.

    Raises:
        ConfigError: One is blank, or stands for two runs.
    """
    labels = [str(label) for label in rows.labels["run"]]
    counts = Counter(labels)
    for label, place in zip(labels, rows.places, strict=True):
        where = f"{source.table.path}, {place}, column {column!r}"
        if not label:
            raise ConfigError(f"{where}: no label: fill it in, or name another column with --run")
        if counts[label] > 1:
            other = "run_id" if "run_id" in source.table.columns else "COL"
            raise ConfigError(
                f"{where}: {counts[label]} runs are called {label!r}, and each needs a label of "
                f"its own: --run {other} (runs that share their start have one --trunk)"
            )
    return labels


def _trunk(rows: Table, i: int) -> str | None:
    """The label of a run's trunk; None where it has none, for which its place stands."""
    label = str(rows.trunk[i])
    return label if rows.has_trunks and label != rows.places[i] else None
