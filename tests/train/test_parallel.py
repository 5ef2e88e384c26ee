"""Several devices train what one trains: the same rows, the same losses, and exactly so again."""

import json
import subprocess
import sys
import textwrap

import pytest
from test_exactness import MODEL, RECIPE, TRUNK, Stream, run
from test_step import MarkedStream

from windtunnel.config.shape import upcycled
from windtunnel.config.study import Resources
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.runs.study import open_study
from windtunnel.train.execution import apply, current, decide
from windtunnel.train.loop import train
from windtunnel.train.step import TrainStep

PROCESS = """
import json, os, sys
import torch.distributed as dist
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_exactness import *
from test_parallel import EXPERTS, new_step
from test_step import MarkedStream, run_marked
from windtunnel.train.step import follow
from windtunnel.train.distributed import Command, send

folder, rank, devices = Path({folder!r}), int(sys.argv[1]), {devices}
meet = f"file://{{folder}}/meet"
dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=devices)
if rank > 0:
    follow()
else:
{work}
    send(Command.END)
sys.stdout.flush()
os._exit(0)  # as workers end; gloo's threads may abort the interpreter's own way out
"""


BALANCED = {"experts": 4, "top_k": 2, "shared_experts": 0, "granularity": 1}
EXPERTS = {
    "switch": upcycled(MODEL, {**BALANCED, "balance_weight": 0.5}),
    "bias": upcycled(MODEL, {**BALANCED, "balance": "bias", "bias_rate": 0.01}),
}


def new_step(devices=1, *, model=MODEL, threads=1, compiled=False, micro_batch_tokens=None):
    resources = Resources(
        device="cpu",
        kernels="torch",
        compile="always" if compiled else "never",
        cpus_per_trial=devices * threads,
        devices_per_trial=devices,
        micro_batch_tokens=micro_batch_tokens,
    )
    execution = decide(resources, model, RECIPE, planned_tokens=0)
    apply(execution)
    return TrainStep(model, RECIPE, execution)


def together(devices, folder, work):
    """What `work` prints on rank 0, as JSON, while the other ranks follow it."""
    folder.mkdir(exist_ok=True)
    (folder / "meet").unlink(missing_ok=True)
    script = PROCESS.format(
        tests=__file__.rsplit("/", 1)[0],
        folder=str(folder),
        devices=devices,
        work=textwrap.indent(textwrap.dedent(work), "    "),
    )
    command = [sys.executable, "-c", script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(rank)], **pipes) for rank in range(devices)]
    said = [process.communicate(timeout=200) for process in processes]
    for process, (_, error) in zip(processes, said, strict=True):
        assert process.returncode == 0, error
    return json.loads(said[0][0].splitlines()[-1])


CHOICES = [{}, {"micro_batch_tokens": 16}]


@pytest.mark.slow
@pytest.mark.parametrize("choices", range(len(CHOICES)))
@pytest.mark.parametrize(("runner", "stream"), list(enumerate([Stream(), MarkedStream()])))
def test_two_devices_have_the_losses_of_one(gang, choices, runner, stream):
    """60 updates of four rows; an epoch boundary every five."""
    found = gang["losses"][runner * len(CHOICES) + choices]
    one = new_step()
    one.state.start(TRUNK)
    rows = []
    train(one, TRUNK, stream, until=60, write=rows.extend)
    assert len(found) == 60
    for (step, loss, lr, norm), row in zip(found, rows, strict=True):
        assert (step, lr) == (row.step, row.lr)
        assert loss == pytest.approx(row.loss, rel=1e-5)
        assert norm == pytest.approx(row.grad_norm, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "compiled"), [(2, True), (4, False)])
def test_a_resume_in_fresh_processes_is_the_straight_run(tmp_path, devices, compiled):
    """Four devices: from three on, the layout of DDP's buckets decides the last bits."""
    new = f"step = new_step({devices}, compiled={compiled})"
    straight = f"""
        {new}
        step.state.start(TRUNK)
        rows = run(step, TRUNK, 9)
        checkpoint.save(step.state, folder / "fork")
        rows += run(step, TRUNK, 30)
        checkpoint.save(step.state, folder / "straight")
        print(json.dumps(rows))
    """
    resumed = f"""
        {new}
        checkpoint.load(step.state, folder / "fork")
        rows = run(step, TRUNK, 30)
        checkpoint.save(step.state, folder / "resumed")
        print(json.dumps(rows))
    """
    expected = together(devices, tmp_path / "gang", straight)
    assert together(devices, tmp_path / "gang", resumed) == expected[9:]
    for name in ("model.safetensors", "optimizer.safetensors"):
        resumed_bytes = (tmp_path / "gang" / "resumed" / name).read_bytes()
        assert (tmp_path / "gang" / "straight" / name).read_bytes() == resumed_bytes


