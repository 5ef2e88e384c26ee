"""The C++ kernels: compiled once per machine, and recorded as a list of calls per batch shape.

They need only a C++ compiler. The shared object is cached in the user's own folder (mode 0700,
outside any store) under a hash of the sources, flags, compiler and target processor. `Buffers`
holds the activations and scratch of one batch shape. A `Program` records kernel calls with their
addresses filled in, and an update replays them.

Axes: M tokens of the batch, W width, F ffn width, V vocabulary, K head size; B, T, P as in
attention.cpp.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from windtunnel.config.experts import ExpertFields
from windtunnel.config.shape import DenseSpec
from windtunnel.errors import ConfigError, boundary
from windtunnel.user_folders import user_cache

SOURCES = ("product.cpp", "attention.cpp", "elementwise.cpp", "experts.cpp")
HEADERS = ("vector.h",)
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
HERE = Path(__file__).parent

TYPES = {"p": ctypes.c_void_p, "f": ctypes.c_float, "i": ctypes.c_int64, "b": ctypes.c_bool}
SIGNATURES = {
    "add_norm": "ppfpffpppii",
    "norm_backward": "pppfppppii",
    "swiglu": "ppii",
    "swiglu_backward": "pfpii",
    "split_heads": "pppfpppiiiii",
    "attention": "pfpppp iiiii",
    "attention_backward": "pppff ppfpp pppp pp iiiii",
    "cross_entropy": "ppbpiiif",
}
UNTYPED_SIGNATURES = {
    "embed": "ppfpiii",
    "embed_backward": "ppfpiii",
    "clear": "pi",
    "product": "pi pii pii iii fb",
    "adamw": "pppp f fffff ff i",
    "route": "pfp ppp ppp p iii b",
    "route_backward": "pppp pp ppp ff p iii b",
    "gather": "ppp iii",
    "combine": "pppp iii b",
    "combine_backward": "ppp f pp iii",
    "products_of_rows": "ppp iii p iii",
    "products_over_rows": "ppp f p iii",
}
"""Arguments of the kernels: pointer, float, int64, bool."""


@functools.cache
def compiler() -> str | None:
    """The path of a C++ compiler, `$CXX` before the usual names; None where there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    return None


