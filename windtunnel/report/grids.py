"""Grid experiments as tables: the loss at every combination of the axes."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from windtunnel.report.inputs import Grid, GridCell
from windtunnel.spec.experiments import GridExperiment
from windtunnel.trials.gather import Row
from windtunnel.trials.plan import PlannedSegment, make_plan
from windtunnel.trials.points import Ground


def read_grids(ground: Ground, rows: list[Row]) -> tuple[Grid, ...]:
    """Every grid experiment of a study."""
    by_id = {row["segment"]: row for row in rows}
    return tuple(
        Grid(
            experiment=experiment.name,
            axes=tuple(axis for axis in experiment.axes if axis != "size"),
            cells=tuple(sorted(_cells(ground, experiment, by_id), key=_by_size)),
        )
        for experiment in ground.config.experiments
        if isinstance(experiment, GridExperiment)
    )


def _by_size(cell: GridCell) -> tuple[int, ...]:
    """Small sizes first; the order of values and horizons stays."""
    return tuple(int(number) for number in cell.size.split("x"))


def _cells(ground: Ground, grid: GridExperiment, rows: dict[str, Row]) -> Iterator[GridCell]:
    """One combination after another is planned alone: only the planner knows which ids it makes."""
    for values, horizon in product(product(*grid.axes.values()), grid.horizons):
        axes = dict(zip(grid.axes, values, strict=True))
        one = grid.replace(axes={axis: (v,) for axis, v in axes.items()}, horizons=(horizon,))
        alone = replace(ground, config=ground.config.replace(experiments=(one,)))
        branches: dict[str, list[PlannedSegment]] = {}
        for branch in make_plan(alone).branches:
            branches.setdefault(branch.segment.model.size, []).append(branch)
        for size, planned in branches.items():
            found = [rows[branch.id] for branch in planned if branch.id in rows]
            yield GridCell(
                size=size,
                values=tuple(str(value) for axis, value in axes.items() if axis != "size"),
                horizon=str(horizon),
                losses=tuple(row["loss"] for row in found if row["loss"] is not None),
                diverged=sum(row["outcome"] == "diverged" for row in found),
                planned=len(planned),
            )
