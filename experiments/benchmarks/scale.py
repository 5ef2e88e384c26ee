"""What ten thousand segments cost to plan, and what order does with a thousand workers.

Plans are made by the command line in a fresh process. The sweep of 100,000 segments runs on a clock
that costs nothing, through the Ray engine's own Searcher and graph: who runs when is real, only the
seconds of a segment and the faults are made up.

    python experiments/benchmarks/scale.py
"""

import itertools
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher
from ruamel.yaml import YAML
from tables import table

from windtunnel.config import StudyConfig
from windtunnel.engine.graph import Graph, Status
from windtunnel.engine.ray.tune import ReadySegments
from windtunnel.engine.simulate import Simulated, simulate
from windtunnel.runs.completion import stops_of
from windtunnel.runs.plan import PlannedSegment, make_plan
from windtunnel.runs.points import StudyContext
from windtunnel.runs.study import open_study

SIZES = [f"{width}x4" for width in range(32, 257, 32)]

FLOPS_PER_SECOND = 8e10
"""Of one worker (one CPU core in fp32; measured: 7e10 to 9e10)."""

STARTUP_SECONDS = 1.0
"""Of a segment, beside its training (assumed: half of the 2 s that a fresh process takes)."""

FINISHED_SHARE = 0.8
"""Of the segments in the store that the second plan finds."""


class ThroughSearcher:
    """The Ray engine's Searcher, asked and told as Tune does it."""

    def __init__(self, graph: Graph) -> None:
        self._searcher = ReadySegments(graph, Path("orders.json"))
        self._numbers = itertools.count()
        self._trial_of: dict[str, str] = {}

    def next_ready(self) -> PlannedSegment | None:
        """The segment that a new trial would be of."""
        trial_id = f"{next(self._numbers):08x}"
        config = self._searcher.suggest(trial_id)
        if config is None or config == Searcher.FINISHED:
            return None
        assert isinstance(config, dict)
        planned = PlannedSegment.model_validate(config["planned"])
        self._trial_of[planned.id] = trial_id
        return planned

    def forked(self, segment_id: str, step: int) -> None:
        """A trial's result between."""
        result = {"event": "fork", "step": step, "outcome": None}
        self._searcher.on_trial_result(self._trial_of[segment_id], result)

    def report(self, segment_id: str, outcome: str) -> None:
        """A trial's last result."""
        result = {"event": "done", "step": 0, "outcome": outcome}
        self._searcher.on_trial_complete(self._trial_of.pop(segment_id), result)

    def give_up(self, segment_id: str) -> None:
        """A trial whose last attempt raised."""
        self._searcher.on_trial_complete(self._trial_of.pop(segment_id), error=True)


