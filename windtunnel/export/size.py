"""The target's shape and tokens: as requested, or from the law."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from windtunnel.config import ModelSpec, Size
from windtunnel.config.model import ModelFamily
from windtunnel.config.yaml import read_tree
from windtunnel.errors import ConfigError, Diagnostic, did_you_mean
from windtunnel.export.request import Request
from windtunnel.family import MINICPM, load_family
from windtunnel.laws import Fit, optimum
from windtunnel.runs.points import StudyContext

MOST_WIDTHS = 1000
"""Around the requested size; more are tried in larger steps."""
AROUND = 3
"""Widths to either side of the requested size that are built, of a family whose counts are slow."""
CLOSE = 0.05
"""Relative error of a size that needs no warning."""
EXAMPLE = (
    "write one as a study file has it, with one size: `model: {sizes: [2304x40], head_dim: 64}`"
)


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The target, its training tokens, and how each was chosen."""

    model: ModelSpec
    tokens: float
    how: str


def target_of(study_context: StudyContext, fitted: Fit, request: Request) -> Sized:
    """The target's shape and tokens.

    Raises:
        ConfigError: A shape that is no model of the family, or a YAML file that holds none.
        FitError: The law has no optimum to take what is missing from.
    """
    family, vocab_size = target_family(study_context, request)
    model = _requested_model(family, vocab_size, request)
    if model is None:
        best = optimum(
            fitted,
            flops=request.flops,
            tokens=request.tokens,
            tokens_per_param=request.tokens_per_param,
        )
        model = nearest_model(family, vocab_size, best.params.value)
        tokens = _requested_tokens(fitted, model, request)
        assert tokens is not None
        given = "data as asked" if request.flops is None else "at this compute"
        return Sized(model=model, tokens=tokens, how=f"size by the law, {given}")
    tokens = _requested_tokens(fitted, model, request)
    if tokens is None:
        best = optimum(fitted, params=model.params)
        return Sized(model=model, tokens=best.tokens.value, how="size as asked, data by the law")
    return Sized(model=model, tokens=tokens, how="size and data as asked")


def size_diagnostics(request: Request, model: ModelSpec) -> list[Diagnostic]:
    """A warning where no size of the family is near the requested params."""
    if request.params is None or abs(model.params / request.params - 1) <= CLOSE:
        return []
    return [
        Diagnostic(
            "size-rounded",
            f"{request.params:.4g} params were asked for; the nearest model of the family's "
            f"shape, {model.size}, has {model.params:,}: say another with --shape or --model",
            requested=request.params,
            params=model.params,
        )
    ]


def target_family(study_context: StudyContext, request: Request) -> tuple[ModelFamily, int]:
    """The target's family of shapes and its vocabulary: the study's, but for what is requested.

    Raises:
        ConfigError: A vocabulary that does not hold the study's tokens.
    """
    names = ("context", "head_dim", "heads_per_kv")
    given = {name: value for name in names if (value := getattr(request, name)) is not None}
    for name in given:
        if name != "context" and not takes(study_context.config.model, name):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                "unknown-shape-field",
                f"{option}: family {study_context.config.model.family} does not know it; leave it "
                "out, or say the target's own fields with --model FILE",
                option=option,
                field=name,
            )
    if "heads_per_kv" in given:
        given["kv_heads"] = None
    needed, vocab_size = study_context.vocab_size, request.vocab_size
    if vocab_size is not None and vocab_size < needed:
        raise ConfigError(
            "out-of-range",
            f"--vocab-size {vocab_size}: the study's tokenizer has {needed} tokens; give as many "
            "or more, or make a study with the target's tokenizer",
            option="--vocab-size",
            value=vocab_size,
            least=needed,
        )
    return study_context.config.model.model_copy(update=given), vocab_size or needed


