"""Branches that leave the same trunks in several ways: what each ends at on every validation set.

Variants of one seed share a trunk, and so most of their noise: it cancels in their difference. Each
interval is that of one difference alone, not of whichever variant turned out lowest; only the
frontier, which looks at all pairs, takes wider ones.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from statistics import fmean, stdev
from typing import ClassVar

import numpy as np

from windtunnel.config.branch import BranchExperiment
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import Finding, Quantity, said
from windtunnel.findings.records import Records
from windtunnel.findings.schedules import paired
from windtunnel.findings.variants import Way, Ways, diagnostics, listed, named, ways_of
from windtunnel.laws import Interval
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.laws.table import Floats
from windtunnel.runs.search.noise import Difference, differences, interval_of_mean

NATS = "nats per token"


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchFinding(Finding):
    """All ways to leave the trunks of one size at one fork, in the order of the study file.

    `first` is the file's first variant, whether it has finished or not.
    """

    size: str
    fork: str
    sources: tuple[str, ...]
    first: str
    left: Ways

    kind: ClassVar[str] = "branches"
    title: ClassVar[str] = "Ways to leave the trunk"

    @property
    def ways(self) -> tuple[Way, ...]:
        """Those with a finished run."""
        return self.left.ways

    @property
    def sets(self) -> tuple[str, ...]:
        """Validation sets, in the table's order."""
        return self.left.sets

    @property
    def base(self) -> Way:
        """What the others are compared with: the first of the file that has finished."""
        return self.ways[0]

    @cached_property
    def others(self) -> tuple[Way, ...]:
        """Those that share a seed with `base`."""
        return tuple(
            way for way in self.ways[1:] if all(self.gap(way, on) is not None for on in self.sets)
        )

    def gap(self, way: Way, on: str) -> Interval | None:
        """Loss on a set minus that of `base`, paired by seed; None where they share none."""
        mine, theirs = (
            {(seed, 0): loss for seed, loss in each.losses[on].items()} for each in (way, self.base)
        )
        found = paired(mine, theirs)
        if found is None:
            return None
        if found.low is None or found.high is None:
            return Interval(found.value, *NO_INTERVAL)
        return Interval(found.value, found.low, found.high)

    def mean(self, way: Way, on: str) -> Interval:
        """Loss on a set over the seeds."""
        losses = list(way.losses[on].values())
        if len(losses) < 2:
            return Interval(losses[0], *NO_INTERVAL)
        mean = fmean(losses)
        return Interval(mean, *interval_of_mean(mean, stdev(losses), len(losses)))

    @cached_property
    def frontier(self) -> tuple[Way, ...]:
        """The ways that none beats: that may, within noise, be best for what they train and weigh.

        One beats another if it trains no longer, its mean is no higher on any set, and on some set
        it is lower beyond noise; with one seed, by the means.
        """
        return tuple(way for way in (self.base, *self.others) if way not in self._beaten)

    @cached_property
    def mixture_axes(self) -> tuple[tuple[str, tuple[Way, ...]], ...]:
        """Three ways or more that differ in nothing but the mixture, from one end to the other.

        Each with the source that grows along them; their mixtures lie on a straight line.
        """
        groups: dict[tuple[int, str], list[Way]] = {}
        for way in (self.base, *self.others):
            groups.setdefault((way.tokens, way.besides), []).append(way)
        found = []
        for group in groups.values():
            shares = np.array([way.shares for way in group])
            if len({way.shares for way in group}) < 3 or not _on_a_line(shares):
                continue
            reach = np.ptp(shares, axis=0)
            grows = int(np.flatnonzero(reach > reach.max() - 1e-9)[-1])
            ordered = sorted(group, key=lambda way, at=grows: way.shares[at])  # type: ignore[misc]
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
            beaten = [f"{way.name!r}, which {by.name!r} beats" for way, by in self._beaten.items()]
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
                "difference", gap, NATS, set=on, variant=way.name, base=self.base.name, **at
            )
            for on in self.sets
            for way in self.others
            if (gap := self.gap(way, on)) is not None
        ]
        means = [
            self.quantity("loss", self.mean(way, on), NATS, set=on, variant=way.name, **at)
            for on in self.sets
            for way in self.ways
        ]
        return (*gaps, *means)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Too few seeds, runs that are not there, ends that are not of one kind."""
        return tuple(diagnostics(self.left, self.first))

    @cached_property
    def _pairs(self) -> Mapping[tuple[str, str, str], Difference]:
        """(set, one, other) -> one minus the other, over the seeds that all have.

        Many pairs are looked at for one that is beyond noise, so the intervals are Tukey's.
        """
        shown, found = (self.base, *self.others), {}
        for on in self.sets:
            seeds = sorted(set.intersection(*(set(way.losses[on]) for way in shown)))
            rows = [{seed: way.losses[on][seed] for seed in seeds} for way in shown]
            for place, other in enumerate(shown):
                for one, gap in zip(shown, differences(rows, place), strict=True):
                    if gap is not None:
                        found[on, one.name, other.name] = gap
        return found

    @cached_property
    def _beaten(self) -> Mapping[Way, Way]:
        """Of each way off the frontier, the first that beats it; one on the frontier if any does.

        The interval that tells so is between those two, and stands in no table of differences from
        the first variant.
        """
        shown = (self.base, *self.others)
        by = {way: [each for each in shown if self._beats(each, way)] for way in shown}
        return {
            way: next((each for each in better if not by[each]), better[0])
            for way, better in by.items()
            if better
        }

    def _beats(self, one: Way, other: Way) -> bool:
        gaps = [self._pairs.get((on, one.name, other.name)) for on in self.sets]
        return one.tokens <= other.tokens and (
            all(gap is not None and gap.value <= 0 for gap in gaps)
            and any(gap is not None and gap.value < 0 and not gap.within_noise for gap in gaps)
        )

    def _lowest(self, on: str) -> str:
        gaps = {way.name: gap for way in self.others if (gap := self.gap(way, on)) is not None}
        best = min(gaps, key=lambda name: gaps[name].value)
        words, base = f"loss on {on} is lowest with", self.base.name
        if gaps[best].value < 0:
            return f"{words} {best!r}, {said(_negative(gaps[best]), '.4f')} nats below {base!r}"
        return f"{words} {base!r}, and next with {best!r}, {said(gaps[best], '.4f')} nats above"

    def _trades(self) -> Iterator[str]:
        """Variants that gain on some sets and lose on others, both beyond noise."""
        for way in self.others:
            gaps = {on: gap for on in self.sets if (gap := self.gap(way, on)) and _is_clear(gap)}
            gains = [
                f"{said(_negative(gap), '.4f')} on {on}"
                for on, gap in gaps.items()
                if gap.value < 0
            ]
            losses = [f"{said(gap, '.4f')} on {on}" for on, gap in gaps.items() if gap.value > 0]
            if gains and losses:
                yield f"{way.name!r} gains {listed(gains)} and loses {listed(losses)}"


def branchings(records: Records) -> tuple[BranchFinding, ...]:
    """A finding for each size and fork of each branch experiment that two variants have left."""
    found = []
    for experiment in records.config.experiments:
        if not isinstance(experiment, BranchExperiment):
            continue
        sizes = experiment.sizes or records.config.model.sizes
        for size, fork in product(map(str, sizes), experiment.forks):
            read = ways_of(records, experiment, size, fork)
            if not read.ways or not read.sets:
                continue
            finding = BranchFinding(
                experiment=experiment.name,
                size=size,
                fork=str(fork),
                sources=tuple(source.label for source in records.config.data.sources),
                first=next(iter(experiment.variants)),
                left=read,
            )
            if finding.others:
                found.append(finding)
    return tuple(found)


def _is_clear(gap: Interval) -> bool:
    """Whether it is beyond noise, or nothing tells how large noise is."""
    return math.isnan(gap.low) or 0.0 not in gap


def _negative(gap: Interval) -> Interval:
    return Interval(-gap.value, -gap.high, -gap.low)


def _on_a_line(points: Floats) -> bool:
    return int(np.linalg.matrix_rank(points - points[0], tol=1e-9)) == 1
