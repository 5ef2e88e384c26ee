"""`windtunnel gc`: checkpoints that are no longer needed, the cost to recompute them, deletion."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.text import duration, flops, print_json, say, size_of, terminal

if TYPE_CHECKING:
    from collections.abc import Collection

    from windtunnel.runs.gc import Garbage, Kind
    from windtunnel.runs.study import Study


def gc(
    study: StudyFile,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete them; without it, they are only listed.")
    ] = False,
    last_forks: Annotated[
        bool, typer.Option("--last-forks", help="Include the last fork of each trunk.")
    ] = False,
    ends: Annotated[
        bool, typer.Option("--ends", help="Include the final weights of branches.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List checkpoints that are no longer needed, and delete them.

    No measurement is lost.
    """
    from windtunnel.runs.study import open_study

    run_gc(open_study(study), yes=yes, last_forks=last_forks, ends=ends, as_json=as_json)


def run_gc(study: "Study", *, yes: bool, last_forks: bool, ends: bool, as_json: bool) -> None:
    """Print the checkpoints by kind, and delete them on `yes`."""
    from windtunnel.runs.budget.throughput import throughput_of
    from windtunnel.runs.gc import KINDS, USUAL, find_garbage, free

    kinds: set[Kind] = {*USUAL}
    if last_forks:
        kinds.add("last forks")
    if ends:
        kinds.add("ends")
    checkpoints, in_use = find_garbage(study)
    selected = [each for each in checkpoints if each.kind in kinds]
    freed = None
    if yes:
        freed, come_into_use = free(study.store, selected)
        in_use += come_into_use
    if as_json:
        print_json(
            {
                "kinds": {
                    kind: _sums(checkpoints, kind) | {"goes": kind in kinds} for kind in KINDS
                },
                "would_free_bytes": sum(each.bytes for each in selected),
                "freed_bytes": freed,
                "in_use": in_use,
            }
        )
        return
    console = terminal()
    console.print(_table(checkpoints, kinds, throughput_of(study).flops_per_second))
    if in_use:
        say(console, f"{len(in_use)} segments are in use and were left alone: {_few(in_use)}")
    if freed is not None:
        say(console, f"freed {size_of(freed)}")
    elif selected:
        total = sum(each.bytes for each in selected)
        say(console, f"would free {size_of(total)}: run it again with --yes")
    else:
        say(console, "nothing to free")


def _table(checkpoints: "list[Garbage]", kinds: "Collection[Kind]", speed: float) -> Table:
    from windtunnel.runs.gc import KINDS

    table = Table(box=None)
    for column in ("", "count", "size", "to make again", "what it is"):
        table.add_column(column, justify="right" if column in {"count", "size"} else "left")
    for kind, what in KINDS.items():
        sums = _sums(checkpoints, kind)
        again = sums["flops_to_make_again"]
        how = {"last forks": "stays; --last-forks", "ends": "stays; --ends"}
        table.add_row(
            kind,
            str(sums["count"]),
            size_of(sums["bytes"]),
            f"{flops(again)}, {duration(again / speed)} of one trial" if again else "",
            what if kind in kinds else f"{what} ({how[kind]})",
        )
    return table


def _sums(checkpoints: "list[Garbage]", kind: "Kind") -> dict[str, float]:
    these = [each for each in checkpoints if each.kind == kind]
    return {
        "count": len(these),
        "bytes": sum(each.bytes for each in these),
        "flops_to_make_again": sum(each.flops for each in these),
    }


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
