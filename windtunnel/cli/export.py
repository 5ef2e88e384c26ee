"""`windtunnel export`: the recipe, the forecast and the warnings for a full-size run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windtunnel.cli.options import OUTPUT, AsJson, StudyFile, check_choice, data_options
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
from windtunnel.cli.text import flops as flops_text
from windtunnel.cli.text import interval_text, print_json, say, terminal
from windtunnel.errors import ConfigError, StoreError, TrackingError
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windtunnel.export.handoff import Estimate, Handoff, Transferred
    from windtunnel.runs.study import Study

RULES = ("none", "sqrt", "measured")


UNKNOWN = "of no known coverage so far beyond the runs"

RECIPE, FORECAST = "Recipe", "Forecast"
"""Panels of the help."""


def export(
    study: StudyFile,
    to: Annotated[
        str,
        typer.Option(
            help="json, hf, megatron, torchtitan, nanotron or torch.", rich_help_panel=OUTPUT
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="New folder to write.", rich_help_panel=OUTPUT)
    ],
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
    segment: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="With --to hf: export the weights of this trained segment instead of a recipe.",
        ),
    ] = None,
    lr_rule: Annotated[
        str | None,
        typer.Option(
            help="How the learning rate scales with the batch: none, sqrt or measured.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    no_transfer: Annotated[
        bool,
        typer.Option(
            "--no-transfer",
            help="Export rate, weight decay, beta2 and eps as tuned, whatever was measured.",
        ),
    ] = False,
    winner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Use the winning values of this search.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="STUDY.yaml",
            help="Also use the batch law, batch rule and searches of this study on the same data. "
            "Repeatable.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            metavar="FIT.json",
            help="Fit to forecast with, from `windtunnel fit STUDY.yaml --out`.",
            rich_help_panel=FORECAST,
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            help="Scaling experiment, if the study has several.", rich_help_panel=FORECAST
        ),
    ] = None,
    extrapolate: Annotated[
        bool,
        typer.Option(
            "--extrapolate",
            help="Accept a target far beyond the fitted runs.",
            rich_help_panel=FORECAST,
        ),
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE",
            help="Accept this warning of the fit, which otherwise refuses the export. Repeatable.",
            rich_help_panel=FORECAST,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export the recipe and the loss forecast for a full-size run.

    Hyperparameters are scaled to the target size by muP. What is not given here comes from the
    study's `target`.
    """
    check_target(to, lr_rule)
    tokens, tokens_per_param = data_options(tokens, tokens_per_param)
    options = {
        "params": params, "shape": shape, "model": model, "flops": flops, "tokens": tokens,
        "tokens_per_param": tokens_per_param, "context": context, "vocab_size": vocab_size,
        "head_dim": head_dim, "heads_per_kv": heads_per_kv, "fit": fit,
        "extra_studies": tuple(with_ or ()),
        "experiment": experiment, "winner": winner, "batch_tokens": batch_tokens,
        "lr_rule": lr_rule, "no_transfer": no_transfer, "extrapolate": extrapolate,
        "accept": tuple(accept or ()),
    }  # fmt: skip
    if segment is not None:
        run_export_segment(study, segment, options | {"json": as_json}, to=to, out=out)
    else:
        run_export(study, options, to=to, out=out, as_json=as_json)


def check_target(target: str, lr_rule: str | None) -> None:
    """Check the export target and the learning-rate rule.

    Raises:
        ConfigError: There is none of that name.
    """
    from windtunnel.export.write import TARGETS

    check_choice("--to", target, TARGETS)
    if lr_rule is not None:
        check_choice("--lr-rule", lr_rule, RULES)


def run_export(
    file: Path, options: Mapping[str, Any], *, to: str, out: Path, as_json: bool
) -> None:
    """Write the folder of a target, and print its content.

    Raises:
        ConfigError: The study lacks what the target needs, or `out` exists.
        FitError: The fit is not fit for a forecast.
    """
    from windtunnel.export.build import build_handoff
    from windtunnel.export.request import Request
    from windtunnel.export.write import check_folder, write_export
    from windtunnel.runs.study import open_study
    from windtunnel.runs.study_files import keep_handoff

    request = Request(**options)
    check_folder(out)
    study = open_study(file)
    export = build_handoff(study, request)
    written = write_export(export, to, out)
    document = json.loads(export.handoff.to_json())
    try:
        keep_handoff(study.folder, document, target=to)
        problem = _mirror(study)
    except StoreError as refused:
        problem = f"not kept with the study: {refused}"
    if as_json:
        print_json(document)
        return
    console = terminal()
    for line in _lines(export.handoff):
        say(console, line)
    for warning in export.handoff.warnings:
        say(console, warning.message, label=f"warning ({warning.code}):")
    if problem:
        say(console, problem, label="warning:")
    for path in written:
        print(f"wrote {path}")


