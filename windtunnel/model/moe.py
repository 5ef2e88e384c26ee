"""The family `minicpm-moe`: MiniCPM's decoder with a mixture of experts (arXiv 2404.06395, 7.3)."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from windtunnel import accounting
from windtunnel.config.experts import ExpertFields
from windtunnel.config.shape import DenseSpec
from windtunnel.errors import Refused
from windtunnel.family import Facts, Shape, Value
from windtunnel.model import decoder, experts
from windtunnel.model.experts import ExpertDecoder
from windtunnel.model.family import Family
from windtunnel.mup import EVERY_SITE, Role, SiteMultipliers, SiteName

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
    Fields = ExpertFields

    def fields(self, given: Mapping[str, Value], *, width: int, depth: int) -> dict[str, Value]:
        """The mixture's fields, and those of the dense decoder.

        Raises:
            Refused: A field or value that it does not know, or fields that contradict each other.
        """
        own = {name: value for name, value in given.items() if name not in self.takes}
        checked = super().fields(own, width=width, depth=depth)
        fields = ExpertFields.model_validate(checked)
        if fields.top_k > fields.experts:
            raise Refused(
                "out-of-range",
                f"top_k = {fields.top_k} of {fields.experts} experts: a token cannot choose more "
                "experts than there are; lower top_k, or raise experts",
                field="top_k",
                value=fields.top_k,
                most=fields.experts,
            )
        if fields.top_k == 1 < fields.experts and fields.normalise_gates:
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
            if fields.balance == needed:
                checked[name] = default if checked[name] is None else checked[name]
            elif checked[name] is not None:
                raise Refused(
                    "contradicting-keys",
                    f"{name} with balance: {fields.balance}, which has none; leave it out, or "
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
        spec, fields = parts_of(shape)
        inner = spec.ffn_width // fields.granularity

        def params(experts: int) -> int:
            widths = (experts + fields.shared_experts) * inner
            return spec.depth * of_router + accounting.non_embedding_params(
                width=spec.width,
                depth=spec.depth,
                head_dim=spec.head_dim,
                kv_heads=spec.kv_heads,
                ffn_width=widths,
                qk_norm=spec.qk_norm,
            )

        choices = fields.experts if fields.experts > 1 else 0
        of_router = choices * (spec.width + (fields.balance == "bias"))
        flops = accounting.exact_flops_per_token(
            width=spec.width,
            depth=spec.depth,
            head_dim=spec.head_dim,
            kv_heads=spec.kv_heads,
            ffn_width=(fields.top_k + fields.shared_experts) * inner,
            vocab_size=spec.vocab_size,
            context=spec.context,
        )
        router = 2 * spec.depth * choices * spec.width
        roles = {*spec.roles, Role.ROUTER} if choices else {*spec.roles}
        return Facts(
            params=params(fields.experts),
            params_embedding=spec.params_embedding,
            params_active=params(fields.top_k),
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


def parts_of(shape: Shape) -> tuple[DenseSpec, ExpertFields]:
    """The dense decoder whose feed-forwards the experts replace, and the experts.

    Raises:
        Refused: The shape is none of the dense decoder, or its experts have no whole width.
    """
    values = dict(shape.fields)
    fields = ExpertFields.model_validate(
        {name: values.pop(name) for name in ExpertFields.model_fields}
    )
    rope_base = values.pop("rope_theta")
    spec = DenseSpec.model_validate(
        values
        | {
            "rope_base": rope_base,
            "width": shape.width,
            "depth": shape.depth,
            "vocab_size": shape.vocab_size,
            "context": shape.context,
        }
    )
    if spec.ffn_width % fields.granularity:
        raise Refused(
            "not-a-multiple",
            f"granularity = {fields.granularity} does not divide the feed-forward's "
            f"{spec.ffn_width} units at width {spec.width}; change it or ffn_ratio",
            granularity=fields.granularity,
            ffn_width=spec.ffn_width,
        )
    return spec, fields
