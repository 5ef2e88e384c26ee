"""Seconds until training runs, and until a segment is done, each in a Python process of its own.

Start-up is what passes from "imports done" to the end of the first update: on a machine that has
cached nothing, then for the next trial of the same shape and of another shape in that process, and
for the first trial of a new process that finds what the first has left on disk. Caches lie in a
fresh temporary folder.

    python experiments/benchmarks/startup.py
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contenders import LONG_RUN, NAMES, execution_of, missing, way, ways
from shapes import device, rung, usual_precision
from tables import table

CONTENDERS = NAMES | {"compiled": "ours, compile: always"}

STAGES = ("imports", "first", "again", "other", "warm")

SHORT_UPDATES = 100
"""Too few to pay for a compiler; the other end of `compile: auto` is a run of 60N."""


def sizes() -> tuple[str, str, str]:
    """Three rungs, the smallest first."""
    return ("32x3", "64x4", "128x4") if device() == "cpu" else ("320x8", "512x12", "640x14")


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Start-ups, whole segments, and both ends of `compile: auto`.

    `quick`: one size, a short segment and nothing compiled, to see that it runs.
    """
    absent = set(missing()) | ({"compiled", "loop compiled"} if quick else set())
    small, shown, large = sizes()
    starts = {
        name: {
            size: starts_of(name, size, other=small if size == shown else None)
            for size in ((shown,) if quick else (small, shown, large))
        }
        for name in CONTENDERS
        if name not in absent
    }
    trained = NAMES if device() == "cpu" else {}  # on the CUDA ladder it would take hours
    tokens = 20_480 if quick else LONG_RUN * rung(small).model.params
    return {
        "precision": usual_precision(),
        "shown": shown,
        "other": small,
        "starts": starts,
        "segments": [whole(name, small, tokens) for name in starts if name in trained],
        "ends": []
        if quick
        else [
            end(shown, f"{SHORT_UPDATES} updates", SHORT_UPDATES * rung(shown).batch_tokens),
            end(large, f"{LONG_RUN}N", LONG_RUN * rung(large).model.params),
        ],
        "missing": missing(),
    }


def starts_of(contender: str, size: str, *, other: str | None) -> dict[str, float]:
    """Start-up on a cold machine and in a second process."""
    with caches() as environment:
        asked = {"contender": contender, "size": size}
        found = process("start", environment, **asked, other=other)
        warm = process("start", environment, **asked, other=None)
    return found | {"warm": warm["first"]}


def whole(contender: str, size: str, tokens: float) -> dict[str, Any]:
    """A whole segment on a cold machine."""
    with caches() as environment:
        found = process("whole", environment, contender=contender, size=size, tokens=tokens)
    return {"contender": contender, "size": size} | found


def end(size: str, length: str, tokens: float) -> dict[str, Any]:
    """What each way costs on a cold machine for a run of `tokens`, and which one is chosen."""
    shape, precision = rung(size), usual_precision()
    startup = {}
    for name in ways(shape, precision):
        with caches() as environment:
            startup[name] = process("start", environment, contender=name, size=size, other=None)
    with caches() as environment:
        rates = process("rates", environment, size=size)
    return {
        "size": size,
        "length": length,
        "chosen": way(execution_of("ours", shape, precision, tokens=tokens)),
        "seconds": {name: startup[name]["first"] + tokens / rates[name] for name in rates},
        "startup": {name: startup[name]["first"] for name in rates},
    }


@contextmanager
def caches() -> Iterator[dict[str, str]]:
    """The environment of a process whose caches lie in an empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.environ | {
            "XDG_CACHE_HOME": folder,
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            "OMP_NUM_THREADS": "1",
        }


def process(task: str, environment: Mapping[str, str], **arguments: object) -> dict[str, float]:
    """What a fresh Python process reports of a task."""
    script = Path(__file__).with_name("fresh_process.py")
    done = subprocess.run(
        [sys.executable, str(script), task, json.dumps(arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(task, arguments, {key: round(value, 3) for key, value in found.items()}, flush=True)
    return found


def page(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    shown, other = results["shown"], results["other"]
    parts = [
        'Seconds from "imports done" to the end of the first update, and of the imports. *cold*: '
        "no cache on disk; *next trial* and *next shape*: later in that process; *warm*: the first "
        "trial of a new process that finds the caches of the first.",
        *(f"Left out: {CONTENDERS[name]} ({why})." for name, why in results["missing"].items()),
        table(
            ["", "imports", f"{shown}, cold", "next trial", f"next shape, {other}", "warm"],
            (
                [CONTENDERS[name], *(f"{found[shown][stage]:.2f}" for stage in STAGES)]
                for name, found in results["starts"].items()
            ),
        ),
    ]
    if results["ends"]:
        parts += ["### Does `compile: auto` choose rightly?", choices_made(results["ends"])]
    return "\n\n".join(parts)


def choices_made(ends: list[dict[str, Any]]) -> str:
    """What every way costs at both ends, and which one was chosen."""
    names = list(ends[0]["seconds"])
    return (
        "Seconds of a whole run of ours by each way to compute its step: start-up on a cold "
        "machine (in brackets), and the rest from the measured rate.\n\n"
    ) + table(
        ["run", *names, "chosen", "least"],
        (
            [
                f"{found['length']} of {found['size']}",
                *(f"{found['seconds'][n]:,.1f} ({found['startup'][n]:.2f})" for n in names),
                found["chosen"],
                min(names, key=found["seconds"].__getitem__),
            ]
            for found in ends
        ),
    )


if __name__ == "__main__":
    print(page(measure()))
