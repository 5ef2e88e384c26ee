"""`windtunnel export`: build, write, say what was handed over and what to beware of."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windtunnel.cli.text import flops, print_json, say, si, terminal
from windtunnel.errors import ConfigError, StoreError, TrackingError, did_you_mean
from windtunnel.export.handoff import Estimate, Handoff
from windtunnel.export.request import Asked, option
from windtunnel.export.write import TARGETS, check_folder, new_folder, write_export

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windtunnel.runs.study import Study

RULES = ("none", "sqrt", "measured")


def check_target(target: str, lr_rule: str | None) -> None:
    """Refuse a target or a rule that does not exist.

    Raises:
        ConfigError: With those that do.
    """
    for name, value, allowed in (("--to", target, TARGETS), ("--lr-rule", lr_rule, RULES)):
        if value is not None and value not in allowed:
            raise ConfigError(
                f"{name} {value}: allowed are {', '.join(allowed)}{did_you_mean(value, allowed)}"
            )


def run_export(
    file: Path, options: Mapping[str, Any], *, to: str, out: Path, as_json: bool
) -> None:
    """Write a target's folder and print what is in it.

    Raises:
        ConfigError: The study cannot answer, the target cannot express it, or `out` is in use.
        FitError: The fit is none to hand over.
    """
    from windtunnel.export.build import build_handoff
    from windtunnel.runs.study import open_study
    from windtunnel.runs.study_files import keep_handoff

    asked = Asked(**options)
    check_folder(out)
    study = open_study(file)
    export = build_handoff(study, asked)
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
    """Write a trained segment of the store as a Hugging Face folder.

    Raises:
        ConfigError: Another target than hf, or a segment that cannot be written.
    """
    given = [option(name) for name, value in options.items() if value]
    if given:
        raise ConfigError(
            f"--segment {segment} writes a trained model as it is: {', '.join(given)} has no "
            "meaning there; leave it out, or leave --segment out for a target"
        )
    if to != "hf":
        raise ConfigError(f"--segment {segment}: only --to hf writes trained segments, not {to}")
    from windtunnel.export.targets.hf import write_segment
    from windtunnel.runs.study import open_study

    study = open_study(file)
    with new_folder(out) as scratch:
        written = write_segment(study, segment, scratch)
        files = [path.relative_to(scratch) for path in written]
    for path in files:
        print(f"wrote {out / path}")


def _mirror(study: "Study") -> str:
    """Log the Handoff to MLflow where the study asks for it; what went wrong, if anything."""
    if not study.config.tracking.enabled:
        return ""
    from windtunnel.cli.tracking import log_handoffs, mirror_of

    try:
        log_handoffs(mirror_of(study))
    except TrackingError as problem:
        return str(problem)
    return ""


def _lines(handoff: Handoff) -> "Iterator[str]":
    counts, steps, batch = handoff.counts, handoff.schedule, handoff.batch
    yield (
        f"{handoff.model.size}: {si(counts.params)} params on {si(counts.tokens)} tokens "
        f"({counts.tokens_per_param:.3g} a param, {flops(counts.flops_6nd)}); {handoff.sized}"
    )
    for name, estimate in handoff.forecast.items():
        yield f"forecast loss, {name}: {_said(estimate)} {handoff.loss_unit}, {handoff.level:.0%}"
    if handoff.best is not None:
        best = handoff.best
        yield (
            f"best for this compute: {_si(best.params)} params, {_si(best.tokens)} tokens, "
            f"{_said(best.tokens_per_param, '.3g')} tokens a param"
        )
    yield (
        f"batch {batch.batch_tokens:,} tokens ({batch.rows} rows); {steps.end:,} updates: "
        f"{steps.warmup} of warmup, decay ({steps.shape}) from {steps.decay_start:,}"
    )
    yield f"  {batch.evidence}"
    rule = handoff.lr_rule
    yield f"rate x {rule.factor:.4g} for the batch (rule {rule.rule}): {rule.evidence}"
    for role, values in handoff.roles.items():
        yield (
            f"{role}: lr {values.lr:.4g}, init std {values.init_std:.4g}, weight decay "
            f"{values.weight_decay:.4g}, eps {values.eps:.3g}"
        )
    sites = handoff.multipliers.model_dump().items()
    yield "multipliers: " + ", ".join(f"{site} {value:.4g}" for site, value in sites)


def _said(estimate: Estimate, form: str = ".4f") -> str:
    """A value with its interval."""
    ends = [
        "unbounded" if end is None or math.isinf(end) else format(end, form)
        for end in (estimate.low, estimate.high)
    ]
    return f"{estimate.value:{form}} ({ends[0]} to {ends[1]})"


def _si(estimate: Estimate) -> str:
    ends = ["unbounded" if end is None else si(end) for end in (estimate.low, estimate.high)]
    return f"{si(estimate.value)} ({ends[0]} to {ends[1]})"
