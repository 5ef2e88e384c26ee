"""Grid experiments as tables: the loss at every combination of the axes."""

from collections.abc import Iterator
from itertools import product

from windtunnel.report.inputs import Grid, GridCell
from windtunnel.spec import StudyConfig
from windtunnel.spec.experiments import GridExperiment
from windtunnel.trials.gather import Row
from windtunnel.trials.plan import Plan, PlannedSegment, make_plan


def read_grids(config: StudyConfig, plan: Plan, rows: list[Row]) -> tuple[Grid, ...]:
    """Every grid experiment of a study."""
    by_id = {row["segment"]: row for row in rows}
    return tuple(
        Grid(
            experiment=experiment.name,
            axes=tuple(axis for axis in experiment.axes if axis != "size"),
            cells=tuple(sorted(_cells(config, experiment, plan, by_id), key=_by_size)),
        )
        for experiment in config.experiments
        if isinstance(experiment, GridExperiment)
    )


def _by_size(cell: GridCell) -> tuple[int, ...]:
    """Small sizes first; the order of values and horizons stays."""
    return tuple(int(number) for number in cell.size.split("x"))


def _cells(
    config: StudyConfig, grid: GridExperiment, plan: Plan, rows: dict[str, Row]
) -> Iterator[GridCell]:
    """One combination after another is planned alone: only the planner knows which ids it makes."""
    anyone = plan.segments[0].segment
    for values, horizon in product(product(*grid.axes.values()), grid.horizons):
        axes = dict(zip(grid.axes, values, strict=True))
        one = grid.replace(axes={axis: (v,) for axis, v in axes.items()}, horizons=(horizon,))
        alone = config.replace(experiments=(one,))
        branches: dict[str, list[PlannedSegment]] = {}
        for branch in make_plan(
            alone, vocab_size=anyone.model.vocab_size, stream=anyone.root.stream
        ).branches:
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
