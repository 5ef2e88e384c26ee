"""The family minicpm-moe with one planted fault each."""

from dataclasses import replace

from windtunnel.model.moe import MiniCpmMoe


class CostsAll(MiniCpmMoe):
    """Counts the FLOPs of every expert."""

    def facts(self, shape):
        found = super().facts(shape)
        return replace(found, flops_exact_per_token=2 * found.flops_exact_per_token)


class ForgetsExperts(MiniCpmMoe):
    """Counts the experts of one token as all."""

    def facts(self, shape):
        found = super().facts(shape)
        return replace(found, params=found.params_active)


class UnscaledRouter(MiniCpmMoe):
    """A router whose logits grow with the width."""

    def build(self, shape, sites):
        network = super().build(shape, sites)
        for block in network.expert_blocks:
            block.sites = replace(block.sites, logits=1.0)
        return network
