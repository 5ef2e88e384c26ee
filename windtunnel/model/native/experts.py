"""The feed-forward of a layer with experts, forward and backward, by our own kernels.

This is `ExpertBlock.feed_forward` and its autograd written out; tests keep the two equal.
"""

from torch import Tensor

from windtunnel.config.experts import ExpertFields
from windtunnel.config.shape import DenseSpec
from windtunnel.model.experts import ExpertBlock
from windtunnel.model.native.kernels import Buffers, Layer, Program, RoutedBuffers
from windtunnel.model.routing import Routing


class NativeExperts:
    """Records the calls of every layer's experts; `weights` has the matrices by name.

    Parameters and their gradients must not move in memory from here on.
    """

    def __init__(
        self, spec: DenseSpec, fields: ExpertFields, routing: Routing, work: Buffers, layers: int
    ) -> None:
        self.spec, self.fields, self.routing, self.work = spec, fields, routing, work
        self.inner = spec.ffn_width // fields.granularity
        self.routed = RoutedBuffers(spec, fields, work.tokens, layers)

    def begin(self) -> None:
        """Read how the update is cut."""
        self.routed.part.fill_(self.routing.part)
        self.routed.is_fixed.fill_(self.routing.shares_LE is not None)
        if self.routing.shares_LE is not None:
            self.routed.shares_LE.copy_(self.routing.shares_LE)

    def count(self) -> None:
        """Count the batch."""
        for layer in range(self.spec.depth):
            self.routing.add(
                layer,
                self.routed.counts_LE[layer],
                self.routed.entropy_L[layer],
                self.work.tokens,
            )

    def forward(self, to: Program, block: ExpertBlock, saved: Layer) -> None:
        """Append the feed-forward: from `saved.normed_ffn` to `work.delta`."""
        work, own = self.work, self.routed.layer(block.number)
        width, experts = self.spec.width, self.fields.experts
        shape = (work.tokens, self.fields.top_k, width)
        if experts > 1:
            to.product(own.probability, saved.normed_ffn, block.router.t())
        to.call(
            "route", own.probability, block.sites.logits,
            block.balance_bias if block.follows_load else None, own.chosen, own.gates, own.log_sum,
            self.routed.counts_LE[block.number], own.start, own.place,
            self.routed.entropy_L[block.number :], work.tokens, experts, self.fields.top_k,
            self.fields.normalise_gates,
        )  # fmt: skip
        to.call("gather", saved.normed_ffn, own.place, own.gathered, *shape)
        self._of_rows(to, own.gate_up, own.gathered, block.gate_up.transpose(1, 2), own.start)
        to.call("swiglu", own.gate_up, own.hidden, len(own.hidden), self.inner)
        self._of_rows(to, own.out, own.hidden, block.down.transpose(1, 2), own.start)
        if self.fields.shared_experts:
            to.product(own.shared_gate_up, saved.normed_ffn, block.shared_gate_up.t())
            to.call("swiglu", own.shared_gate_up, own.shared_hidden, *own.shared_hidden.shape)
            to.product(work.delta, own.shared_hidden, block.shared_down.t())
        to.call(
            "combine", own.out, own.place, own.gates, work.delta, *shape,
            bool(self.fields.shared_experts),
        )  # fmt: skip

    def backward(self, to: Program, block: ExpertBlock, saved: Layer) -> None:
        """Append the gradient: from `work.dx_cast` to `work.dnormed`."""
        work, all_layers, fields = self.work, self.routed, self.fields
        own, residual = all_layers.layer(block.number), block.sites.residual
        shape = (work.tokens, fields.top_k, self.spec.width)
        to.call(
            "combine_backward", work.dx_cast, own.place, own.gates, residual, own.out,
            all_layers.dgates, *shape,
        )  # fmt: skip
        to.call(
            "products_over_rows", block.down.grad, own.out, own.hidden, residual, own.start,
            *block.down.shape,
        )  # fmt: skip
        self._of_rows(to, all_layers.dhidden, own.out, block.down, own.start)
        to.call(
            "swiglu_backward", all_layers.dhidden, residual, own.gate_up, len(own.gate_up),
            self.inner,
        )  # fmt: skip
        to.call(
            "products_over_rows", block.gate_up.grad, own.gate_up, own.gathered, 1.0, own.start,
            *block.gate_up.shape,
        )  # fmt: skip
        self._of_rows(to, all_layers.dgathered, own.gate_up, block.gate_up, own.start)
        to.call("combine", all_layers.dgathered, own.place, None, work.dnormed, *shape, False)
        if fields.shared_experts:
            add(to, block.shared_down, work.dx_cast, own.shared_hidden, residual)
            to.product(all_layers.dshared, work.dx_cast, block.shared_down)
            to.call(
                "swiglu_backward", all_layers.dshared, residual, own.shared_gate_up,
                *own.shared_hidden.shape,
            )  # fmt: skip
            add(to, block.shared_gate_up, own.shared_gate_up, saved.normed_ffn)
            to.add_product(work.dnormed, own.shared_gate_up, block.shared_gate_up, 1.0)
        if fields.experts > 1:
            to.call(
                "route_backward", own.probability, own.chosen, own.gates, all_layers.dgates,
                own.log_sum, all_layers.counts_LE[block.number], all_layers.is_fixed,
                all_layers.shares_LE[block.number], all_layers.part, fields.balance_weight or 0.0,
                fields.z_loss, all_layers.dlogits, work.tokens, fields.experts, fields.top_k,
                fields.normalise_gates,
            )  # fmt: skip
            add(to, block.router, all_layers.dlogits, saved.normed_ffn, block.sites.logits)
            to.add_product(work.dnormed, all_layers.dlogits, block.router, block.sites.logits)

    def _of_rows(
        self, to: Program, out: Tensor, rows: Tensor, matrix_EIO: Tensor, start: Tensor
    ) -> None:
        """Append out = rows x the matrix of their expert."""
        experts, inputs, outputs = matrix_EIO.shape
        to.call(
            "products_of_rows", out, rows, matrix_EIO, *matrix_EIO.stride(), start, experts,
            outputs, inputs,
        )  # fmt: skip


def add(to: Program, matrix: Tensor, out_MO: Tensor, in_MI: Tensor, factor: float = 1.0) -> None:
    """Append the gradient of a matrix, factor x out^T in, summed over the tokens M."""
    assert matrix.grad is not None
    to.add_product(matrix.grad, out_MO.t(), in_MI, factor)
