"""What a grid over learning rate compares: the values of its other axes, in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from windtunnel.findings.records import Records
from windtunnel.spec.experiments import GridExperiment
from windtunnel.trials.gather import Row

RATE, BATCH, SIZE = "recipe.lr", "recipe.batch_tokens", "size"
WORDS = {
    ("recipe.parametrization", "mup"): "muP",
    ("recipe.parametrization", "standard"): "standard",
    ("recipe.weight_decay_rule", "scaled"): "scaled weight decay",
    ("recipe.weight_decay_rule", "constant"): "constant weight decay",
    ("model.qk_norm", True): "QK-norm",
    ("model.qk_norm", False): "no QK-norm",
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One combination of values; `name` is empty where a grid has only one."""

    name: str
    rows: tuple[Row, ...]


def rate_grids(records: Records) -> Iterator[GridExperiment]:
    """The grids of a study that vary the learning rate."""
    for experiment in records.config.experiments:
        if isinstance(experiment, GridExperiment) and len(experiment.axes.get(RATE, ())) > 1:
            yield experiment


def variants(grid: GridExperiment, rows: Sequence[Row], axes: Sequence[str]) -> tuple[Variant, ...]:
    """The rows by their values on these axes, in the order of the study file.

    The axes of a schedule are None for a trunk, which then belongs to every variant.
    """
    found = dict.fromkeys(
        values for row in rows if None not in (values := tuple(row[axis] for axis in axes))
    )
    named = [place for place in range(len(axes)) if len({values[place] for values in found}) > 1]

    def order(values: tuple[Any, ...]) -> list[int]:
        written = [[str(value) for value in grid.axes.get(axis, ())] for axis in axes]
        return [
            known.index(str(value)) if str(value) in known else len(known)
            for known, value in zip(written, values, strict=True)
        ]

    return tuple(
        Variant(
            name=", ".join(_said(axes[place], values[place]) for place in named),
            rows=tuple(
                row
                for row in rows
                if all(row[axis] in (value, None) for axis, value in zip(axes, values, strict=True))
            ),
        )
        for values in sorted(found, key=order)
    )


def _said(axis: str, value: Any) -> str:
    if axis == SIZE:
        return str(value)
    if axis == "schedule.decay_fraction":
        return f"a decay of {100 * value:g}%"
    return WORDS.get((axis, value)) or f"{axis.partition('.')[2]} {value}"
