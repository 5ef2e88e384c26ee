"""Whether short anneals rank data as long training on it does.

MiniCPM4 (arXiv 2506.07900, section 2.2) scores data by a short anneal on 30% of it and 70% of the
default mixture, instead of training on it from scratch. Two branch experiments that share variants
measure how far that can be trusted; one of them is cheap, the other dear.

Seeds are too few to be resampled, and adding noise to means that already hold it counts it twice.
So the true means are drawn from their posterior: they are bivariate normal over the variants, of
unknown covariance (Jeffreys prior), and measured with a noise that is pooled over all variants
after the means of seeds, for trunks are shared; its variance is drawn too. Measured on five
variants of two and three seeds and ten of three, true correlations of 0, .8 and 1, noise of a
twentieth to a half of the variance of a mean: the 90% interval of the true rank correlation covers
.88 to 1. On five variants, means redrawn with their standard errors cover .07 to .98, and resampled
seeds .07 to .78. Where one variant is far from the others and ten times as noisy, it covers .78.

Quantities, with the experiments' own names for CHEAP and DEAR (and their fork, where one has more):

    rank correlation on SET, CHEAP against DEAR           Spearman's rho of the mean losses
    Kendall's tau on SET, CHEAP against DEAR
    rank correlation on SET, DEAR against its repeat      what noise leaves of the same ranking
    regret on SET of choosing by CHEAP                    loss in DEAR above the best there
    chance that CHEAP and DEAR agree on the best for SET
    cost of CHEAP over DEAR                               FLOPs of the branches
    cost of CHEAP over DEAR, with their trunks            and of each trunk up to the fork
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import ClassVar

import numpy as np

from windtunnel.config import Duration
from windtunnel.config.branch import BranchExperiment
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import NATS, Finding, Quantity, difference_interval, with_ends
from windtunnel.findings.records import Records
from windtunnel.findings.variants import chains_of, lost, sets_of, unfinished_variants
from windtunnel.laws import Interval
from windtunnel.laws.interval import NO_INTERVAL, quantiles
from windtunnel.laws.table import Floats
from windtunnel.runs.run import Run
from windtunnel.runs.search.noise import LEVEL, differences, residual_noise

ExperimentAtFork = tuple[BranchExperiment, Duration]
"""An experiment at one of its forks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingSide:
    """What the variants that two experiments share ended at in one of them.

    Attributes:
        name: of the experiment, with its fork where it has several.
        seeds: those that every variant has.
        losses: validation set -> nats per token, shape (variants, seeds).
        tokens: of a branch after it has left its trunk, the mean.
        flops: of all the branches of one seed, a stage that several share once.
        trunk_flops: of one trunk up to the fork.
        lost: names of variants with a seed that diverged or has not finished.
    """

    name: str
    seeds: tuple[int, ...]
    losses: Mapping[str, Floats]
    tokens: float
    flops: float
    trunk_flops: float
    lost: tuple[str, ...]

    def mean(self, on: str, place: int) -> Interval:
        """Loss of one variant on a set over the seeds.

        The interval leaves out what all variants of a seed share, which moves no rank.
        """
        losses = self.losses[on]
        mean, reach = float(losses[place].mean()), reach_of_mean(losses)
        return Interval(mean, mean - reach, mean + reach)


def ranking_side(
    records: Records, size: str, at_forks: ExperimentAtFork, shared: tuple[str, ...]
) -> RankingSide:
    """Of the variants that two experiments share, in one of them."""
    experiment, fork = at_forks
    chains = chains_of(records, experiment, size, fork)
    seeds = [seed for seed in experiment.seeds if all((name, seed) in chains for name in shared)]
    mine = {(name, seed): chains[name, seed] for name in shared for seed in seeds}
    ends = {key: chain[-1] for key, chain in mine.items()}
    segments = {run.segment: run for chain in mine.values() for run in chain}
    trunks = {run.segment: run for run in records.runs if run.kind == "trunk"}
    return RankingSide(
        name=experiment.name if len(experiment.forks) == 1 else f"{experiment.name} at {fork}",
        seeds=tuple(seeds),
        losses={
            on: np.array([[ends[name, seed].losses[on] for seed in seeds] for name in shared])
            for on in sets_of(mine)
        },
        tokens=float(np.mean([run.tokens - run.fork_tokens for run in ends.values()] or [0])),
        flops=sum(run.flops_spent for run in segments.values()) / max(len(seeds), 1),
        trunk_flops=_up_to(trunks, next(iter(ends.values()), None)),
        lost=lost(chains, shared, experiment.seeds),
    )


