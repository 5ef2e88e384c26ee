"""The files for Megatron-LM inside Megatron-LM, on the CPU, against the generated train.py.

How to run it: docs/export/megatron.md.
"""

import importlib.util
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handed import built_in, load_reference, planted_handoff, transformers_spec
from megatron_pair import (
    CASES,
    FAMILIES,
    ON_CPU,
    ONE_THREAD,
    arguments,
    by_group,
    exported,
    our_name,
    start_of,
    text_rows,
    train_in_megatron,
)
from safetensors.torch import load_file

from windtunnel.export.targets import megatron

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.version_info < (3, 12) or not importlib.util.find_spec("pretrain_gpt"),
        reason="needs Megatron-LM (megatron-core 0.20, a checkout of NVIDIA/Megatron-LM at "
        f"{megatron.COMMIT[:10]} on PYTHONPATH) and Python 3.12: docs/export/megatron.md; CUDA "
        "and Transformer Engine are not used even then",
    ),
]


@pytest.fixture(scope="module", params=[*CASES, *FAMILIES])
def both(request, tmp_path_factory):
    """The same weights and rows through Megatron and through train.py, to the end."""
    folder = tmp_path_factory.mktemp("megatron")
    megatron.write(exported(request.param), folder)
    handoff = built_in(exported(request.param))
    module = load_reference(handoff, folder)
    rows = text_rows(handoff.schedule.end * handoff.batch.rows, handoff.model.context)
    np.save(folder / "rows.npy", rows)
    options = ["--data", folder / "rows.npy", "--seed", "3", "--out", folder / "run"]
    done = subprocess.run(
        [sys.executable, folder / "train.py", *options],
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    curve = np.array([line.split(",") for line in done.stdout.splitlines()], float)
    final = load_file(folder / "run" / f"{handoff.schedule.end:09d}.safetensors")
    roles = {name: weight.role for name, weight in module.Model().named_parameters()}
    seen = train_in_megatron(handoff, folder, rows, start_of(handoff, module))
    assert {our_name(name) for name in seen["init"]} == set(roles)
    return handoff, module, seen, curve, final, roles


def test_its_own_init(both):
    _, module, seen, _, _, roles = both
    for name, weight in seen["init"].items():
        want = module.ROLES[roles[our_name(name)]]["init_std"]
        if want == 0.0:
            assert bool((weight == 1.0).all()), name
            continue
        error = 5 / math.sqrt(2 * weight.numel())  # five standard errors of a std
        assert weight.std().item() == pytest.approx(want, rel=error), name
        assert abs(weight.mean().item()) < 5 * want / math.sqrt(weight.numel()), name
        assert weight.abs().max() > 3 * want, f"{name}: truncated"


def test_every_update_has_the_rates_of_the_reference(both):
    handoff, module, seen, *_, roles = both
    assert len(seen["updates"]) == handoff.schedule.end
    for step, update in enumerate(seen["updates"]):
        for name, group in update["groups"].items():
            want = module.ROLES[roles[our_name(name)]]
            assert group["lr"] == pytest.approx(want["lr"] * module.factor(step), rel=1e-12), (
                name,
                step,
            )
            assert group["weight_decay"] == pytest.approx(want["weight_decay"], rel=1e-12), name
            assert group["eps"] == pytest.approx(want["eps"], rel=1e-12), name
    assert len(update["groups"]) == len(roles)
    assert len(set(seen["identities"])) == len(seen["identities"])  # or a checkpoint mixes them up


def test_its_multipliers(both):
    handoff, _, seen, *_ = both
    sites = handoff.multipliers
    assert seen["sites"] == pytest.approx(
        {"attention": sites.attention, "embed": sites.embed, "logits": sites.logits}, rel=1e-12
    )


def test_same_losses_and_weights(both):
    handoff, _, seen, curve, final, _ = both
    losses = np.array([update["loss"] for update in seen["updates"]])
    norms = np.array([update["grad_norm"] for update in seen["updates"]])
    assert losses[0] == pytest.approx(curve[0, 1], rel=1e-6)  # the forward pass
    assert norms[0] == pytest.approx(curve[0, 3], rel=1e-5)
    np.testing.assert_allclose(losses, curve[:, 1], rtol=1e-5)
    np.testing.assert_allclose(norms, curve[:, 3], rtol=1e-4)
    clipped = norms > handoff.recipe.clip
    assert clipped.any()
    assert not clipped.all()
    for name, weight in seen["final"].items():
        want = final[our_name(name)]
        want = by_group(want, handoff.model) if name.endswith("linear_qkv.weight") else want
        assert (weight - want).norm() < 1e-4 * want.norm(), name


def short_run(folder: Path, *more: str, **case) -> np.ndarray:
    """Losses of Megatron on a small Handoff, from the weights of train.py."""
    handoff = planted_handoff(**case)
    folder.mkdir(exist_ok=True)
    megatron.write(handoff, folder)
    handoff = built_in(handoff)
    rows = text_rows(60 * handoff.batch.rows, handoff.model.context)
    start = start_of(handoff, load_reference(handoff, folder))
    seen = train_in_megatron(handoff, folder, rows, start, *more)
    return np.array([update["loss"] for update in seen["updates"]])


@pytest.mark.parametrize("name", [None, "llama"])
def test_a_stopped_run_goes_on_and_a_kept_checkpoint_decays_earlier(name, tmp_path):
    case = {"model": name and transformers_spec(name)}
    store = tmp_path / "store"
    stored = ["--save", str(store), "--load", str(store), "--save-interval", "1000"]
    first = short_run(tmp_path / "a", *stored, "--exit-interval", "35", **case)
    assert len(first) == 35
    store_of_35 = shutil.copytree(store, tmp_path / "kept")
    rest = short_run(tmp_path / "a", *stored, **case)
    assert np.array_equal(np.concatenate([first, rest]), short_run(tmp_path / "b", **case))
    earlier = ["--load", str(store_of_35)]
    steps = ["--train-iters", "50", "--lr-decay-iters", "50", "--lr-wsd-decay-iters", "15"]
    branch = short_run(tmp_path / "a", *earlier, *steps, **case)
    schedule = {"shape": "linear", "decay_fraction": 0.3}
    whole = short_run(tmp_path / "c", end=50, schedule=schedule, **case)
    assert len(branch) == 15
    assert np.array_equal(branch, whole[35:])


@pytest.mark.parametrize("shape", ["exponential", "one_minus_sqrt"])
def test_past_the_end_the_last_rate_holds(shape, tmp_path):
    handoff = planted_handoff(schedule={"shape": shape, "decay_fraction": 0.5}, end=20)
    megatron.write(handoff, tmp_path)
    rows = text_rows(23 * handoff.batch.rows, handoff.model.context)
    start = start_of(handoff, load_reference(handoff, tmp_path))
    updates = train_in_megatron(handoff, tmp_path, rows, start, "--train-iters", "23")["updates"]
    highest = [max(group["lr"] for group in update["groups"].values()) for update in updates]
    last = handoff.schedule.final_factor * handoff.roles["embedding"].lr
    assert highest[19] > 1.01 * last
    assert highest[20:] == pytest.approx([last] * 3, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "more", "apart"),
    [
        (None, "--use-distributed-optimizer", 1e-6),
        ("llama", "--use-distributed-optimizer", 1e-6),
        (None, "--bf16 --use-distributed-optimizer", 5e-3),
        ("llama", "--bf16 --use-distributed-optimizer", 1e-2),  # measured: 0.8% at the end
    ],
)
def test_other_optimizers_keep_the_groups(name, more, apart, tmp_path):
    case = {"model": name and transformers_spec(name)}
    plain = short_run(tmp_path / "plain", **case)
    found = short_run(tmp_path / "more", *more.split(), **case)
    np.testing.assert_allclose(found, plain, rtol=apart)


def run_alone(script: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", script, *arguments(folder), *ON_CPU, *more],
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pretrain_gpt_alone_refuses(write_target, handoff):
    folder = write_target("megatron", handoff)
    script = importlib.util.find_spec("pretrain_gpt").origin
    done = run_alone(script, folder)
    assert done.returncode == 2
    assert "unrecognized arguments: --windtunnel-residual-mult" in done.stderr


@pytest.mark.parametrize("more", ["--override-opt-param-scheduler", "--decoupled-lr 0.01"])
def test_what_would_change_the_rates_is_refused(more, write_target, handoff):
    folder = write_target("megatron", handoff)
    done = run_alone(folder / "windtunnel_megatron.py", folder, *more.split())
    assert done.returncode == 1
    assert f"{more.split()[0]}: not with these arguments" in done.stderr
