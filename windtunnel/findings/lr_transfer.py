"""Learning-rate transfer: whether one rate fits every size, or every length of training.

muP (arXiv 2203.03466) promises that the best rate does not move with width. An optimum is flat, so
the drift of the best rate is reported with the loss that the smallest model's rate gives up, and
that loss with the noise between seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from windtunnel.config.study import GridExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import (
    NATS,
    Finding,
    Quantity,
    doubled,
    missing_runs,
    scaled,
    with_ends,
)
from windtunnel.findings.lr_curves import (
    BATCH,
    RATE,
    SIZE,
    WEIGHT_DECAY,
    Along,
    LRCurves,
    SeedNoise,
    TransferredLR,
    count_missing_runs,
    exponent_between,
    mean_exponent,
    mean_of,
    noise_between_seeds,
    rate_grids,
    read_variants,
    variants,
)
from windtunnel.findings.records import Records
from windtunnel.runs.run import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class TransferFinding(Finding):
    """The best rate along width, depth, params or tokens, for every variant of a grid.

    Attributes:
        along: what grows.
        variants: the LR curves of each, in the order of the file.
        noise: between seeds, over all variants.
        missing: planned runs that have not ended.
        left_out: why others have no LR curves.
    """

    along: Along
    variants: tuple[LRCurves, ...]
    noise: SeedNoise | None
    missing: int = 0
    left_out: tuple[FitError, ...] = ()

    kind: ClassVar[str] = "lr-transfer"
    title: ClassVar[str] = "Learning-rate transfer"
    setting: ClassVar[str] = RATE
    noun: ClassVar[str] = "rate"
    """What is carried, in short."""

    @property
    def word(self) -> str:
        """The name of what grows."""
        return "training length" if self.along == "tokens" else self.along

    @property
    def lead(self) -> str:
        """The drift of every variant, then what the smallest one's rate gives up."""
        drifts = [f"{with_ends(each.drift)}{_for(each)}" for each in self.variants if each.drift]
        if not drifts:
            return (
                f"No two optima lie inside the {self.noun}s tried, so no drift of the best "
                f"{self.noun} is known: add {self.noun}s beyond the lowest loss."
            )
        sentences = [
            f"Per doubling of {self.word} the best {self.noun} changes by a factor of "
            f"{_and(drifts)}."
        ]
        losses: dict[str, list[str]] = {}
        for variant in self.variants:
            for each in variant.transferred[:1]:
                place = f"At {each.to.label} the {self.noun} of {each.source.label} gives up"
                losses.setdefault(place, []).append(_lost(each) + _for(variant))
        sentences += [f"{place} {_and(each)}." for place, each in losses.items()]
        if self.noise is not None:
            sentences.append(f"Seeds differ by {self.noise.sigma.value:.2g} nats.")
        return " ".join(sentences)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Drifts, loss given up, differences between variants, best rates, noise, divergence."""
        noise = (self.quantity("noise", self.noise.sigma, NATS),) if self.noise else ()
        diverged = (
            self.quantity("diverged", each.runs_diverged, variant=each.name or None)
            for each in self.variants
            if each.runs_diverged
        )
        return (
            *self._drifts(),
            *self._losses(),
            *self._differences(),
            *self._bests(),
            *noise,
            *diverged,
        )

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Those of the laws, divergence, unequal lengths, and missing runs."""
        found = [warning for variant in self.variants for warning in variant.warnings]
        found += [each.diagnostic() for each in self.left_out]
        lengths = {curve.tokens for variant in self.variants for curve in variant.curves}
        if self.along != "tokens" and len(lengths) > 1:
            found.append(
                Diagnostic(
                    "different-lengths",
                    f"the sizes were trained on {min(lengths):.3g} to {max(lengths):.3g} tokens: "
                    "the drift is that of size and length together",
                    tokens=[min(lengths), max(lengths)],
                )
            )
        if self.missing:
            found.append(missing_runs(self.missing))
        return tuple(found)

    def _drifts(self) -> Iterator[Quantity]:
        known = [variant for variant in self.variants if variant.drift]
        if self.along == "tokens" and len(known) > 1:
            mean = doubled(mean_exponent(known))
            yield self.quantity("drift", mean, along=self.along)
        for each in known:
            if each.drift:
                yield self.quantity(
                    "drift", each.drift, along=self.along, variant=each.name or None
                )

    def _losses(self) -> Iterator[Quantity]:
        """Losses given up; a rate that was not tried has none."""
        for variant in self.variants:
            for each in variant.transferred:
                if not each.known:
                    continue
                of: dict[str, str | float | None] = {
                    "along": self.along,
                    "times": each.to.at / each.source.at,
                    "source": None if each.source is variant.curves[0] else each.source.label,
                    "variant": variant.name or None,
                }
                yield self.quantity("given-up", each.lost, NATS, **of)
                if self.noise is not None and each.to is variant.largest:
                    in_noise = scaled(each.lost, 1 / self.noise.sigma.value)
                    yield self.quantity("given-up-over-noise", in_noise, **of)

    def _differences(self) -> Iterator[Quantity]:
        """Of every variant from the first one; lengths of two sizes are not compared."""
        if self.along == "tokens":
            return
        first = self.variants[0]
        for other in self.variants[1:]:
            if apart := exponent_between(first, other):
                yield self.quantity(
                    "drift",
                    doubled(apart),
                    along=self.along,
                    variant=first.name,
                    base=other.name,
                )
            mine, theirs = first.largest, other.largest
            if mine.at == theirs.at:
                yield self.quantity(
                    "best-loss-difference",
                    # A difference of two means is as noisy as a mean of half as many.
                    mean_of(
                        self.noise, theirs.lowest - mine.lowest, min(mine.seeds, theirs.seeds) / 2
                    ),
                    NATS,
                    along=self.along,
                    times=mine.at / first.curves[0].at,
                    variant=other.name,
                    base=first.name,
                )

    def _bests(self) -> Iterator[Quantity]:
        for variant in self.variants:
            for curve in variant.curves:
                if curve.best is not None:
                    yield self.quantity(
                        f"best-{self.noun.replace(' ', '-')}",
                        curve.best,
                        at=curve.label,
                        variant=variant.name or None,
                    )
        for variant in self.variants:
            last = variant.largest
            lowest = mean_of(self.noise, last.lowest, last.seeds)
            yield self.quantity(
                "best-loss", lowest, NATS, at=last.label, variant=variant.name or None
            )


