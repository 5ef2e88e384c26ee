"""`windtunnel answer`: recipe, ratio, loss and cost of a full-size run; what would narrow it."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windtunnel.cli.options import AsJson, StudyFile, data_options
from windtunnel.cli.target_options import (
    BatchTokens,
    Context,
    Flops,
    HeadDim,
    HeadsPerKv,
    ModelFile,
    Params,
    Shape,
    Tokens,
    TokensPerParam,
    VocabSize,
)
from windtunnel.cli.text import duration, interval_text, print_json, say, terminal
from windtunnel.cli.text import flops as flops_text
from windtunnel.mup import Role
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.export.answer import Answer, Narrowing
    from windtunnel.export.extrapolation import Beyond
    from windtunnel.export.handoff import Handoff


def answer(
    study: StudyFile,
    params: Params = None,
    shape: Shape = None,
    model: ModelFile = None,
    flops: Flops = None,
    tokens: Tokens = None,
    tokens_per_param: TokensPerParam = None,
    context: Context = None,
    vocab_size: VocabSize = None,
    head_dim: HeadDim = None,
    heads_per_kv: HeadsPerKv = None,
    batch_tokens: BatchTokens = None,
    experiment: Annotated[
        str | None, typer.Option(help="Scaling experiment, if the study has several.")
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(metavar="FIT.json", help="Fit to answer with; default: the study's own."),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE", help="Accept this warning of the fit, as in export. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer for a full-size run: recipe, tokens per parameter, loss, cost, and how sure.

    Without a target here or in the study file, for the largest measured budget.
    """
    tokens, tokens_per_param = data_options(tokens, tokens_per_param)
    options = {
        "params": params, "shape": shape, "model": model, "flops": flops, "tokens": tokens,
        "tokens_per_param": tokens_per_param, "context": context, "vocab_size": vocab_size,
        "head_dim": head_dim, "heads_per_kv": heads_per_kv, "batch_tokens": batch_tokens,
        "experiment": experiment, "fit": fit, "accept": tuple(accept or ()),
    }  # fmt: skip
    run_answer(study, options, as_json=as_json)


