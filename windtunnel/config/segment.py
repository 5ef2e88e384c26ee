"""Segments: trunks that warm up and hold, branches that leave a segment and change something.

A trunk has no end: how far it has been run is a fact of the store, not part of what it is. A branch
is its parent, the update at which it leaves, how many updates it runs, and a typed list of changes.

Identity: the id of a segment is a hash of everything that decides its updates, and nothing else.

Only fields that differ from a *frozen* default enter the hash. A new field joins `FROZEN` with the
value that reproduces what was done before it existed, and no old id changes; a default in a config
model may change freely, for it is not what is frozen here. A committed table of golden ids pins it.

What a segment has consumed by an update, counted along its path from update 0.

A branch may change batch, context or model, so nothing of it is a multiple of the update: each
segment of the path adds its own updates.
"""

import hashlib
import json
import math
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from windtunnel.accounting import flops_6nd
from windtunnel.config.model import ModelSpec, Recipe
from windtunnel.config.units import Strict
from windtunnel.schedule import Decay, DecayShape, Schedule

Objective = Literal["full", "completion"]
"""All text counts, or only the completions of sources of pairs."""


class Trunk(Strict):
    """Warm-up and stable phase of one model on one stream with one pair of seeds."""

    kind: Literal["trunk"] = "trunk"
    model: ModelSpec
    recipe: Recipe
    stream: str
    init_seed: int
    data_seed: int

    @cached_property
    def id(self) -> str:
        """16 hex digits of what decides every update."""
        fields = {
            "model": differing("model", self.model.model_dump()),
            "recipe": differing("recipe", self.recipe.model_dump()),
            "stream": self.stream,
            "init_seed": self.init_seed,
            "data_seed": self.data_seed,
        }
        return fingerprint("trunk", differing("trunk", fields))

    @property
    def root(self) -> "Trunk":
        """The trunk itself."""
        return self

    @property
    def fork_step(self) -> int:
        """A trunk starts at update 0."""
        return 0

    @property
    def objective(self) -> Objective:
        """A trunk is trained on all of its text."""
        return "full"

    @property
    def schedule(self) -> Schedule:
        """Warm up and hold, without an end."""
        return Schedule(warmup=self.recipe.warmup_steps)

    @property
    def decayed(self) -> bool:
        """Whether the rate has been brought down by the segment's end."""
        return False


class ScheduleChange(Strict):
    """Another rate over the branch: warm up again if asked to, then hold or decay to its end.

    Attributes:
        shape: of the decay; constant: the rate is held.
        final_factor: rate at the end of a decay, relative to the recipe's peak.
        rate: where the decay begins, or what is held, relative to the same.
        warmup: updates that take the rate from 0 up to `rate`.
    """

    kind: Literal["schedule"] = "schedule"
    shape: DecayShape | Literal["constant"] = "exponential"
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.1
    rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0

    def schedule(self, *, start: int, end: int, before: Schedule) -> Schedule:
        """The rate of updates `start` to `end` - 1, after what ran by `before`."""
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
    """Read other rows from the fork on: under another permutation seed, in another mixture.

    Attributes:
        data_seed: of every shuffle; None: the parent's.
        stream: the mixture's fingerprint, which is what an id knows of it; None: the parent's.
        mixture: the weights of its sources by name.
        ramp: updates over which the mixture goes there from the parent's, in a straight line.
    """

    kind: Literal["data"] = "data"
    data_seed: int | None = None
    stream: str | None = None
    mixture: dict[str, float] | None = None
    ramp: Annotated[int, Field(ge=0)] = 0


class ObjectiveChange(Strict):
    """Train on another loss; `completion`: prompts are read, and only what answers them counts."""

    kind: Literal["objective"] = "objective"
    loss: Objective = "full"


class BatchChange(Strict):
    """Another batch, and the peak rate that goes with it; `lr_factor` multiplies the parent's."""

    kind: Literal["batch"] = "batch"
    batch_tokens: Annotated[int, Field(ge=1)]
    lr_factor: Annotated[float, Field(gt=0)] = 1.0


class ContextChange(Strict):
    """Rows of another length; `rope_base` None: the parent's."""

    kind: Literal["context"] = "context"
    context: Annotated[int, Field(ge=2)]
    rope_base: Annotated[float | None, Field(gt=1)] = None


Change = Annotated[
    ScheduleChange | DataChange | ObjectiveChange | BatchChange | ContextChange,
    Field(discriminator="kind"),
]
AChange = TypeVar("AChange", bound=Strict)