class WeightDecayFinding(TransferFinding):
    """The best weight decay along size or length, for every variant of a grid."""

    kind: ClassVar[str] = "weight-decay-transfer"
    title: ClassVar[str] = "Weight-decay transfer"
    setting: ClassVar[str] = WEIGHT_DECAY
    noun: ClassVar[str] = "weight decay"


def transfers(records: Records) -> tuple[TransferFinding, ...]:
    """Every grid over the rate at two sizes or two lengths; with the batch it is a joint grid."""
    return _found(records, TransferFinding)


def weight_decays(records: Records) -> tuple[TransferFinding, ...]:
    """Every grid over weight decay at two sizes or two lengths."""
    return _found(records, WeightDecayFinding)


def _found(records: Records, kind: type[TransferFinding]) -> tuple[TransferFinding, ...]:
    grids = (grid for grid in rate_grids(records, kind.setting) if BATCH not in grid.axes)
    return tuple(found for grid in grids if (found := _read(records, grid, kind)) is not None)


def _read(
    records: Records, grid: GridExperiment, kind: type[TransferFinding]
) -> TransferFinding | None:
    """None while no variant has two places with three values."""
    runs = records.of(grid.name, decayed=False)
    if not runs:
        return None
    along = "tokens" if len(grid.horizons) > 1 else growing(runs)
    others = [axis for axis in grid.axes if axis not in (kind.setting, SIZE)]
    if along == "tokens":
        others.append(SIZE)
    found, refused = read_variants(
        records, variants(grid, runs, others), along=along, setting=kind.setting
    )
    if not found:
        return None
    return kind(
        experiment=grid.name,
        along=along,
        variants=found,
        left_out=refused,
        noise=noise_between_seeds([curve for each in found for curve in each.curves]),
        missing=count_missing_runs(records, grid),
    )


def growing(runs: Sequence[Run]) -> Along:
    """Width where all sizes share a depth, depth where they share a width, else params."""
    widths, depths = ({run.width for run in runs}, {run.depth for run in runs})
    if len(depths) == 1:
        return "width"
    return "depth" if len(widths) == 1 else "params"


def _for(variant: LRCurves) -> str:
    return f" for {variant.name}" if variant.name else ""


def _lost(transferred: TransferredLR) -> str:
    if not transferred.known:
        return "an unknown loss, for it was not tried there or diverged,"
    return f"{'' if transferred.to.best else 'at least '}{with_ends(transferred.lost, '.3f')} nats"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
