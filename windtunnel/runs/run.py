"""A measurement: what one segment, or one imported run, came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["trunk", "branch", "imported"]
KIND = "imported"
"""The kind of a run of another tool; the study's own are trunks and branches."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished or diverged segment, or an imported run.

    Fields whose type has `| Any` may be None of imported runs, which state what a law reads and
    little else; of the study's own runs only where their line below says so.

    Attributes:
        segment: Id of the segment, or of the imported run.
        kind: A run of the study is a trunk or a branch.
        parent: Segment that a branch left; None of a trunk.
        trunk: Runs of one trunk share most of their noise.
        decayed: Whether the learning rate had been decayed at the end.
        experiments: Those that need the segment.
        variants: Name by branch experiment; `NAME/STAGE` for an earlier stage of a chain.
        held_out: Whether the run waited for a forecast of its loss.
        width, depth: Of the model.
        params: That one token passes through, without embedding and head: the N of laws.
        params_embedding: Of embedding and head.
        params_active: As `params`.
        params_total: Of a mixture of experts, with those that a token does not choose.
        experts: Of a mixture of experts, those that a token chooses from.
        sunk_tokens: Of an upcycled model, what the dense one before it had read.
        tokens: Of the whole path from update 0, as are the FLOPs but `flops_spent`.
        flops_6nd: 6 N D.
        flops_exact: With attention, embedding and head.
        flops: The FLOPs that laws read: 6 N D, or as another tool states them.
        flops_spent: Exact FLOPs of the segment itself.
        batch_tokens: Tokens per update.
        lr: Peak learning rate at base width.
        horizon: Length of a branch as the study writes it; None of a trunk.
        fork_tokens: Tokens after which the path left its trunk; None of a trunk.
        epochs: Of the source that was read most often.
        outcome: A diverged run has no loss.
        loss: Mean of `losses`, without sets of masked prompts; nats per token.
        bits_per_byte: The same mean in bits per byte.
        losses: Nats per token by validation set.
        bits_per_byte_by_set: None of a set whose bytes are not known.
        copy_gain: Nats per token that the model gains on a chunk that it has just read; None where
            it was not measured.
        copy_gain_se: Its standard error.
        mixture: Share of each source read at the end; empty where no mixture changes.
        tokens_per_second, seconds: Of the segment itself.
        axes: What some grid or search varies, such as `recipe.lr`; only records tell.
        label, source: Of an imported run: its name, and where it came from.
    """

    segment: str
    kind: Kind
    trunk: str
    decayed: bool
    experiments: tuple[str, ...]
    params: int
    tokens: int
    loss: float | None
    outcome: Literal["finished", "diverged"] = "finished"
    parent: str | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    held_out: bool = False
    width: int | Any = None
    depth: int | Any = None
    params_embedding: int | Any = None
    params_active: int | Any = None
    flops_6nd: float | Any = None
    flops_exact: float | Any = None
    flops: float | Any = None
    flops_spent: float | Any = None
    batch_tokens: int | Any = None
    lr: float | Any = None
    init_seed: int | Any = None
    data_seed: int | Any = None
    horizon: str | Any = None
    fork_tokens: int | Any = None
    epochs: float | Any = None
    bits_per_byte: float | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    bits_per_byte_by_set: Mapping[str, float | None] = field(default_factory=dict)
    copy_gain: float | None = None
    copy_gain_se: float | None = None
    mixture: Mapping[str, float] = field(default_factory=dict)
    tokens_per_second: float | None = None
    seconds: float | Any = None
    axes: Mapping[str, Any] = field(default_factory=dict)
    params_total: int | None = None
    experts: int | None = None
    sunk_tokens: int | None = None
    label: str | None = None
    source: str | None = None

    @property
    def size(self) -> str:
        """`WIDTHxDEPTH`; empty of an imported run."""
        return "" if self.width is None else f"{self.width}x{self.depth}"

    @property
    def diverged(self) -> bool:
        """Whether training diverged, so that there is no loss."""
        return self.outcome == "diverged"

    @property
    def imported(self) -> bool:
        """Whether another tool trained it."""
        return self.kind == KIND

    def is_of(self, *experiments: str) -> bool:
        """Whether any of the experiments needs it."""
        return not set(experiments).isdisjoint(self.experiments)