def _up_to(trunks: Mapping[str, Run], end: Run | None) -> float:
    """FLOPs of the trunk of a branch up to where it was left."""
    if end is None:
        return 0.0
    trunk = trunks[end.trunk]
    return float(trunk.flops_exact * end.fork_tokens / trunk.tokens)


DRAWS = 2000
LEAST = 1e-6
"""Of the variance of true means over that of their noise: below it they are in any order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueMeans:
    """Draws of what endless seeds would give, shape (draws, things), in standard errors.

    `some` and `others` are the two measurements; each has a mean of 0, which ranks do not need.
    """

    some: Floats
    others: Floats

    @property
    def rho(self) -> tuple[float, float]:
        """Ends of the interval of Spearman's correlation."""
        return quantiles(spearman(self.some, self.others), LEVEL)

    @property
    def tau(self) -> tuple[float, float]:
        """Ends of the interval of Kendall's."""
        return quantiles(kendall(self.some, self.others), LEVEL)

    @property
    def same_best(self) -> float:
        """How often the same thing is lowest in both."""
        return float(np.mean(self.some.argmin(axis=1) == self.others.argmin(axis=1)))

    def repeated(self, seed: int = 0) -> Interval:
        """Spearman's correlation of `others`, measured with as many seeds, with a repeat of it."""
        noise = np.random.default_rng([seed, 1]).standard_normal((2, *self.others.shape))
        found = spearman(self.others + noise[0], self.others + noise[1])
        return Interval(float(found.mean()), *quantiles(found, LEVEL))


def true_means(some: Floats, others: Floats, *, seed: int = 0) -> TrueMeans | None:
    """Posterior of the means of two measurements (things, seeds) of the same things.

    None where one of them has one seed, which says nothing of its noise.
    """
    if min(some.shape[1], others.shape[1]) < 2:
        return None
    rng = np.random.default_rng([seed, 0])
    means = np.stack([_centred(each.mean(axis=1)) for each in (some, others)], axis=-1)
    errors = np.stack([_errors(each, rng) for each in (some, others)], axis=-1)
    measured = means / errors[:, None, :]  # (draws, things, 2), of noise 1
    covariance = _inverse_wishart(measured.swapaxes(1, 2) @ measured, len(means) - 1, rng)
    spread, axes = np.linalg.eigh(covariance - np.eye(2))
    # Below 0 no spread is left of the noise: either there is none, or it is hidden in it.
    hidden = -spread * rng.integers(0, 2, spread.shape)
    spread = np.maximum(np.where(spread > 0, spread, hidden), LEAST)[:, None, :]
    kept = spread / (1 + spread)  # of a measured mean; also the variance that is left
    normal = rng.standard_normal(measured.shape)
    drawn = (kept * (measured @ axes) + np.sqrt(kept) * normal) @ axes.swapaxes(1, 2)
    return TrueMeans(some=drawn[..., 0], others=drawn[..., 1])


def spearman(some: Floats, others: Floats) -> Floats:
    """Rank correlation along the last axis."""
    from scipy.stats import rankdata

    one, other = (_centred(rankdata(each, axis=-1)) for each in (some, others))
    scale = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    return np.asarray((one * other).sum(axis=-1) / np.where(scale > 0, scale, 1.0))


def kendall(some: Floats, others: Floats) -> Floats:
    """Pairs in the same order minus pairs in the other, over all pairs, along the last axis."""
    first, second = np.triu_indices(some.shape[-1], k=1)
    one, other = (np.sign(each[..., first] - each[..., second]) for each in (some, others))
    return np.asarray((one * other).mean(axis=-1))


def reach_of_mean(losses: Floats) -> float:
    """Half of Student's interval of one mean of (things, seeds), of the pooled noise.

    Nan where one seed says nothing of it.
    """
    from scipy.special import stdtrit

    noise, dof = residual_noise(_by_seed(losses))
    if noise is None:
        return float("nan")
    return float(stdtrit(dof, (1 + LEVEL) / 2)) * noise / math.sqrt(losses.shape[1])