class Branch(Strict):
    """`steps` updates that leave `parent` after its first `fork_step` updates."""

    kind: Literal["branch"] = "branch"
    parent: Annotated["Trunk | Branch", Field(discriminator="kind")]
    fork_step: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=1)]
    changes: tuple[Change, ...] = ()

    def change(self, kind: type[AChange]) -> AChange | None:
        """What changes here of one kind, if anything does."""
        return next((change for change in self.changes if isinstance(change, kind)), None)

    @cached_property
    def id(self) -> str:
        """16 hex digits of the parent's id, the fork and all that changes."""
        changes = [
            {"kind": change.kind}
            | differing(change.kind, change.model_dump(exclude={"kind", "mixture"}))
            for change in self.changes
        ]
        fields = {
            "parent": self.parent.id,
            "fork_step": self.fork_step,
            "steps": self.steps,
            "changes": changes,
        }
        return fingerprint("branch", differing("branch", fields))

    @property
    def root(self) -> Trunk:
        """The trunk at the start of the path: the unit of statistical independence."""
        return self.parent.root

    @cached_property
    def model(self) -> ModelSpec:
        """The model trained here."""
        change, model = self.change(ContextChange), self.parent.model
        if change is None:
            return model
        return model.replace(context=change.context, rope_base=change.rope_base or model.rope_base)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe followed here."""
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
        """What changes the mixture at the fork, if anything does."""
        change = self.change(DataChange)
        return None if change is None or change.mixture is None else change

    @property
    def stream(self) -> str:
        """Fingerprint of the mixture that is read here."""
        change = self.change(DataChange)
        return self.parent.stream if change is None or change.stream is None else change.stream

    @property
    def objective(self) -> Objective:
        """The loss that is trained on here."""
        change = self.change(ObjectiveChange)
        return self.parent.objective if change is None else change.loss

    @property
    def schedule(self) -> Schedule:
        """The parent's schedule, or another over the branch."""
        change, before = self.change(ScheduleChange), self.parent.schedule
        if change is None:
            return before
        return change.schedule(start=self.fork_step, end=self.end, before=before)

    @property
    def decayed(self) -> bool:
        """Whether the rate has been brought down by the segment's end."""
        return self.schedule.decay is not None


Segment = Annotated[Trunk | Branch, Field(discriminator="kind")]


SCHEMA = 1

FROZEN: dict[str, dict[str, Any]] = {
    "model": {"ffn_ratio": 2.5, "tied": True, "qk_norm": False, "rope_base": 10000.0},
    "recipe": {
        "init_std": 0.1,
        "scale_emb": 12.0,
        "scale_depth": 1.4,
        "parametrization": "mup",
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.1,
        "weight_decay_rule": "scaled",
        "clip": 1.0,
    },
    "trunk": {},
    "branch": {"changes": []},
    "schedule": {"shape": "exponential", "final_factor": 0.1, "rate": 1.0, "warmup": 0},
    "data": {"data_seed": None, "stream": None, "ramp": 0},
    "objective": {"loss": "full"},
    "batch": {"lr_factor": 1.0},
    "context": {"rope_base": None},
}
"""Never edit a value: it would give every existing segment a new id. Only add."""


def differing(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `kind` that are not at their frozen default."""
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


def tokens_at(segment: Segment, step: int) -> int:
    """Tokens read by the first `step` updates."""
    return _along(segment, step, lambda each: each.recipe.batch_tokens)


def rows_at(segment: Segment, step: int) -> int:
    """Rows read by them, whatever their lengths: the number of the next row."""
    return _along(segment, step, rows_per_update)


def flops_6nd_at(segment: Segment, step: int) -> float:
    """6ND of them."""
    return float(
        _along(segment, step, lambda each: flops_6nd(each.model.params, each.recipe.batch_tokens))
    )


def flops_exact_at(segment: Segment, step: int) -> float:
    """FLOPs of them with attention, embedding and head."""
    return float(_along(segment, step, flops_per_update))


def rows_per_update(segment: Segment) -> int:
    """Rows of one update of a segment."""
    return segment.recipe.batch_tokens // segment.model.context


def flops_per_update(segment: Segment) -> int:
    """FLOPs of one update of a segment, with attention, embedding and head."""
    return segment.model.flops_exact_per_token * segment.recipe.batch_tokens


def _along(segment: Segment, step: int, per_update: Callable[[Segment], Amount]) -> Amount:
    own = (step - segment.fork_step) * per_update(segment)
    if isinstance(segment, Trunk):
        return own
    return _along(segment.parent, segment.fork_step, per_update) + own
