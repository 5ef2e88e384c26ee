"""The recipe at the target's size: multipliers, schedule, batch, and the rate for that batch.

batch_tokens does not transfer: the best one grows as the loss falls (MiniCPM, arXiv 2404.06395,
section 3.2). Only a law fitted to losses of the same data can say how; a printed one never does.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, Literal, TypeVar

from windtunnel.config import ModelSpec, Recipe
from windtunnel.config.model import ScheduleConfig
from windtunnel.config.segment import hold_of
from windtunnel.config.transfer import NO_RULE, RuleChoice
from windtunnel.errors import ConfigError, Diagnostic
from windtunnel.export.fits import unless_failed
from windtunnel.export.handoff import (
    BatchChoice,
    LrRule,
    LrRuleName,
    Multipliers,
    Steps,
    Winner,
)
from windtunnel.export.request import Request, StudyRecords
from windtunnel.findings.batch import batches
from windtunnel.findings.lr_batch import JointFinding, joints
from windtunnel.laws import Fit


def multipliers_of(recipe: Recipe, model: ModelSpec, *, proxy_head_dim: int) -> Multipliers:
    """Forward multipliers; attention compensates for a head size other than the proxies'.

    Trained queries and keys are aligned, so their product grows as head_dim: 1 / head_dim keeps the
    logits of the softmax (Tensor Programs V, arXiv 2203.03466, definition 4.1), anchored at the
    proxies' 1 / sqrt(head_dim), where the two are the same.
    """
    sites = asdict(recipe.multipliers(model))
    if "attention" in model.sites and model.attention_dim is not None:
        sites["attention"] = proxy_head_dim**0.5 / model.attention_dim
    return Multipliers(**sites)


def steps_of(
    schedule: ScheduleConfig, model: ModelSpec, *, warmup: int, end: int, batch_tokens: int
) -> Steps:
    """Warmup, stable phase and decay of `end` updates.

    Raises:
        ConfigError: Warmup and decay do not fit into them.
    """
    decay_start = decay_start_of(schedule, warmup=warmup, end=end)
    return Steps(
        warmup=warmup,
        decay_start=decay_start,
        end=end,
        shape=schedule.shape,
        final_factor=schedule.final_factor,
        hold=hold_of(schedule, model, batch_tokens),
        warmup_tokens=warmup * batch_tokens,
        stable_tokens=(decay_start - warmup) * batch_tokens,
        decay_tokens=(end - decay_start) * batch_tokens,
    )


def decay_start_of(schedule: ScheduleConfig, *, warmup: int, end: int) -> int:
    """First update of the decay, as a study's branches have it.

    Raises:
        ConfigError: Warmup and decay do not fit into `end` updates.
    """
    share = schedule.decay_share
    start = warmup if share == 1.0 else end - max(1, round(share * end))
    if not warmup <= start < end:
        raise ConfigError(
            "too-few-updates",
            f"{end} updates: too few for {warmup} of warmup and a decay of {share:.0%}; give more "
            "tokens (--tokens, --flops, --tokens-per-param) or a smaller batch (--batch-tokens)",
            updates=end,
            warmup=warmup,
            decay_share=share,
        )
    return start


MOST_UPDATES = 10_000_000
"""Of a run (assumed): the longest published runs have one to three million."""


def check_updates(updates: int, batch_tokens: int) -> None:
    """Check that a run has not absurdly many updates, for a batch that was never meant for it.

    Raises:
        ConfigError: It has more than `MOST_UPDATES`.
    """
    if updates > MOST_UPDATES:
        raise ConfigError(
            "too-many-updates",
            f"{updates:,} updates of {batch_tokens:,} tokens: more than {MOST_UPDATES:,}, and the "
            "study measured no batch for such a run; give one with --batch-tokens 4000000 (or "
            "`batch_tokens` in the study's `target`), or measure how the batch grows "
            "(docs/transfer.md)",
            updates=updates,
            batch_tokens=batch_tokens,
            most=MOST_UPDATES,
        )


ROWS_TOGETHER = 16
"""A batch read off a law is rounded to so many rows (MiniCPM4, arXiv 2506.07900, section 2.3)."""

BATCH = "recipe.batch_tokens"
"""As searches name it."""

How = Literal["law", "search", "study", "given"]
T = TypeVar("T")


@dataclass(frozen=True)
class _Found(Generic[T]):
    """A measurement, and the study and experiment that made it."""

    of: T
    where: str


def batch_of(
    studies: Sequence[StudyRecords],
    recipe: Recipe,
    request: Request,
    *,
    loss: float,
    context: int,
    winners: Sequence[Winner] = (),
) -> tuple[BatchChoice, list[Diagnostic]]:
    """The target's batch at a forecast `loss`, nats per token, mean over the validation sets.

    Without a batch law it is the recipe's, with the search behind it if one of `winners` has it.

    Raises:
        ConfigError: The requested batch is not a multiple of `context` tokens.
    """
    if request.batch_tokens is not None:
        rows, left = divmod(request.batch_tokens, context)
        if left or not rows:
            near = max(1, round(request.batch_tokens / context)) * context
            raise ConfigError(
                "not-a-multiple",
                f"--batch-tokens {request.batch_tokens}: not a multiple of the context, {context} "
                f"tokens; the nearest is {near}",
                option="--batch-tokens",
                value=request.batch_tokens,
                of=context,
                nearest=near,
            )
        return _choice(rows, context, "given", "as given with --batch-tokens"), []
    law = next(_batch_laws(studies), None)
    if law is None:
        return _kept_batch(recipe, context, winners)
    best, span = law.of.predict(loss, trunks=math.inf), law.of.domain["loss"]
    rows = max(1, round(best.value / context))
    if rows > ROWS_TOGETHER:
        rows = round(rows / ROWS_TOGETHER) * ROWS_TOGETHER
    evidence = (
        f"batch law of {law.where}: {best.value:,.0f} tokens ({law.of.level:.0%}: {best.low:,.0f} "
        f"to {best.high:,.0f}) at the forecast loss of {loss:.4f} nats per token, as "
        f"L^-{law.of.coefficients['p']:.2f}, measured at losses of {span[0]:.3f} to {span[1]:.3f}"
    )
    warnings = list(_beyond(law, loss))
    warnings += unless_failed(
        law.of,
        what=f"batch law of {law.where}",
        accept=request.accept,
        origin=f"{law.where}: ",
        prefix="batch-law-",
    )
    return _choice(rows, context, "law", evidence), warnings


def _kept_batch(
    recipe: Recipe, context: int, winners: Sequence[Winner]
) -> tuple[BatchChoice, list[Diagnostic]]:
    """The recipe's own batch, and that nothing says how it grows."""
    batch, rows = recipe.batch_tokens, max(1, round(recipe.batch_tokens / context))
    grows = (
        "It does not transfer: a grid over recipe.batch_tokens (docs/study.md) measures how it "
        "grows as the loss falls"
    )
    found = next((each for each in winners if each.values.get(BATCH) == batch), None)
    if found is None:
        how: How = "study"
        evidence = f"no batch study: the study's batch of {batch:,} tokens is kept. {grows}"
    else:
        how = "search"
        evidence = (
            f"search {found.experiment} of {found.study} found a batch of {batch:,} tokens to be "
            f"the best of those it tried, and it is kept. {grows}"
        )
    warning = Diagnostic("batch-kept", evidence, batch_tokens=batch, how=how)
    return _choice(rows, context, how, evidence), [warning]