@functools.cache
def identity() -> str | None:
    """Hash of the machine code that would run here (12 hex digits); None without a compiler.

    Two machines with the same hash run the same instructions, so their results agree bit for bit.
    """
    if (compiler_path := compiler()) is None:
        return None
    probe = subprocess.run(  # prints the version, and -march=native spelt out
        [compiler_path, *FLAGS, "-E", "-v", "-x", "c++", os.devnull],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C"},
        check=False,
    )
    if probe.returncode:
        return None
    digest = hashlib.sha256(probe.stderr.encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def function(kernel: str, precision: Literal["fp32", "bf16"]) -> Callable[..., float]:
    """The kernel of that name for one activation precision; pointers are passed as integers."""
    typed = kernel in SIGNATURES
    types = SIGNATURES[kernel] if typed else UNTYPED_SIGNATURES[kernel]
    symbol = getattr(_library(), f"{kernel}_{precision}" if typed else kernel)
    symbol.argtypes = [TYPES[letter] for letter in types.replace(" ", "")]
    symbol.restype = ctypes.c_double if kernel == "cross_entropy" else None
    return cast("Callable[..., float]", symbol)


@functools.cache
def _library() -> ctypes.CDLL:
    """The kernels, built on first use.

    Raises:
        ConfigError: No compiler is installed, compilation fails, or the library cannot be loaded.
    """
    name = identity()
    if name is None:
        raise ConfigError(
            "no-compiler",
            "the native kernels need a C++ compiler (g++ or clang++, or $CXX), and none is here; "
            "install one, or set resources.kernels: torch",
            allowed=["torch"],
        )
    path = user_cache("native") / f"{name}.so"
    if path.exists():
        with suppress(OSError):  # a damaged library is rebuilt
            return ctypes.CDLL(str(path))
    _build(path)
    fix = (
        "set XDG_CACHE_HOME to a folder that programs may be run from, or resources.kernels: torch"
    )
    what = "the native kernels cannot be loaded"
    with boundary(path, fix, ConfigError, what=what, code="cannot-load"):
        return ctypes.CDLL(str(path))


def _build(path: Path) -> None:
    """Compile to a temporary file and rename it, since several workers may build at once."""
    compiler_path = compiler()
    assert compiler_path is not None
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        built = Path(scratch) / path.name
        sources = [str(HERE / name) for name in SOURCES]
        result = subprocess.run(
            [compiler_path, *FLAGS, "-shared", "-fPIC", *sources, "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            output = result.stderr.strip()[-800:]
            raise ConfigError(
                "build-failed",
                f"{compiler_path} does not build the native kernels: {output}\n"
                "set resources.kernels: torch, or point $CXX at another compiler",
                compiler=compiler_path,
                output=output,
            )
        built.replace(path)


PAD = 16
"""Positions of a head are padded to a multiple of this (attention.cpp)."""


@dataclass
class Layer:
    """Activations of one layer that its backward pass needs."""

    x: Tensor
    inverse: Tensor
    normed: Tensor
    qkv: Tensor
    heads: Tensor
    largest: Tensor
    inverse_sum: Tensor
    mixed: Tensor
    middle: Tensor
    inverse_ffn: Tensor
    normed_ffn: Tensor
    gate_up: Tensor
    hidden: Tensor


@dataclass
class RoutedLayer:
    """Activations of one layer's experts that its backward pass needs (experts.cpp)."""

    probability: Tensor
    chosen: Tensor
    gates: Tensor
    log_sum: Tensor
    start: Tensor
    place: Tensor
    gathered: Tensor
    gate_up: Tensor
    hidden: Tensor
    out: Tensor
    shared_gate_up: Tensor
    shared_hidden: Tensor


class RoutedBuffers:
    """Buffers of a model's experts, of M tokens; counts and shares are of every layer.

    Attributes:
        counts_LE: Tokens that chose each expert.
        entropy_L: Of the routers' probabilities, summed over tokens.
        shares_LE: Each expert's share of the whole update, where `is_fixed`.
        part: Share of this batch in the update.
    """

    def __init__(self, spec: DenseSpec, fields: ExpertFields, tokens: int, layers: int) -> None:
        width, inner = spec.width, spec.ffn_width // fields.granularity
        experts, choices = fields.experts, tokens * fields.top_k
        shared = fields.shared_experts * inner

        def whole(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64)

        self.layers = [
            RoutedLayer(
                probability=torch.zeros(tokens, experts),
                chosen=whole(tokens, fields.top_k),
                gates=torch.ones(tokens, fields.top_k),
                log_sum=torch.zeros(tokens),
                start=whole(experts + 1),
                place=whole(choices),
                gathered=torch.zeros(choices, width),
                gate_up=torch.zeros(choices, 2 * inner),
                hidden=torch.zeros(choices, inner),
                out=torch.zeros(choices, width),
                shared_gate_up=torch.zeros(tokens, 2 * shared),
                shared_hidden=torch.zeros(tokens, shared),
            )
            for _ in range(layers)
        ]
        self.counts_LE, self.entropy_L = whole(spec.depth, experts), torch.zeros(spec.depth)
        self.is_fixed, self.part = whole(1), torch.ones(1)
        self.shares_LE = torch.zeros(spec.depth, experts)
        self.dgates = torch.zeros(tokens, fields.top_k)
        self.dlogits = torch.zeros(tokens, experts)
        self.dhidden = torch.zeros(choices, inner)
        self.dgathered = torch.zeros(choices, width)
        self.dshared = torch.zeros(tokens, shared)

    def layer(self, number: int) -> RoutedLayer:
        """The buffers of a layer."""
        return self.layers[number % len(self.layers)]


class Buffers:
    """Buffers for a batch of `sequences` rows; layers share them when `layers` is below the depth.

    The residual stream and its gradient are fp32; operands of matrix products have `dtype`.
    """

    def __init__(
        self,
        spec: DenseSpec,
        sequences: int,
        layers: int,
        dtype: torch.dtype,
        *,
        with_feed_forward: bool = True,
    ) -> None:
        self.sequences, self.length = sequences, spec.context
        self.tokens = tokens = sequences * spec.context
        width, ffn = spec.width, spec.ffn_width if with_feed_forward else 0
        self.row_shape = (sequences, spec.context, width)
        self.stream_shape = (tokens, width)
        self.head_shape = (sequences, spec.context, spec.num_heads, spec.kv_heads, spec.head_dim)
        padded = -(-spec.context // PAD) * PAD
        all_heads = spec.num_heads + 2 * spec.kv_heads

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape)

        def typed(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype)

        self.layers = [
            Layer(
                x=floats(tokens, width),
                inverse=floats(tokens),
                normed=typed(tokens, width),
                qkv=typed(tokens, all_heads * spec.head_dim),
                heads=floats(sequences, all_heads, padded, spec.head_dim),
                largest=floats(sequences, spec.num_heads, padded),
                inverse_sum=floats(sequences, spec.num_heads, padded),
                mixed=typed(tokens, width),
                middle=floats(tokens, width),
                inverse_ffn=floats(tokens),
                normed_ffn=typed(tokens, width),
                gate_up=typed(tokens, 2 * ffn),
                hidden=typed(tokens, ffn),
            )
            for _ in range(layers)
        ]
        self.rows = torch.zeros((sequences, spec.context + 1), dtype=torch.int64)
        self.x, self.inverse = floats(tokens, width), floats(tokens)
        self.normed, self.delta = typed(tokens, width), typed(tokens, width)
        self.logits = typed(tokens, spec.vocab_size)
        self.row_of_logits = floats(spec.vocab_size + PAD)
        # Two transposed blocks and one straight, two rows of weights a query, three heads.
        self.scratch = floats(
            3 * PAD * spec.head_dim + 2 * padded * PAD + 3 * padded * spec.head_dim
        )
        self.dx = floats(tokens, width)
        self.dx_cast = self.dx if dtype is torch.float32 else typed(tokens, width)
        self.dnormed, self.dmixed = typed(tokens, width), typed(tokens, width)
        self.dhidden = typed(tokens, ffn)
        self.dqkv = typed(tokens, all_heads * spec.head_dim)

    def layer(self, number: int) -> Layer:
        """The buffers of a layer."""
        return self.layers[number % len(self.layers)]


class Program:
    """Kernel calls in order; it keeps the tensors whose addresses it holds, and they never move."""

    def __init__(self, precision: Literal["fp32", "bf16"]) -> None:
        self.precision = precision
        self.type = torch.bfloat16 if precision == "bf16" else torch.float32
        self._calls: list[Callable[[], Any]] = []
        self._kept: list[Tensor] = []

    def run(self) -> None:
        """Run every call."""
        for call in self._calls:
            call()

    def bind(self, kernel: str, *arguments: Tensor | float | None) -> Callable[..., float]:
        """A kernel with its first arguments bound; the caller passes the rest."""
        self._kept += [value for value in arguments if isinstance(value, Tensor)]
        plain = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
        return functools.partial(function(kernel, self.precision), *plain)

    def call(self, kernel: str, *arguments: Tensor | float | None) -> None:
        """Append a kernel call; tensors are passed by address."""
        self._calls.append(self.bind(kernel, *arguments))

    def product(self, out: Tensor, left: Tensor, right: Tensor) -> None:
        """Append out = left @ right."""
        if self.type is torch.float32:
            self._own_product(out, left, right, factor=1.0, add=False)
        else:
            self._calls.append(functools.partial(torch.mm, left, right, out=out))

    def add_product(self, out: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
        """Append out += factor left @ right; `out` is fp32 whatever the operands are."""
        if self.type is torch.float32:
            self._own_product(out, left, right, factor=factor, add=True)
        else:
            product = torch.empty(out.shape, dtype=self.type)
            self.product(product, left, right)
            self._calls.append(functools.partial(out.add_, product, alpha=factor))

    def copies(self, sources: list[Tensor], targets: list[Tensor]) -> None:
        """Append copies between tensors, across dtypes."""
        self._calls.append(functools.partial(torch._foreach_copy_, targets, sources))

    def _own_product(
        self, out: Tensor, left: Tensor, right: Tensor, *, factor: float, add: bool
    ) -> None:
        rows, depth = left.shape
        self.call(
            "product", out, out.stride(0), left, *left.stride(), right, *right.stride(),
            rows, right.shape[1], depth, factor, add,
        )  # fmt: skip
