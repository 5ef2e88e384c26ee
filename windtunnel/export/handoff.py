"""The Handoff: everything that a full-size training job takes from a study, as one document.

The reader multiplies nothing: rates, stds, weight decays and factors are those of the target model,
each with the evidence that it rests on.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from windtunnel.accounting import flops_6nd
from windtunnel.config import ModelSpec, Recipe
from windtunnel.config.segment import HoldTokens
from windtunnel.config.shape import AnyModel, DenseSpec, FamilySpec, Positive
from windtunnel.config.units import Strict
from windtunnel.errors import ConfigError, Diagnostic, FitError, Refused, boundary
from windtunnel.laws import Interval
from windtunnel.laws.schema import digest_of, is_edited, parse, text_of
from windtunnel.mup import Role
from windtunnel.schedule import Decay, DecayShape, Schedule
from windtunnel.transfer import Along, Setting


def finite(end: float) -> float | None:
    """An end of an interval; None where it is unbounded, for JSON has no infinity."""
    return end if math.isfinite(end) else None


class Estimate(Strict):
    """A number and its interval at the Handoff's `level`; no ends where the fit gives none."""

    value: float
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not (self.low or self.value) <= self.value <= (self.high or self.value):
            raise Refused(
                "outside-interval",
                f"{self.value} lies outside its interval, {self.low} to {self.high}",
                value=self.value,
                low=self.low,
                high=self.high,
            )
        return self

    @classmethod
    def of(cls, interval: Interval) -> Self:
        """A law's interval.

        Raises:
            FitError: The value lies outside it.
        """
        if interval.value < interval.low or interval.value > interval.high:
            raise FitError(
                "outside-interval",
                f"a number of this fit, {interval.value:.4g}, lies outside its own interval, "
                f"{interval.low:.4g} to {interval.high:.4g}: its runs contradict each other, and "
                "nothing is handed over. See its warnings (`windtunnel fit`), and leave such runs "
                "out",
                value=interval.value,
                low=interval.low,
                high=interval.high,
            )
        return cls(value=interval.value, low=finite(interval.low), high=finite(interval.high))

    def __contains__(self, value: float) -> bool:
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


class Transition(Strict):
    """What the lower end of a forecast holds beside the law: a transition that it cannot know.

    Attributes:
        share: Of the loss, by which the end was lowered.
        low: The law's own lower end.
    """

    share: float
    low: float | None


FILE = "handoff.json"
SCHEMA = 1
EDITED = "edited-handoff"

LrRuleName = Literal["none", "sqrt", "linear", "measured", "own"]
"""Rules of the rate over the batch; `own` is a power that the study gives."""


def _read_warning(value: object) -> Diagnostic:
    """A warning of a written Handoff, which has no values."""
    match value:
        case Diagnostic():
            return value
        case {"code": str(code), "message": str(message), **rest} if not rest:
            return Diagnostic(code, message)
    raise Refused("wrong-type", "expected `code` and `message`, both text", expected="warning")


StoredWarning = Annotated[
    Diagnostic,
    PlainValidator(_read_warning),
    PlainSerializer(lambda each: {"code": each.code, "message": each.message}, dict[str, str]),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
            "additionalProperties": False,
        }
    ),
]
"""A warning as a Handoff keeps it: a stable code, and a message for people."""


class RoleValues(Strict):
    """Optimizer and initialisation values of all parameters of one role.

    `lr` is the peak rate; `weight_decay` multiplies the current rate, as AdamW's does; `init_std`
    is that of a normal distribution, 0 for gains, which start at 1.
    """

    lr: float
    init_std: float
    weight_decay: float
    eps: float


class Multipliers(Strict):
    """Constant factors of the forward pass.

    Attributes:
        embed: on the embedding's output.
        residual: on the output of every attention and feed-forward block, before it is added.
        logits: on the final hidden state, before the projection to the vocabulary.
        attention: on queries times keys, before the softmax (in place of 1 / sqrt(head_dim)).
    """

    embed: float
    residual: float
    logits: float
    attention: float


