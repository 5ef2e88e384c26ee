"""Runs a generated windtunnel_megatron.py on the CPU, and writes down what Megatron-LM made of it.

python megatron_cpu.py SCRIPT ROWS WEIGHTS RECORD ARGUMENT...

Megatron-LM has no CPU mode: every call of CUDA is sent to the CPU. Nothing of its own model,
optimizer, scheduler or loop is replaced, but for the data: rows of a file, in order.
"""

import importlib.util
import os
import sys
import types

os.environ |= {"TORCHDYNAMO_DISABLE": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}

import torch
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode


class OnCpu(TorchFunctionMode):
    """Tensors asked for on CUDA are made on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        if func is torch.Tensor.type and len(args) == 1:  # it asserts torch.cuda.FloatTensor
            return func(*args).replace("torch.", "torch.cuda.")
        return func(*args, **kwargs)


class Idle:
    """A stream or event that has nothing to wait for."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        return lambda *args, **kwargs: self

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


def without_cuda():
    """Answer what Megatron asks of CUDA for the CPU."""
    cuda = torch.cuda
    answers = {
        "is_available": True, "device_count": 1, "current_device": "cpu", "set_device": None,
        "synchronize": None, "manual_seed": None, "manual_seed_all": None, "_lazy_init": None,
        "_lazy_call": None, "memory_allocated": 0, "max_memory_allocated": 0, "memory_reserved": 0,
        "max_memory_reserved": 0, "reset_peak_memory_stats": None, "empty_cache": None,
        "get_device_capability": (8, 0), "current_stream": Idle(), "default_stream": Idle(),
        "stream": Idle(),
        "get_device_properties": types.SimpleNamespace(
            name="none", major=8, minor=0, total_memory=1 << 30
        ),
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(cuda, name, lambda *args, answer=answer, **kwargs: answer)
    cuda.Stream = cuda.Event = Idle
    for module in (cuda, cuda.random):
        module.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
        module.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    for kind in ("Float", "Double", "Long", "Int", "Byte", "BFloat16"):
        setattr(cuda, f"{kind}Tensor", getattr(torch, f"{kind}Tensor"))
    torch.nn.Module.cuda = lambda self, *args: self
    torch.optim.Optimizer._accelerator_graph_capture_health_check = lambda self: None
    OnCpu().__enter__()


class Rows(torch.utils.data.Dataset):
    """What Megatron's GPTDataset returns, for rows of context + 1 tokens."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        length = len(row) - 1
        return {
            "tokens": row[:-1],
            "labels": row[1:],
            "loss_mask": torch.ones(length),
            "position_ids": torch.arange(length),
            "attention_mask": (torch.ones(length, length).tril() < 0.5).unsqueeze(0),
        }


def main(script, rows, weights, record):
    without_cuda()
    spec = importlib.util.spec_from_file_location("windtunnel_megatron", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules["windtunnel_megatron"] = module
    spec.loader.exec_module(module)
    table = load_file(rows)["rows"]
    seen = {"init": {}, "updates": [], "groups": {}, "sites": {}}
    chunks = []

    def put_weights(models):
        chunks.extend(models)
        named = dict(models[0].named_parameters())
        seen["init"] = {name: weight.detach().clone() for name, weight in named.items()}
        for name, weight in load_file(weights).items():
            named[name].data.copy_(weight)
        return models

    made = module.model_config

    def model_config(args):
        config = made(args)
        config.pre_wrap_hooks.append(put_weights)
        inner = config.transformer
        seen["sites"] = {
            "attention": inner.softmax_scale,
            "embed": inner.mup_embedding_mult,
            "logits": inner.mup_output_mult,
        }
        return config

    build = module.training.get_megatron_optimizer

    def watched(*args, **kwargs):
        optimizer = build(*args, **kwargs)
        step, names = optimizer.step, {id(w): n for n, w in chunks[0].named_parameters()}

        def one_update():
            groups = {
                names[id(weight)]: {key: group[key] for key in ("lr", "weight_decay", "eps")}
                for group in optimizer.param_groups
                for weight in group["params"]
                if id(weight) in names  # a distributed optimizer holds pieces of its own
            }
            done = step()
            seen["updates"].append({"groups": groups, "grad_norm": float(done[1])})
            return done

        optimizer.step = one_update
        seen["identities"] = [
            tuple(group.get(key) for key in ("max_lr", "min_lr", "wd_mult", "start_wd"))
            for group in optimizer.param_groups
        ]
        return optimizer

    module.model_config, module.training.get_megatron_optimizer = model_config, watched
    forward, losses = module.pretrain_gpt.forward_step, []

    def forward_step(*args, **kwargs):
        output, loss_func = forward(*args, **kwargs)

        def watched_loss(tensor):
            loss, tokens, report = loss_func(tensor)
            losses.append((len(seen["updates"]), float(loss) / int(tokens)))
            return loss, tokens, report

        return output, watched_loss

    module.pretrain_gpt.forward_step = forward_step
    module.pretrain_gpt.train_valid_test_datasets_provider = lambda *args, **kwargs: (
        Rows(table), None, None,
    )  # fmt: skip
    try:
        module.main()
    except SystemExit as stopped:  # --exit-interval
        if stopped.code:
            raise
    for update, done in enumerate(seen["updates"]):
        pieces = [loss for at, loss in losses if at == update]
        done["loss"] = sum(pieces) / len(pieces)
    seen["final"] = {name: weight.detach() for name, weight in chunks[0].named_parameters()}
    torch.save(seen, record)


if __name__ == "__main__":
    script, rows, weights, record, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    main(script, rows, weights, record)