def nearest_model(family: ModelFamily, vocab_size: int, params: float) -> ModelSpec:
    """The model of the family's own shape whose params are nearest, on a log scale.

    Width over depth is about `width_per_layer`, or that of the family's largest size: MiniCPM keeps
    the shape of its models as similar as it can (arXiv 2404.06395, Table 8).
    """
    largest = max(family.sizes, key=lambda size: size.width**2 * (size.depth or 1))
    per_layer = family.width_per_layer or largest.width / (largest.depth or 1)
    unit = _unit(family)

    def models(count: int) -> list[ModelSpec]:
        """The one or two of so many units of width; none where the family has no such shape."""
        width = count * unit
        depths = {max(1, math.floor(width / per_layer)), math.ceil(width / per_layer)}
        try:
            return [
                family.spec(Size(width=width, depth=depth), vocab_size=vocab_size)
                for depth in sorted(depths)
            ]
        except ValueError:  # refused: by us, or by a family
            return []

    # A layer holds some 10 width^2: the cube root of the params gives the width to search around.
    near = max(2.0, (params * per_layer / 10.0) ** (1 / 3) / unit)
    step = max(1, int(near / MOST_WIDTHS))
    counts = range(max(1, int(near / 4)), math.ceil(2 * near) + 1, step)
    if family.family != MINICPM:  # each of its shapes is built to be counted
        at = bisect_left(
            counts, params, key=lambda count: max((m.params for m in models(count)), default=0)
        )
        counts = counts[max(0, at - AROUND) : at + AROUND]
    found = [model for count in counts for model in models(count)]
    if not found:
        raise ConfigError(
            "no-such-shape",
            f"--params {params:.4g}: no width that is a multiple of {unit}, whole heads for every "
            "kv head, gives a whole feed-forward width; say the shape with --shape or --model",
            params=params,
            unit=unit,
        )
    return min(found, key=lambda model: abs(math.log(model.params / params)))


def takes(family: ModelFamily, field: str) -> bool:
    """Whether a family understands one of the built-in one's shape fields."""
    return family.family == MINICPM or field in load_family(family.family).takes


def _unit(family: ModelFamily) -> int:
    """What the width of every shape of a family is a multiple of."""
    if takes(family, "head_dim"):
        return family.head_dim * (family.kv_heads or family.heads_per_kv)
    return math.gcd(*(size.width for size in family.sizes))


def _requested_model(family: ModelFamily, vocab_size: int, request: Request) -> ModelSpec | None:
    if request.params is not None:
        return nearest_model(family, vocab_size, request.params)
    if request.shape is not None:
        try:
            return family.spec(Size.parse(request.shape), vocab_size=vocab_size)
        except ValueError as wrong:
            raise ConfigError(
                "invalid-value",
                f"--shape {request.shape}: {_first(wrong)}",
                option="--shape",
                value=request.shape,
                cause=_first(wrong),
            ) from None
    if request.model is not None:
        return _model_in(request.model, family, vocab_size)
    return None


def _requested_tokens(fitted: Fit, model: ModelSpec, request: Request) -> float | None:
    if request.flops is not None:
        return request.flops / (fitted.flop_factor * model.params)
    if request.tokens_per_param is not None:
        return request.tokens_per_param * model.params
    return request.tokens


def _model_in(path: Path, base: ModelFamily, vocab_size: int) -> ModelSpec:
    """The one size of the `model` section in a file; the fields of `base` where it says nothing."""
    if not path.exists():
        raise ConfigError(
            "missing-file", f"--model {path}: no such file; {EXAMPLE}", option="--model", path=path
        )
    section = read_tree(path).value.get("model")
    if section is None or not isinstance(section.value, dict):
        raise ConfigError(
            "missing-key", f"{path}: no `model:` section; {EXAMPLE}", path=path, key="model"
        )
    given = section.plain()
    known = set(ModelFamily.model_fields)
    for key in given:
        if key not in known:
            line = section.value[key].line
            raise ConfigError(
                "unknown-key",
                f"{path}:{line}: model.{key}: unknown key{did_you_mean(key, known) or '.'} "
                f"Allowed: {', '.join(sorted(known))}",
                path=path,
                line=line,
                key=f"model.{key}",
                known=sorted(known),
            )
    try:
        family = ModelFamily.model_validate(base.model_dump() | given)
    except ValidationError as wrong:
        error = wrong.errors()[0]
        where = ".".join(str(part) for part in error["loc"])
        node = section.value.get(str(error["loc"][0])) if error["loc"] else None
        line, key = (node or section).line, f"model.{where}" if where else "model"
        raise ConfigError(
            "invalid-value",
            f"{path}:{line}: {key}: {_first(wrong)}",
            path=path,
            line=line,
            key=key,
            cause=_first(wrong),
        ) from None
    problem = ""
    if given.get("sizes") and len(family.sizes) == 1:
        try:
            return family.spec(family.sizes[0], vocab_size=vocab_size)
        except ValueError as wrong:
            problem = f": {wrong}"
    raise ConfigError(
        "invalid-value",
        f"{path}:{section.line}: model: one size is exported, as `sizes: [2304x40]`{problem}",
        path=path,
        line=section.line,
        key="model.sizes",
    )


def _first(wrong: ValueError) -> str:
    """The problem that pydantic or a size reports, in one line."""
    if isinstance(wrong, ValidationError):
        return wrong.errors()[0]["msg"].removeprefix("Value error, ")
    return str(wrong)
