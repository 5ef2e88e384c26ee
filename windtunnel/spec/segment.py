"""Segments: trunks that warm up and hold, branches that leave a segment and change something.

A trunk has no end: how far it has been run is a fact of the store, not part of what it is. A branch
is its parent, the update at which it leaves, how many updates it runs, and a typed list of changes.
"""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from windtunnel.schedule import Decay, DecayShape, Schedule
from windtunnel.spec import identity
from windtunnel.spec.model import ModelSpec
from windtunnel.spec.recipe import Recipe
from windtunnel.spec.strict import Strict


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
            "model": identity.differing("model", self.model.model_dump()),
            "recipe": identity.differing("recipe", self.recipe.model_dump()),
            "stream": self.stream,
            "init_seed": self.init_seed,
            "data_seed": self.data_seed,
        }
        return identity.fingerprint("trunk", identity.differing("trunk", fields))

    @property
    def root(self) -> "Trunk":
        """The trunk itself."""
        return self

    @property
    def fork_step(self) -> int:
        """A trunk starts at update 0."""
        return 0

    @property
    def schedule(self) -> Schedule:
        """Warm up and hold, without an end."""
        return Schedule(warmup=self.recipe.warmup_steps)

    @property
    def decayed(self) -> bool:
        """Whether the rate has been brought down by the segment's end."""
        return False


class ScheduleChange(Strict):
    """Decay over all of the branch's updates."""

    kind: Literal["schedule"] = "schedule"
    shape: DecayShape = "exponential"
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.1


class DataChange(Strict):
    """Read other rows from the fork on: under another permutation seed, in another mixture.

    Attributes:
        data_seed: of every shuffle; None: the parent's.
        stream: the mixture's fingerprint, which is what an id knows of it; None: the parent's.
        mixture: the weights of its sources by name.
    """

    kind: Literal["data"] = "data"
    data_seed: int | None = None
    stream: str | None = None
    mixture: dict[str, float] | None = None


Change = Annotated[ScheduleChange | DataChange, Field(discriminator="kind")]


class Branch(Strict):
    """`steps` updates that leave `parent` after its first `fork_step` updates."""

    kind: Literal["branch"] = "branch"
    parent: Annotated["Trunk | Branch", Field(discriminator="kind")]
    fork_step: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=1)]
    changes: tuple[Change, ...] = ()

    @cached_property
    def id(self) -> str:
        """16 hex digits of the parent's id, the fork and all that changes."""
        changes = [
            {"kind": change.kind}
            | identity.differing(change.kind, change.model_dump(exclude={"kind", "mixture"}))
            for change in self.changes
        ]
        fields = {
            "parent": self.parent.id,
            "fork_step": self.fork_step,
            "steps": self.steps,
            "changes": changes,
        }
        return identity.fingerprint("branch", identity.differing("branch", fields))

    @property
    def root(self) -> Trunk:
        """The trunk at the start of the path: the unit of statistical independence."""
        return self.parent.root

    @property
    def model(self) -> ModelSpec:
        """The model trained here."""
        return self.parent.model

    @property
    def recipe(self) -> Recipe:
        """The recipe followed here."""
        return self.parent.recipe

    @property
    def end(self) -> int:
        """The first update that is not run."""
        return self.fork_step + self.steps

    @property
    def data_seed(self) -> int:
        """Permutation seed of the rows from the fork on."""
        seeds = [
            change.data_seed
            for change in self.changes
            if isinstance(change, DataChange) and change.data_seed is not None
        ]
        return seeds[-1] if seeds else self.parent.data_seed

    @property
    def mixture(self) -> DataChange | None:
        """What changes the mixture at the fork, if anything does."""
        found = (change for change in self.changes if isinstance(change, DataChange))
        return next((change for change in found if change.mixture is not None), None)

    @property
    def schedule(self) -> Schedule:
        """The parent's schedule, or a decay over the branch."""
        for change in self.changes:
            if isinstance(change, ScheduleChange):
                decay = Decay(
                    start=self.fork_step,
                    end=self.end,
                    shape=change.shape,
                    final_factor=change.final_factor,
                )
                return Schedule(warmup=self.recipe.warmup_steps, decay=decay)
        return self.parent.schedule

    @property
    def decayed(self) -> bool:
        """Whether the rate has been brought down by the segment's end."""
        return self.schedule.decay is not None


Segment = Annotated[Trunk | Branch, Field(discriminator="kind")]