def run_answer(file: Path, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the answer.

    Raises:
        ConfigError: The study has no fit, or the options name no model of its family.
        FitError: The fit is damaged, or gives no size or data where one is left out.
    """
    from windtunnel.export.answer import answer_of
    from windtunnel.export.request import Request
    from windtunnel.runs.study import open_study

    found = answer_of(open_study(file), Request(**options))
    if as_json:
        print_json(document(found))
        return
    console = terminal()
    for line in lines(found):
        say(console, line)
    for warning in found.warnings:
        say(console, warning.message, label=f"warning ({warning.code}):")


def document(found: "Answer") -> dict[str, Any]:
    """The answer as JSON (docs/answer.md)."""
    from windtunnel.laws.schema import plain

    loss = found.loss
    content: dict[str, Any] = plain(
        {
            "schema": 1,
            "target": {
                "size": found.model.size,
                "params": found.model.params,
                "tokens": found.tokens,
                "tokens_per_param": found.tokens_per_param,
                "flops_exact": found.flops,
                "sized": found.sized,
                "requested": dict(found.requested),
                "inherited": dict(found.inherited),
            },
            "loss": {"value": loss.value, "interval": [loss.low, loss.high], "level": found.level},
            "best": None if found.best is None else found.best.model_dump(mode="json"),
            "beyond": {
                name: {**vars(beyond), "holds": beyond.holds}
                for name, beyond in found.beyond.items()
            },
            "device_seconds": found.device_seconds,
            "flops_per_second": found.flops_per_second,
            "passes": found.passes,
            "narrowing": [vars(each) for each in found.narrowing],
            "recipe": None if found.handoff is None else recipe_document(found.handoff),
            "problem": None
            if found.problem is None
            else {"code": found.problem.code, "message": str(found.problem)},
            "warnings": [warning.document() for warning in found.warnings],
        }
    )
    return content


def recipe_document(handoff: "Handoff") -> dict[str, Any]:
    """The recipe at the target: values by role, batch, schedule, and how settings came there."""
    whole = handoff.model_dump(mode="json")
    names = ("recipe", "roles", "multipliers", "batch", "lr_rule", "transfer", "schedule")
    return {name: whole[name] for name in names}


def lines(found: "Answer") -> Iterator[str]:
    """The answer as text, a line a subject."""
    model = found.model
    yield (
        f"{model.size}: {write_count(model.params)} params on {write_count(found.tokens)} tokens "
        f"({found.tokens_per_param:.3g} per param); {found.sized}"
    )
    yield f"loss       {_loss(found)}"
    if found.best is not None:
        best = found.best
        yield (
            f"ratio      {interval_text(best.tokens_per_param, '.3g')} tokens per param at "
            f"{flops_text(best.flops)}: best with {write_count(best.params.value)} params on "
            f"{write_count(best.tokens.value)} tokens"
        )
    yield from _recipe(found)
    yield f"cost       {_cost(found)}"
    yield "beyond     " + ", ".join(
        f"{found.beyond[name].times:.3g} times the {what}"
        for name, what in (("params", "largest model"), ("tokens", "longest run"))
    )
    if found.inherited:
        named = ", ".join(f"{name} {value}" for name, value in found.inherited.items())
        yield f"inherited  {named}, from the small models: give the target's own"
    for each in found.narrowing:
        yield f"to narrow  {_narrowing(each)}"


def _loss(found: "Answer") -> str:
    loss = found.loss
    if math.isnan(loss.low):
        return f"{loss.value:.4f} nats per token, without an interval"
    span = f"{loss.value:.4f} ({loss.low:.4f} to {loss.high:.4f}) nats per token"
    if found.level is not None:
        return f"{span}, {found.level:.0%}"
    far = ", ".join(
        f"{name} {_far(beyond)}, supported to {beyond.supported:.2g} times"
        for name, beyond in found.beyond.items()
        if not beyond.holds
    )
    return f"{span}: the range of the fit, of no known coverage so far out ({far})"


def _far(beyond: "Beyond") -> str:
    """`4.2 times the largest`, or how far below the smallest."""
    if beyond.times >= 1:
        return f"{beyond.times:.3g} times the largest"
    return f"1/{beyond.below:.3g} of the smallest"


def _recipe(found: "Answer") -> Iterator[str]:
    handoff = found.handoff
    if handoff is None:
        yield f"recipe     none: {found.problem}"
        return
    recipe, steps, batch = handoff.recipe, handoff.schedule, handoff.batch
    hold = "" if steps.hold is None else f", falling as tokens^{steps.hold.power:g}"
    yield (
        f"recipe     lr {recipe.lr:.3g} at width {recipe.base_width} (hidden matrices "
        f"{handoff.roles[Role.HIDDEN].lr:.3g}{hold}), batch {batch.batch_tokens:,} tokens, "
        f"weight decay {recipe.weight_decay:.3g}, warm-up {steps.warmup:,} of {steps.end:,} "
        f"updates, decay ({steps.shape}) over the last {(steps.end - steps.decay_start):,}"
    )
    yield f"           batch: {batch.evidence}"
    for each in handoff.transfer:
        lost = "" if each.lost is None else f"; keeping it costs about {each.lost:.3g} nats"
        yield (
            f"           {each.setting} {each.tuned:.3g} as tuned, for {each.ratio:.3g} times the "
            f"{each.along} (rule {each.rule}): {each.evidence}{lost}"
        )


def _cost(found: "Answer") -> str:
    parts = [flops_text(found.flops)]
    if found.device_seconds is not None and found.flops_per_second is not None:
        parts.append(
            f"{duration(found.device_seconds)} on one slot at this study's "
            f"{found.flops_per_second:.2e} FLOP/s"
        )
    if found.passes is not None:
        parts.append(f"{found.passes:.3g} passes over the most repeated source")
    return ", ".join(parts)


def _narrowing(each: "Narrowing") -> str:
    took = "" if each.seconds is None else f", {duration(each.seconds)}"
    return (
        f"{each.size} ({write_count(each.params)} params) on {write_count(each.tokens)} tokens "
        f"({flops_text(each.flops)}{took}): interval x {each.width:.2f}"
    )