def measure(*, shrink: int = 1) -> dict[str, Any]:
    """Seconds of plans, and simulated sweeps; `shrink` divides segments and workers."""
    return {"plans": plans(shrink), "sweeps": list(sweeps(shrink)), "slots": 1000 // shrink}


def plans(shrink: int) -> list[dict[str, Any]]:
    """Seconds of `windtunnel plan` in a fresh process."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        text = Path(folder) / "text.jsonl"
        text.write_text("".join(f'{{"text": "document {n} {"word " * n}"}}\n' for n in range(1000)))
        horizons = horizons_of(24)
        study = study_of(seeds=50 // shrink, horizons=horizons) | {"data": {"sources": [str(text)]}}
        with path.open("w") as file:
            YAML(typ="safe").dump(study, file)
        found.append({"store": "nothing prepared"} | timed(path))
        fill(path)
        found.append({"store": f"prepared, {FINISHED_SHARE:.0%} finished"} | timed(path))
    return found


def timed(path: Path) -> dict[str, Any]:
    """Segments and seconds of one plan: the median of three."""
    command = [sys.executable, "-c", "from windtunnel.cli import main; main()", "plan", str(path)]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return {"segments": len(open_study(path).plan.segments), "seconds": sorted(seconds)[1]}


def fill(path: Path) -> None:
    """Make the store look as a sweep leaves it after most of its segments."""
    study = open_study(path, prepared=True)
    wanted = study.wanted
    chosen = random.Random(0)
    for planned in study.plan.segments:
        if chosen.random() > FINISHED_SHARE:
            continue
        folder = study.store.segment(planned.id)
        folder.create(planned.segment)
        measured = {
            name: {
                "fingerprint": each.fingerprint,
                "asked": each.tokens(planned),
                "nats_per_token": 1.0,
                "bits_per_byte": None,
            }
            for name, each in wanted.items()
        }
        row = {"step": planned.end, "tokens": planned.tokens_at_end, "loss": 1.0, "seconds": 1.0}
        (folder.root / "curve.jsonl").write_text(json.dumps(row) + "\n")  # its end is looked at
        record = {"outcome": "finished", "reached": planned.end, "seconds": 1.0, "epochs": {}}
        stops = stops_of(planned)
        for name, value in (
            ("record.json", record),
            ("measurements.json", {str(stop): measured for stop in stops}),
        ):
            (folder.root / name).write_text(json.dumps(value))
        for stop in stops:
            folder.checkpoint(stop).mkdir(parents=True)


def sweeps(shrink: int) -> Iterable[dict[str, Any]]:
    """Simulated sweeps of about 100,000 segments on 1,000 workers."""
    for seeds, count in ((1000, 12), (250, 49), (60, 207)):
        config = StudyConfig.model_validate(
            study_of(seeds=seeds // shrink, horizons=horizons_of(count))
        )
        study_context = StudyContext(config=config, vocab_size=256, stream="simulated")
        segments = make_plan(study_context).segments
        for noise, fault_rate in ((0.0, 0.0), (0.0, 0.01), (0.3, 0.01)):
            began = time.perf_counter()
            sweep = simulate(
                segments,
                lambda planned, noise=noise: seconds_of(planned, noise),
                slots=1000 // shrink,
                fault_rate=fault_rate,
                through=ThroughSearcher,
            )
            took = time.perf_counter() - began
            found = row(sweep) | {"noise": noise, "fault_rate": fault_rate, "took": took}
            found |= {"trunks": len(SIZES) * (seeds // shrink), "branches_each": count}
            print(found, flush=True)
            yield found


def row(sweep: Simulated) -> dict[str, Any]:
    """What the table shows."""
    return {
        "segments": sum(sweep.counts.values()),
        "finished": sweep.counts[Status.FINISHED],
        "makespan": sweep.makespan,
        "bound": sweep.bound,
        "utilisation": sweep.utilisation,
        "faults": sweep.faults,
    }


def seconds_of(planned: PlannedSegment, noise: float) -> float:
    """FLOPs at the speed of a core, times a lognormal factor that the policy does not know of."""
    flops = planned.tokens * planned.segment.model.flops_exact_per_token
    factor = math.exp(random.Random(planned.id).gauss(0.0, noise)) if noise else 1.0
    return factor * flops / FLOPS_PER_SECOND + STARTUP_SECONDS


def study_of(*, seeds: int, horizons: list[str]) -> dict[str, Any]:
    """Eight sizes, the largest held out."""
    return {
        "study": "scale",
        "data": {"sources": ["builtin:docs"]},
        "model": {"sizes": SIZES, "head_dim": 16, "context": 128},
        "recipe": {"lr": 0.01, "base_width": 32, "batch_tokens": 4096, "warmup_steps": 20},
        "experiments": [
            {"kind": "scaling", "horizons": horizons, "seeds": seeds, "hold_out": "largest"}
        ],
    }


def horizons_of(count: int) -> list[str]:
    """From 500 to 8,000 updates, evenly in their logarithm."""
    return [f"{round(500 * 16 ** (place / (count - 1)))} steps" for place in range(count)]


def page(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    return "\n\n".join(
        [
            "`windtunnel plan` in a fresh process, everything included.",
            table(
                ["segments", "store", "seconds"],
                (
                    [f"{each['segments']:,}", each["store"], f"{each['seconds']:.1f}"]
                    for each in results["plans"]
                ),
            ),
            f"A simulated sweep on {results['slots']:,} workers, through the Searcher and graph of "
            "the Ray engine: eight sizes, the largest held out behind the forecast. A segment "
            "takes its FLOPs at the speed of one core, times a lognormal factor that the policy "
            "cannot know (*noise*: its standard deviation); *faults*: attempts that fail anywhere "
            "in a segment and begin again at the last fork. *bound*: total work over the workers, "
            "or the longest path where that is more, before and after the barrier; *over*: the "
            "makespan over it.",
            table(
                ["trunks", "segments", "noise", "faults", "busy", "bound", "over", "simulated in"],
                (
                    [
                        f"{each['trunks']:,} with {each['branches_each']} branches each",
                        f"{each['finished']:,} of {each['segments']:,} finished",
                        f"{each['noise']:g}",
                        f"{each['faults']:,} ({each['fault_rate']:.0%})",
                        f"{each['utilisation']:.1%}",
                        f"{each['bound'] / 3600:.2f} h",
                        f"{max(0.0, each['makespan'] / each['bound'] - 1):.2%}",
                        f"{each['took']:.0f} s",
                    ]
                    for each in results["sweeps"]
                ),
            ),
        ]
    )


if __name__ == "__main__":
    print(page(measure()))
