"""Arguments and module for Megatron-LM, alone and inside Megatron-LM on the CPU."""

import ast
import importlib.util
import math
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from handed import load_reference, planted_handoff
from safetensors.torch import load_file, save_file

from windtunnel.errors import ConfigError
from windtunnel.export.targets import megatron
from windtunnel.parametrization import Role

CASES = {
    "mup": {"model": {}, "schedule": {"shape": "exponential"}},
    "untied, normed queries and keys, other sizes of head and vocabulary": {
        "model": {"tied": False, "qk_norm": True, "head_dim": 32, "kv_heads": 1, "vocab_size": 251},
        "schedule": {"shape": "one_minus_sqrt", "decay_fraction": 0.4},
    },
    "standard": {
        "model": {},
        "recipe": {"parametrization": "standard", "eps": 1e-6},
        "schedule": {"shape": "cosine", "final_factor": 0.0},
    },
    "constant decay": {
        "model": {"kv_heads": 6},
        "recipe": {"weight_decay_rule": "constant", "clip": 0.5},
        "schedule": {"shape": "linear"},
    },
}


def arguments(folder: Path) -> list[str]:
    """The array as bash has it."""
    script = 'source "$0"; printf "%s\\n" "${WINDTUNNEL_ARGS[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, folder / "arguments.sh"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def values(folder: Path) -> dict[str, list[str]]:
    """Option -> its values."""
    found: dict[str, list[str]] = {}
    for word in arguments(folder):
        if word.startswith("--"):
            assert word not in found
            found[word] = []
        else:
            found[list(found)[-1]].append(word)
    return found


def numbers(folder: Path) -> dict[str, float]:
    """Options that take one number."""
    found = {}
    for option, words in values(folder).items():
        if len(words) == 1 and words[0][0].isdigit():
            found[option] = float(words[0])
    return found


@pytest.mark.parametrize("name", CASES)
def test_arguments_are_the_handoffs_values(name, write_target):
    handoff = planted_handoff(**CASES[name])
    folder = write_target("megatron", handoff)
    options, model, steps = numbers(folder), handoff.model, handoff.schedule
    shape = {
        "--num-layers": model.depth, "--hidden-size": model.width,
        "--ffn-hidden-size": model.ffn_width, "--num-attention-heads": model.num_heads,
        "--kv-channels": model.head_dim, "--num-query-groups": model.kv_heads,
        "--seq-length": model.context, "--max-position-embeddings": model.context,
        "--rotary-base": model.rope_base, "--vocab-size": model.vocab_size,
        "--padded-vocab-size": model.vocab_size,
    }  # fmt: skip
    assert {option: options[option] for option in shape} == shape
    run = {
        "--train-iters": steps.end, "--lr-decay-iters": steps.end,
        "--lr-warmup-iters": steps.warmup, "--lr-wsd-decay-iters": steps.end - steps.decay_start,
        "--global-batch-size": handoff.batch.rows, "--clip-grad": handoff.recipe.clip,
    }  # fmt: skip
    assert {option: options[option] for option in run} == run
    flags = values(folder)
    assert ("--untie-embeddings-and-output-weights" in flags) is not model.tied
    assert ("--qk-layernorm" in flags) is model.qk_norm
    embedding, hidden = handoff.roles[Role.EMBEDDING], handoff.roles[Role.HIDDEN]
    ratio = model.width / options["--mup-base-hidden-size"]  # mup_width_mult of Megatron
    assert options["--lr"] == embedding.lr
    assert options["--lr"] / ratio == pytest.approx(hidden.lr)
    assert options["--init-method-std"] / math.sqrt(ratio) == pytest.approx(hidden.init_std)
    assert options["--adam-eps"] / ratio == pytest.approx(hidden.eps)
    assert options["--weight-decay"] * options["--windtunnel-matrix-wd-mult"] == pytest.approx(
        hidden.weight_decay
    )
    assert options["--mup-base-head-dim"] ** 0.5 / model.head_dim == pytest.approx(
        handoff.multipliers.attention
    )


