"""A list of kernel calls with every address filled in: recorded once, run at every update."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from windtunnel.model.native.library import function


class Program:
    """Calls in order. The tensors behind their addresses are kept, and must never be moved."""

    def __init__(self, precision: Literal["fp32", "bf16"]) -> None:
        self.precision = precision
        self.type = torch.bfloat16 if precision == "bf16" else torch.float32
        self._calls: list[Callable[[], Any]] = []
        self._kept: list[Tensor] = []

    def run(self) -> None:
        """Make every call."""
        for call in self._calls:
            call()

    def bind(self, kernel: str, *arguments: Tensor | float | None) -> Callable[..., float]:
        """A kernel with its first arguments; the others are given at the call."""
        tensors = [each for each in arguments if isinstance(each, Tensor)]
        self._kept += tensors
        plain = [each.data_ptr() if isinstance(each, Tensor) else each for each in arguments]
        return functools.partial(function(kernel, self.precision), *plain)

    def call(self, kernel: str, *arguments: Tensor | float | None) -> None:
        """Add a kernel; tensors are passed by their address."""
        self._calls.append(self.bind(kernel, *arguments))

    def product(self, out: Tensor, left: Tensor, right: Tensor) -> None:
        """Add out = left @ right."""
        if self.type is torch.float32:
            self._own_product(out, left, right, factor=1.0, add=False)
        else:
            self._calls.append(functools.partial(torch.mm, left, right, out=out))

    def add_product(self, out: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
        """Add out += factor left @ right, where `out` is fp32 whatever the operands are."""
        if self.type is torch.float32:
            self._own_product(out, left, right, factor=factor, add=True)
        else:
            found = torch.empty(out.shape, dtype=self.type)
            self.product(found, left, right)
            self._calls.append(functools.partial(out.add_, found, alpha=factor))

    def copies(self, sources: list[Tensor], targets: list[Tensor]) -> None:
        """Add copies between tensors, across types."""
        self._calls.append(functools.partial(torch._foreach_copy_, targets, sources))

    def _own_product(
        self, out: Tensor, left: Tensor, right: Tensor, *, factor: float, add: bool
    ) -> None:
        rows, depth = left.shape
        self.call(
            "product", out, out.stride(0), left, *left.stride(), right, *right.stride(),
            rows, right.shape[1], depth, factor, add,
        )  # fmt: skip
