"""`windtunnel gc`: what nobody needs any more, what making it again would cost, freeing it."""

from collections.abc import Collection

from rich.table import Table

from windtunnel.cli.text import duration, flops, print_json, say, size_of, terminal
from windtunnel.runs.budget.throughput import throughput_of
from windtunnel.runs.gc import KINDS, USUAL, Garbage, Kind, find_garbage, free
from windtunnel.runs.study import Study


def run_gc(study: Study, *, yes: bool, last_forks: bool, ends: bool, as_json: bool) -> None:
    """Print what would go, by kind, and free it on `yes`."""
    kinds: set[Kind] = {*USUAL}
    if last_forks:
        kinds.add("last forks")
    if ends:
        kinds.add("ends")
    found, in_use = find_garbage(study)
    going = [each for each in found if each.kind in kinds]
    freed = None
    if yes:
        freed, come_into_use = free(study.store, going)
        in_use += come_into_use
    if as_json:
        print_json(
            {
                "kinds": {kind: _sums(found, kind) | {"goes": kind in kinds} for kind in KINDS},
                "would_free_bytes": sum(each.bytes for each in going),
                "freed_bytes": freed,
                "in_use": in_use,
            }
        )
        return
    console = terminal()
    console.print(_table(found, kinds, throughput_of(study).flops_per_second))
    if in_use:
        say(console, f"{len(in_use)} segments are in use and were left alone: {_few(in_use)}")
    if freed is not None:
        say(console, f"freed {size_of(freed)}")
    elif going:
        total = sum(each.bytes for each in going)
        say(console, f"would free {size_of(total)}: run it again with --yes")
    else:
        say(console, "nothing to free")


def _table(found: list[Garbage], kinds: Collection[Kind], speed: float) -> Table:
    table = Table(box=None)
    for column in ("", "count", "size", "to make again", "what it is"):
        table.add_column(column, justify="right" if column in {"count", "size"} else "left")
    for kind, what in KINDS.items():
        sums = _sums(found, kind)
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


def _sums(found: list[Garbage], kind: Kind) -> dict[str, float]:
    these = [each for each in found if each.kind == kind]
    return {
        "count": len(these),
        "bytes": sum(each.bytes for each in these),
        "flops_to_make_again": sum(each.flops for each in these),
    }


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