class Counts(Strict):
    """Sizes of the model and of its training.

    Attributes:
        params: That one token passes through, without embedding and head: the N of laws.
        params_embedding: Of embedding and head.
        params_active: As `params`.
        params_total: Of a mixture of experts, with those that a token does not choose.
        num_heads: Query heads.
        ffn_width: Inner width of the feed-forward.
        tokens: Of training.
        tokens_per_param: tokens / params.
        flops_6nd: 6 N D.
        flops_exact: With attention, embedding and head.
    """

    params: Positive
    params_embedding: Positive
    params_active: Positive
    params_total: Positive | None = None
    num_heads: Positive | None = None
    ffn_width: Positive | None = None
    tokens: Positive
    tokens_per_param: float
    flops_6nd: float
    flops_exact: float


class BatchChoice(Strict):
    """The batch, in tokens per update over all devices, and its evidence.

    `how`: read off the study's batch `law` at the forecast loss; kept as a `search` found it, or as
    the `study` had it; or `given` with the export.
    """

    batch_tokens: int
    rows: int
    how: Literal["law", "search", "study", "given"]
    evidence: str


class LrRule(Strict):
    """How the rate followed the batch: lr = tuned_lr x (batch / tuned batch)^exponent."""

    rule: LrRuleName
    exponent: float
    factor: float
    tuned_lr: float
    tuned_batch_tokens: int
    evidence: str


class Transferred(Strict):
    """How one setting came from where it was tuned to the target.

    Attributes:
        setting: `lr`, `weight_decay`, `beta2` or `eps`.
        along: what it followed.
        rule: `measured`, a published rule, or `own` for a power that the study gives.
        power: of the ratio, with its interval where it was measured.
        tuned: the setting's value where it was tuned.
        ratio: of the target to the tuned place.
        factor: on the value; of beta2, the power that it is raised to.
        measured: the smallest and the largest place measured; None for a rule that was not.
        lost: loss given up by keeping the tuned value, nats per token; None where unknown.
        evidence: what the rule rests on.
    """

    setting: Setting
    along: Along
    rule: str
    power: Estimate
    tuned: float
    ratio: Annotated[float, Field(gt=0)]
    factor: Annotated[float, Field(gt=0)]
    measured: tuple[float, float] | None
    lost: float | None
    evidence: str


class Steps(Strict):
    """Warmup, stable phase and decay, in updates counted from 0.

    Updates before `warmup` run at (s + 1) / warmup of the peak; `decay_start` is the first of the
    decay, `end` the first that is not run. With a `hold`, rates before the decay are also
    multiplied by (tokens / hold.tokens)^hold.power once so many are read, and `final_factor` is of
    the rate at which the decay begins.
    """

    warmup: int
    decay_start: int
    end: int
    shape: DecayShape
    final_factor: float
    hold: HoldTokens | None = None
    warmup_tokens: int
    stable_tokens: int
    decay_tokens: int

    @property
    def schedule(self) -> Schedule:
        """The multiplier on the peak rate as a function of the update."""
        hold = None if self.hold is None else self.hold.of_batch(self._batch_tokens)
        rate = 1.0 if hold is None else hold(self.decay_start)
        decay = Decay(
            start=self.decay_start,
            end=self.end,
            shape=self.shape,
            final_factor=self.final_factor * rate,
            rate=rate,
        )
        return Schedule(warmup=self.warmup, decay=decay, hold=hold)

    @property
    def hold_updates(self) -> int | None:
        """Updates after which the rate falls; None where it is held."""
        return None if self.hold is None else self.hold.tokens // self._batch_tokens

    @property
    def _batch_tokens(self) -> int:
        return (self.warmup_tokens + self.stable_tokens + self.decay_tokens) // self.end


