"""Variants of a branch experiment: what each ends at on every validation set.

Variants of one seed share a trunk, and so most of their noise, which cancels in their difference.
An interval here is that of one difference alone. Only the frontier, which compares all pairs, takes
wider ones.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar

import numpy as np

from windtunnel.config.branch import BranchExperiment
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import (
    NATS,
    Finding,
    Quantity,
    difference_interval,
    mean_of_seeds,
    with_ends,
)
from windtunnel.findings.records import Records
from windtunnel.findings.schedules import paired
from windtunnel.findings.variants import (
    FinishedVariant,
    VariantResults,
    diagnostics,
    listed,
    named,
    variants_at,
)
from windtunnel.laws import Interval
from windtunnel.laws.table import Floats
from windtunnel.runs.search.noise import Difference, differences


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchFinding(Finding):
    """All variants of one size and fork, in the order of the study file.

    `first` is the file's first variant, whether it has finished or not.
    """

    size: str
    fork: str
    sources: tuple[str, ...]
    first: str
    results: VariantResults

    kind: ClassVar[str] = "branches"
    title: ClassVar[str] = "Branch variants"

    @property
    def variants(self) -> tuple[FinishedVariant, ...]:
        """Variants with a finished run."""
        return self.results.variants

    @property
    def sets(self) -> tuple[str, ...]:
        """Validation sets, in the table's order."""
        return self.results.sets

    @property
    def base(self) -> FinishedVariant:
        """The variant that the others are compared with: the first that has finished."""
        return self.variants[0]

    @cached_property
    def others(self) -> tuple[FinishedVariant, ...]:
        """Variants that share a seed with `base`."""
        return tuple(
            variant
            for variant in self.variants[1:]
            if all(self.gap(variant, on) is not None for on in self.sets)
        )

    def gap(self, variant: FinishedVariant, on: str) -> Interval | None:
        """Loss on a set minus that of `base`, paired by seed; None where they share none."""
        mine, theirs = (
            {(seed, 0): loss for seed, loss in each.losses[on].items()}
            for each in (variant, self.base)
        )
        found = paired(mine, theirs)
        return None if found is None else difference_interval(found)

    def mean(self, variant: FinishedVariant, on: str) -> Interval:
        """Loss on a set over the seeds."""
        return mean_of_seeds(list(variant.losses[on].values()))

    @cached_property
    def frontier(self) -> tuple[FinishedVariant, ...]:
        """The variants that none beats: within noise, each may be best for its tokens.

        One beats another if it trains no longer, its mean is no higher on any set, and on some set
        it is lower beyond noise; with one seed, by the means.
        """
        return tuple(
            variant for variant in (self.base, *self.others) if variant not in self._beaten
        )

    @cached_property
    def mixture_axes(self) -> tuple[tuple[str, tuple[FinishedVariant, ...]], ...]:
        """Three variants or more that differ only in the mixture, from one end to the other.

        Each with the source that grows along them; their mixtures lie on a straight line.
        """
        groups: dict[tuple[int, str], list[FinishedVariant]] = {}
        for variant in (self.base, *self.others):
            groups.setdefault((variant.tokens, variant.besides), []).append(variant)
        found = []
        for group in groups.values():
            shares = np.array([variant.shares for variant in group])
            if len({variant.shares for variant in group}) < 3 or not _on_a_line(shares):
                continue
            reach = np.ptp(shares, axis=0)
            grows = int(np.flatnonzero(reach > reach.max() - 1e-9)[-1])
            ordered = sorted(group, key=lambda variant, at=grows: variant.shares[at])  # type: ignore[misc]
            found.append((self.sources[grows], tuple(ordered)))
        return tuple(found)

    @property
    def lead(self) -> str:
        """The lowest on each set, what is gained on one at the cost of another, the frontier."""
        lowest = "; ".join(self._lowest(on) for on in self.sets)
        sentences = [f"{self.size}, left after {self.fork}: {lowest}"]
        if trades := "; ".join(self._trades()):
            sentences.append(f"Against {self.base.name!r}, in nats: {trades}")
        if len(self.sets) > 1:
            beaten = [
                f"{variant.name!r}, which {by.name!r} beats" for variant, by in self._beaten.items()
            ]
            rest = f", and not {', nor '.join(beaten)}" if beaten else ""
            sentences.append(
                f"On the frontier of {listed(self.sets)}, within noise and for no more training, "
                f"{'are' if len(self.frontier) > 1 else 'is'} {named(self.frontier)}{rest}"
            )
        return " ".join(f"{sentence}." for sentence in sentences)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Differences from the first variant, then means; set by set."""
        at = {"size": self.size, "fork": self.fork}
        gaps = [
            self.quantity(
                "difference", gap, NATS, set=on, variant=variant.name, base=self.base.name, **at
            )
            for on in self.sets
            for variant in self.others
            if (gap := self.gap(variant, on)) is not None
        ]
        means = [
            self.quantity("loss", self.mean(variant, on), NATS, set=on, variant=variant.name, **at)
            for on in self.sets
            for variant in self.variants
        ]
        return (*gaps, *means)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Too few seeds, missing runs, and ends that cannot be compared."""
        return tuple(diagnostics(self.results, self.first))

    @cached_property
    def _pairs(self) -> Mapping[tuple[str, str, str], Difference]:
        """(set, one, other) -> one minus the other, over the seeds that all have.

        Many pairs are looked at for one that is beyond noise, so the intervals are Tukey's.
        """
        shown, found = (self.base, *self.others), {}
        for on in self.sets:
            seeds = sorted(set.intersection(*(set(variant.losses[on]) for variant in shown)))
            rows = [{seed: variant.losses[on][seed] for seed in seeds} for variant in shown]
            for place, other in enumerate(shown):
                for one, gap in zip(shown, differences(rows, place), strict=True):
                    if gap is not None:
                        found[on, one.name, other.name] = gap
        return found

    @cached_property
    def _beaten(self) -> Mapping[FinishedVariant, FinishedVariant]:
        """Of each variant off the frontier, the first that beats it; one on the frontier if any.

        The interval that tells so is between those two, and stands in no table of differences from
        the first variant.
        """
        shown = (self.base, *self.others)
        by = {variant: [each for each in shown if self._beats(each, variant)] for variant in shown}
        return {
            variant: next((each for each in better if not by[each]), better[0])
            for variant, better in by.items()
            if better
        }

    def _beats(self, one: FinishedVariant, other: FinishedVariant) -> bool:
        gaps = [self._pairs.get((on, one.name, other.name)) for on in self.sets]
        return one.tokens <= other.tokens and (
            all(gap is not None and gap.value <= 0 for gap in gaps)
            and any(gap is not None and gap.value < 0 and not gap.within_noise for gap in gaps)
        )

    def _lowest(self, on: str) -> str:
        gaps = {
            variant.name: gap
            for variant in self.others
            if (gap := self.gap(variant, on)) is not None
        }
        best = min(gaps, key=lambda name: gaps[name].value)
        words, base = f"loss on {on} is lowest with", self.base.name
        if gaps[best].value < 0:
            return (
                f"{words} {best!r}, {with_ends(_negative(gaps[best]), '.4f')} nats below {base!r}"
            )
        return (
            f"{words} {base!r}, and next with {best!r}, {with_ends(gaps[best], '.4f')} nats above"
        )

    def _trades(self) -> Iterator[str]:
        """Variants that gain on some sets and lose on others, both beyond noise."""
        for variant in self.others:
            gaps = {
                on: gap for on in self.sets if (gap := self.gap(variant, on)) and _is_clear(gap)
            }
            gains = [
                f"{with_ends(_negative(gap), '.4f')} on {on}"
                for on, gap in gaps.items()
                if gap.value < 0
            ]
            losses = [
                f"{with_ends(gap, '.4f')} on {on}" for on, gap in gaps.items() if gap.value > 0
            ]
            if gains and losses:
                yield f"{variant.name!r} gains {listed(gains)} and loses {listed(losses)}"


def branchings(records: Records) -> tuple[BranchFinding, ...]:
    """A finding for each size and fork at which two variants have finished."""
    found = []
    for experiment in records.config.experiments:
        if not isinstance(experiment, BranchExperiment):
            continue
        sizes = experiment.sizes or records.config.model.sizes
        for size, fork in product(map(str, sizes), experiment.forks):
            read = variants_at(records, experiment, size, fork)
            if not read.variants or not read.sets:
                continue
            finding = BranchFinding(
                experiment=experiment.name,
                size=size,
                fork=str(fork),
                sources=tuple(source.label for source in records.config.data.sources),
                first=next(iter(experiment.variants)),
                results=read,
            )
            if finding.others:
                found.append(finding)
    return tuple(found)


def _is_clear(gap: Interval) -> bool:
    """Whether the gap is beyond noise, or the noise is unknown."""
    return math.isnan(gap.low) or 0.0 not in gap


def _negative(gap: Interval) -> Interval:
    return Interval(-gap.value, -gap.high, -gap.low)


def _on_a_line(points: Floats) -> bool:
    return int(np.linalg.matrix_rank(points - points[0], tol=1e-9)) == 1