def lr_rule_of(
    studies: Sequence[StudyRecords],
    recipe: Recipe,
    request: Request,
    *,
    batch_tokens: int,
    own: RuleChoice = NO_RULE,
) -> tuple[LrRule, list[Diagnostic]]:
    """How the rate follows the batch: as requested, by the study's `own` rule, or as measured.

    Raises:
        ConfigError: The measured rule is requested, and nothing has measured one.
    """
    joint = next(_joints(studies), None)
    exponent = joint.of.exponent if joint else None
    if request.lr_rule == "measured" and exponent is None:
        raise ConfigError(
            "rule-not-measured",
            "--lr-rule measured: no grid over recipe.lr and recipe.batch_tokens has an exponent; "
            "add one to the study, give the study that has it with --with, or take none or sqrt",
            option="--lr-rule",
            value=request.lr_rule,
            allowed=["none", "sqrt"],
        )
    same = batch_tokens == recipe.batch_tokens
    rule: LrRuleName = (
        request.lr_rule
        or _named(own)
        or ("none" if same else "measured" if exponent is not None else "sqrt")
    )
    if same:
        evidence = "the batch is the one that the rate was tuned at"
        return _rule("none", 0.0, recipe, batch_tokens, evidence), []
    powers = {"none": 0.0, "sqrt": 0.5, "linear": 1.0, "own": own.power or 0.0}
    power = powers.get(rule, exponent.value if exponent else 0.0)
    rule_found = _rule(rule, power, recipe, batch_tokens, _evidence(joint, rule))
    measured_at = Diagnostic(
        "forecast-batch",
        f"the forecast is of batch {recipe.batch_tokens:,}, at which the law was measured; "
        f"at {batch_tokens:,} the same tokens end at another loss",
        measured=recipe.batch_tokens,
        batch_tokens=batch_tokens,
    )
    return rule_found, [measured_at, *_outside(joint, request, rule_found, batch_tokens)]


