"""What a sweep costs: points an hour, idle cores, where the seconds go, memory.

Three sweeps by the real engine in a temporary store, on builtin:docs and two cores:

- one table of 6 sizes x 6 horizons by trunks and branches, and the same by a cosine schedule of its
  own for every horizon, of which those of one size share no more than the warmup;
- the usual design, horizons of 10 to 60 tokens a parameter, two seeds, the largest size forecast
  before it is trained, 64 segments: against the least time in which any order on these cores could
  have trained them.

    python experiments/benchmarks/sweep.py [--quick 0.05] [--json]
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory import Memory
from tables import table

from windtunnel.config import Branch
from windtunnel.engine.sweep import Sweep
from windtunnel.runs.budget.cost import cost_of
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.study import Study, open_study

SLOTS = 2
SIZES = ("32x3", "48x3", "64x3", "64x4", "80x3", "96x3")
HORIZONS = (0.56e6, 0.84e6, 1.12e6, 1.68e6, 2.24e6, 3.36e6)
"""Tokens: 10, 15, 20, 30, 40 and 60 N at 56k params."""

SWEEP_SIZES = ("32x3", "48x3", "64x3", "64x4")
SWEEP_HORIZONS = (10, 15, 20, 30, 40, 50, 60)
"""Tokens a parameter."""

TABLE_SCALE = 0.5
"""Of the horizons, where every one is also trained from scratch: the ratio needs no more."""

DECAY_FRACTION = 0.1

VALIDATION_TOKENS, FORK_TOKENS = 65536, 8192
"""Measured: 64k tokens add an eighth to the variance that seeds give a loss."""


STUDY = """\
study: {name}
data:
  sources: [builtin:docs]
  validation: {{tokens: {validation}, fork_tokens: {fork}}}
model: {{sizes: [{sizes}], head_dim: 16, context: 128}}
recipe: {{lr: 8e-3, scale_emb: 2, base_width: 32, batch_tokens: {batch}, warmup_steps: 50}}
schedule: {{shape: {shape}, decay_fraction: {decay}}}
experiments:
  - {{kind: scaling, horizons: [{horizons}], seeds: {seeds}, hold_out: {hold_out}}}