def loudest(losses: Floats) -> tuple[int, float]:
    """The thing (things, seeds) whose residuals are largest, and its share of their squares."""
    apart = losses - losses.mean(axis=1, keepdims=True)
    squares = ((apart - np.median(apart, axis=0)) ** 2).sum(axis=1)
    whole = float(squares.sum())
    place = int(squares.argmax())
    return place, float(squares[place]) / whole if whole else 0.0


def neighbours_within_noise(losses: Floats) -> int:
    """Pairs next to each other by mean loss (things, seeds) whose difference may be none."""
    reach = math.sqrt(2) * reach_of_mean(losses)
    return int(np.sum(np.diff(np.sort(losses.mean(axis=1))) <= reach))


def _by_seed(losses: Floats) -> list[dict[int, float]]:
    return [dict(enumerate(row)) for row in losses.tolist()]


def _errors(losses: Floats, rng: np.random.Generator) -> Floats:
    """Draws of the standard error of a mean over the seeds."""
    noise, dof = residual_noise(_by_seed(losses))
    # Without any noise, as of a repeat of the same run, the ranking is what was measured.
    least = 1e-9 * float(np.ptp(losses)) or 1.0
    sigma = max(noise or 0.0, least) * np.sqrt(dof / rng.chisquare(dof, DRAWS))
    return np.asarray(sigma / np.sqrt(losses.shape[1]))


def _inverse_wishart(scatter: Floats, dof: int, rng: np.random.Generator) -> Floats:
    """Draws of the covariance whose scatter matrix (draws, 2, 2) was measured."""
    size, axes = np.linalg.eigh(scatter)
    root = axes * np.sqrt(np.maximum(size, 0.0))[:, None, :]
    normal = rng.standard_normal((len(scatter), dof, 2))
    inner = np.linalg.inv(normal.swapaxes(1, 2) @ normal)
    return np.asarray(root @ inner @ root.swapaxes(1, 2))


