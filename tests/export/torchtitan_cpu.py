"""Drives torchtitan's own Trainer on CPU processes, from the weights of a train.py.

Under torchrun, in a folder with windtunnel_handoff.py, rows.npy and perhaps start.safetensors.
Writes log.json and end.safetensors.
"""

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from windtunnel.export.targets import torchtitan as target

WRAPPER = "_checkpoint_wrapped_module."
NAMES = {  # theirs, and train.py's
    "tok_embeddings": "embedding", "lm_head": "readout", "norm": "norm_final",
    "attention.qkv_linear.wqkv": "qkv", "attention.wo": "out", "feed_forward.w1": "gate_up",
    "feed_forward.w3": "gate_up", "feed_forward.w2": "down", "attention_norm": "norm_attention",
    "ffn_norm": "norm_ffn", "attention.q_norm": "norm_q", "attention.k_norm": "norm_k",
}  # fmt: skip


def ours(name: str) -> str:
    """The name in train.py of a parameter of theirs."""
    name = name.replace(WRAPPER, "").removesuffix(".weight")
    layer = re.match(r"layers\.(\d+)\.(.*)", name)
    return f"blocks.{layer[1]}.{NAMES[layer[2]]}" if layer else NAMES[name]


def theirs(name: str, weights: dict[str, Tensor], head_dim: int) -> Tensor:
    """A parameter of theirs from train.py's; they keep queries, keys, values by kv head."""
    weight = weights[ours(name)]
    if re.search(r"\.w[13]\.weight$", name):
        return weight.chunk(2)["w3" in name]
    if "wqkv" in name:
        width = weight.shape[1]
        rest = weight.shape[0] - width
        q, k, v = weight.split([width, rest // 2, rest // 2])
        kv_heads = rest // 2 // head_dim
        by_head = [part.reshape(kv_heads, -1, width) for part in (q, k, v)]
        return torch.cat(by_head, dim=1).reshape(-1, width)
    return weight


def drive(options: list[str]) -> None:
    """Train in this folder on CPU processes; torch.cpu gets what their memory reports ask for."""
    cpu = torch.cpu
    torch._utils._get_available_device_type = lambda: "cpu"  # before torchtitan asks
    cpu.current_device = lambda: 0
    cpu.get_device_name = lambda device=None: "cpu"
    cpu.get_device_properties = lambda device=None: SimpleNamespace(total_memory=1)
    cpu.reset_peak_memory_stats = cpu.empty_cache = lambda device=None: None
    cpu.memory_stats = lambda device=None: {}
    if not hasattr(torch.distributed, "set_timeout"):  # newer than torch 2.13
        torch.distributed.set_timeout = torch.distributed.distributed_c10d._set_pg_timeout
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor, distribute_tensor
    from torchtitan.config import ConfigManager

    sys.path.insert(0, "")
    arguments = ["--module", target.MODULE, "--config", "pretrain", "--metrics.log_freq", "1"]
    trainer = ConfigManager().parse_args([*arguments, *options]).build()
    (model,) = trainer.model_parts
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
    if Path("start.safetensors").exists():
        start = load_file("start.safetensors")
        for name, weight in model.named_parameters():
            full = theirs(name, start, model.config.layers[0].attention.head_dim)
            whole = distribute_tensor(full, weight.device_mesh, weight.placements)
            with torch.no_grad():
                weight.copy_(whole)
    log: dict[str, list] = {"loss": [], "grad_norm": [], "lr": []}

    def record(step, loss, max_loss, grad_norm, extra_metrics):
        log["loss"].append(loss)
        log["grad_norm"].append(grad_norm)
        log["lr"].append([v for key, v in extra_metrics.items() if key.startswith("lr/")])

    trainer.metrics_processor.log = record
    trainer.train()
    weights = {}
    for name, weight in model.named_parameters():
        full = weight.full_tensor() if isinstance(weight, DTensor) else weight
        weights[name.replace(WRAPPER, "")] = full.detach().contiguous()
    if torch.distributed.get_rank() == 0:
        save_file(weights, "end.safetensors")
        Path("log.json").write_text(json.dumps(log))
    trainer.close()
    torch.distributed.barrier()


if __name__ == "__main__":
    drive(sys.argv[1:])
    os._exit(0)  # now and then threads of gloo abort an orderly exit of two ranks