def test_its_forms_of_decay_are_ours_but_for_the_exponential(write_target):
    """megatron/core/optimizer_param_scheduler.py, get_lr, at the argument's commit."""
    theirs = {
        "linear": lambda p: 1.0 - p,
        "cosine": lambda p: 0.5 * (math.cos(math.pi * p) + 1.0),
        "one_minus_sqrt": lambda p: 1.0 - math.sqrt(p),
        "exponential": lambda p: 2.0 * 0.5**p - 1.0,
    }
    furthest = {}
    for shape, coefficient in theirs.items():
        handoff = planted_handoff(schedule={"shape": shape, "decay_fraction": 0.5}, end=100)
        steps, ours = handoff.schedule, handoff.schedule.schedule
        furthest[shape] = max(
            abs(0.1 + 0.9 * coefficient((s - steps.decay_start) / 50) - ours(s))
            for s in range(steps.decay_start, steps.end)
        )
    assert max(furthest[s] for s in ("linear", "cosine", "one_minus_sqrt")) < 1e-15
    assert furthest["exponential"] == pytest.approx(0.166, abs=1e-3)  # at 0.38 of it


def test_a_file_says_what_differs(write_target):
    handoff = planted_handoff(model={"width": 64}, schedule={"shape": "exponential"})
    folder = write_target("megatron", handoff)
    text = (folder / "arguments.sh").read_text()
    header = text[: text.index("WINDTUNNEL_ARGS=(")]
    for said in ("0.80829", "width ratio 2 ", "by 2; gains", "0.15", "= 0.25", "told 256", "0.5^p"):
        assert said in header
    assert f"update {handoff.schedule.decay_start}" in header
    assert "never run on CUDA" in header
    assert megatron.COMMIT[:10] in header
    assert max(map(len, text.splitlines())) <= 125
    module = (folder / "windtunnel_megatron.py").read_text()
    ast.parse(module)
    assert max(map(len, module.splitlines())) <= 125
    assert len(module.splitlines()) < 130


def test_only_a_whole_rotary_base_can_be_said(tmp_path):
    with pytest.raises(ConfigError, match="whole number"):
        megatron.write(planted_handoff(model={"rope_base": 10000.5}), tmp_path)


needs_megatron = pytest.mark.skipif(
    sys.version_info < (3, 12) or not importlib.util.find_spec("pretrain_gpt"),
    reason="needs Megatron-LM (megatron-core 0.20, checkout of NVIDIA/Megatron-LM at "
    f"{megatron.COMMIT[:10]} on PYTHONPATH) and Python 3.12: docs/export/megatron.md; "
    "CUDA and Transformer Engine are never used",
)

ON_CPU = shlex.split("""
    --transformer-impl local --use-cpu-initialization --distributed-backend gloo
    --no-persist-layer-norm --no-masked-softmax-fusion --no-gradient-accumulation-fusion
    --no-bias-dropout-fusion --no-bias-swiglu-fusion --no-rope-fusion --disable-jit-fuser
    --tokenizer-type NullTokenizer --num-workers 0 --eval-iters 0 --eval-interval 1000
    --log-interval 1 --micro-batch-size 4
""")

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_DEVICE_MAX_CONNECTIONS": "1"}

OUTER = {
    "embedding.word_embeddings": "embedding",
    "decoder.final_layernorm": "norm_final",
    "output_layer": "readout",
}
INNER = {
    "input_layernorm": "norm_attention",
    "self_attention.linear_qkv": "qkv",
    "self_attention.q_layernorm": "norm_q",
    "self_attention.k_layernorm": "norm_k",
    "self_attention.linear_proj": "out",
    "pre_mlp_layernorm": "norm_ffn",
    "mlp.linear_fc1": "gate_up",
    "mlp.linear_fc2": "down",
}


def our_name(theirs: str) -> str:
    theirs = theirs.removesuffix(".weight")
    if theirs in OUTER:
        return OUTER[theirs]
    _, _, layer, rest = theirs.split(".", 3)
    return f"blocks.{layer}.{INNER[rest]}"


def by_group(weight: torch.Tensor, model) -> torch.Tensor:
    """Megatron stacks queries, keys and values of one group; ours all queries first."""
    head, groups = model.head_dim, model.kv_heads
    sizes = [model.width, groups * head, groups * head]
    parts = [part.view(groups, -1, model.width) for part in weight.split(sizes)]
    return torch.cat(parts, dim=1).reshape(weight.shape)