def _centred(values: Floats) -> Floats:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


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
    cheap: RankingSide
    dear: RankingSide

    kind: ClassVar[str] = "ranking"
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

    def best(self, side: RankingSide, on: str) -> int:
        """Which variant is lowest by its mean."""
        return int(side.losses[on].mean(axis=1).argmin())

    def regret(self, on: str) -> Interval:
        """Dear loss of the cheap one's best above the dear one's best, nats per token.

        Seeds are compared with themselves. The dear best was picked from the same losses, so the
        interval is Tukey's; where both have the same best it is 0, and has none.
        """
        chosen, best = self.best(self.cheap, on), self.best(self.dear, on)
        rows = [dict(enumerate(row)) for row in self.dear.losses[on].tolist()]
        gap = differences(rows, best)[chosen]
        assert gap is not None
        found = difference_interval(gap)
        return Interval(found.value, float(np.maximum(found.low, 0.0)), found.high)

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
    def warnings(self) -> tuple[Diagnostic, ...]:
        """One seed, variants that one of them lacks, and orders that are noise."""
        return tuple(self._warned())

    @cached_property
    def _drawn(self) -> Mapping[str, TrueMeans | None]:
        return {on: true_means(self.cheap.losses[on], self.dear.losses[on]) for on in self.sets}

    def _means(self, on: str) -> tuple[Floats, Floats]:
        return self.cheap.losses[on].mean(axis=1), self.dear.losses[on].mean(axis=1)

    def _ranking(self, on: str) -> str:
        words, ceiling = f"on {on} {with_ends(self.rho(on), '.2f')}", self.ceiling(on)
        if ceiling is not None:
            words += f", where a repeat of {self.dear.name} would have {ceiling.value:.2f} with it"
        chosen, best = (self.variants[self.best(each, on)] for each in (self.cheap, self.dear))
        if chosen == best:
            return f"{words}, and {best!r} is best in both"
        return (
            f"{words}, and its best, {chosen!r}, is {with_ends(self.regret(on), '.4f')} nats above "
            f"{best!r}, the best of {self.dear.name}"
        )

    def _quantities(self) -> Iterator[Quantity]:
        pair = {"cheap": self.cheap.name, "dear": self.dear.name}
        for on in self.sets:
            yield self.quantity("rank", self.rho(on), set=on, **pair)
        yield self.quantity("cost", self.cost, **pair)
        yield self.quantity("cost-with-trunks", self.cost_with_trunks, **pair)
        for on in self.sets:
            yield self.quantity("regret", self.regret(on), NATS, set=on, **pair)
            yield self.quantity("tau", self.tau(on), set=on, **pair)
            drawn, ceiling = self._drawn[on], self.ceiling(on)
            if drawn is not None and ceiling is not None:
                yield self.quantity("ceiling", ceiling, set=on, **pair)
                yield self.quantity("same-best", drawn.same_best, set=on, **pair)

    def _warned(self) -> Iterator[Diagnostic]:
        for each in (self.cheap, self.dear):
            if len(each.seeds) < 2:
                yield Diagnostic(
                    "one-seed",
                    f"{each.name}: one seed that all have, so nothing tells how large noise is",
                    experiment=each.name,
                    seeds=len(each.seeds),
                )
            if each.lost:
                yield unfinished_variants(each.lost).at(each.name, experiment=each.name)
        if self.unshared:
            yield Diagnostic(
                "unshared-variants",
                f"in one of the two alone, and left out: {', '.join(self.unshared)}",
                variants=self.unshared,
            )
        for on in self.sets:
            for each in (self.cheap, self.dear):
                place, share = loudest(each.losses[on])
                if len(each.seeds) > 1 and share > LOUD:
                    yield Diagnostic(
                        "noise-of-one",
                        f"{each.name}, {on}: {share:.0%} of the noise is that of "
                        f"{self.variants[place]!r}, and is taken for that of all",
                        experiment=each.name,
                        set=on,
                        variant=self.variants[place],
                        share=share,
                    )
                noisy = neighbours_within_noise(each.losses[on])
                if noisy:
                    yield Diagnostic(
                        "ranks-within-noise",
                        f"{each.name}, {on}: {noisy} of {len(self.variants) - 1} neighbours in the "
                        "ranking are within noise of each other",
                        experiment=each.name,
                        set=on,
                        pairs=noisy,
                        of=len(self.variants) - 1,
                    )
        message = "the intervals are of these variants; others may be ranked better or worse"
        yield Diagnostic("these-variants", message)


def rankings(records: Records) -> tuple[RankingFinding, ...]:
    """One for each size and two branch experiments of which one is dear and ranks the same."""
    config = records.config
    branching = [each for each in config.experiments if isinstance(each, BranchExperiment)]
    found = []
    for size in map(str, config.model.sizes):
        at_forks = [
            (experiment, fork)
            for experiment in branching
            if size in map(str, experiment.sizes or config.model.sizes)
            for fork in experiment.forks
        ]
        for cheap, dear in permutations(at_forks, 2):
            finding = None if cheap[0] is dear[0] else _ranking(records, size, cheap, dear)
            found += [] if finding is None else [finding]
    return tuple(found)


def _ranking(
    records: Records, size: str, cheap: ExperimentAtFork, dear: ExperimentAtFork
) -> RankingFinding | None:
    """Nothing where they share too little, or one is not much dearer than the other."""
    some, others = (dict.fromkeys(each.all_variants) for each, _ in (cheap, dear))
    finished = [
        {name for name, _ in chains_of(records, each, size, fork)} for each, fork in (cheap, dear)
    ]
    shared = tuple(name for name in some if name in finished[0] & finished[1])
    if len(shared) < FEWEST:
        return None
    side = [ranking_side(records, size, each, shared) for each in (cheap, dear)]
    if any(not each.seeds for each in side) or CHEAPER * side[0].tokens > side[1].tokens:
        return None
    finding = RankingFinding(
        experiment=cheap[0].name,
        size=size,
        variants=shared,
        unshared=tuple(name for name in some | others if name not in shared),
        cheap=side[0],
        dear=side[1],
    )
    return finding if finding.sets else None


def _reaching(value: float, ends: tuple[float, float]) -> Interval:
    """An interval widened to hold the value; nan stays."""
    return Interval(value, float(np.minimum(ends[0], value)), float(np.maximum(ends[1], value)))
