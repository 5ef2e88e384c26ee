"""A stable phase whose rate falls: every target runs the study's schedule, update by update.

Megatron-LM and torchtitan are not installed: their base classes are stand-ins with their formulas.
"""

import ast
import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import yaml
from handed import planted_handoff

from windtunnel.export.targets import megatron, nanotron, torchtitan
from windtunnel.export.targets.hf_files import Job, optimizer_json
from windtunnel.export.targets.template import environment
from windtunnel.export.targets.torch import DECAYS

END, SHAPES = 80, ("exponential", "linear", "one_minus_sqrt", "cosine")


@pytest.fixture(params=SHAPES)
def handoff(request):
    hold = {"power": -0.3, "from": "20 steps"}
    return planted_handoff(
        schedule={"shape": request.param, "decay_fraction": 0.25, "hold": hold}, end=END
    )


@pytest.fixture
def ours(handoff):
    factors = [handoff.schedule.schedule(step) for step in range(END)]
    assert factors[59] == pytest.approx((60 / 20) ** -0.3)
    return pytest.approx(factors, rel=1e-11)


def parts(path: Path, *names: str) -> str:
    """The source of some classes, functions and assignments of a module."""
    found = [
        ast.unparse(node)
        for node in ast.parse(path.read_text()).body
        if (getattr(node, "name", None) in names)
        or (isinstance(node, ast.Assign) and any(n in ast.unparse(node.targets[0]) for n in names))
    ]
    assert len(found) >= len(names)
    return "\n".join(found)


def test_hf(handoff, ours, tmp_path):
    job = Job(
        model=handoff.model, recipe=handoff.recipe, roles=handoff.roles,
        multipliers=handoff.multipliers, schedule=handoff.schedule.schedule, end=END, rows=8,
        tokenizer="bytes", title="", origin="",
    )  # fmt: skip
    shape = handoff.schedule.shape
    template = environment().get_template("hf_param_groups.py.jinja")
    source = template.render(job=job, decay=DECAYS[shape])
    code = compile(source[source.index("def schedule") :], "param_groups.py", "exec")
    space = {"SPEC": optimizer_json(job), "math": math}
    exec(code, space)
    assert [space["schedule"](step) for step in range(END)] == ours


def test_nanotron(handoff, ours, tmp_path):
    nanotron.write(handoff, tmp_path)
    written = yaml.safe_load((tmp_path / nanotron.CONFIG).read_text())
    space = {"dataclass": dataclasses.dataclass, "math": math}
    exec(parts(tmp_path / nanotron.ENTRY, "Schedule"), space)
    schedule = space["Schedule"](**written["windtunnel"]["schedule"])
    assert [schedule(step) for step in range(END)] == ours


def test_torchtitan(handoff, ours, tmp_path):
    class Container:
        @dataclasses.dataclass(kw_only=True, slots=True)
        class Config:
            warmup_steps: int
            decay_ratio: float
            min_lr_factor: float
            total_steps: int
            decay_type: str = "linear"

        def __init__(self, optimizers, factor):
            self.factor = factor

    (path,) = torchtitan.write(handoff, tmp_path)
    names = ("Schedule", "WARMUP", "FINAL_FACTOR", "HOLD_POWER")
    space = {
        "dataclass": dataclasses.dataclass, "math": math, "Literal": Literal,
        "LRSchedulersContainer": Container,
    }  # fmt: skip
    exec(parts(path, *names), space)
    config = space["Schedule"].Config(
        warmup_steps=space["WARMUP"],
        total_steps=space["END"],
        decay_ratio=(space["END"] - space["DECAY_START"]) / space["END"],
        min_lr_factor=space["FINAL_FACTOR"],
    )
    factor = config.build(optimizers=None, training_steps=END).factor
    assert [factor(step) for step in range(END)] == ours


def test_megatron(handoff, ours, tmp_path):
    """Steps count samples; the base class is that of megatron/core/optimizer_param_scheduler.py."""

    class Base:
        def get_lr(self, param_group):
            since = self.num_steps - (self.lr_decay_steps - self.wsd_decay_steps)
            if since <= 0:
                return self.max_lr
            done = since / self.wsd_decay_steps
            coefficient = {
                "linear": 1.0 - done,
                "cosine": 0.5 * (math.cos(math.pi * done) + 1.0),
                "minus_sqrt": 1.0 - math.sqrt(done),
            }[self.lr_wsd_decay_style]
            return self.min_lr + coefficient * (self.max_lr - self.min_lr)

    megatron.write(handoff, tmp_path)
    words = (tmp_path / "arguments.sh").read_text().replace("(", " ").split()
    value = {word: words[words.index(word) + 1] for word in words if word.startswith("--")}
    rows = int(value["--global-batch-size"])
    arguments = SimpleNamespace(
        global_batch_size=rows,
        windtunnel_hold_iters=int(value["--windtunnel-hold-iters"]),
        windtunnel_hold_power=float(value["--windtunnel-hold-power"]),
    )
    space = {"OptimizerParamScheduler": Base, "get_args": lambda: arguments}
    exec(parts(tmp_path / "windtunnel_megatron.py", "Scheduler"), space)
    scheduler = space["Scheduler"]()
    scheduler.max_lr, scheduler.min_lr = float(value["--lr"]), float(value["--min-lr"])
    scheduler.lr_warmup_steps = int(value["--lr-warmup-iters"]) * rows
    scheduler.lr_decay_steps = int(value["--lr-decay-iters"]) * rows
    scheduler.wsd_decay_steps = int(value["--lr-wsd-decay-iters"]) * rows
    scheduler.lr_wsd_decay_style = value["--lr-wsd-decay-style"]
    rates = []
    for step in range(END):
        scheduler.num_steps = step * rows
        rates.append(scheduler.get_lr({}) / scheduler.max_lr)
    assert rates == ours
