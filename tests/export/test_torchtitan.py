"""The torchtitan module: its values, and its training against the generated train.py.

Where torchtitan is missing, the file is only read.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchtitan_cpu
from handed import built_in, planted_handoff, transformers_spec
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchtitan_cpu import ours, theirs

from windtunnel.export.targets import torchtitan as target
from windtunnel.model import decoder
from windtunnel.mup import Role

WITHOUT = "torchtitan 0.3.0 is not installed; docs/export/torchtitan.md says how to run this"
KEEP = [50, 60]  # of them, 50 is no multiple of the interval, 3
CASES = {
    "tied": {
        "proxy_head_dim": 64,
        "schedule": {"shape": "one_minus_sqrt", "decay_fraction": 1 / 6, "final_factor": 0.05},
    },
    "untied": {
        "model": {"tied": False, "qk_norm": True, "kv_heads": 6, "ffn_ratio": 2.75},
        "recipe": {"weight_decay_rule": "constant", "clip": 0.3},
        "schedule": {"shape": "exponential", "decay_fraction": 1 / 6, "final_factor": 0.1},
    },
    "llama": {"schedule": {"shape": "linear", "decay_fraction": 1 / 6}},
    "qwen3": {"schedule": {"shape": "cosine", "decay_fraction": 1 / 6}},
    "granite": {"schedule": {"shape": "linear", "decay_fraction": 1 / 6}},
}
FAMILIES = ("llama", "qwen3", "granite")


@pytest.fixture(params=CASES)
def exported(request):
    case = request.param
    is_family = isinstance(case, str) and case in FAMILIES
    model = {"model": transformers_spec(case)} if is_family else {}
    given = CASES[case] if isinstance(case, str) else {"schedule": case}
    return planted_handoff(**given, **model)


@pytest.fixture
def handoff(exported):
    return built_in(exported)


@pytest.fixture
def folder(write_target, exported) -> Path:
    return write_target("torchtitan", exported)


@pytest.fixture
def config(folder, monkeypatch):
    """The Trainer.Config of the written module, as torchtitan's command line reads it."""
    pytest.importorskip("torchtitan", reason=WITHOUT)
    from torchtitan.config import ConfigManager

    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, target.MODULE, raising=False)
    yield ConfigManager().parse_args(["--module", target.MODULE, "--config", "pretrain"])
    sys.modules.pop(target.MODULE, None)


def table(handoff) -> np.ndarray:
    """Rows in which a token mostly follows from the one before; fewer than the run takes."""
    rng = np.random.default_rng(0)
    vocab, shape = handoff.model.vocab_size, (300, handoff.model.context + 1)
    rows, follows = rng.integers(0, vocab, shape, np.uint16), rng.permutation(vocab)
    for column in range(1, shape[1]):
        known = rng.random(shape[0]) < 0.8
        rows[known, column] = follows[rows[known, column - 1]]
    return rows


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


# The file alone


def test_values_are_those_of_the_handoff(folder, handoff):
    found = {}
    for node in ast.parse((folder / f"{target.MODULE}.py").read_text()).body:
        if isinstance(node, ast.Assign):
            left, value = node.targets[0], ast.literal_eval(node.value)
            many = isinstance(left, ast.Tuple)
            names = [each.id for each in (left.elts if many else [left])]
            found |= dict(zip(names, value if many else [value], strict=True))
    model, steps, sites = handoff.model, handoff.schedule, handoff.multipliers
    roles = {str(role): values.model_dump() for role, values in handoff.roles.items()}
    assert found.pop("ROLES") == roles
    assert found.pop("PATTERNS").keys() == roles.keys()
    assert found == {
        "WIDTH": model.width, "DEPTH": model.depth, "HEAD_DIM": model.head_dim,
        "HEADS": model.num_heads, "KV_HEADS": model.kv_heads, "FFN_WIDTH": model.ffn_width,
        "VOCAB_SIZE": model.vocab_size, "CONTEXT": model.context, "ROPE_BASE": model.rope_base,
        "TIED": model.tied, "QK_NORM": model.qk_norm, "NORM_EPS": decoder.NORM_EPS,
        "EMBED": sites.embed, "RESIDUAL": sites.residual,
        "LOGITS": sites.logits, "ATTENTION": sites.attention,
        "ROWS": handoff.batch.rows, "CLIP": handoff.recipe.clip,
        "BETAS": (handoff.recipe.beta1, handoff.recipe.beta2),
        "WARMUP": steps.warmup, "DECAY_START": steps.decay_start, "END": steps.end,
        "FINAL_FACTOR": steps.final_factor, "LOSS_CHUNKS": 8, "INTERVAL": 3, "KEEP": KEEP,
    }  # fmt: skip


