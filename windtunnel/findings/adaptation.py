"""Loss after more training on a target: a power law along the length of a stage, or a slope.

Variants of a branch experiment that differ only in the length of their stages form a group. Where
loss falls with every length, L = E + A x^-b is fitted to it; x is the tokens of the last stage's
mixture. Where loss rises or turns, the finding gives its slope per doubling.

Quantities; GROUP is the common beginning of the variants' names (code for code-250 and code-500):

    exponent of loss on SET, GROUP                    b
    floor of loss on SET, GROUP                       E, nats per token
    loss on SET at twice the longest, GROUP           of a new run; extrapolated
    change of loss on SET per doubling, GROUP         nats per token, over all lengths
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product, takewhile
from statistics import fmean, linear_regression
from typing import ClassVar

import numpy as np

from windtunnel.config.branch import BranchExperiment, Stage
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import (
    LEVEL,
    NATS,
    Finding,
    Quantity,
    coefficient,
    mean_of_seeds,
    with_ends,
)
from windtunnel.findings.records import Records
from windtunnel.findings.schedules import paired
from windtunnel.findings.variants import (
    Chains,
    chains_of,
    lost,
    sets_of,
    tokens_of_stages,
    unfinished_variants,
)
from windtunnel.laws import Fit, Interval, fit
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.laws.table import Floats

FEWEST_BRANCHES = 4
"""Lengths that a law of three coefficients is fitted to: one to spare."""
Losses = Mapping[tuple[int, int], float]
"""(tokens of the target, seed) -> nats per token."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """The longest length: its measured mean, and the prediction of a fit to the others."""

    measured: float
    predicted: Interval


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningCurve:
    """Loss on one validation set along the lengths of a group.

    Attributes:
        tokens: of every run, shape (runs,).
        losses: of every run, nats per token, shape (runs,).
        per_doubling: slope of the loss in log2 tokens, the mean over trunks.
        falls: whether the slope is down and no length is above the one before, beyond noise.
        law: E + A x^-b with its intervals; None where loss does not fall, or it cannot be fitted.
        held_out: None without the law, and of fewer than five lengths.
        diagnostics: of the law, or why there is none.
    """

    on: str
    tokens: Floats
    losses: Floats
    per_doubling: Interval
    falls: bool
    law: Fit | None
    held_out: HeldOut | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def forgets(self) -> bool:
        """Whether loss rises with length beyond noise."""
        return self.per_doubling.low > 0

    @property
    def exponent(self) -> Interval:
        """The b of the law, which must be there."""
        assert self.law is not None
        b = coefficient(self.law, "b")
        return Interval(-b.value, -b.high, -b.low)

    @property
    def floor(self) -> Interval:
        """The E of the law, which must be there."""
        assert self.law is not None
        return coefficient(self.law, "c")

    @property
    def at_twice(self) -> Interval:
        """Loss of a new run at twice the longest length, by the law, which must be there."""
        assert self.law is not None
        return self.law.predict(2 * float(self.tokens.max()))


def learning_curve(on: str, losses: Losses) -> LearningCurve:
    """The learning curve of one validation set, rising or falling."""
    slope = _per_doubling(losses)
    down = slope.value < 0 and not slope.high >= 0  # one seed has no interval
    falls = down and not any(_rises(losses, *two) for two in pairwise(_lengths(losses)))
    law: Fit | None = None
    held_out: HeldOut | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    if falls and len({seed for _, seed in losses}) > 1:
        law, held_out, diagnostics = _law(losses)
    return LearningCurve(
        on=on,
        tokens=np.array([tokens for tokens, _ in losses], np.float64),
        losses=np.array(list(losses.values())),
        per_doubling=slope,
        falls=falls,
        law=law,
        held_out=held_out,
        diagnostics=diagnostics,
    )


def _lengths(losses: Losses) -> list[int]:
    return sorted({tokens for tokens, _ in losses})


def _per_doubling(losses: Losses) -> Interval:
    """Mean slope of the trunks; each counts once, because its lengths share noise."""
    slopes = []
    for seed in sorted({seed for _, seed in losses}):
        mine = {tokens: loss for (tokens, of), loss in losses.items() if of == seed}
        if len(mine) > 1:
            line = linear_regression([math.log2(tokens) for tokens in mine], list(mine.values()))
            slopes.append(line.slope)
    return mean_of_seeds(slopes) if slopes else Interval(np.nan, *NO_INTERVAL)


def _rises(losses: Losses, short: int, long: int) -> bool:
    """Whether the longer one is above the shorter one beyond noise, seed by seed."""
    some, others = (
        {(seed, 0): loss for (tokens, seed), loss in losses.items() if tokens == wanted}
        for wanted in (long, short)
    )
    gap = paired(some, others)
    return gap is not None and gap.low is not None and gap.low > 0


def _law(losses: Losses) -> tuple[Fit | None, HeldOut | None, tuple[Diagnostic, ...]]:
    """The law, its prediction of the longest length, and warnings."""
    try:
        found = _fitted(losses)
    except FitError as why:
        return None, None, (_no_law(str(why), why.code),)
    diagnostics = tuple(each for each in found.warnings if each.code != "no-holdout")
    ends = [found.intervals.get(name, NO_INTERVAL) for name in ("b", "c")]
    if not np.isfinite(ends).all():
        return None, None, (_no_law("it has no finite interval", "no-interval"), *diagnostics)
    if not (found.coefficients["b"] < 0 < found.coefficients["a"]):
        problem = _no_law("the loss does not flatten towards a floor", "no-floor")
        return None, None, (problem, *diagnostics)
    if ends[0][1] >= 0:
        return None, None, (_no_law("its exponent may be 0", "zero-exponent"), *diagnostics)
    return found, _held_out(losses), diagnostics


def _no_law(why: str, cause: str) -> Diagnostic:
    return Diagnostic("no-power-law", f"no power law: {why}", cause=cause)


def _held_out(losses: Losses) -> HeldOut | None:
    *others, longest = _lengths(losses)
    if len(others) < FEWEST_BRANCHES:
        return None
    measured = [loss for (tokens, _), loss in losses.items() if tokens == longest]
    try:
        short = _fitted({key: loss for key, loss in losses.items() if key[0] != longest})
    except FitError:
        return None
    predicted = short.predict(float(longest), trunks=len(measured))
    return HeldOut(measured=fmean(measured), predicted=predicted)


def _fitted(losses: Losses) -> Fit:
    table = {
        "x": np.array([tokens for tokens, _ in losses], np.float64),
        "y": np.array(list(losses.values())),
        "trunk": np.array([str(seed) for _, seed in losses]),
    }
    return fit(table, "power-offset", level=LEVEL, holdout=None)


FEWEST = 4
"""Lengths of a group: a law of three coefficients needs one to spare."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptationFinding(Finding):
    """One group of one size and fork, shortest to longest."""

    size: str
    fork: str
    group: str
    variants: tuple[str, ...]
    curves: tuple[LearningCurve, ...]
    seeds: int
    lost: tuple[str, ...]

    kind: ClassVar[str] = "adaptation"
    title: ClassVar[str] = "What more training on the target brings"

    @property
    def lead(self) -> str:
        """Exponent, floor and the loss at twice the longest, or what is forgotten."""
        tokens = self.curves[0].tokens
        sentences = " ".join(f"{_sentence(curve)}." for curve in self.curves)
        return (
            f"{self.size}, left after {self.fork}, {self.group!r}: {len(self.variants)} lengths "
            f"from {tokens.min():,.0f} to {tokens.max():,.0f} tokens of the target. {sentences}"
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Those that the module lists."""
        return tuple(self._quantities())

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """One seed, missing runs, and the warnings of the fits."""
        return tuple(self._warned())

    def _quantities(self) -> Iterator[Quantity]:
        for curve in self.curves:
            if curve.law is not None:
                of = self._fields(curve)
                yield self.quantity("exponent", curve.exponent, **of)
                yield self.quantity("floor", curve.floor, NATS, **of)
                yield self.quantity("at-twice", curve.at_twice, NATS, **of)
        for curve in self.curves:
            yield self.quantity("per-doubling", curve.per_doubling, NATS, **self._fields(curve))

    def _fields(self, curve: LearningCurve) -> dict[str, str]:
        return {"set": curve.on, "group": self.group, "size": self.size, "fork": self.fork}

    def _warned(self) -> Iterator[Diagnostic]:
        if self.seeds < 2:
            yield Diagnostic(
                "one-seed",
                "one seed: nothing tells how large noise is, so no law is given",
                seeds=1,
            )
        if self.lost:
            yield unfinished_variants(self.lost)
        for curve in self.curves:
            for diagnostic in curve.diagnostics:
                yield diagnostic.at(curve.on, set=curve.on)


def adaptations(records: Records) -> tuple[AdaptationFinding, ...]:
    """One for each size, fork and group of lengths of each branch experiment."""
    found = []
    for experiment in records.config.experiments:
        if not isinstance(experiment, BranchExperiment):
            continue
        groups = _groups(records, experiment)
        sizes = experiment.sizes or records.config.model.sizes
        for size, fork in product(map(str, sizes), experiment.forks if groups else ()):
            chains = chains_of(records, experiment, size, fork)
            for group, stages in groups.items():
                finding = _finding(
                    experiment.name,
                    size,
                    str(fork),
                    group,
                    stages=stages,
                    chains=chains,
                    seeds=experiment.seeds,
                )
                found += [] if finding is None else [finding]
    return tuple(found)


Stages = Mapping[str, tuple[tuple[float, ...], ...]]
"""Variant -> for each of its stages, the shares of the sources that it reads."""


def _groups(records: Records, experiment: BranchExperiment) -> dict[str, Stages]:
    """Variants that differ only in length, by the common beginning of their names."""
    alike: dict[str, dict[str, tuple[tuple[float, ...], ...]]] = {}
    for name, stages in experiment.all_variants.items():
        shares = _shares(records, stages)
        besides = [_besides_length(records, stage) for stage in stages]
        alike.setdefault(f"{besides} {shares}", {})[name] = shares
    found: dict[str, Stages] = {}
    for group in alike.values():
        if len(group) < FEWEST:
            continue
        names = list(group)
        called = _shared_beginning(names).rstrip("-_. 0123456789")
        if not called or called in found:
            called = f"{names[0]} to {names[-1]}"
        found[called] = group
    return found


def _shared_beginning(names: Sequence[str]) -> str:
    columns = zip(*names, strict=False)
    return "".join(letters[0] for letters in takewhile(lambda each: len(set(each)) == 1, columns))


def _shares(records: Records, stages: Sequence[Stage]) -> tuple[tuple[float, ...], ...]:
    """Shares of the sources in each stage; a stage without a mixture keeps the last one."""
    sources = records.config.data.sources
    weights, found = {source.label: source.weight for source in sources}, []
    for stage in stages:
        weights = dict(stage.mixture or weights)
        whole = sum(weights.values())
        found.append(tuple(round(weights.get(each.label, 0.0) / whole, 9) for each in sources))
    return tuple(found)


def _besides_length(records: Records, stage: Stage) -> str:
    """Everything that a stage sets, except length and mixture, with defaults filled in."""
    bare = stage.replace(decay=None, stable=None, mixture=None, ramp=None)
    if stage.stable is None:
        bare = bare.replace(shape=stage.shape or records.config.schedule.shape)
    held = "holds" if stage.stable is not None else "decays"
    return f"{held} {stage.ramp} {bare.model_dump_json()}"


def _finding(
    experiment: str,
    size: str,
    fork: str,
    group: str,
    *,
    stages: Stages,
    chains: Chains,
    seeds: Sequence[int],
) -> AdaptationFinding | None:
    mine = {key: chain for key, chain in chains.items() if key[0] in stages}
    length = {
        name: sum(
            tokens
            for tokens, shares in zip(tokens_of_stages(chain), stages[name], strict=True)
            if shares == stages[name][-1]
        )
        for (name, _), chain in mine.items()
    }
    if len(set(length.values())) < FEWEST:
        return None
    losses = {
        on: {(length[name], seed): chain[-1].losses[on] for (name, seed), chain in mine.items()}
        for on in sets_of(mine)
    }
    return AdaptationFinding(
        experiment=experiment,
        size=size,
        fork=fork,
        group=group,
        variants=tuple(sorted(length, key=lambda name: length[name])),
        curves=tuple(learning_curve(on, each) for on, each in losses.items()),
        seeds=len({seed for _, seed in mine}),
        lost=lost(mine, stages, seeds),
    )


def _sentence(curve: LearningCurve) -> str:
    """The sentence about one validation set."""
    on, slope = curve.on, f"{with_ends(curve.per_doubling, '+.4f')} nats per doubling"
    if curve.law is None:
        if curve.forgets:
            return f"Loss on {on} rises: more training forgets, {slope}"
        if curve.falls:
            return f"Loss on {on} changes by {slope}; no law goes through it"
        flat = 0.0 in curve.per_doubling
        return (
            f"Loss on {on} {'neither falls nor rises beyond noise' if flat else 'falls and rises'}"
            f" with length: {slope} over all"
        )
    words = (
        f"Loss on {on} falls as x^-b towards a floor, b = {with_ends(curve.exponent, '.2f')} and "
        f"E = {with_ends(curve.floor, '.3f')}; at twice the longest a new run would have "
        f"{with_ends(curve.at_twice, '.3f')} (extrapolated)"
    )
    if curve.held_out is not None:
        held = curve.held_out
        inside = held.measured in held.predicted
        words += (
            f"; the longest, left out, is predicted at {with_ends(held.predicted, '.4f')} and has "
            f"{held.measured:.4f}, {'inside' if inside else 'outside'}"
        )
    return words