def run_export_segment(
    file: Path, segment: str, options: Mapping[str, Any], *, to: str, out: Path
) -> None:
    """Write a trained segment of the store as a Hugging Face checkpoint.

    Raises:
        ConfigError: Another target than hf, or a segment that cannot be written.
    """
    from windtunnel.export.request import option
    from windtunnel.export.write import new_folder

    given = [option(name) for name, value in options.items() if value]
    if given:
        raise ConfigError(
            "contradicting-options",
            f"--segment {segment} writes a trained model as it is: {', '.join(given)} has no "
            "meaning there; leave it out, or leave --segment out for a target",
            options=["--segment", *given],
        )
    if to != "hf":
        raise ConfigError(
            "contradicting-options",
            f"--segment {segment}: only --to hf writes trained segments, not {to}",
            options=["--segment", "--to"],
            to=to,
        )
    from windtunnel.export.targets.hf import write_segment
    from windtunnel.runs.study import open_study

    study = open_study(file)
    with new_folder(out) as scratch:
        written = write_segment(study, segment, scratch)
        files = [path.relative_to(scratch) for path in written]
    for path in files:
        print(f"wrote {out / path}")


def _mirror(study: "Study") -> str:
    """Log the Handoff to MLflow if the study tracks; return the problem, or the empty string."""
    if not study.config.tracking.enabled:
        return ""
    from windtunnel.cli.tracking import log_handoffs, mirror_of

    try:
        log_handoffs(mirror_of(study))
    except TrackingError as problem:
        return str(problem)
    return ""


def _lines(handoff: "Handoff") -> "Iterator[str]":
    counts, steps, batch = handoff.counts, handoff.schedule, handoff.batch
    yield (
        f"{handoff.model.size}: {write_count(counts.params)} params on "
        f"{write_count(counts.tokens)} tokens ({counts.tokens_per_param:.3g} a param, "
        f"{flops_text(counts.flops_6nd)}); {handoff.sized}"
    )
    for name, estimate in handoff.forecast.items():
        interval = interval_text(estimate)
        level = f"{handoff.level:.0%}" if handoff.calibrated else "range of the fit, " + UNKNOWN
        yield f"forecast loss, {name}: {interval} {handoff.loss_unit}, {level}"
    if handoff.best is not None:
        best = handoff.best
        yield (
            f"best for this compute: {_counts(best.params)} params, {_counts(best.tokens)} tokens, "
            f"{interval_text(best.tokens_per_param, '.3g')} tokens a param"
        )
    yield (
        f"batch {batch.batch_tokens:,} tokens ({batch.rows} rows); {steps.end:,} updates: "
        f"{steps.warmup} of warmup, decay ({steps.shape}) from {steps.decay_start:,}"
    )
    yield f"  {batch.evidence}"
    rule = handoff.lr_rule
    yield f"rate x {rule.factor:.4g} for the batch (rule {rule.rule}): {rule.evidence}"
    for each in handoff.transfer:
        if each.along != "batch" or each.setting != "lr":
            yield _transferred(each)
    for role, values in handoff.roles.items():
        yield (
            f"{role}: lr {values.lr:.4g}, init std {values.init_std:.4g}, weight decay "
            f"{values.weight_decay:.4g}, eps {values.eps:.3g}"
        )
    sites = handoff.multipliers.model_dump().items()
    yield "multipliers: " + ", ".join(f"{site} {value:.4g}" for site, value in sites)


def _transferred(each: "Transferred") -> str:
    by = "to the power" if each.setting == "beta2" else "x"
    lost = "" if each.lost is None else f"; keeping it would give up about {each.lost:.4f} nats"
    return (
        f"{each.setting} {by} {each.factor:.4g} for {each.ratio:.3g} times the {each.along} "
        f"(rule {each.rule}): {each.evidence}{lost}"
    )


def _counts(estimate: "Estimate") -> str:
    ends = [
        "unbounded" if end is None else write_count(end) for end in (estimate.low, estimate.high)
    ]
    return f"{write_count(estimate.value)} ({ends[0]} to {ends[1]})"
