"""Warnings of a Handoff beyond those of its fit."""

import math
from collections.abc import Iterator, Sequence

from windtunnel.config import DenseSpec, FamilySpec, ModelSpec, Recipe
from windtunnel.errors import Diagnostic
from windtunnel.export.handoff import Steps, Winner
from windtunnel.export.request import StudyRecords
from windtunnel.family import MINICPM
from windtunnel.runs.points import StudyContext
from windtunnel.runs.study_files import read_checks

ROUNDED = 0.02
"""Relative difference of a winner's value and the same value as a person writes it down."""

LONG_WARMUP = 0.1
"""Of all updates (assumed: MiniCPM's launchers take at most so much)."""


def shape_diagnostics(study_context: StudyContext, model: ModelSpec) -> Iterator[Diagnostic]:
    """Warnings where the target is not of the measured model family."""
    sizes = study_context.config.model.sizes
    family = [
        study_context.config.model.spec(size, vocab_size=study_context.vocab_size) for size in sizes
    ]
    proxy = family[0]
    head_dim, studied = model.attention_dim, proxy.attention_dim
    if head_dim != studied and "attention" in model.sites:
        yield Diagnostic(
            "head-size",
            f"head_dim is {head_dim}, {studied} in the study: the attention "
            f"multiplier is sqrt({studied}) / {head_dim} instead of 1 / "
            f"sqrt({head_dim}), which keeps the softmax's logits (Tensor Programs V); that "
            "was not measured here",
            head_dim=head_dim,
            studied=studied,
        )
    fields = ("context", "vocab_size", "ffn_ratio", "tied", "qk_norm", "rope_base")
    differing = [
        f"{name} {getattr(model, name)} (study: {getattr(proxy, name)})"
        for name in fields
        if getattr(model, name, None) != getattr(proxy, name, None)
    ]
    kv_heads = study_context.config.model.kv_heads
    if isinstance(model, DenseSpec) and kv_heads is not None and model.kv_heads != kv_heads:
        differing.append(f"kv_heads {model.kv_heads} (study: {kv_heads})")
    differing += [
        f"{name} {value!r} (study: {theirs!r})"
        for name, (value, theirs) in of_families(model, family).items()
    ]
    if kv_heads is None and model.kv_group != proxy.kv_group:
        differing.append(f"heads per kv head {model.kv_group:g} (study: {proxy.kv_group:g})")
    if differing:
        yield Diagnostic(
            "shape-differs",
            f"the law was measured on another architecture: {', '.join(differing)}",
            differing=differing,
        )
    depths = [each.depth for each in family]
    if not min(depths) <= model.depth <= max(depths):
        trained = " to ".join(map(str, dict.fromkeys((min(depths), max(depths)))))
        yield Diagnostic(
            "depth-beyond",
            f"{model.depth} layers; the study trained {trained}, and rates transfer less "
            "well over depth than over width (arXiv 2404.06395, section 3.1)",
            depth=model.depth,
            studied=[min(depths), max(depths)],
        )


def of_families(model: ModelSpec, studied: Sequence[ModelSpec]) -> dict[str, tuple[object, object]]:
    """The family, or its given fields, where the target has another than every studied size."""
    mine, theirs = _given(model), [_given(each) for each in studied]
    shared = {
        name: value
        for name, value in theirs[0].items()
        if all(each.get(name) == value for each in theirs)
    }
    return {
        name: (mine.get(name), shared.get(name))
        for name in sorted(shared | mine)
        if mine.get(name) != shared.get(name) and (name in shared or name not in theirs[0])
    }


def _given(model: ModelSpec) -> dict[str, object]:
    """The name and given fields of another family than the built-in one."""
    if not isinstance(model, FamilySpec):
        return {"family": MINICPM}
    return {"family": model.family, **model.given}


def recipe_diagnostics(
    studies: Sequence[StudyRecords],
    recipe: Recipe,
    model: ModelSpec,
    steps: Steps,
) -> Iterator[Diagnostic]:
    """Warnings where the recipe may not transfer: parametrization, its checks, warmup."""
    kept = [
        check
        for each in studies
        for check in read_checks(each.study.folder)
        if check["parametrization"] == recipe.parametrization
    ]
    if recipe.parametrization == "standard" and model.width != recipe.base_width:
        yield Diagnostic(
            "standard-parametrization",
            "the study's parametrization is `standard`: its rate was tuned at width "
            f"{recipe.base_width} and does not carry over to {model.width}",
            base_width=recipe.base_width,
            width=model.width,
        )
    elif not kept:
        yield Diagnostic(
            "transfer-unchecked",
            "no coordinate check of this family was kept: `windtunnel check mup` tells "
            "whether its rates carry over to other widths",
        )
    elif not all(check["passed"] for check in kept):
        yield Diagnostic(
            "transfer-failed",
            "a coordinate check of this family failed: its activations change with "
            "width, and so may its best rates",
        )
    over_depth = [depths for check in kept if (depths := check.get("depth"))]
    deepest = max(_deepest(each) for each in studies)
    if model.depth > deepest and not all(depths["passed"] for depths in over_depth):
        yield Diagnostic(
            "depth-transfer-failed",
            f"a coordinate check over depth failed under {recipe.parametrization}: layers change "
            f"with depth, and so may the best rates; the target has {model.depth} layers, the "
            f"study {deepest} at most. Export {deepest} layers, or measure the rate over depth by "
            "a grid over recipe.lr; `recipe.parametrization: completep` has rules over depth",
            depth=model.depth,
            studied=deepest,
            parametrization=recipe.parametrization,
        )
    if steps.warmup > LONG_WARMUP * steps.end:
        yield Diagnostic(
            "warmup-long",
            f"{steps.warmup} of {steps.end} updates are warmup: it is kept in updates as "
            "the study has it, however large the batch; take a smaller batch or more tokens",
            warmup=steps.warmup,
            updates=steps.end,
        )


def _deepest(records: StudyRecords) -> int:
    """Most layers of a study's sizes."""
    family, vocab_size = records.study.config.model, records.study.study_context.vocab_size
    return max(family.spec(size, vocab_size=vocab_size).depth for size in family.sizes)


def winner_diagnostics(
    winners: Sequence[Winner], recipe: dict[str, object]
) -> Iterator[Diagnostic]:
    """Warnings where a search found other values than the recipe's, or set them."""
    for winner in winners:
        if winner.applied:
            yield Diagnostic(
                "winner-applied",
                f"the recipe has the values of search {winner.experiment} of "
                f"{winner.study}; the law, and so the forecast, was measured with the study's own",
                experiment=winner.experiment,
                study=winner.study,
            )
        differing = [
            f"{axis} {value:g} (recipe: {recipe[axis]:g})"
            if isinstance(value, float)
            else f"{axis} {value} (recipe: {recipe[axis]})"
            for axis, value in winner.values.items()
            if axis in recipe and not _same(recipe[axis], value)
        ]
        if differing:
            yield Diagnostic(
                "winner-differs",
                f"search {winner.experiment} of {winner.study} found "
                f"{', '.join(differing)}; the law was measured with the recipe, which is what is "
                f"exported unless --winner {winner.experiment} is given",
                experiment=winner.experiment,
                study=winner.study,
                differing=differing,
            )


def _same(written: object, found: object) -> bool:
    """Whether the recipe has the winner's value, but for rounding."""
    if isinstance(written, float) and isinstance(found, float | int):
        return math.isclose(written, found, rel_tol=ROUNDED)
    return written == found