def test_the_file_is_clean_code(folder):
    path = folder / f"{target.MODULE}.py"
    compile(path.read_text(), path, "exec")
    for how in (["check", "--select", "E,F,W,I,UP,B,SIM,RUF,C4"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *how, "--isolated", "--line-length", "100", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_share_of_the_decay_rounds_back_to_its_updates():
    for end in [*range(2, 200), 9_973, 1_000_003, 1_048_576]:
        for start in {0, 1, end // 3, end // 2, end - end // 10, end - 1}:
            assert round(end * ((end - start) / end)) == end - start


# Its pieces, built by torchtitan


def test_every_parameter_has_the_values_of_its_role(config, handoff, reference):
    model, plain = config.model_spec.model.build(), reference.Model()
    want = {id(p): group for group in reference.param_groups(plain) for p in group["params"]}
    want = {name: want[id(weight)] for name, weight in plain.named_parameters()}
    seen = {}
    for optimizer in config.optimizer.build(model_parts=[model]):
        assert type(optimizer) is torch.optim.AdamW
        for group in optimizer.param_groups:
            seen |= dict.fromkeys(group["param_names"], group)
    assert {ours(name) for name in seen} == want.keys()
    params = sum(weight.numel() for weight in model.parameters())
    assert params == handoff.counts.params + handoff.counts.params_embedding
    for name, group in seen.items():
        for key in ("lr", "eps", "weight_decay", "betas"):
            assert group[key] == want[ours(name)][key], (name, key)


def test_init_is_normal_with_the_std_of_its_role(config, handoff, reference):
    torch.manual_seed(0)
    model, plain = config.model_spec.model.build(), reference.Model()
    with torch.no_grad():
        model.init_weights()
    roles = {id(p): g["role"] for g in reference.param_groups(plain) for p in g["params"]}
    drawn: dict[str, list[Tensor]] = {role: [] for role in handoff.roles}
    for name, weight in model.named_parameters():
        role = Role(roles[id(plain.get_parameter(ours(name)))])
        drawn[role].append(weight.detach().flatten())
        sampling = 5 * (2 * weight.numel()) ** -0.5
        std = handoff.roles[role].init_std
        assert role == "gain" or float(weight.detach().std()) == pytest.approx(std, rel=sampling), (
            name
        )
    assert all(bool((gain == 1).all()) for gain in drawn.pop(Role.GAIN))
    for role, weights in drawn.items():
        values = torch.cat(weights) / handoff.roles[role].init_std
        assert float(values.abs().max()) > 3.6  # not truncated
        assert float(values.pow(4).mean()) == pytest.approx(3, abs=5 * (96 / len(values)) ** 0.5)


def test_the_same_weights_give_the_same_loss(config, handoff, reference):
    plain, model = reference.Model(), config.model_spec.model.build()
    reference.initialise(plain, 3)
    with torch.no_grad():
        model.init_weights()  # fills the RoPE tables
        for name, weight in model.named_parameters():
            weight.copy_(theirs(name, weights_of(plain), handoff.model.head_dim))
        rows = torch.from_numpy(table(handoff)[:16].astype(np.int64))
        documents = (torch.arange(handoff.model.context) % 7).expand(16, -1)  # change nothing
        logits = model(rows[:, :-1], positions=documents)
        loss, _ = config.loss.loss_fn.build()(logits, rows[:, 1:], rows[:, 1:].numel())
        assert float(loss) == pytest.approx(float(plain(rows)), rel=1e-6)
        assert torch.allclose(logits, plain.logits(rows[:, :-1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("exported", ["tied"], indirect=True)
def test_a_rank_without_whole_rows_is_refused(config):
    from torchtitan.config import ParallelismConfig
    from torchtitan.distributed import ParallelDims

    split = ParallelDims.from_config(ParallelismConfig(context_parallel_degree=2), 2)
    with pytest.raises(ValueError, match="rows must be whole"):
        config.model_spec.parallelize_fn(config.model_spec.model.build(), parallel_dims=split)


SHAPES = [("linear", 0.1), ("one_minus_sqrt", 0.0), ("cosine", 0.05), ("exponential", 0.1)]


@pytest.mark.parametrize(
    "exported", [{"shape": s, "final_factor": f} for s, f in SHAPES], indirect=True
)
def test_the_factor_of_every_update(config, handoff):
    model = config.model_spec.model.build()
    optimizers = config.optimizer.build(model_parts=[model])
    schedulers = config.lr_scheduler.build(optimizers=optimizers, training_steps=7)
    peaks = [values.lr for values in handoff.roles.values()]
    for step in range(handoff.schedule.end):
        now = [group["lr"] for each in optimizers for group in each.param_groups]
        factor = handoff.schedule.schedule(step)
        assert now == pytest.approx([peak * factor for peak in peaks], rel=1e-12), step
        optimizers.step()  # without gradients: nothing moves
        schedulers.step()
    beyond = handoff.schedule.end + 1  # where theirs would leave the final factor
    with pytest.raises(ValueError, match=f"training.steps = {beyond}: the decay ends at"):
        config.lr_scheduler.build(optimizers=optimizers, training_steps=beyond)


# Its Trainer


def run(folder: Path, *options: str, ranks: int = 1) -> tuple[dict, dict[str, Tensor]]:
    """What their Trainer logged, a list an entry, and its final weights."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command = [
        sys.executable,
        *launch,
        torchtitan_cpu.__file__,
        "--training.mixed_precision_param",
        "float32",
    ]
    done = subprocess.run(
        [*command, *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "log.json").read_text()), load_file(folder / "end.safetensors")


def loop(reference, rows: np.ndarray, steps: int) -> tuple[dict, nn.Module]:
    """The same of train.py's loop."""
    model = reference.Model()
    reference.initialise(model, 3)
    optimizer = torch.optim.AdamW(reference.param_groups(model))
    peaks = [group["lr"] for group in optimizer.param_groups]
    log: dict[str, list] = {"loss": [], "grad_norm": [], "lr": []}
    for step in range(steps):
        log["lr"].append([peak * reference.factor(step) for peak in peaks])
        for group, lr in zip(optimizer.param_groups, log["lr"][-1], strict=True):
            group["lr"] = lr
        taken = np.arange(step * reference.ROWS, (step + 1) * reference.ROWS) % len(rows)
        loss = model(torch.from_numpy(rows[taken].astype(np.int64)))
        loss.backward()
        log["loss"].append(loss.item())
        norm = nn.utils.clip_grad_norm_(model.parameters(), reference.CLIP)
        log["grad_norm"].append(float(norm))
        optimizer.step()
        optimizer.zero_grad()
    return log, model


DTENSORS = ["--parallelism.spmd_backend", "partial_dtensor"]  # on torch 2.13, more than one rank
PARALLEL = {  # ranks, updates, options
    "one": (1, 60, ["--training.local_batch_size", "4"]),
    "fsdp": (2, 12, ["--training.local_batch_size", "2", *DTENSORS]),
    "tensor": (2, 12, ["--parallelism.tensor_parallel_degree", "2", *DTENSORS]),
}


@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_run_is_that_of_train_py(folder, handoff, reference, parallel):
    pytest.importorskip("torchtitan", reason=WITHOUT)
    rows, (ranks, steps, options) = table(handoff), PARALLEL[parallel]
    np.save(folder / "rows.npy", rows)
    log, model = loop(reference, rows, steps)
    reference.initialise(start := reference.Model(), 3)
    save_file(weights_of(start), folder / "start.safetensors")
    seen, weights = run(folder, *options, "--training.steps", str(steps), ranks=ranks)
    assert np.array(seen["lr"]) == pytest.approx(np.array(log["lr"]), rel=1e-12)
    for key in ("loss", "grad_norm"):
        assert seen[key][:10] == pytest.approx(log[key][:10], rel=2e-5), key
        assert seen[key] == pytest.approx(log[key], rel=1e-2), key
    want = weights_of(model)
    for name, weight in weights.items():
        wanted = theirs(name, want, handoff.model.head_dim)
        assert float((weight - wanted).norm() / wanted.norm()) < 1e-3, name
    kept = {int(path.name[5:]) for path in (folder / "outputs/checkpoint").iterdir()}
    assert kept == {step for step in range(1, steps + 1) if step % 3 == 0 or step in KEEP}


@pytest.mark.parametrize("exported", ["tied"], indirect=True)
def test_a_stopped_run_goes_on_as_if_it_had_not(folder, handoff):
    pytest.importorskip("torchtitan", reason=WITHOUT)
    np.save(folder / "rows.npy", table(handoff))
    every = ["--training.local_batch_size", "2", "--checkpoint.interval", "20"]
    whole, weights = run(folder, *every, "--dump_folder", "whole")
    run(folder, *every, "--dump_folder", "parts", "--training.steps", "25")
    rest, again = run(folder, *every, "--dump_folder", "parts", *DTENSORS, ranks=2)
    assert rest["loss"] == pytest.approx(whole["loss"][25:], rel=1e-5)
    assert all(torch.allclose(again[name], weights[name], atol=1e-5) for name in weights)
