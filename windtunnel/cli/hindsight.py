"""What `status` says of a study's time and budget: predicted, actual, and how busy slots were."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from windtunnel.cli.text import duration, say, si
from windtunnel.runs.budget.budget import Account, spent_of_budget
from windtunnel.runs.budget.calibration import last_calibration
from windtunnel.runs.budget.throughput import throughput_of
from windtunnel.runs.budget.utilisation import Compared, Utilisation, compared, utilisation
from windtunnel.runs.study import Study


@dataclass(frozen=True, kw_only=True)
class Hindsight:
    """Empty where nothing was calibrated, swept or limited."""

    compared: list[Compared]
    utilisation: Utilisation | None
    budget: dict[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "predicted_and_actual": [asdict(each) for each in self.compared],
            "utilisation": asdict(self.utilisation) if self.utilisation else None,
            "budget": {
                name: {"spent": spent, "limit": limit}
                for name, (spent, limit) in self.budget.items()
            },
        }

    def show(self, console: Console) -> None:
        """For people."""
        if self.compared:
            console.print(_table(self.compared))
        if used := self.utilisation:
            sweeps = "1 sweep" if used.sweeps == 1 else f"{used.sweeps} sweeps"
            say(
                console,
                f"{sweeps} took {duration(used.seconds)} for {used.segments} segments and kept "
                f"{used.reached:.0%} of the slots' time busy; {used.bound:.0%} was possible, in "
                f"{duration(used.best)}",
            )
        for name, (spent, limit) in self.budget.items():
            say(console, f"budget.{name}: {si(spent)} of {si(limit)} spent")


def hindsight(study: Study) -> Hindsight:
    """Ask the store."""
    calibration = last_calibration(study)
    return Hindsight(
        compared=compared(study, throughput_of(study, calibration.by_shape()))
        if calibration
        else [],
        utilisation=utilisation(study.folder),
        budget=spent_of_budget(study, Account(study).total()),
    )


def _table(found: list[Compared]) -> Table:
    table = Table(box=None, title="predicted and actual, summed", title_justify="left")
    for column in ("size", "what", "segments", "predicted", "actual", "actual/predicted"):
        side: Literal["left", "right"] = "left" if column == "what" else "right"
        table.add_column(column, justify=side)
    whole = Compared(
        size="all",
        kind="",
        segments=sum(each.segments for each in found),
        predicted=sum(each.predicted for each in found),
        actual=sum(each.actual for each in found),
    )
    for each in (*found, whole):
        table.add_row(
            each.size,
            each.kind,
            str(each.segments),
            duration(each.predicted),
            duration(each.actual),
            f"{each.actual / each.predicted:.2f}",
        )
    return table