class Kept(Strict):
    """A checkpoint worth keeping.

    With `horizon_tokens`, a decay that leaves it and ends there is forecast: `loss` is that of the
    whole study, mean over its validation sets.
    """

    step: int
    tokens: int
    why: str
    horizon_tokens: int | None = None
    horizon_step: int | None = None
    loss: Estimate | None = None


class Best(Strict):
    """The compute-optimal split of the budget `flops`, by the rule of the fit."""

    flops: float
    params: Estimate
    tokens: Estimate
    tokens_per_param: Estimate
    loss: Estimate


class Winner(Strict):
    """What a search of the study found; losses in nats per token, mean over validation sets."""

    study: str
    experiment: str
    values: dict[str, Any]
    loss: float | None
    low: float | None
    high: float | None
    noise: float | None
    applied: bool


class Law(Strict):
    """The fitted law behind the forecast, in brief; fits/mean.json has all of it."""

    law: str
    formula: str
    coefficients: dict[str, float]
    intervals: dict[str, tuple[float | None, float | None]]
    domain: dict[str, tuple[float, float]]
    flop_rule: str
    params_convention: str
    rows: int
    trunks: int


class Inputs(Strict):
    """Fingerprints (16 hex digits of a SHA-256) and versions of everything that went in."""

    study: str
    study_sha256: str
    stream: str
    tokenizer: str
    end_of_text: str | None
    validation: dict[str, str]
    runs: str
    fits: dict[str, str]
    companions: dict[str, dict[str, str]]
    git_commit: str | None
    windtunnel: str
    versions: dict[str, str]
    executions: tuple[dict[str, Any], ...]


class Handoff(Strict):
    """One target model, ready to be trained.

    Attributes:
        asked: the options of the export, as typed.
        model: the target's shape.
        sized: whether size and data were requested, or given by the law.
        recipe: the study's, at base width, with the target's batch and the rate that goes with it.
        width_ratio: the m of muP, width / base_width.
        roles: values of each role of parameters; `readout` only where embeddings are untied.
        kv_init_std: of the rows of keys and values; None, in older ones: that of hidden matrices.
        loss_unit: of every loss here.
        level: coverage of every interval here.
        calibrated: whether `level` is known to hold so far beyond the runs; else `forecast` has the
            range of the fit. True in older ones.
        forecast: prediction interval of one run's loss at the end, by validation set; `mean` is the
            unweighted mean over the sets, which the study's law was fitted to.
        transition: by validation set, what `low` of its forecast holds for a transition to copying;
            empty where none is told.
        bytes_per_token: of each validation set, to convert losses to another unit; None if unknown.
        transfer: how settings followed batch, length and depth; none where all stayed.
        best: how the same compute would best be spent; None where the fit has no optimum.
        digest: of the written document, in the file alone; it reveals an edited number.
    """

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    study: str
    written: str
    asked: dict[str, str]
    model: AnyModel
    counts: Counts
    sized: str
    recipe: Recipe
    width_ratio: float
    roles: dict[Role, RoleValues]
    kv_init_std: float | None = None
    multipliers: Multipliers
    batch: BatchChoice
    lr_rule: LrRule
    transfer: tuple[Transferred, ...] = ()
    schedule: Steps
    checkpoints: tuple[Kept, ...]
    loss_unit: str
    level: float
    calibrated: bool = True
    forecast: Annotated[dict[str, Estimate], Field(min_length=1)]
    transition: Annotated[dict[str, Transition], Field(default_factory=dict)]
    bytes_per_token: dict[str, float | None]
    best: Best | None
    winners: tuple[Winner, ...]
    law: Law
    inputs: Inputs
    warnings: tuple[StoredWarning, ...]
    digest: str | None = None

    def to_json(self) -> str:
        """The document as text (docs/export/json.md), with a digest of it as its last key."""
        text = self.model_dump_json(indent=2, by_alias=True, exclude={"digest"})
        digest = digest_of(json.loads(text))
        return f'{text.removesuffix("}").rstrip()},\n  "digest": "{digest}"\n}}\n'

    @staticmethod
    def read(path: Path) -> "Handoff":
        """The Handoff in a file, or in the `handoff.json` of a folder.

        One that was changed by hand since it was written has a warning of the code `EDITED`.

        Raises:
            ConfigError: There is none, it is of another schema version, or it was changed so that
                its numbers contradict each other.
        """
        file = path / FILE if path.is_dir() else path
        text = text_of(file, "give the folder that `windtunnel export` wrote, or its handoff.json")
        what, fix = (
            f"{file}: not a Handoff of schema {SCHEMA}",
            "write it again with `windtunnel export`",
        )
        content = parse(text, fix, what=what, kind=ConfigError)
        with boundary(what, fix, ConfigError):
            edited = isinstance(content, dict) and is_edited(content)
            if isinstance(content, dict) and content.pop("digest", None) is not None:
                text = json.dumps(content)
            try:
                handoff = Handoff.model_validate_json(text.encode())
            except ValidationError as wrong:
                first = wrong.errors()[0]
                where = ".".join(map(str, first["loc"])) or "the document"
                cause = first.get("ctx", {}).get("error")
                code = cause.code if isinstance(cause, Refused) else "invalid-value"
                values = cause.values if isinstance(cause, Refused) else {"cause": first["msg"]}
                raise Refused(code, f"{where}: {first['msg']}", key=where, **values) from None
            if (contradiction := next(contradictions(handoff), None)) is not None:
                raise contradiction
        if not edited:
            return handoff
        warning = Diagnostic(
            "edited-handoff",
            f"{file}: was changed by hand since it was written (its digest is that of "
            f"another content), so that its numbers are not those of the study; {fix}",
            path=file,
        )
        return handoff.model_copy(update={"warnings": (warning, *handoff.warnings)})


