"""Segments of training: trunks and branches, their ids, and their tokens and FLOPs.

A trunk warms up and holds the rate, or lets it fall as a power of tokens; its length is a fact of
the store, not part of its identity. A branch is its parent, the update of its fork, its number of
updates, and a typed list of changes.

The id of a segment is a hash of everything that affects its updates. Only fields that differ from a
frozen default enter it: a new field joins `FROZEN` with the value of earlier behaviour, so that old
ids stay. Defaults of the config models may change freely. Golden ids in tests pin this.

Tokens, rows and FLOPs are summed over the path of segments from update 0, because a branch may
change batch or context.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from windtunnel.accounting import flops_6nd
from windtunnel.config.model import Recipe, ScheduleConfig
from windtunnel.config.shape import AnyModel, FamilySpec, ModelSpec
from windtunnel.config.units import Strict
from windtunnel.schedule import Decay, DecayShape, PowerHold, Schedule

Objective = Literal["full", "completion"]
"""full: loss on all tokens; completion: on the completions of sources of pairs only."""


class HoldTokens(Strict):
    """A rate that falls as a power of tokens once `tokens` are read; see `schedule.PowerHold`."""

    power: Annotated[float, Field(ge=-1, lt=0)]
    tokens: Annotated[int, Field(ge=1)]

    def of_batch(self, batch_tokens: int) -> PowerHold:
        """The multiplier by update, for updates of so many tokens."""
        return PowerHold(power=self.power, tokens=self.tokens, batch=batch_tokens)


def hold_of(schedule: ScheduleConfig, model: ModelSpec, batch_tokens: int) -> HoldTokens | None:
    """The fall of a trunk's rate, at whole updates; None where it is held."""
    if schedule.hold == "constant":
        return None
    steps = schedule.hold.start.steps(params=model.params, batch_tokens=batch_tokens)
    return HoldTokens(power=schedule.hold.power, tokens=steps * batch_tokens)


class Trunk(Strict):
    """Warmup and stable phase of one model on one data stream with one pair of seeds."""

    kind: Literal["trunk"] = "trunk"
    model: AnyModel
    recipe: Recipe
    stream: str
    init_seed: int
    data_seed: int
    hold: HoldTokens | None = None

    @cached_property
    def id(self) -> str:
        """16 hex digits, the hash of everything that affects the updates."""
        fields = {
            "model": differing("model", self.model.identity()),
            "recipe": differing("recipe", identity_fields(self.recipe, self.model)),
            "stream": self.stream,
            "init_seed": self.init_seed,
            "data_seed": self.data_seed,
            "hold": None if self.hold is None else self.hold.model_dump(),
        }
        return fingerprint("trunk", differing("trunk", fields))

    @property
    def root(self) -> "Trunk":
        """The trunk itself."""
        return self

    @property
    def fork_step(self) -> int:
        """0, where every trunk starts."""
        return 0

    @property
    def objective(self) -> Objective:
        """`full`, the objective of every trunk."""
        return "full"

    @property
    def schedule(self) -> Schedule:
        """Warmup, then a constant or slowly falling rate without an end."""
        hold = None if self.hold is None else self.hold.of_batch(self.recipe.batch_tokens)
        return Schedule(warmup=self.recipe.warmup_steps, hold=hold)

    @property
    def decayed(self) -> bool:
        """Whether the segment ends with a decayed rate."""
        return False


class ScheduleChange(Strict):
    """A new schedule for the branch: an optional warmup, then a constant rate or a decay.

    Attributes:
        shape: shape of the decay; constant: no decay.
        final_factor: rate at the end of a decay, relative to the recipe's peak.
        rate: constant rate, or the rate at which the decay begins, relative to the peak.
        warmup: updates of linear warmup from 0 to `rate`.
    """

    kind: Literal["schedule"] = "schedule"
    shape: DecayShape | Literal["constant"] = "exponential"
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.1
    rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0

    def schedule(self, *, start: int, end: int, before: Schedule) -> Schedule:
        """The schedule of updates `start` to `end - 1`, after updates under `before`."""
        decay = None
        if self.shape != "constant":
            decay = Decay(
                start=start + self.warmup,
                end=end,
                shape=self.shape,
                final_factor=self.final_factor,
                rate=self.rate,
            )
            if not self.warmup:
                return Schedule(warmup=before.warmup, decay=decay)
        return Schedule(warmup=self.warmup, decay=decay, start=start, rate=self.rate)


