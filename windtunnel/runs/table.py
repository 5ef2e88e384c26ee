"""Runs as rows of a table, for CSV, JSON and DataFrames, and rows read back.

Only here do columns have prefixes, and names that are joined to one text.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from windtunnel.laws.table import COPYING
from windtunnel.runs.run import Run

Row = dict[str, Any]

COLUMNS = (
    "segment", "kind", "parent", "trunk", "decayed", "experiment", "held_out", "width", "depth",
    "params", "params_embedding", "params_active", "tokens", "flops_6nd", "flops_exact", "flops",
    "flops_spent", "batch_tokens", "lr", "init_seed", "data_seed", "horizon", "variant",
    "fork_tokens", "epochs", "outcome",
    "loss", "bits_per_byte", "tokens_per_second", "seconds",
)  # fmt: skip
"""Columns of every table; `loss_SET` and `bits_per_byte_SET` of each validation set follow, then
where mixtures change `weight_SOURCE`, of imported runs `label` and `source`, and `COPYING` of runs
whose copy gain was measured."""

OF_EXPERTS = ("params_total", "experts", "sunk_tokens")
"""Further columns of mixtures of experts."""

PREFIXES = LOSS, BITS, WEIGHT = "loss_", "bits_per_byte_", "weight_"
"""Before the name of a set, and of a source."""
JOINED, OF = "+", ":"
"""Between experiments that need one segment, and between an experiment and its name of a variant;
neither stands in a name."""


def as_row(run: Run) -> Row:
    """The run's row: one value a column, None where it has none."""
    texts = {"experiment": join(run.experiments), "variant": variant_name(run.variants)}
    row: Row = {name: texts[name] if name in texts else getattr(run, name) for name in COLUMNS}
    for name in sorted({*run.losses, *run.bits_per_byte_by_set}):
        row[LOSS + name] = run.losses.get(name)
        if name in run.bits_per_byte_by_set:
            row[BITS + name] = run.bits_per_byte_by_set[name]
    row |= {WEIGHT + name: share for name, share in run.mixture.items()}
    row |= {"label": run.label, "source": run.source} if run.imported else {}
    row |= {name: getattr(run, name) for name in OF_EXPERTS if getattr(run, name) is not None}
    return row | ({} if run.copy_gain is None else {name: getattr(run, name) for name in COPYING})


def as_run(row: Mapping[str, Any]) -> Run:
    """The run of a row that `as_row` made, or that records of any version have.

    Columns that none of them has are axes.
    """
    experiments = split(row.get("experiment"))
    losses = _by_name(row, LOSS)
    bits = {name: each for name, each in _columns(row, BITS) if each is not None or name in losses}
    known = {*COLUMNS, *OF_EXPERTS, *COPYING, "size", "label", "source"}
    return Run(
        **{name: row[name] for name in known - {"experiment", "variant", "size"} if name in row},
        experiments=experiments,
        variants=_variants(row.get("variant"), experiments),
        losses=losses,
        bits_per_byte_by_set=bits,
        mixture=_by_name(row, WEIGHT),
        axes={
            name: value
            for name, value in row.items()
            if name not in known and not name.startswith(PREFIXES)
        },
    )


def join(experiments: Iterable[str]) -> str:
    """Names of experiments as one text."""
    return JOINED.join(experiments)


def split(experiments: str | None) -> tuple[str, ...]:
    """The names that `join` joined."""
    return tuple(experiments.split(JOINED)) if experiments else ()


def variant_name(variants: Mapping[str, str]) -> str | None:
    """The variant name that all experiments share; `EXPERIMENT:NAME+...` where they differ."""
    if len(set(variants.values())) < 2:
        return next(iter(variants.values()), None)
    return JOINED.join(f"{experiment}{OF}{name}" for experiment, name in variants.items())


def _variants(text: str | None, experiments: tuple[str, ...]) -> dict[str, str]:
    """What each experiment calls a variant; a single name does not tell whose it is."""
    if text is None:
        return {}
    if OF not in text:
        return dict.fromkeys(experiments, text)
    parts = (part.partition(OF) for part in text.split(JOINED))
    return {experiment: name for experiment, _, name in parts}


def _columns(row: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    return (
        (name.removeprefix(prefix), value) for name, value in row.items() if name.startswith(prefix)
    )


def _by_name(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name: value for name, value in _columns(row, prefix) if value is not None}
