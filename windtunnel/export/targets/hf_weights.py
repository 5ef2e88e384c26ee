"""Weights under Granite's names, streamed to safetensors files: one tensor in memory at a time.

The format (github.com/huggingface/safetensors, README.md) is the header's length in 8 bytes,
the header in JSON, then the tensors' bytes. It is written here because `save_file` takes all
tensors of a file at once.
"""

import json
import math
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from windtunnel.config import DenseSpec
from windtunnel.errors import ConfigError
from windtunnel.export.targets.hf_files import Job
from windtunnel.model import LanguageModel, build
from windtunnel.model.build import initial_weight, scale_kv
from windtunnel.train import checkpoint

FLOAT_BYTES = 4

Shape = tuple[int, ...]
TensorOf = Callable[[str, Shape], Tensor]
"""A parameter by our name and shape."""

OF_BLOCK = {
    "norm_attention": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "norm_ffn": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
OF_MODEL = {"embedding": "model.embed_tokens", "norm_final": "model.norm", "readout": "lm_head"}


def drawn(job: Job, init_seed: int) -> TensorOf:
    """The weights of an untrained model, as our own decoder draws them."""
    roles = _meta(job).roles()

    def draw(name: str, shape: Shape) -> Tensor:
        std = job.roles[roles[name]].init_std
        weight = initial_weight(name, shape, std=std, init_seed=init_seed)
        scale_kv(name, weight, job.model, job.recipe)
        return weight

    return draw


def read_from(folder: Path) -> TensorOf:
    """The weights of a checkpoint, once all of it has matched its checksums.

    Raises:
        Damaged: A file is missing or does not match.
        StoreError: A file cannot be read.
    """
    checkpoint.verify(folder)

    def read(name: str, shape: Shape) -> Tensor:
        with safe_open(folder / checkpoint.WEIGHTS, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        assert tensor.shape == shape
        return tensor.float()

    return read


def write_weights(job: Job, tensor_of: TensorOf, folder: Path, *, shard_bytes: int) -> list[Path]:
    """Write the model's weights as one file, or as several and their index.

    Raises:
        ConfigError: The disk has no room for them.
    """
    shapes = {name: tuple(each.shape) for name, each in _meta(job).weights().items()}
    parts = [part for name, shape in shapes.items() for part in parts_of(name, shape, job.dense)]
    total = sum(map(_bytes, dict(parts).values()))
    refuse_full_disk(folder, total)
    shards = _shards(parts, shard_bytes)
    tensors = _tensors(shapes, tensor_of, job.dense)
    files: list[Path] = []
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        alone = len(shards) == 1
        name = "model" if alone else f"model-{number:05d}-of-{len(shards):05d}"
        path = folder / f"{name}.safetensors"
        _write_file(path, shard, tensors)
        files.append(path)
        weight_map |= {part: path.name for part, _ in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        files.append(path)
    return files


def refuse_full_disk(folder: Path, total: int) -> None:
    """Refuse to begin a model of so many bytes.

    Raises:
        ConfigError: The disk has no room for it.
    """
    free = shutil.disk_usage(folder).free
    if total > free:
        raise ConfigError(
            "disk-too-small",
            f"{folder}: {total / 1e9:.3g} GB of weights (fp32), {free / 1e9:.3g} GB free; free "
            "space, or give an --out on a larger disk",
            path=folder,
            needed_bytes=total,
            free_bytes=free,
        )


def parts_of(name: str, shape: Shape, model: DenseSpec) -> list[tuple[str, Shape]]:
    """Granite's tensors in one of ours, in order: it keeps apart what shares a matrix here."""
    if name in OF_MODEL:
        return [(f"{OF_MODEL[name]}.weight", shape)]
    _, block, kind = name.split(".")
    of_kv = model.kv_heads * model.head_dim
    rows = {"qkv": (model.width, of_kv, of_kv), "gate_up": (model.ffn_width,) * 2}
    theirs = OF_BLOCK[kind]
    return [
        (f"model.layers.{block}.{each}.weight", (count, *shape[1:]))
        for each, count in zip(theirs, rows.get(kind, shape[:1]), strict=True)
    ]


def _meta(job: Job) -> LanguageModel:
    """Our decoder without any memory: its names, shapes and roles."""
    with torch.device("meta"):
        return build(job.model, job.recipe)


def _tensors(shapes: dict[str, Shape], tensor_of: TensorOf, model: DenseSpec) -> Iterator[Tensor]:
    for name, shape in shapes.items():
        rows = [part[0] for _, part in parts_of(name, shape, model)]
        yield from torch.split(tensor_of(name, shape), rows)


def _shards(parts: list[tuple[str, Shape]], limit: int) -> list[list[tuple[str, Shape]]]:
    """Parts in order, as many a file as fit; one that fits nowhere has a file of its own."""
    shards: list[list[tuple[str, Shape]]] = [[]]
    filled = 0
    for part in parts:
        size = _bytes(part[1])
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(part)
        filled += size
    return shards


def _write_file(path: Path, parts: list[tuple[str, Shape]], tensors: Iterator[Tensor]) -> None:
    """Write the next tensors of the stream."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in parts:
        end = at + _bytes(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # data start at a multiple of 8
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (_, shape), tensor in zip(parts, tensors, strict=False):
            assert tensor.shape == shape
            tensor.contiguous().numpy().astype("<f4", copy=False).tofile(file)


def _bytes(shape: Shape) -> int:
    return math.prod(shape) * FLOAT_BYTES