class DataChange(Strict):
    """Other rows from the fork on: another permutation seed, another mixture, or both.

    Attributes:
        data_seed: seed of every permutation; None: the parent's.
        stream: fingerprint of the mixture, which enters the id; None: the parent's.
        mixture: weights by source name.
        ramp: updates of linear interpolation from the parent's mixture.
    """

    kind: Literal["data"] = "data"
    data_seed: int | None = None
    stream: str | None = None
    mixture: dict[str, float] | None = None
    ramp: Annotated[int, Field(ge=0)] = 0


class ObjectiveChange(Strict):
    """Another objective; `completion` masks the loss on prompts."""

    kind: Literal["objective"] = "objective"
    loss: Objective = "full"


class BatchChange(Strict):
    """Another batch size; `lr_factor` multiplies the parent's peak rate."""

    kind: Literal["batch"] = "batch"
    batch_tokens: Annotated[int, Field(ge=1)]
    lr_factor: Annotated[float, Field(gt=0)] = 1.0


class ContextChange(Strict):
    """Another context length; `rope_base` None: the parent's."""

    kind: Literal["context"] = "context"
    context: Annotated[int, Field(ge=2)]
    rope_base: Annotated[float | None, Field(gt=1)] = None


Moments = Literal["copied", "zeroed"]
"""Of the optimizer, for copies of a matrix."""


class ModelChange(Strict):
    """A mixture of experts in place of the dense model: copies of its feed-forwards.

    Attributes:
        model: The mixture.
        moments: Of each copy in the optimizer.
        reset: Share of each copy's inner units that start anew.
    """

    kind: Literal["model"] = "model"
    model: FamilySpec
    moments: Moments = "copied"
    reset: Annotated[float, Field(ge=0, lt=1)] = 0.0


Change = Annotated[
    ScheduleChange | DataChange | ObjectiveChange | BatchChange | ContextChange | ModelChange,
    Field(discriminator="kind"),
]
AChange = TypeVar("AChange", bound=Strict)


class Branch(Strict):
    """`steps` updates from the state of `parent` after its first `fork_step` updates."""

    kind: Literal["branch"] = "branch"
    parent: Annotated["Trunk | Branch", Field(discriminator="kind")]
    fork_step: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=1)]
    changes: tuple[Change, ...] = ()

    def change(self, kind: type[AChange]) -> AChange | None:
        """The change of one kind, or None."""
        return next((change for change in self.changes if isinstance(change, kind)), None)

    @cached_property
    def id(self) -> str:
        """16 hex digits, the hash of the parent's id, the fork, the length and the changes."""
        changes = [{"kind": change.kind} | _identity_of(change) for change in self.changes]
        fields = {
            "parent": self.parent.id,
            "fork_step": self.fork_step,
            "steps": self.steps,
            "changes": changes,
        }
        return fingerprint("branch", differing("branch", fields))

    @property
    def root(self) -> Trunk:
        """The trunk at the start of the path, which is the unit of statistical independence."""
        return self.parent.root

    @cached_property
    def model(self) -> ModelSpec:
        """The model of the branch."""
        other = self.change(ModelChange)
        if other is not None:
            return other.model
        change, model = self.change(ContextChange), self.parent.model
        if change is None:
            return model
        return model.with_context(change.context, change.rope_base)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the branch."""
        change, recipe = self.change(BatchChange), self.parent.recipe
        if change is None:
            return recipe
        return recipe.replace(batch_tokens=change.batch_tokens, lr=recipe.lr * change.lr_factor)

    @property
    def end(self) -> int:
        """The first update that is not run."""
        return self.fork_step + self.steps

    @property
    def data_seed(self) -> int:
        """Permutation seed of the rows from the fork on."""
        change = self.change(DataChange)
        if change is None or change.data_seed is None:
            return self.parent.data_seed
        return change.data_seed

    @property
    def mixture(self) -> DataChange | None:
        """The change of the mixture at the fork, or None."""
        change = self.change(DataChange)
        return None if change is None or change.mixture is None else change

    @property
    def stream(self) -> str:
        """Fingerprint of the mixture from the fork on."""
        change = self.change(DataChange)
        return self.parent.stream if change is None or change.stream is None else change.stream

    @property
    def objective(self) -> Objective:
        """The objective of the branch."""
        change = self.change(ObjectiveChange)
        return self.parent.objective if change is None else change.loss

    @property
    def schedule(self) -> Schedule:
        """The parent's schedule, or that of the schedule change."""
        change, before = self.change(ScheduleChange), self.parent.schedule
        if change is None:
            batch = self.recipe.batch_tokens
            if before.hold is None or batch == before.hold.batch:
                return before
            hold = before.hold.with_batch(batch, since=self.fork_step)
            return dataclasses.replace(before, hold=hold)
        return change.schedule(start=self.fork_step, end=self.end, before=before)

    @property
    def decayed(self) -> bool:
        """Whether the segment ends with a decayed rate."""
        return self.schedule.decay is not None