resources: {{concurrency: {slots}}}
store: store
tracking: {{enabled: false}}
"""


def measure(*, scale: float = 1.0, points: bool = True, whole: bool = True) -> dict[str, Any]:
    """All numbers, as plain JSON; `scale` multiplies the horizons."""
    found: dict[str, Any] = {"cores": SLOTS, "scale": scale}
    with tempfile.TemporaryDirectory(prefix="windtunnel-bench-") as name:
        root = Path(name)
        if points:
            found["table"] = _table(root, scale * TABLE_SCALE)
        if whole:
            horizons = [f"{each * scale:.6g}N" for each in SWEEP_HORIZONS]
            study = _study(root, "sweep", scale, SWEEP_SIZES, horizons, seeds=2, hold_out="largest")
            run = _run(study)
            found["sweep"] = run | _efficiency(study, run["wall"])
    return found


def _table(root: Path, scale: float) -> dict[str, Any]:
    """The same points by trunks and branches, and from scratch."""
    ways, costs = {}, {}
    for way, shape in (("branches", "exponential"), ("cosine", "cosine")):
        horizons = [f"{tokens * scale:.6g} tokens" for tokens in HORIZONS]
        study = _study(root, way, scale, SIZES, horizons, shape=shape)
        costs[way] = cost_of(study)
        ways[way] = _run(study)
    ours, theirs = ways["branches"], ways["cosine"]
    longest, every = max(HORIZONS), sum(HORIZONS)
    return ways | {
        "ratios": {
            "training FLOPs, one warmup a size": costs["cosine"].flops / costs["branches"].flops,
            "training FLOPs, one warmup a run": costs["branches"].saving,
            "training FLOPs, arithmetic": every / (longest + DECAY_FRACTION * (every - longest)),
            "core-seconds": theirs["core_seconds"] / ours["core_seconds"],
            "wall": theirs["wall"] / ours["wall"],
        }
    }


def _study(
    root: Path,
    name: str,
    scale: float,
    sizes: Sequence[str],
    horizons: Sequence[str],
    *,
    shape: str = "exponential",
    seeds: int = 1,
    hold_out: str = "none",
) -> Study:
    """A study with a store of its own, so that nothing is shared but the data."""
    folder = root / name
    (folder / "store").mkdir(parents=True)
    (root / "data").mkdir(exist_ok=True)
    (folder / "store" / "data").symlink_to(root / "data")
    file = folder / "hparams.yaml"
    file.write_text(
        STUDY.format(
            name=name,
            sizes=", ".join(sizes),
            horizons=", ".join(horizons),
            batch=1024 if scale > 0.2 else 256,  # a horizon must have its hundred updates
            validation=round(VALIDATION_TOKENS * min(1.0, scale)),
            fork=round(FORK_TOKENS * min(1.0, scale)),
            shape=shape,
            decay=1 if shape == "cosine" else DECAY_FRACTION,
            seeds=seeds,
            hold_out=hold_out,
            slots=SLOTS,
        )
    )
    return open_study(file, prepared=True)


def _run(study: Study) -> dict[str, Any]:
    """Run a sweep on the engine: wall, parts of the core-seconds, memory."""
    began = time.time()
    with Memory() as memory:
        result = Sweep(study).run()
        wall = time.time() - began
    assert not result.failed, result.errors
    parts: dict[str, float] = defaultdict(float)
    spans = []
    for planned in study.plan.segments:
        folder = study.store.segment(planned.id)
        record = folder.record or {}
        parts["training"] += record["seconds"]
        parts["evaluation"] += record["evaluation_seconds"]
        parts["checkpoints"] += record["checkpoint_seconds"]
        rows = list(folder.curve_rows())
        together = [row for row in rows if row["time"] == rows[0]["time"]]  # written as one
        spans.append((rows[0]["time"] - together[-1]["seconds"], record["written"]))
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    held = sum(end - start for start, end in spans)
    core_seconds = sum(parts.values())
    points = len(study.plan.branches)
    return {
        "segments": len(study.plan.segments),
        "points": points,
        "points_per_hour": points / wall * 3600,
        "wall": wall,
        "first_update": first - began,
        "last_record_to_end": began + wall - last,
        "core_seconds": core_seconds,
        "seconds": dict(parts),
        "share_of_core_seconds": {part: s / core_seconds for part, s in parts.items()},
        "share_of_cores": {
            **{part: s / (SLOTS * wall) for part, s in parts.items()},
            "before the first update": (first - began) / wall,
            "else within segments": (held - core_seconds) / (SLOTS * wall),
            "between segments": (last - first) / wall - held / (SLOTS * wall),
            "after the last record": 1 - (last - began) / wall,
        },
        "memory": memory.summary(),
    }


def _efficiency(study: Study, wall: float) -> dict[str, float]:
    """Wall against the least time for the same training seconds on as many cores.

    A chain is a trunk up to a fork and the branch that leaves there. Nothing held out may start
    before all else has ended, so both sides of that barrier have a bound of their own.
    """
    plain_chain = bound = total = 0.0
    for held_out in (False, True):
        side = [planned for planned in study.plan.segments if planned.held_out is held_out]
        work = sum(_seconds(study, planned) for planned in side)
        chain = max((_chain(study, planned) for planned in side), default=0.0)
        bound += max(work / SLOTS, chain)
        plain_chain, total = plain_chain + chain, total + work
    plain = max(total / SLOTS, plain_chain)
    return {
        "critical_path": plain_chain,
        "bound": plain,
        "bound_with_barrier": bound,
        "efficiency": plain / wall,
        "efficiency_with_barrier": bound / wall,
    }


def _seconds(study: Study, planned: PlannedSegment) -> float:
    record = study.store.segment(planned.id).record or {}
    return float(record["seconds"])


def _chain(study: Study, planned: PlannedSegment) -> float:
    """Training seconds from a trunk's first update to the segment's end."""
    if not isinstance(planned.segment, Branch):
        return _seconds(study, planned)
    parent = study.store.segment(planned.segment.parent.id)
    fork = next(r for r in parent.curve_rows() if r["step"] == planned.segment.fork_step)
    return float(fork["seconds"]) + _seconds(study, planned)


def page(found: dict[str, Any]) -> str:
    """The results as markdown."""
    parts = []
    if "table" in found:
        parts.append(_table_page(found["table"]))
    if "sweep" in found:
        parts.append(_sweep_page(found["sweep"]))
    return "\n\n".join(parts)


def _table_page(found: dict[str, Any]) -> str:
    ways = (
        (
            way,
            f"{found[way]['core_seconds']:.0f}",
            f"{found[way]['wall']:.0f}",
            f"{found[way]['points_per_hour']:.0f}",
        )
        for way in ("branches", "cosine")
    )
    what = f"{len(SIZES)} sizes x {len(HORIZONS)} horizons by"
    head = (what, "core-seconds", "wall, s", "points an hour")
    ratios = ((name, f"{ratio:.2f}") for name, ratio in found["ratios"].items())
    return table(head, ways) + "\n\n" + table(("cosine over branches", "ratio"), ratios)


def _sweep_page(run: dict[str, Any]) -> str:
    memory = (
        (kind, f"{sizes['median_mb']:.0f}", f"{sizes['peak_mb']:.0f}")
        for kind, sizes in run["memory"].items()
    )
    shares = ((part, f"{share:.1%}") for part, share in run["share_of_cores"].items())
    return "\n\n".join(
        (
            f"{run['segments']} segments in {run['wall']:.1f} s. First update after "
            f"{run['first_update']:.1f} s, end {run['last_record_to_end']:.1f} s after the last "
            f"record. At best {run['bound']:.1f} s, {run['efficiency']:.1%} of the wall; with the "
            f"barrier {run['bound_with_barrier']:.1f} s, {run['efficiency_with_barrier']:.1%}.",
            table((f"{SLOTS} cores", "share"), shares),
            table(("PSS, MB", "median", "peak"), memory),
        )
    )


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description="Points an hour, idle cores, shares, memory.")
    parser.add_argument("--quick", type=float, default=1.0, metavar="FACTOR")
    parser.add_argument("--only", choices=("table", "sweep"))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(scale=asked.quick, points=asked.only != "sweep", whole=asked.only != "table")
    print(json.dumps(found, indent=1) if asked.json else page(found))


if __name__ == "__main__":
    main()
