"""What `plan` says of the time and the disk ahead, and of how it knows."""

import time
from collections import defaultdict

from rich.table import Table

from windtunnel.cli.text import duration, si, size_of
from windtunnel.config import Branch
from windtunnel.engine.simulate import Estimate
from windtunnel.runs.budget.calibration import Calibration
from windtunnel.runs.budget.cost import free_bytes
from windtunnel.runs.budget.throughput import Shape, Throughput, shape_of
from windtunnel.runs.study import Study

HOW = {
    "calibrated": "timed here",
    "measured": "measured on what has run",
    "assumed": "assumed: --calibrate times it here",
}


def lines_ahead(study: Study, pace: Throughput, ahead: Estimate, *, slots: int) -> list[str]:
    """The lines `disk` and `time`."""
    whole, left = ahead.whole, ahead.left
    remaining = "" if left is whole else f"; {duration(left.makespan)} of it left"
    shrinks = f", {size_of(ahead.disk_end)} at the end" if ahead.disk_end < ahead.disk_peak else ""
    return [
        f"disk         {size_of(ahead.disk_peak)} at the peak{shrinks} (retain: "
        f"{study.config.retain}); {size_of(free_bytes(study.store.root))} free there",
        f"time         about {duration(whole.makespan)} on {slots} at once{remaining}; "
        f"{pace.flops_per_second:.1e} FLOP/s each ({HOW[pace.source]})",
        f"schedule     {whole.utilisation:.0%} of {slots} slots busy; no order could take under "
        f"{duration(whole.bound)}",
    ]


def calibration_table(study: Study, calibration: Calibration, pace: Throughput) -> Table:
    """A line a shape: what was timed, and what its segments take by it."""
    seconds: dict[Shape, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for planned in study.plan.segments:
        kind = "branch" if isinstance(planned.segment, Branch) else "trunk"
        seconds[shape_of(planned)][kind].append(pace.seconds(planned))
    conditions = calibration.conditions
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(calibration.written))
    table = Table(
        box=None,
        title=f"timed {when} on {conditions['host']}, {conditions['slots']} side by side",
        title_justify="left",
    )
    for column in ("size", "batch", "ms/update", "kernels", "trunk", "branches", "all of it"):
        table.add_column(column, justify="left" if column == "kernels" else "right")
    for each in calibration.shapes:
        took = seconds.get((each.model, each.batch_tokens))
        if not took:
            continue
        kernels = each.timing.kernels.split()[0] + (", compiled" if each.timing.compile else "")
        table.add_row(
            each.model.size,
            si(each.batch_tokens),
            f"{1e3 * each.timing.update:.3g}",
            kernels,
            _span(took["trunk"]),
            _span(took["branch"]),
            duration(sum(took["trunk"]) + sum(took["branch"])),
        )
    return table


def _span(seconds: list[float]) -> str:
    """One duration, or the shortest and the longest."""
    low, high = (duration(limit(seconds, default=0.0)) for limit in (min, max))
    return low if low == high else f"{low} to {high}"