def _identity_of(change: Change) -> dict[str, Any]:
    """The fields of a change that affect an update, without frozen defaults."""
    if isinstance(change, ModelChange):
        own = change.model_dump(include={"moments", "reset"})
        return differing("upcycling", own | {"model": change.model.identity()})
    return differing(change.kind, change.model_dump(exclude={"kind", "mixture"}))


Segment = Annotated[Trunk | Branch, Field(discriminator="kind")]


SCHEMA = 1

FROZEN: dict[str, dict[str, Any]] = {
    "model": {"ffn_ratio": 2.5, "tied": True, "qk_norm": False, "rope_base": 10000.0},
    "recipe": {
        "init_std": 0.1,
        "scale_emb": 12.0,
        "scale_depth": 1.4,
        "parametrization": "mup",
        "base_depth": None,
        "kv_rule": "hidden",
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.1,
        "weight_decay_rule": "scaled",
        "clip": 1.0,
    },
    "trunk": {"hold": None},
    "branch": {"changes": []},
    "schedule": {"shape": "exponential", "final_factor": 0.1, "rate": 1.0, "warmup": 0},
    "data": {"data_seed": None, "stream": None, "ramp": 0},
    "objective": {"loss": "full"},
    "batch": {"lr_factor": 1.0},
    "context": {"rope_base": None},
    "upcycling": {"moments": "copied", "reset": 0.0},
}
"""Frozen defaults. Only add: an edited value would change the id of every existing segment."""


def identity_fields(recipe: Recipe, model: ModelSpec) -> dict[str, Any]:
    """The fields of a recipe without those that affect no update of this model."""
    effects = {
        "base_depth": recipe.parametrization == "completep",
        "kv_rule": model.kv_group != 1,
        "scale_emb": "embed" in model.sites,
        "scale_depth": "residual" in model.sites,
    }
    return recipe.model_dump(
        exclude={name for name, has_effect in effects.items() if not has_effect}
    )


def differing(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `kind` that differ from their frozen default."""
    frozen = FROZEN[kind]
    return {
        name: value for name, value in fields.items() if name not in frozen or value != frozen[name]
    }


def fingerprint(kind: str, fields: dict[str, Any]) -> str:
    """16 hex digits over the canonical encoding of {kind, schema, fields}.

    Raises:
        TypeError: A value has no canonical encoding (a callable, a NaN, an object).
    """
    payload = {"kind": kind, "schema": SCHEMA, "fields": _canonical(fields)}
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return f"f{value!r}"  # marked, so that 1.0 and 1 cannot be confused
        case dict():
            return {str(key): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be part of an identity")


Amount = TypeVar("Amount", int, float)


def sunk_tokens(segment: Segment) -> int | None:
    """Tokens that the dense model had read when it was upcycled; None where none was."""
    if isinstance(segment, Trunk):
        return None
    if segment.change(ModelChange) is not None:
        return tokens_at(segment.parent, segment.fork_step)
    return sunk_tokens(segment.parent)


def tokens_at(segment: Segment, step: int) -> int:
    """Tokens read by the first `step` updates."""
    return _along(segment, step, lambda each: each.recipe.batch_tokens)


def rows_at(segment: Segment, step: int) -> int:
    """Rows read by the first `step` updates, of any length; the index of the next row."""
    return _along(segment, step, rows_per_update)


def flops_6nd_at(segment: Segment, step: int) -> float:
    """Training FLOPs of the first `step` updates by C = 6 N D."""
    return float(
        _along(segment, step, lambda each: flops_6nd(each.model.params, each.recipe.batch_tokens))
    )


def flops_exact_at(segment: Segment, step: int) -> float:
    """Training FLOPs of the first `step` updates, attention scores and head included."""
    return float(_along(segment, step, flops_per_update))


def rows_per_update(segment: Segment) -> int:
    """Rows per update."""
    return segment.recipe.batch_tokens // segment.model.context


def flops_per_update(segment: Segment) -> int:
    """Training FLOPs per update, attention scores and head included."""
    return segment.model.flops_exact_per_token * segment.recipe.batch_tokens


def _along(segment: Segment, step: int, per_update: Callable[[Segment], Amount]) -> Amount:
    tokens = (step - segment.fork_step) * per_update(segment)
    if isinstance(segment, Trunk):
        return tokens
    return _along(segment.parent, segment.fork_step, per_update) + tokens