def _named(own: RuleChoice) -> LrRuleName | None:
    """The name of the study's own rule, if it has one."""
    match own.name:
        case "none":
            return None
        case "sqrt" | "linear" | "measured" as name:
            return name
    return "own"


def _choice(rows: int, context: int, how: How, evidence: str) -> BatchChoice:
    return BatchChoice(
        batch_tokens=rows * context,
        rows=rows,
        how=how,
        evidence=evidence,
    )


def _rule(
    rule: LrRuleName, exponent: float, recipe: Recipe, batch_tokens: int, evidence: str
) -> LrRule:
    return LrRule(
        rule=rule,
        exponent=exponent,
        factor=(batch_tokens / recipe.batch_tokens) ** exponent,
        tuned_lr=recipe.lr,
        tuned_batch_tokens=recipe.batch_tokens,
        evidence=evidence,
    )


def _evidence(joint: _Found[JointFinding] | None, rule: LrRuleName) -> str:
    """The evidence for a rule, or that there is none."""
    if joint is None or joint.of.exponent is None:
        return "assumed: no grid over recipe.lr and recipe.batch_tokens was measured"
    exponent = joint.of.exponent
    evidence = (
        f"{joint.where}: the best rate grows as batch^{exponent.value:.2f} (90%: "
        f"{exponent.low:.2f} to {exponent.high:.2f})"
    )
    cost = joint.of.rule_costs.get(rule)
    if cost is not None and cost.known:
        name = "the measured exponent" if rule == "measured" else rule
        evidence += (
            f"; following {name} gave up {cost.mean:.4f} nats there (at most {cost.worst:.4f})"
        )
    return evidence


def _outside(
    joint: _Found[JointFinding] | None, request: Request, rule: LrRule, batch_tokens: int
) -> Iterator[Diagnostic]:
    """Warnings where the rate at this batch is assumed or extrapolated."""
    if joint is None or joint.of.exponent is None:
        chosen = "asked for" if request.lr_rule else "assumed"
        yield Diagnostic(
            "lr-rule-assumed",
            f"the batch is {batch_tokens / rule.tuned_batch_tokens:.3g} times the one that "
            f"the rate was tuned at; the rule {rule.rule} is {chosen}, not measured",
            rule=rule.rule,
            tuned=rule.tuned_batch_tokens,
            batch_tokens=batch_tokens,
        )
        return
    measured = [curve.at for size in joint.of.sizes for curve in size.curves]
    low, high = min(measured), max(measured)
    if not low <= batch_tokens <= high:
        yield Diagnostic(
            "batch-outside",
            f"batch {batch_tokens:,} lies outside the batches of {joint.where}, {low:,.0f} "
            f"to {high:,.0f}: the rule {rule.rule} is extrapolated",
            batch_tokens=batch_tokens,
            measured=[low, high],
        )


def _beyond(law: _Found[Fit], loss: float) -> Iterator[Diagnostic]:
    low, high = law.of.domain["loss"]
    if not low <= loss <= high:
        yield Diagnostic(
            "batch-extrapolated",
            f"the forecast loss {loss:.4f} lies outside the losses of the batch law, "
            f"{low:.3f} to {high:.3f}",
            loss=loss,
            measured=[low, high],
        )


def _batch_laws(studies: Sequence[StudyRecords]) -> Iterator[_Found[Fit]]:
    for each in studies:
        for finding in batches(each.records):
            if finding.fitted is not None:
                yield _Found(finding.fitted, f"{each.name}, experiment {finding.experiment}")


def _joints(studies: Sequence[StudyRecords]) -> Iterator[_Found[JointFinding]]:
    for each in studies:
        for finding in joints(each.records):
            yield _Found(finding, f"{each.name}, experiment {finding.experiment}")
