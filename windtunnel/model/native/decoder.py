"""Loss and gradients of a decoder on one CPU core, by our own kernels.

This is `Decoder.forward` and its autograd written out; tests keep the two equal. An update records
no graph and allocates nothing: every buffer and every call is made once per batch shape.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from windtunnel.config.shape import NORM_EPS, DenseSpec
from windtunnel.errors import DataError
from windtunnel.model.decoder import Block, Stack
from windtunnel.model.experts import ExpertBlock, ExpertDecoder
from windtunnel.model.native.experts import NativeExperts, add
from windtunnel.model.native.kernels import Buffers, Layer, Program, function

WHOLE_HEAD = 16
"""Head sizes are whole vectors of the widest processor."""

LARGEST_HEAD = 512


def supports(spec: DenseSpec) -> bool:
    """Whether the kernels support this shape."""
    return spec.head_dim % WHOLE_HEAD == 0 and spec.head_dim <= LARGEST_HEAD


class NativePass:
    """Forward pass of one batch shape, and with `gradient` its backward pass, by native kernels.

    The backward pass adds to the `grad` of the model's parameters. Parameters and their gradients
    must not move in memory from here on.
    """

    def __init__(
        self,
        model: Stack,
        precision: Literal["fp32", "bf16"],
        sequences: int,
        *,
        gradient: bool,
    ) -> None:
        self.model, self.sites, self.gradient = model, model.sites, gradient
        self.before_loss, self.after_loss = Program(precision), Program(precision)
        layers = model.spec.depth if gradient else 1
        self.experts: NativeExperts | None = None
        is_dense = not isinstance(model, ExpertDecoder)
        self.work = Buffers(
            model.spec, sequences, layers, self.before_loss.type, with_feed_forward=is_dense
        )
        if isinstance(model, ExpertDecoder):
            self.experts = NativeExperts(model.spec, model.fields, model.routing, self.work, layers)
        self.weights = self._cast_weights()
        self._forward(self.before_loss)
        self.summed_loss = self.before_loss.bind(
            "cross_entropy", self.work.rows, self.work.logits, gradient, self.work.row_of_logits,
            sequences, model.spec.context, model.spec.vocab_size,
        )  # fmt: skip
        if gradient:
            self._backward(self.after_loss)

    def run(self, rows: Tensor, share: float = 0.0) -> float:
        """Mean nats per token of (B, T + 1) token ids; adds `share` times its gradient.

        Ids may carry a loss mask (`model.decoder`): a masked prediction counts as 0 nats.

        Raises:
            DataError: A token id is outside the vocabulary, which the kernels do not check.
        """
        lowest, highest = (int(extreme) for extreme in torch.aminmax(rows))
        vocabulary, largest = self.model.spec.vocab_size, max(highest, ~lowest)
        if largest >= vocabulary:
            raise DataError(
                "out-of-range",
                f"token id {largest} in a batch: ids of this model are "
                f"0 to {vocabulary - 1}; check data.vocab_size and the token files",
                token=largest,
                vocab_size=vocabulary,
            )
        self.work.rows.copy_(rows)
        if self.experts is not None:
            self.experts.begin()
        with torch.no_grad():
            self.before_loss.run()
            summed = self.summed_loss(share / self.work.tokens)
            self.after_loss.run()
        if self.experts is not None and (self.gradient or self.experts.routing.counts):
            self.experts.count()
        return summed / self.work.tokens

    def _cast_weights(self) -> dict[str, Tensor]:
        """Matrices by name in the dtype of matrix products; every run copies them again."""
        program = self.before_loss
        matrices = {n: p.detach() for n, p in self.model.named_parameters() if p.dim() == 2}
        if program.type is torch.float32:
            return matrices
        cast = {name: matrix.to(program.type) for name, matrix in matrices.items()}
        program.copies(list(matrices.values()), list(cast.values()))
        return cast

    def _forward(self, to: Program) -> None:
        model, sites, work = self.model, self.sites, self.work
        to.call("embed", work.rows, model.embedding, sites.embed, work.x, *work.row_shape)
        x, delta, alpha = work.x, None, 0.0
        for number, block in enumerate(model.layers):
            saved, name = work.layer(number), f"blocks.{number}."
            to.call(
                "add_norm", x, delta, alpha, block.norm_attention, 1.0, NORM_EPS,
                saved.x, saved.normed, saved.inverse, *work.stream_shape,
            )  # fmt: skip
            to.product(saved.qkv, saved.normed, self.weights[name + "qkv"].t())
            to.call(
                "split_heads", saved.qkv, *_gains(block), NORM_EPS, model.cos_TK, model.sin_TK,
                saved.heads, *work.head_shape,
            )  # fmt: skip
            to.call(
                "attention", saved.heads, sites.attention, saved.largest, saved.inverse_sum,
                saved.mixed, work.scratch, *work.head_shape,
            )  # fmt: skip
            to.product(work.delta, saved.mixed, self.weights[name + "out"].t())
            to.call(
                "add_norm", saved.x, work.delta, sites.residual, block.norm_ffn, 1.0, NORM_EPS,
                saved.middle, saved.normed_ffn, saved.inverse_ffn, *work.stream_shape,
            )  # fmt: skip
            self._feed_forward(to, block, saved, name)
            x, delta, alpha = saved.middle, work.delta, sites.residual
        to.call(
            "add_norm", x, delta, alpha, model.norm_final, sites.logits, NORM_EPS,
            work.x, work.normed, work.inverse, *work.stream_shape,
        )  # fmt: skip
        to.product(work.logits, work.normed, self.weights[self._readout].t())

    def _feed_forward(self, to: Program, block: Block, saved: Layer, name: str) -> None:
        if self.experts is not None and isinstance(block, ExpertBlock):
            return self.experts.forward(to, block, saved)
        to.product(saved.gate_up, saved.normed_ffn, self.weights[name + "gate_up"].t())
        to.call("swiglu", saved.gate_up, saved.hidden, self.work.tokens, block.spec.ffn_width)
        to.product(self.work.delta, saved.hidden, self.weights[name + "down"].t())

    def _feed_forward_backward(self, to: Program, block: Block, saved: Layer, name: str) -> None:
        if self.experts is not None and isinstance(block, ExpertBlock):
            return self.experts.backward(to, block, saved)
        work, residual = self.work, self.sites.residual
        self._add(to, name + "down", work.dx_cast, saved.hidden, residual)
        to.product(work.dhidden, work.dx_cast, self.weights[name + "down"])
        to.call(
            "swiglu_backward", work.dhidden, residual, saved.gate_up, work.tokens,
            block.spec.ffn_width,
        )  # fmt: skip
        self._add(to, name + "gate_up", saved.gate_up, saved.normed_ffn)
        to.product(work.dnormed, saved.gate_up, self.weights[name + "gate_up"])

    @property
    def _readout(self) -> str:
        return "embedding" if self.model.spec.tied else "readout"

    def _backward(self, to: Program) -> None:
        model, sites, work = self.model, self.sites, self.work
        to.call("clear", work.dx, work.dx.numel())
        self._add(to, self._readout, work.logits, work.normed)
        to.product(work.dnormed, work.logits, self.weights[self._readout])
        self._norm(to, work.x, model.norm_final, sites.logits, work.inverse)
        for number, block in reversed(list(enumerate(model.layers))):
            saved, name = work.layer(number), f"blocks.{number}."
            self._feed_forward_backward(to, block, saved, name)
            self._norm(to, saved.middle, block.norm_ffn, 1.0, saved.inverse_ffn)
            self._add(to, name + "out", work.dx_cast, saved.mixed, sites.residual)
            to.product(work.dmixed, work.dx_cast, self.weights[name + "out"])
            self._attention(to, block, saved)
            self._add(to, name + "qkv", work.dqkv, saved.normed)
            to.product(work.dnormed, work.dqkv, self.weights[name + "qkv"])
            self._norm(to, saved.x, block.norm_attention, 1.0, saved.inverse)
        to.call(
            "embed_backward", work.rows, work.dx, sites.embed, model.embedding.grad, *work.row_shape
        )

    def _add(
        self, to: Program, name: str, out_MO: Tensor, in_MI: Tensor, factor: float = 1.0
    ) -> None:
        """Append the gradient of a matrix, factor x out^T in, summed over the tokens M."""
        add(to, self.model.get_parameter(name), out_MO, in_MI, factor)

    def _norm(self, to: Program, x: Tensor, gain: Tensor, factor: float, inverse: Tensor) -> None:
        work = self.work
        cast = None if work.dx_cast is work.dx else work.dx_cast
        to.call(
            "norm_backward", work.dnormed, x, gain, factor, inverse, work.dx, cast, gain.grad,
            *work.stream_shape,
        )  # fmt: skip

    def _attention(self, to: Program, block: Block, saved: Layer) -> None:
        model, sites, work = self.model, self.sites, self.work
        gains = _gains(block)
        to.call(
            "attention_backward", saved.heads, saved.qkv, work.dmixed, sites.residual,
            sites.attention, *gains, NORM_EPS, *(None if g is None else g.grad for g in gains),
            model.cos_TK, model.sin_TK, saved.largest, saved.inverse_sum,
            work.dqkv, work.scratch, *work.head_shape,
        )  # fmt: skip


def adamw(
    weights: Tensor,
    gradients: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    group: dict[str, Any],
    factor: float,
    step: int,
) -> None:
    """Apply AdamW update number `step` (from 1) to flat fp32 tensors, in place.

    Learning rate, betas, eps and weight decay come from torch's parameter `group`. Gradients are
    multiplied by `factor` (the clip), then set to zero. Loshchilov and Hutter (arXiv 1711.05101).
    """
    beta1, beta2 = group["betas"]
    function("adamw", "fp32")(
        *(each.data_ptr() for each in (weights, gradients, first, second)), factor, group["lr"],
        beta1, beta2, group["eps"], group["weight_decay"], 1.0 - beta1**step, 1.0 - beta2**step,
        weights.numel(),
    )  # fmt: skip


def _gains(block: Block) -> tuple[Tensor | None, Tensor | None]:
    return (block.norm_q, block.norm_k) if block.spec.qk_norm else (None, None)