def train_in_megatron(handoff, folder: Path, rows: np.ndarray, weights: dict, *more: str) -> dict:
    """What Megatron did with the written files, by its own loop."""
    save_file({"rows": torch.from_numpy(rows)}, folder / "rows.safetensors")
    save_file(weights, folder / "weights.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = Path(__file__).with_name("megatron_cpu.py")
    files = ("windtunnel_megatron.py", "rows.safetensors", "weights.safetensors", "seen.pt")
    paths = [folder / file for file in files]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", driver, *paths, *arguments(folder), *ON_CPU, *more],
        env=ONE_THREAD | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return torch.load(folder / "seen.pt", weights_only=True)


def text_rows(count: int, context: int) -> np.ndarray:
    """Real bytes: this repository's own prose."""
    root = Path(__file__).parents[2]
    text = b"".join(path.read_bytes() for path in sorted(root.glob("docs/*.md")))
    ids = np.frombuffer(text, np.uint8)[: count * (context + 1)]
    return np.ascontiguousarray(ids.reshape(count, context + 1).astype(np.int64))


def start_of(handoff, module) -> dict[str, torch.Tensor]:
    """The weights of train.py at seed 3, under Megatron's names and in its layout."""
    model = module.Model()
    module.initialise(model, 3)
    named = {name: weight.detach() for name, weight in model.named_parameters()}
    inner = [f"decoder.layers.{layer}.{n}" for layer in range(handoff.model.depth) for n in INNER]
    theirs = {name: our_name(name) for name in (f"{n}.weight" for n in [*OUTER, *inner])}
    return {
        name: by_group(named[ours], handoff.model) if ours.endswith("qkv") else named[ours]
        for name, ours in theirs.items()
        if ours in named
    }


@pytest.fixture(scope="module", params=CASES)
def both(request, tmp_path_factory):
    """The same weights and rows through Megatron and through train.py, to the end."""
    handoff = planted_handoff(**CASES[request.param])
    folder = tmp_path_factory.mktemp("megatron")
    megatron.write(handoff, folder)
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


@needs_megatron
@pytest.mark.slow
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


@needs_megatron
@pytest.mark.slow
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


@needs_megatron
@pytest.mark.slow
def test_its_multipliers(both):
    handoff, _, seen, *_ = both
    sites = handoff.multipliers
    assert seen["sites"] == pytest.approx(
        {"attention": sites.attention, "embed": sites.embed, "logits": sites.logits}, rel=1e-12
    )


@needs_megatron
@pytest.mark.slow
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
    rows = text_rows(60 * handoff.batch.rows, handoff.model.context)
    start = start_of(handoff, load_reference(handoff, folder))
    seen = train_in_megatron(handoff, folder, rows, start, *more)
    return np.array([update["loss"] for update in seen["updates"]])


@needs_megatron
@pytest.mark.slow
def test_a_stopped_run_goes_on_and_a_kept_checkpoint_decays_earlier(tmp_path):
    store = tmp_path / "store"
    stored = ["--save", str(store), "--load", str(store), "--save-interval", "1000"]
    first = short_run(tmp_path / "a", *stored, "--exit-interval", "35")
    assert len(first) == 35
    store_of_35 = shutil.copytree(store, tmp_path / "kept")
    rest = short_run(tmp_path / "a", *stored)
    assert np.array_equal(np.concatenate([first, rest]), short_run(tmp_path / "b"))
    earlier = ["--load", str(store_of_35)]
    steps = ["--train-iters", "50", "--lr-decay-iters", "50", "--lr-wsd-decay-iters", "15"]
    branch = short_run(tmp_path / "a", *earlier, *steps)
    whole = short_run(tmp_path / "c", end=50, schedule={"shape": "linear", "decay_fraction": 0.3})
    assert len(branch) == 15
    assert np.array_equal(branch, whole[35:])


@needs_megatron
@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "apart"),
    [("--use-distributed-optimizer", 1e-6), ("--bf16 --use-distributed-optimizer", 5e-3)],
)
def test_other_optimizers_keep_the_groups(more, apart, tmp_path):
    plain = short_run(tmp_path / "plain")
    np.testing.assert_allclose(short_run(tmp_path / "more", *more.split()), plain, rtol=apart)


@needs_megatron
@pytest.mark.slow
def test_pretrain_gpt_alone_refuses(write_target, handoff):
    folder = write_target("megatron", handoff)
    script = importlib.util.find_spec("pretrain_gpt").origin
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, *arguments(folder), *ON_CPU],
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unrecognized arguments: --windtunnel-residual-mult" in done.stderr
