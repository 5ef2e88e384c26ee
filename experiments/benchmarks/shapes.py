"""What is trained: the rungs of the ladders, their recipe, their batches, and where they run."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from windtunnel.config import DenseSpec, Recipe, Trunk

Precision = Literal["fp32", "bf16"]

BATCHES = 32
"""Different batches of a run, over and over: enough that a curve is a curve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A rung of a ladder and its batch; byte vocabulary, as many kv heads as heads."""

    width: int
    depth: int
    head_dim: int = 16
    rows: int = 8
    context: int = 128
    base_width: int = 32

    @property
    def name(self) -> str:
        """WIDTHxDEPTH, and the head size where it is not the CPU ladder's."""
        return self.model.size + ("" if self.head_dim == 16 else f", head {self.head_dim}")

    @property
    def model(self) -> DenseSpec:
        """The shape as a spec."""
        return DenseSpec(
            width=self.width,
            depth=self.depth,
            head_dim=self.head_dim,
            kv_heads=self.width // self.head_dim,
            vocab_size=256,
            context=self.context,
        )

    @property
    def batch_tokens(self) -> int:
        """Tokens of one update."""
        return self.rows * self.context

    @property
    def recipe(self) -> Recipe:
        """Rates at which the first updates go down and do not shake."""
        return Recipe(
            lr=5e-3,
            base_width=self.base_width,
            batch_tokens=self.batch_tokens,
            warmup_steps=1,
            scale_emb=2.0,
        )

    @property
    def trunk(self) -> Trunk:
        """The trunk that every contender trains."""
        return Trunk(model=self.model, recipe=self.recipe, stream="-", init_seed=0, data_seed=0)

    def batches(self) -> np.ndarray:
        """Token ids (batch, row, context + 1): bytes of Python's standard library."""
        need = BATCHES * self.batch_tokens + 1
        text = b""
        for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
            text += path.read_bytes()
            if len(text) >= need:
                break
        tokens = np.frombuffer(text, dtype=np.uint8)[:need].astype(np.int64)
        table = np.lib.stride_tricks.sliding_window_view(tokens, self.context + 1)[:: self.context]
        return np.ascontiguousarray(table).reshape(BATCHES, self.rows, self.context + 1)


# Widths and depths of a CPU study; head size 64, the size of full models, once.
CPU_LADDER = (
    *(Shape(width=w, depth=d) for w, d in ((32, 3), (48, 2), (64, 4), (96, 3), (128, 4))),
    *(Shape(width=w, depth=d) for w, d in ((128, 8), (256, 4))),
    Shape(width=256, depth=4, head_dim=64),
)

# MiniCPM's ladder from 9M to 0.5B (arXiv 2404.06395, Table 8) and its base width.
CUDA_LADDER = tuple(
    Shape(width=w, depth=d, head_dim=64, rows=16, context=1024, base_width=256)
    for w, d in ((320, 8), (512, 12), (640, 14), (768, 16), (896, 18), (1024, 20), (1344, 24))
)


def ladder() -> tuple[Shape, ...]:
    """The rungs to measure on this machine."""
    return CUDA_LADDER if torch.cuda.is_available() else CPU_LADDER


def rung(name: str) -> Shape:
    """The rung of that name."""
    return next(shape for shape in ladder() if shape.name == name)


def usual_precision() -> Precision:
    """What a study trains in where it does not say."""
    return "bf16" if torch.cuda.is_available() else "fp32"


def device() -> str:
    """Where every contender trains: a CUDA device where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def settle() -> None:
    """Wait for what the device still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
