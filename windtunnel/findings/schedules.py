"""WSD against cosine at equal length; how long a decay should be, and of what shape.

All grids of a study over `schedule.shape` and `schedule.decay_fraction` are read together, because
they share trunks. MiniCPM (arXiv 2404.06395, section 4.3) asks the same of a model of 36M
parameters. Schedules are compared seed by seed and length by length: seeds share initialisation and
data order, and so most of their noise. Lengths of one seed are branches of one trunk, so a seed
counts once.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import ClassVar

from windtunnel.config.study import GridExperiment
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import Finding, Quantity, difference_interval, diverged_runs, one_seed
from windtunnel.findings.records import Records
from windtunnel.runs.forecast import law_runs
from windtunnel.runs.run import Run
from windtunnel.runs.search.noise import Difference, differences, interval_of_mean
from windtunnel.runs.table import join

Losses = Mapping[tuple[int, int], float]
"""Of one schedule: (seed, tokens) -> nats per token."""


def paired(some: Losses, others: Losses) -> Difference | None:
    """Mean of `some` minus `others`, with Student's t interval over seeds; None without a pair.

    One seed alone has no interval.
    """
    by_seed: dict[int, list[float]] = {}
    for seed, tokens in some.keys() & others.keys():
        gap = some[seed, tokens] - others[seed, tokens]
        by_seed.setdefault(seed, []).append(gap)
    means = [fmean(gaps) for gaps in by_seed.values()]
    if not means:
        return None
    value, low, high = fmean(means), None, None
    if len(means) > 1:
        low, high = interval_of_mean(value, stdev(means), len(means))
    return Difference(value=value, low=low, high=high)


def above_best(schedules: Mapping[float, Losses]) -> dict[float, Difference]:
    """How far every schedule lies above the lowest, over the (seed, tokens) that all of them have.

    The lowest was picked from the same losses, so the intervals are Tukey's.
    """
    shared = (
        set.intersection(*(set(losses) for losses in schedules.values())) if schedules else set()
    )
    if not shared:
        return {}
    rows = []
    for losses in schedules.values():
        by_seed: dict[int, list[float]] = {}
        for seed, tokens in sorted(shared):
            by_seed.setdefault(seed, []).append(losses[seed, tokens])
        rows.append({seed: fmean(found) for seed, found in by_seed.items()})
    means = [fmean(row.values()) for row in rows]
    found = differences(rows, means.index(min(means)))
    return {key: gap for key, gap in zip(schedules, found, strict=True) if gap is not None}


AXES = frozenset({"size", "schedule.shape", "schedule.decay_fraction"})
FULL = 0.85
"""A decay of a larger share leaves at the end of warmup, and spans the whole run."""


@dataclass(frozen=True, kw_only=True)
class End:
    """One decayed end, in nats per token; `share` is the decay's, 1 for a full-length one.

    `flops_spent` are the branch's own training FLOPs, `flops` those from step 0.
    """

    seed: int
    horizon: str
    tokens: int
    shape: str
    share: float
    loss: float
    flops: float
    flops_spent: float


@dataclass(frozen=True, kw_only=True)
class ScheduleCost:
    """Training FLOPs of one seed for the same `lengths`, by one trunk with decays or by cosines."""

    lengths: int
    wsd: float
    cosine: float

    @classmethod
    def of(cls, wsd: Iterable[End], cosine: Iterable[End]) -> "ScheduleCost":
        """Of branches that ran; the trunk counts up to the last of their forks."""
        full = {end.tokens: end for end in cosine}
        decays = [end for end in wsd if end.tokens in full]
        trunk = max((end.flops - end.flops_spent for end in decays), default=0.0)
        return cls(
            lengths=len(decays),
            wsd=trunk + sum(end.flops_spent for end in decays),
            cosine=sum(full[end.tokens].flops for end in decays),
        )


def schedule_grids(records: Records) -> list[GridExperiment]:
    """The grids that vary the schedule and nothing else but size."""
    return [
        experiment
        for experiment in records.config.experiments
        if isinstance(experiment, GridExperiment)
        and set(experiment.axes) <= AXES
        and set(experiment.axes) != {"size"}
    ]


def ends_of(records: Records, grids: list[GridExperiment], runs: Iterable[Run]) -> Iterator[End]:
    """Of finished, decayed runs of these grids.

    A share is the configured one: whole updates make it a little longer or shorter.
    """
    usual = records.config.schedule
    configured = {float(x) for grid in grids for x in grid.listed("schedule.decay_fraction")}
    configured.add(usual.decay_share)
    for run in law_runs(runs):
        assert run.loss is not None
        share = run.flops_spent / run.flops_exact
        yield End(
            seed=run.init_seed,
            horizon=run.horizon,
            tokens=run.tokens,
            shape=run.axes.get("schedule.shape") or usual.shape,
            share=1.0 if share > FULL else _nearest(configured, share),
            loss=run.loss,
            flops=run.flops_exact,
            flops_spent=run.flops_spent,
        )


def _nearest(shares: set[float], share: float) -> float:
    return min(shares, key=lambda each: abs(math.log(each / share)))


USUAL = 0.1
"""The decay that MiniCPM finds sufficient: the one that cosine is compared with, if tried."""
MINICPM = "MiniCPM, by the loss of another model on C4: cosine 0.031 above 10%, 0.056 below 2.5%"
"""Ends of WSD(80N, 8N), WSD(80N, 2N) and Cosine(80N), read off figure 5."""
MINICPM_COST = "MiniCPM's six lengths from 10N to 60N: 2.45"
"""Derived: 175N in six runs, 71.5N in one trunk of 54N and decays of the last 10%."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SchedulesFinding(Finding):
    """Decayed ends of one size under several schedules."""

    size: str
    ends: tuple[End, ...]
    diverged: int = 0

    kind: ClassVar[str] = "schedules"
    title: ClassVar[str] = "Schedules: WSD and cosine"

    @cached_property
    def shape(self) -> str:
        """The decay tried at most shares: what cosine is compared with."""
        tried = {(end.shape, end.share) for end in self.ends}
        part = {each for each in tried if each[1] < 1}
        count = Counter(shape for shape, _ in part or tried)
        return max(count, key=lambda shape: (count[shape], shape == "linear"))

    @cached_property
    def shares(self) -> list[float]:
        """Decay shares of `shape`, short to long."""
        return sorted({end.share for end in self.ends if end.shape == self.shape})

    @cached_property
    def usual(self) -> float:
        """The share nearest to 10%."""
        return min(self.shares, key=lambda share: abs(math.log(share / USUAL)))

    @cached_property
    def horizons(self) -> dict[int, str]:
        """Tokens -> how the study writes that length, short to long."""
        return dict(sorted({end.tokens: end.horizon for end in self.ends}.items()))

    def losses(self, shape: str, share: float) -> Losses:
        """Of one schedule."""
        return {
            (end.seed, end.tokens): end.loss
            for end in self.ends
            if end.shape == shape and end.share == share
        }

    def against_cosine(self, share: float, tokens: int | None = None) -> Difference | None:
        """Full-length cosine minus a decay of this share, at one length or over all."""
        cosine = self.losses("cosine", 1.0)
        if tokens is not None:
            cosine = {key: loss for key, loss in cosine.items() if key[1] == tokens}
        return paired(cosine, self.losses(self.shape, share))

    @cached_property
    def by_share(self) -> dict[float, Difference]:
        """Loss above that of the best share; empty where only one was tried."""
        losses = {share: self.losses(self.shape, share) for share in self.shares}
        return above_best(losses) if len(losses) > 1 else {}

    @cached_property
    def shapes_share(self) -> float:
        """The share that most shapes were tried at, nearest to the usual one."""
        tried = {(end.share, end.shape) for end in self.ends}
        count = Counter(share for share, _ in tried)
        return max(self.shares, key=lambda share: (count[share], share == self.usual))

    @cached_property
    def by_shape(self) -> dict[str, Difference]:
        """Loss of every other shape minus that of `shape`, at `shapes_share`."""
        mine = self.losses(self.shape, self.shapes_share)
        others = dict.fromkeys(end.shape for end in self.ends if end.shape != self.shape)
        found = {shape: paired(self.losses(shape, self.shapes_share), mine) for shape in others}
        return {shape: gap for shape, gap in found.items() if gap is not None}

    @cached_property
    def cost(self) -> ScheduleCost | None:
        """Of the seed with the most lengths that both schedules have; None without two."""
        found = [
            ScheduleCost.of(
                self._ends(seed, self.shape, self.usual), self._ends(seed, "cosine", 1.0)
            )
            for seed in sorted({end.seed for end in self.ends})
        ]
        best = max(found, key=lambda cost: cost.lengths)
        return best if best.lengths > 1 else None

    @property
    def lead(self) -> str:
        """Cosine against WSD, the decay that is enough and the best shape, and the cost."""
        sentences = [*self._on_cosine(), *self._on_decays(), *self._on_cost()]
        nothing = ["No two schedules have finished with the same seed and length yet"]
        return " ".join(f"{sentence}." for sentence in sentences or nothing)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Cosine against WSD, decay shares, shapes, compute."""
        return (*self._cosine(), *self._decays(), *self._compute())

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """One seed, missing pairs, diverged runs."""
        found = []
        if len({end.seed for end in self.ends}) < 2:
            found.append(one_seed())
        cosine, wsd = self.losses("cosine", 1.0), self.losses(self.shape, self.usual)
        if alone := len(cosine.keys() ^ wsd.keys()):
            found.append(
                Diagnostic(
                    "unpaired-runs",
                    f"{alone} runs of cosine or of the {percent(self.usual)} decay have no "
                    "counterpart of the same seed and length, and are left out",
                    runs=alone,
                )
            )
        if self.diverged:
            found.append(diverged_runs(self.diverged))
        return tuple(found)

    def _ends(self, seed: int, shape: str, share: float) -> list[End]:
        wanted = (seed, shape, share)
        return [end for end in self.ends if (end.seed, end.shape, end.share) == wanted]

    def _on_cosine(self) -> Iterator[str]:
        gap = self.against_cosine(self.usual)
        if gap is not None:
            yield (
                f"At equal length a full cosine ends {_apart(gap)} a {spelt(self.shape)} decay of "
                f"the last {percent(self.usual)} ({MINICPM})"
            )

    def _on_decays(self) -> Iterator[str]:
        if self.by_share:
            best = min(self.by_share, key=lambda share: self.by_share[share].value)
            rest = [
                f"{percent(share)} ends {_apart(gap)} it"
                for share, gap in self.by_share.items()
                if share != best
            ]
            yield f"Of the decays {percent(best)} is best; {', '.join(rest)}"
        if self.by_shape:
            rest = [f"{spelt(shape)} ends {_apart(gap)} it" for shape, gap in self.by_shape.items()]
            yield f"At {percent(self.shapes_share)}, beside {spelt(self.shape)}: {', '.join(rest)}"

    def _on_cost(self) -> Iterator[str]:
        if self.cost is not None:
            yield (
                f"The same {self.cost.lengths} lengths take {self.cost.cosine / self.cost.wsd:.2f} "
                "times as much compute by cosines from scratch as by decays from one trunk "
                f"({MINICPM_COST})"
            )

    def _cosine(self) -> Iterator[Quantity]:
        decays = [share for share in self.shares if share < 1]
        for share in decays:
            gap = self.against_cosine(share)
            yield from self._difference("cosine-difference", gap, decay=percent(share))
        for tokens, horizon in self.horizons.items():
            gap = self.against_cosine(self.usual, tokens)
            of = {"decay": percent(self.usual), "horizon": horizon}
            yield from self._difference("cosine-difference", gap, **of)
        cosine = self.losses("cosine", 1.0)
        losses = [self.losses(self.shape, share) for share in decays]
        if len(losses) > 1:
            shared = set(cosine).intersection(*losses)
            mean = {key: sum(each[key] for each in losses) / len(losses) for key in shared}
            yield from self._difference("cosine-difference-mean", paired(cosine, mean))

    def _decays(self) -> Iterator[Quantity]:
        for share, gap in self.by_share.items():
            yield from self._difference("above-best-decay", gap, decay=percent(share))
        for shape, gap in self.by_shape.items():
            of = {"shape": spelt(shape), "base": spelt(self.shape)}
            decay = percent(self.shapes_share)
            yield from self._difference("shape-difference", gap, **of, decay=decay)

    def _compute(self) -> Iterator[Quantity]:
        if (cost := self.cost) is not None:
            of = {"size": self.size}
            yield self.quantity("cosine-compute-ratio", cost.cosine / cost.wsd, **of)
            yield self.quantity("wsd-compute", cost.wsd, "FLOPs", **of)
            yield self.quantity("cosine-compute", cost.cosine, "FLOPs", **of)

    def _difference(
        self, quantity: str, gap: Difference | None, **fields: str
    ) -> Iterator[Quantity]:
        """The difference in nats; nothing where no seed has both."""
        if gap is None:
            return
        yield self.quantity(quantity, difference_interval(gap), "nats", **fields, size=self.size)


def schedules(records: Records) -> tuple[SchedulesFinding, ...]:
    """A finding for each size of the grids over schedules; two schedules must have finished."""
    grids = schedule_grids(records)
    runs = [run for run in records.runs if run.is_of(*(grid.name for grid in grids))]
    found = []
    for size in dict.fromkeys(run.size for run in runs):
        mine = [run for run in runs if run.size == size]
        ends = tuple(ends_of(records, grids, mine))
        if len({(end.shape, end.share) for end in ends}) > 1:
            diverged = sum(run.diverged for run in mine)
            name = join(grid.name for grid in grids)
            found.append(SchedulesFinding(experiment=name, size=size, ends=ends, diverged=diverged))
    return tuple(found)


def percent(share: float) -> str:
    """`2.5%`."""
    return f"{100 * share:g}%"


def spelt(shape: str) -> str:
    """A shape in words."""
    return shape.replace("one_minus_sqrt", "1 - sqrt")


def _apart(gap: Difference) -> str:
    """`0.0031 nats (90%: 0.0010 to 0.0052) above`, or below."""
    side, sign = ("above", 1) if gap.value >= 0 else ("below", -1)
    if gap.low is None or gap.high is None:
        return f"{abs(gap.value):.4f} nats {side}"
    low, high = sorted((sign * gap.low, sign * gap.high))
    return f"{abs(gap.value):.4f} nats (90%: {low:.4f} to {high:.4f}) {side}"
