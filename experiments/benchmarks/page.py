"""`make bench`: measure on this machine, print the tables, and write docs/benchmarks.md.

Every part is measured in a process of its own and its results are kept in docs/benchmarks.json with
the machine and the day; the page is what that file says, so parts measured earlier stay.

    python experiments/benchmarks/page.py [--only training_step,fits] [--quick] [--to FOLDER]
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRATCH = Path(tempfile.gettempdir()) / "windtunnel-benchmarks"
NAME = "benchmarks"

PARTS = {
    "training_step": "Training step",
    "watched": "Training dynamics",
    "experts": "Mixtures of experts",
    "startup": "Start-up",
    "sweep": "Sweep",
    "fits": "Fits",
    "scale": "Scale",
    "engine": "Overhead of the engine",
}
"""Modules beside this one, each with `measure() -> dict`, in the order of the page."""

QUICK: dict[str, dict[str, Any]] = {
    "training_step": {"quick": True},
    "watched": {"quick": True},
    "experts": {"quick": True},
    "startup": {"quick": True},
    "sweep": {"scale": 0.05},
    "fits": {"quick": True},
    "scale": {"shrink": 50},
    "engine": {"seeds": 1},
}
"""Arguments of `measure` that make it tiny."""

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "scipy")

METHOD = (
    "`make bench` measures on the machine at hand and writes this page from the numbers in "
    "`benchmarks.json`. Contenders do the same work in interleaved rounds and the tables hold "
    "medians; compare ratios, which another machine or another load changes least."
)


def main() -> None:
    """Measure the parts asked for, keep what they found, write the page and print it."""
    arguments = parsed()
    arguments.to.mkdir(parents=True, exist_ok=True)
    kept = arguments.to / f"{NAME}.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for name in arguments.only:
        print(f"== {name}", flush=True)
        found = in_its_own_process(name, QUICK[name] if arguments.quick else {})
        results[name] = {"facts": facts(), "found": found}
        kept.write_text(json.dumps(results, indent=1) + "\n")
    page = render(results)
    (arguments.to / f"{NAME}.md").write_text(page)
    print(page)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="all tiny, to see that it runs")
    parser.add_argument("--to", type=Path, help="folder of the page; docs, or scratch if quick")
    found = parser.parse_args()
    found.to = found.to or (SCRATCH if found.quick else DOCS)
    return found


def parts(text: str) -> list[str]:
    """Names of parts, in the order of the page."""
    wanted = set(text.split(","))
    if unknown := wanted - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: no part; of {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted]


def in_its_own_process(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the part's `measure` returns; its threads and settings reach no other part."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, name, arguments).result()


def measure(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Import the part and measure."""
    found: dict[str, Any] = importlib.import_module(name).measure(**arguments)
    return found


def facts() -> dict[str, str]:
    """The day, the machine and the versions."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": (
            f"{processor()}, {cores} cores, {torch.backends.cpu.get_cpu_capability()}, "
            f"{memory_gib():.0f} GiB{gpu}"
        ),
        "system": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *filter(None, map(installed, PACKAGES))]
        ),
    }


def processor() -> str:
    """The CPU's name as its maker writes it."""
    listed = Path("/proc/cpuinfo")
    for line in listed.read_text().splitlines() if listed.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    """Memory of the machine."""
    import psutil

    return float(psutil.virtual_memory().total / 2**30)


def installed(package: str) -> str | None:
    """Name and version, or nothing."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None


def render(results: Mapping[str, Any]) -> str:
    """The whole page; a part that was never measured has no section."""
    newest = max((part["facts"] for part in results.values()), key=lambda facts: facts["date"])
    text = [
        "# Benchmarks",
        METHOD,
        "\n".join(f"- {name}: {value}" for name, value in newest.items()),
    ]
    for name, title in PARTS.items():
        if name not in results:
            continue
        text += [f"## {title}", section(name, results)]
        if (own := results[name]["facts"]) != newest:
            text.insert(-1, f"Measured elsewhere or earlier: {'; '.join(own.values())}.")
    return "\n\n".join(text) + "\n"


def section(name: str, results: Mapping[str, Any]) -> str:
    """What one part has to say."""
    found = results[name]["found"]
    text: str = importlib.import_module(name).page(found)
    if name == "startup" and "training_step" in results:
        finish = importlib.import_module("finish")
        text += "\n\n" + finish.page(results["training_step"]["found"], found)
    return text


if __name__ == "__main__":
    main()