def counts_of(model: ModelSpec, tokens: int) -> Counts:
    """Sizes of the model and of its training on so many tokens."""
    return Counts(
        params=model.params,
        params_embedding=model.params_embedding,
        params_active=model.params,
        params_total=model.params_total if model.experts > 1 else None,
        num_heads=model.num_heads if isinstance(model, DenseSpec) else None,
        ffn_width=model.ffn_width if isinstance(model, DenseSpec) else None,
        tokens=tokens,
        tokens_per_param=tokens / model.params,
        flops_6nd=flops_6nd(model.params, tokens),
        flops_exact=float(model.flops_exact_per_token) * tokens,
    )


def roles_of(recipe: Recipe, model: ModelSpec) -> dict[Role, RoleValues]:
    """Values of every role that the model has."""
    found = {}
    for role in model.roles:
        scale = recipe.scale(role, model)
        base = router_std_of(model) if role is Role.ROUTER else None
        found[role] = RoleValues(
            lr=recipe.lr * scale.lr,
            init_std=(recipe.init_std if base is None else base) * scale.init_std,
            weight_decay=recipe.weight_decay * scale.weight_decay,
            eps=recipe.eps * scale.eps,
        )
    return found


def router_std_of(model: ModelSpec) -> float | None:
    """Init std of routers at base width; None where it is the recipe's."""
    found = model.fields.get("router_std") if isinstance(model, FamilySpec) else None
    return found if isinstance(found, float) else None


def kv_init_std_of(recipe: Recipe, model: ModelSpec) -> float:
    """Init std of the rows of keys and values."""
    return recipe.init_std * recipe.scale(Role.HIDDEN, model).init_std * recipe.kv_init_std(model)


SAME = 1e-6
"""Relative tolerance of two equal numbers, which were rounded when written."""


