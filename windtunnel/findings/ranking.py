"""Whether short anneals put data in the order in which long training on it does.

MiniCPM4 (arXiv 2506.07900) section 2.2 scores a set of data by a short anneal on 30% of it and 70%
of the default mixture, in place of training on it from scratch. Two branch experiments that share
variants say how far that can be trusted: one of them is cheap, the other dear.

Quantities, with the experiments' own names for CHEAP and DEAR (and their fork, where one has more):

    rank correlation on SET, CHEAP against DEAR           Spearman's rho of the mean losses
    Kendall's tau on SET, CHEAP against DEAR
    rank correlation on SET, DEAR against its repeat      what noise leaves of the same ranking
    regret on SET of choosing by CHEAP                    loss in DEAR above the best there
    chance that CHEAP and DEAR agree on the best for SET
    cost of CHEAP over DEAR                               FLOPs of the branches
    cost of CHEAP over DEAR, with their trunks            and of each trunk up to the fork
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import ClassVar

import numpy as np

from windtunnel.findings.finding import Finding, Quantity
from windtunnel.findings.numbers import quantity, said
from windtunnel.findings.rank_noise import (
    TrueMeans,
    kendall,
    loudest,
    neighbours_within_noise,
    spearman,
    true_means,
)
from windtunnel.findings.records import Records
from windtunnel.findings.scores import Left, Scores, scores_of
from windtunnel.findings.way_rows import chains_of
from windtunnel.laws import Interval
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.laws.table import Floats
from windtunnel.spec.branching import BranchExperiment
from windtunnel.trials.seed_noise import differences

FEWEST = 4
"""Variants that both experiments have: fewer have no ranking to speak of."""
CHEAPER = 3
"""How many times as long the dear branches train (assumed)."""
LOUD = 0.9
"""Share of all noise that is too much for one variant (assumed)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingFinding(Finding):
    """The same variants in a cheap and a dear experiment, at one size."""

    size: str
    variants: tuple[str, ...]
    unshared: tuple[str, ...]
    cheap: Scores
    dear: Scores

    title: ClassVar[str] = "Does a short anneal rank data as training on it does?"

    @property
    def sets(self) -> tuple[str, ...]:
        """Validation sets that both were measured on."""
        return tuple(on for on in self.cheap.losses if on in self.dear.losses)

    @property
    def pair(self) -> str:
        """Both names."""
        return f"{self.cheap.name} against {self.dear.name}"

    def rho(self, on: str) -> Interval:
        """Spearman's correlation of the mean losses; its interval is of the true means'.

        Noise pulls the measured one towards 0, so that it may lie outside: the interval then
        reaches up to it.
        """
        drawn = self._drawn[on]
        return _reaching(float(spearman(*self._means(on))), drawn.rho if drawn else NO_INTERVAL)

    def tau(self, on: str) -> Interval:
        """Kendall's, in the same way."""
        drawn = self._drawn[on]
        return _reaching(float(kendall(*self._means(on))), drawn.tau if drawn else NO_INTERVAL)

    def ceiling(self, on: str) -> Interval | None:
        """Rho of the dear experiment with a repeat of itself; None where noise is not known."""
        drawn = self._drawn[on]
        return drawn.repeated() if drawn else None

    def best(self, scores: Scores, on: str) -> int:
        """Which variant is lowest by its mean."""
        return int(scores.losses[on].mean(axis=1).argmin())

    def regret(self, on: str) -> Interval:
        """Dear loss of the cheap one's best above the dear one's best, nats per token.

        Seeds are compared with themselves. The dear best was picked from the same losses, so the
        interval is Tukey's; where both have the same best it is 0, and has none.
        """
        chosen, best = self.best(self.cheap, on), self.best(self.dear, on)
        rows = [dict(enumerate(row)) for row in self.dear.losses[on].tolist()]
        gap = differences(rows, best)[chosen]
        assert gap is not None
        if gap.low is None or gap.high is None:
            return Interval(gap.value, *NO_INTERVAL)
        return Interval(gap.value, max(gap.low, 0.0), gap.high)

    @property
    def cost(self) -> float:
        """FLOPs of the cheap branches over those of the dear ones, both by seed."""
        return self.cheap.flops / self.dear.flops

    @property
    def cost_with_trunks(self) -> float:
        """The same, where no trunk was there: each is trained up to its fork once a seed."""
        cheap, dear = (each.flops + each.trunk_flops for each in (self.cheap, self.dear))
        return cheap / dear

    @property
    def lead(self) -> str:
        """How well the rankings agree on each set, what choosing by the anneal loses, the cost."""
        rankings = "; ".join(self._ranking(on) for on in self.sets)
        return (
            f"{self.size}, {len(self.variants)} variants, {self.pair} (rank correlation): "
            f"{rankings}. The branches of {self.cheap.name} take {self.cost:.3g} of the compute of "
            f"those of {self.dear.name}, {self.cost_with_trunks:.3g} with the trunks up to their "
            "forks."
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """As the module lists them."""
        return tuple(self._quantities())

    @property
    def warnings(self) -> tuple[str, ...]:
        """One seed, variants that one of them lacks, and orders that are noise."""
        return tuple(self._warned())

    @cached_property
    def _drawn(self) -> Mapping[str, TrueMeans | None]:
        return {on: true_means(self.cheap.losses[on], self.dear.losses[on]) for on in self.sets}

    def _means(self, on: str) -> tuple[Floats, Floats]:
        return self.cheap.losses[on].mean(axis=1), self.dear.losses[on].mean(axis=1)

    def _ranking(self, on: str) -> str:
        words, ceiling = f"on {on} {said(self.rho(on), '.2f')}", self.ceiling(on)
        if ceiling is not None:
            words += f", where a repeat of {self.dear.name} would have {ceiling.value:.2f} with it"
        chosen, best = (self.variants[self.best(each, on)] for each in (self.cheap, self.dear))
        if chosen == best:
            return f"{words}, and {best!r} is best in both"
        return (
            f"{words}, and its best, {chosen!r}, is {said(self.regret(on), '.4f')} nats above "
            f"{best!r}, the best of {self.dear.name}"
        )

    def _quantities(self) -> Iterator[Quantity]:
        cheap, dear = self.cheap.name, self.dear.name
        for on in self.sets:
            yield quantity(f"rank correlation on {on}, {self.pair}", self.rho(on))
        yield Quantity(name=f"cost of {cheap} over {dear}", value=self.cost)
        with_trunks = f"cost of {cheap} over {dear}, with their trunks"
        yield Quantity(name=with_trunks, value=self.cost_with_trunks)
        for on in self.sets:
            regret = f"regret on {on} of choosing by {cheap}"
            yield quantity(regret, self.regret(on), "nats per token")
            yield quantity(f"Kendall's tau on {on}, {self.pair}", self.tau(on))
            drawn, ceiling = self._drawn[on], self.ceiling(on)
            if drawn is not None and ceiling is not None:
                repeat = f"rank correlation on {on}, {dear} against its repeat"
                yield quantity(repeat, ceiling)
                agree = f"chance that {cheap} and {dear} agree on the best for {on}"
                yield Quantity(name=agree, value=drawn.same_best)

    def _warned(self) -> Iterator[str]:
        for each in (self.cheap, self.dear):
            if len(each.seeds) < 2:
                yield f"{each.name}: one seed that all have, so nothing tells how large noise is"
            if each.lost:
                yield f"{each.name}: diverged or not there yet: {', '.join(each.lost)}"
        if self.unshared:
            yield f"in one of the two alone, and left out: {', '.join(self.unshared)}"
        for on in self.sets:
            for each in (self.cheap, self.dear):
                place, share = loudest(each.losses[on])
                if len(each.seeds) > 1 and share > LOUD:
                    yield (
                        f"{each.name}, {on}: {share:.0%} of the noise is that of "
                        f"{self.variants[place]!r}, and is taken for that of all"
                    )
                noisy = neighbours_within_noise(each.losses[on])
                if noisy:
                    yield (
                        f"{each.name}, {on}: {noisy} of {len(self.variants) - 1} neighbours in the "
                        "ranking are within noise of each other"
                    )
        yield "the intervals are of these variants; others may be ranked better or worse"


def rankings(records: Records) -> tuple[RankingFinding, ...]:
    """One for each size and two branch experiments of which one is dear and ranks the same."""
    config = records.config
    branching = [each for each in config.experiments if isinstance(each, BranchExperiment)]
    found = []
    for size in map(str, config.model.sizes):
        left = [
            (experiment, fork)
            for experiment in branching
            if size in map(str, experiment.sizes or config.model.sizes)
            for fork in experiment.forks
        ]
        for cheap, dear in permutations(left, 2):
            finding = None if cheap[0] is dear[0] else _ranking(records, size, cheap, dear)
            found += [] if finding is None else [finding]
    return tuple(found)


def _ranking(records: Records, size: str, cheap: Left, dear: Left) -> RankingFinding | None:
    """Nothing where they share too little, or one is not much dearer than the other."""
    some, others = (dict.fromkeys(each.ways) for each, _ in (cheap, dear))
    finished = [
        {name for name, _ in chains_of(records, each, size, fork)} for each, fork in (cheap, dear)
    ]
    shared = tuple(name for name in some if name in finished[0] & finished[1])
    if len(shared) < FEWEST:
        return None
    scores = [scores_of(records, size, each, shared) for each in (cheap, dear)]
    if any(not each.seeds for each in scores) or CHEAPER * scores[0].tokens > scores[1].tokens:
        return None
    finding = RankingFinding(
        experiment=cheap[0].name,
        size=size,
        variants=shared,
        unshared=tuple(name for name in some | others if name not in shared),
        cheap=scores[0],
        dear=scores[1],
    )
    return finding if finding.sets else None


def _reaching(value: float, ends: tuple[float, float]) -> Interval:
    """An interval widened to hold the value; nan stays."""
    return Interval(value, float(np.minimum(ends[0], value)), float(np.maximum(ends[1], value)))
