"""Which columns of a source say what: names, numbers that stand for all runs, conditions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from windtunnel.cli.import_runs_source import Source, left_out, only
from windtunnel.config import StudyConfig
from windtunnel.config.study import ScalingExperiment
from windtunnel.errors import ConfigError, did_you_mean
from windtunnel.laws.conditions import Condition, number
from windtunnel.runs.study import Study
from windtunnel.tables.check import column_for_condition
from windtunnel.tables.file import TableFile

OPTIONAL = ("flops", "batch_tokens", "lr")
CONSTANT = ("params", "tokens", *OPTIONAL)
"""What one number may state for all runs of a source."""
PLACE = "--run"
"""Column of the labels that stand in where a source has none."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Every option that says what the columns are, as typed."""

    columns: Mapping[str, str] = field(default_factory=dict)
    loss_of: tuple[str, ...] = ()
    decayed: str | None = None
    scale: tuple[str, ...] = ()
    unit: str | None = None
    experiment: str | None = None
    where: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def experiment_of(config: StudyConfig, asked: str | None) -> str:
    """The experiment whose law takes the runs: the one asked for, or the only one of scaling.

    Raises:
        ConfigError: No such scaling experiment, or several to choose from.
    """
    names = [each.name for each in config.experiments if isinstance(each, ScalingExperiment)]
    if asked is not None and asked not in names:
        raise ConfigError(
            f"--experiment {asked}: no scaling experiment of study {config.study!r}"
            f"{did_you_mean(asked, names) or '.'} It has: {', '.join(names) or 'none'}"
        )
    if asked is None and len(names) != 1:
        has = f"several ({', '.join(names)}): choose one with --experiment" if names else "none"
        raise ConfigError(
            f"study {config.study!r}: runs are imported for the law of a scaling experiment, and "
            f"it has {has}"
        )
    return asked or names[0]


def set_names(study: Study) -> list[str]:
    """Names of the study's validation sets, prepared or not."""
    if study.dataset is not None:
        return [each.name for each in study.validation]
    return list(study.config.data.set_names)


def stated_columns(source: Source, options: ImportOptions) -> tuple[TableFile, dict[str, str]]:
    """The table with a column for each number that stands for all runs, and the columns by name."""
    table = source.table
    cells = dict(table.columns)
    columns = {name: column for name, column in options.columns.items() if column}
    for name in CONSTANT:
        given = columns.get(name, "")
        value = number(given)
        if given not in cells and value is not None:
            columns[name] = f"--{name.replace('_', '-')} {given}"
            cells[columns[name]] = [value] * table.rows
    word = options.decayed
    if word is None and "decayed" not in cells:
        raise ConfigError(
            f"{table.path}: nothing says whether the learning rate of these runs was decayed when "
            "the loss was measured. A law never mixes the two, so state it: --decayed true, "
            f"--decayed false or --decayed COL. There are: {table.names}"
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
    known, found = set_names(study), {}
    for text in texts:
        name, column = _words("--loss-of", text, f"{known[0]}=COL")
        if name not in known:
            raise ConfigError(
                f"--loss-of {text}: the study measures no validation set {name!r}"
                f"{did_you_mean(name, known) or '.'} It has: {', '.join(known)}"
            )
        if f"loss_{name}" in found:
            raise ConfigError(f"--loss-of {name} is given twice: give it once")
        found[f"loss_{name}"] = column
    return found


def without(
    table: TableFile,
    read_as: TableFile,
    columns: Mapping[str, str],
    conditions: tuple[str, ...],
) -> tuple[TableFile, list[str]]:
    """The rows of which no condition is known to hold, by the numbers that cells are `read_as`."""
    gone = np.zeros(table.rows, bool)
    counts: Counter[str] = Counter()
    for text in conditions:
        condition = Condition.parse(text)
        column = columns.get(condition.column, condition.column)
        if condition.column in table.columns:
            column = condition.column
        if column not in table.columns:
            raise ConfigError(
                f"--exclude {text!r}: {table.path} has no column {condition.column!r}. There are: "
                f"{table.names}{did_you_mean(condition.column, table.own)}"
            )
        mask = condition.mask(column_for_condition(read_as.columns[column])) & ~gone
        counts[str(condition)] += int(mask.sum())
        gone |= mask
    if not gone.any():
        return table, []
    said = left_out({text: count for text, count in counts.items() if count}, table.rows)
    if gone.all():
        raise ConfigError(f"{table.path}: no run is left after --exclude: {said}")
    return only(table, (~gone).tolist()), [said]


def scale_of(text: str) -> tuple[str, float]:
    """`--scale COL=FACTOR` as a column and its factor."""
    name, value = _words("--scale", text, "params=1e9")
    found = number(value)
    if found is None:
        raise ConfigError(f"--scale {text}: {value!r} is not a number; write --scale params=1e9")
    return name, found


def _words(option: str, text: str, example: str) -> tuple[str, str]:
    name, sign, value = (part.strip() for part in text.partition("="))
    if not (name and sign and value):
        raise ConfigError(f"{option} {text}: write NAME=VALUE, for example {option} {example}")
    return name, value
