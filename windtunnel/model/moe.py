"""The family `minicpm-moe`: MiniCPM's decoder with a mixture of experts (arXiv 2404.06395, 7.3)."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from windtunnel import accounting
from windtunnel.config.shape import DenseSpec
from windtunnel.errors import Refused
from windtunnel.family import Facts, Shape, Value
from windtunnel.model import decoder, experts
from windtunnel.model.experts import ExpertDecoder, Mixture
from windtunnel.model.family import Family
from windtunnel.mup import EVERY_SITE, Role, SiteMultipliers, SiteName

OF_MIXTURE = frozenset(Mixture.model_fields)
SWITCH_WEIGHT = 0.01
"""MiniCPM-MoE's."""
BIAS_RATE = 1e-3
"""Of the authors' runs (arXiv 2408.15664)."""


class Dense(BaseModel):
    """Shape fields of the study that the dense decoder has."""

    head_dim: int
    ffn_ratio: float
    heads_per_kv: int
    kv_heads: int | None
    tied: bool
    qk_norm: bool
    rope_base: float


class MiniCpmMoe(Family):
    """MiniCPM's decoder with experts in place of each feed-forward."""

    version = "1"
    sites = EVERY_SITE
    takes = frozenset(Dense.model_fields)
    fixed = frozenset({"experts", "top_k", "shared_experts", "granularity"})
    Fields = Mixture

    def fields(self, given: Mapping[str, Value], *, width: int, depth: int) -> dict[str, Value]:
        """The mixture's fields, and those of the dense decoder.

        Raises:
            Refused: A field or value that it does not know, or fields that contradict each other.
        """
        own = {name: value for name, value in given.items() if name not in self.takes}
        checked = super().fields(own, width=width, depth=depth)
        mixture = Mixture.model_validate(checked)
        if mixture.top_k > mixture.experts:
            raise Refused(
                "out-of-range",
                f"top_k = {mixture.top_k} of {mixture.experts} experts: a token cannot choose more "
                "experts than there are; lower top_k, or raise experts",
                field="top_k",
                value=mixture.top_k,
                most=mixture.experts,
            )
        if mixture.top_k == 1 < mixture.experts and mixture.normalise_gates:
            raise Refused(
                "contradicting-keys",
                "top_k = 1 with normalised gates: every gate is 1, and no router learns from the "
                "text; write normalise_gates: false, or a larger top_k",
                keys=["top_k", "normalise_gates"],
            )
        for name, needed, default in (
            ("balance_weight", "switch", SWITCH_WEIGHT),
            ("bias_rate", "bias", BIAS_RATE),
        ):
            if mixture.balance == needed:
                checked[name] = default if checked[name] is None else checked[name]
            elif checked[name] is not None:
                raise Refused(
                    "contradicting-keys",
                    f"{name} with balance: {mixture.balance}, which has none; leave it out, or "
                    f"write balance: {needed}",
                    keys=[name, "balance"],
                )
        of_dense = Dense.model_validate({name: given[name] for name in self.takes})
        heads = width // of_dense.head_dim
        return checked | {
            "head_dim": of_dense.head_dim,
            "kv_heads": of_dense.kv_heads or max(1, heads // of_dense.heads_per_kv),
            "ffn_ratio": of_dense.ffn_ratio,
            "tied": of_dense.tied,
            "qk_norm": of_dense.qk_norm,
            "rope_theta": of_dense.rope_base,
        }

    def facts(self, shape: Shape) -> Facts:
        """Counts by arithmetic: a token passes through all but the experts that it does not choose.

        Raises:
            Refused: The shape is none of the dense decoder, or its experts have no whole width.
        """
        spec, mixture = parts_of(shape)
        inner = spec.ffn_width // mixture.granularity

        def params(experts: int) -> int:
            widths = (experts + mixture.shared_experts) * inner
            return spec.depth * of_router + accounting.non_embedding_params(
                width=spec.width,
                depth=spec.depth,
                head_dim=spec.head_dim,
                kv_heads=spec.kv_heads,
                ffn_width=widths,
                qk_norm=spec.qk_norm,
            )

        choices = mixture.experts if mixture.experts > 1 else 0
        of_router = choices * (spec.width + (mixture.balance == "bias"))
        flops = accounting.exact_flops_per_token(
            width=spec.width,
            depth=spec.depth,
            head_dim=spec.head_dim,
            kv_heads=spec.kv_heads,
            ffn_width=(mixture.top_k + mixture.shared_experts) * inner,
            vocab_size=spec.vocab_size,
            context=spec.context,
        )
        router = 2 * spec.depth * choices * spec.width
        roles = {*spec.roles, Role.ROUTER} if choices else {*spec.roles}
        return Facts(
            params=params(mixture.experts),
            params_embedding=spec.params_embedding,
            params_active=params(mixture.top_k),
            flops_exact_per_token=flops + accounting.BACKWARD_FACTOR * router,
            roles=tuple(role for role in Role if role in roles),
            sites=tuple(sorted(self.sites)),
        )

    def build(self, shape: Shape, sites: Mapping[SiteName, float]) -> ExpertDecoder:
        """The decoder with its experts."""
        return ExpertDecoder(
            *parts_of(shape),
            SiteMultipliers(**{str(name): factor for name, factor in sites.items()}),
        )

    def roles(self, network: nn.Module) -> dict[str, Role]:
        """The role that each parameter was registered under."""
        assert isinstance(network, ExpertDecoder)
        return network.roles()

    def source_files(self) -> tuple[Path, ...]:
        """This file, and those of the decoder and its experts."""
        return (Path(__file__), Path(decoder.__file__), Path(experts.__file__))


def parts_of(shape: Shape) -> tuple[DenseSpec, Mixture]:
    """The dense decoder whose feed-forwards the experts replace, and the experts.

    Raises:
        Refused: The shape is none of the dense decoder, or its experts have no whole width.
    """
    fields = dict(shape.fields)
    mixture = Mixture.model_validate({name: fields.pop(name) for name in OF_MIXTURE})
    rope_base = fields.pop("rope_theta")
    spec = DenseSpec.model_validate(
        fields
        | {
            "rope_base": rope_base,
            "width": shape.width,
            "depth": shape.depth,
            "vocab_size": shape.vocab_size,
            "context": shape.context,
        }
    )
    if spec.ffn_width % mixture.granularity:
        raise Refused(
            "not-a-multiple",
            f"granularity = {mixture.granularity} does not divide the feed-forward's "
            f"{spec.ffn_width} units at width {spec.width}; change it or ffn_ratio",
            granularity=mixture.granularity,
            ffn_width=spec.ffn_width,
        )
    return spec, mixture