@pytest.mark.slow
@pytest.mark.parametrize("balance", EXPERTS)
def test_the_load_of_experts_is_that_of_all_devices(tmp_path, balance):
    """Two devices, each in two micro-batches, against the whole update on one."""
    found = together(
        2,
        tmp_path / "gang",
        f"""
        model = EXPERTS[{balance!r}]
        step = new_step(2, model=model, micro_batch_tokens=16)
        step.state.start(TRUNK.model_copy(update={{"model": model}}))
        rows = run(step, TRUNK, 12)
        routing = step.state.model.routed.routing
        weights = step.state.model.weights()
        bias = [w.tolist() for n, w in weights.items() if n.endswith("balance_bias")]
        print(json.dumps([rows, routing.counts_LE.tolist(), routing.tokens, bias]))
        """,
    )
    model = EXPERTS[balance]
    one = new_step(model=model)
    one.state.start(TRUNK.model_copy(update={"model": model}))
    expected = run(one, TRUNK, 12)
    routing = one.state.model.routed.routing
    for (_, loss, *_), (_, wanted, *_) in zip(found[0], expected, strict=True):
        assert loss == pytest.approx(wanted, rel=1e-5)
    assert found[1:3] == [routing.counts_LE.tolist(), routing.tokens]
    weights = one.state.model.weights()
    bias = [w.tolist() for name, w in weights.items() if name.endswith("balance_bias")]
    assert found[3] == bias
    assert bool(bias) == (balance == "bias")


@pytest.mark.slow
def test_a_step_that_is_refilled_is_refilled_on_every_device(gang):
    assert gang["fresh"] == gang["refilled"]
    assert gang["fresh"] != gang["losses"][0][:5]  # another seed


def test_one_process_alone_is_not_two_devices():
    with pytest.raises(ConfigError) as refused:
        new_step(2)
    assert refused.value.code == "wrong-device-count"
    assert refused.value.values == {"devices_per_trial": 2, "devices": 1}
    recorded = new_step().execution.replace(devices=2)
    assert recorded.differences(current(recorded)) == ["devices: 2 -> 1"]


@pytest.mark.slow
def test_trunks_and_branches_of_two_devices(study_file, tmp_path):
    """A trunk goes on from its checkpoint, branches leave it: exactly, and as one device has it."""

    def study_of(store, horizons, resources):
        kernels = f"resources: {{kernels: torch, {resources}, "
        path = study_file(sizes="[16x2]", horizons=horizons, replace=("resources: {", kernels))
        text = path.read_text().replace("store: store", f"store: {store}")
        (tmp_path / f"{store}.yaml").write_text(text)
        return tmp_path / f"{store}.yaml"

    def losses_of(path):
        study = open_study(path)
        found = {
            each.id: [
                (row["step"], row["loss"]) for row in study.store.segment(each.id).curve_rows()
            ]
            for each in study.plan.segments
        }
        return found, {study.store.segment(id).record["execution"]["devices"] for id in found}

    def sweep_together(*paths):
        work = f"""
            from windtunnel.engine.sweep import Sweep
            from windtunnel.runs.study import open_study
            errors = {{}}
            for path in {[str(path) for path in paths]}:
                errors |= Sweep(open_study(Path(path), prepared=True), engine="local").run().errors
            print(json.dumps(errors))
        """
        assert together(2, tmp_path / "gang", work) == {}

    both, first = "[110 steps, 140 steps]", "[110 steps]"
    path = study_of("one", both, "compile: never")
    Sweep(open_study(path, prepared=True), engine="local").run()
    alone, devices = losses_of(path)
    assert devices == {1}

    two = study_of("two", both, "devices_per_trial: 2")
    sweep_together(two, study_of("later", first, "devices_per_trial: 2"))
    at_once, devices = losses_of(two)
    assert devices == {2}
    for segment, rows in at_once.items():
        assert [step for step, _ in rows] == [step for step, _ in alone[segment]]
        for (_, found), (_, expected) in zip(rows, alone[segment], strict=True):
            assert found == pytest.approx(expected, rel=1e-4)

    later = study_of("later", both, "devices_per_trial: 2")
    sweep_together(later)
    assert losses_of(later)[0] == at_once
