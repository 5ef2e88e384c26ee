"""The same weights and rows for Megatron-LM and for train.py."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from handed import planted_handoff, transformers_spec
from safetensors.torch import save_file

from windtunnel.export.handoff import Handoff

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
    "completep": {
        "model": {},
        "recipe": {"parametrization": "completep", "base_depth": 2, "eps": 1e-6},
        "schedule": {"shape": "linear"},
    },
    "constant decay": {
        "model": {"kv_heads": 6},
        "recipe": {"weight_decay_rule": "constant", "clip": 0.5},
        "schedule": {"shape": "linear"},
    },
    "falling rate": {
        "model": {},
        "schedule": {"shape": "linear", "hold": {"power": -0.3, "from": "12 steps"}},
    },
}

FAMILIES = {
    "llama": {"schedule": {"shape": "exponential"}},
    "qwen3": {"schedule": {"shape": "linear"}, "recipe": {"weight_decay_rule": "constant"}},
    "qwen3 at base width": {"schedule": {"shape": "linear"}, "recipe": {"base_width": 96}},
    "llama, standard": {
        "schedule": {"shape": "linear"},
        "recipe": {"parametrization": "standard"},
    },
}
"""Models of transformers, by the first word; their muP is by init and rates alone."""


def exported(name: str) -> Handoff:
    """The Handoff of a case."""
    if name in CASES:
        return planted_handoff(**CASES[name])
    model = transformers_spec(name.replace(",", " ").split()[0])
    return planted_handoff(model=model, **FAMILIES[name])


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


def arguments(folder: Path) -> list[str]:
    """The array as bash has it."""
    script = 'source "$0"; printf "%s\\n" "${WINDTUNNEL_ARGS[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, folder / "arguments.sh"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()