def contradictions(handoff: Handoff) -> Iterator[Refused]:
    """Every number that is out of range, or differs from what the others imply.

    Sizes follow from the model's shape, the batch from its rows. A written Handoff has none.
    """
    if not 0 < handoff.level < 1:
        yield _out_of_range("level", handoff.level, "above 0 and below 1")
    yield from _model_contradictions(handoff)
    yield from _schedule_contradictions(handoff)
    for name, estimate in handoff.forecast.items():
        if estimate.value <= 0:
            yield _out_of_range(f"forecast.{name}.value", estimate.value, "a loss above 0")
    fits, forecast = handoff.inputs.fits, handoff.forecast
    if fits and fits.keys() != forecast.keys():
        yield Refused(
            "contradiction",
            f"forecast: of {', '.join(forecast)}, and inputs.fits has {', '.join(fits)}",
            key="forecast",
            value=list(forecast),
            expected=list(fits),
        )
    for name, count in handoff.bytes_per_token.items():
        if count is not None and count <= 0:
            yield _out_of_range(f"bytes_per_token.{name}", count, "above 0")
    for name, (low, high) in handoff.law.domain.items():
        if not 0 < low <= high:
            yield Refused(
                "out-of-range",
                f"law.domain.{name}: {low:g} to {high:g}, allowed: above 0, the smaller first",
                key=f"law.domain.{name}",
                value=[low, high],
                allowed="above 0, the smaller first",
            )


def _model_contradictions(handoff: Handoff) -> Iterator[Refused]:
    derived = counts_of(handoff.model, handoff.counts.tokens)
    for name in ("params", "params_embedding", "num_heads", "ffn_width", "tokens_per_param"):
        mine, theirs = getattr(handoff.counts, name), getattr(derived, name)
        if mine != theirs and not (mine and theirs and math.isclose(mine, theirs, rel_tol=SAME)):
            yield Refused(
                "contradiction",
                f"counts.{name}: {mine:.9g}, where the model's shape and tokens give {theirs:.9g}",
                key=f"counts.{name}",
                value=mine,
                expected=theirs,
            )
    roles = roles_of(handoff.recipe, handoff.model)
    if handoff.roles.keys() != roles.keys():
        yield Refused(
            "contradiction",
            f"roles: {', '.join(handoff.roles)}, where the model has {', '.join(roles)}",
            key="roles",
            value=list(handoff.roles),
            expected=list(roles),
        )
    for role, values in handoff.roles.items():
        if values.lr <= 0:
            yield _out_of_range(f"roles.{role}.lr", values.lr, "above 0")
    if not handoff.width_ratio > 0:
        yield _out_of_range("width_ratio", handoff.width_ratio, "above 0")


def _schedule_contradictions(handoff: Handoff) -> Iterator[Refused]:
    steps, batch, context = handoff.schedule, handoff.batch, handoff.model.context
    if batch.batch_tokens < 1 or batch.rows * context != batch.batch_tokens:
        yield Refused(
            "contradiction",
            f"batch.batch_tokens: {batch.batch_tokens}, where {batch.rows} rows of "
            f"{context} tokens are {batch.rows * context}",
            key="batch.batch_tokens",
            value=batch.batch_tokens,
            expected=batch.rows * context,
        )
    if not 0 <= steps.warmup <= steps.decay_start < steps.end:
        yield Refused(
            "out-of-range",
            f"schedule: warmup {steps.warmup}, decay_start {steps.decay_start}, end {steps.end}; "
            "allowed: 0 or more, in this order",
            key="schedule",
            value=[steps.warmup, steps.decay_start, steps.end],
            allowed="0 or more, in this order",
        )
    for kept in handoff.checkpoints:
        if not 0 <= kept.step <= steps.end or kept.tokens < 0:
            yield Refused(
                "out-of-range",
                f"checkpoints: step {kept.step}, allowed: from 0 to schedule.end, {steps.end}",
                key="checkpoints",
                value=kept.step,
                allowed=[0, steps.end],
            )


def _out_of_range(key: str, value: float, allowed: str) -> Refused:
    message = f"{key}: {value:g}, allowed: {allowed}"
    return Refused("out-of-range", message, key=key, value=value, allowed=allowed)
