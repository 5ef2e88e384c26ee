"""A small model trained for long against one 4 to 5 times larger, at equal loss.

MiniCPM (arXiv 2404.06395, section 4.3): 0.036B parameters match 0.17B at WSD(40N) for about 4 times
the training compute, and save about 5 times the inference compute. The tokens that bring the small
size to a given loss are interpolated between its decayed ends; compute is counted by 6ND and
exactly. As in figure 16 there, the small size's approach to its floor is fitted as a power of
compute and as an exponential.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from windtunnel.config.study import LadderExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import (
    LEVEL,
    Finding,
    Quantity,
    coefficient,
    diverged_runs,
    scaled,
)
from windtunnel.findings.records import Records
from windtunnel.laws import Fit, Interval, Table, fit
from windtunnel.laws.interval import NO_INTERVAL, quantiles
from windtunnel.laws.noise import Noise, seed_noise
from windtunnel.laws.table import Floats
from windtunnel.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class TrainedSize:
    """One of the two sizes; `flops_per_token` are exact, of training: three times a forward."""

    name: str
    params: float
    flops_per_token: float


@dataclass(frozen=True, kw_only=True)
class Match:
    """One length of the larger size, and the tokens after which the smaller has its loss.

    `tokens` is inf where the smaller never gets there, and 0 where its shortest run is past it.
    """

    horizon: str
    larger_tokens: float
    loss: float
    tokens: Interval

    @property
    def found(self) -> bool:
        """Whether the crossing lies among the lengths of the smaller size."""
        return 0 < self.tokens.value < math.inf


@dataclass(frozen=True, kw_only=True)
class SizePair:
    """A small size and a large one; `exact` counts attention and head too, otherwise it is 6ND."""

    small: TrainedSize
    large: TrainedSize

    def training(self, match: Match, *, exact: bool) -> Interval:
        """Training compute of the smaller size over the larger one's, at equal loss."""
        each = self._per_token(exact=exact)
        return scaled(match.tokens, each / match.larger_tokens)

    def saved(self, *, exact: bool) -> float:
        """Inference compute per token of the larger size over the smaller one's."""
        return 1 / self._per_token(exact=exact)

    def break_even(self, match: Match, *, exact: bool) -> Interval:
        """Tokens of inference that pay for the longer training; 0 where it costs no more."""
        each = self._per_token(exact=exact)

        def tokens(trained: float) -> float:
            # Training costs three times a forward, for each token.
            return max(3 * (each * trained - match.larger_tokens) / (1 - each), 0.0)

        at = match.tokens
        low, high = (end if math.isnan(end) else tokens(end) for end in (at.low, at.high))
        return Interval(tokens(at.value), low, high)

    def _per_token(self, *, exact: bool) -> float:
        """Compute per token of the smaller size over the larger one's."""
        if exact:
            return self.small.flops_per_token / self.large.flops_per_token
        return self.small.params / self.large.params


DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Ends:
    """Mean ln loss over seeds at every length of one size.

    Attributes:
        tokens: lengths, rising, (H,).
        log_loss: mean ln loss at each, (H,).
        seeds: how many each mean has, (H,).
    """

    tokens: Floats
    log_loss: Floats
    seeds: Floats

    @classmethod
    def of(cls, table: Table, params: float) -> "Ends":
        """The ends of one size."""
        rows = table.params == params
        tokens, index = np.unique(table.tokens[rows], return_inverse=True)
        seeds = np.bincount(index)
        means = np.bincount(index, np.log(table.loss[rows])) / seeds
        return cls(tokens, means, seeds.astype(np.float64))

    def drawn(self, noise: Noise, sigmas: Floats, rng: np.random.Generator) -> Floats:
        """Other means that the same runs could have shown, (P, H), for (P, 2) drawn sigmas.

        Lengths of one seed are branches of one trunk and share its noise.
        """
        shared = rng.standard_normal((len(sigmas), 1)) / np.sqrt(self.seeds.max())
        own = rng.standard_normal((len(sigmas), self.tokens.size)) / np.sqrt(self.seeds)
        return np.asarray(self.log_loss + sigmas[:, :1] * shared + sigmas[:, 1:] * own)


def tokens_to_match(small: Ends, large: Ends, noise: Noise | None) -> list[Interval]:
    """For each length of `large`: tokens after which `small` has the same loss.

    Straight lines in logs between lengths, and the first crossing counts. inf: not within the
    longest length of `small`; 0: already before the shortest. The interval is that of a parametric
    bootstrap, with the noise of trunks and branches drawn from what seeds say of it: nan without
    seeds, and where noise may carry the crossing beyond the lengths.
    """
    found = _crossings(small.tokens, small.log_loss, large.log_loss)
    if noise is None:
        return [Interval(float(tokens), *NO_INTERVAL) for tokens in found]
    rng = np.random.default_rng(0)
    sigmas = noise.draw(rng, DRAWS)
    curves, levels = (ends.drawn(noise, sigmas, rng) for ends in (small, large))
    drawn = np.array(
        [
            _crossings(small.tokens, curve, level)
            for curve, level in zip(curves, levels, strict=True)
        ]
    )
    return [
        Interval(float(tokens), *_inside(*quantiles(draws, LEVEL)))
        for tokens, draws in zip(found, drawn.T, strict=True)
    ]


def loss_band(ends: Ends, noise: Noise) -> Floats:
    """Lower and upper ends of the interval of mean loss at every length, (2, H)."""
    rng = np.random.default_rng(0)
    drawn = np.exp(ends.drawn(noise, noise.draw(rng, DRAWS), rng))
    return np.array([quantiles(column, LEVEL) for column in drawn.T]).T


def noise_of(table: Table) -> Noise | None:
    """Noise of ln loss between runs of one size and length, pooled; None without seeds."""
    return seed_noise(np.log(table.loss), table.cells("params", "tokens"), table.trunk_index)


def _crossings(tokens: Floats, log_loss: Floats, levels: Floats) -> Floats:
    lowest = np.minimum.accumulate(log_loss)
    found = np.interp(-levels, -lowest, np.log(tokens), left=-np.inf, right=np.inf)
    return np.asarray(np.exp(found))


def _inside(low: float, high: float) -> tuple[float, float]:
    return (low, high) if low > 0 and high < np.inf else NO_INTERVAL


FORMS = ("power-offset", "exp-offset")
COEFFICIENTS = 3
CLEAR_AIC = 2.0
"""AIC differences below this do not tell two forms apart (Burnham and Anderson 2002)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """One form through the ends, loss against 6ND.

    Attributes:
        fitted: y = c + ..., y in nats per token, x in FLOPs.
        rms: misfit of ln loss, over the means of all lengths.
        aic: Akaike's criterion; it counts lengths, for seeds miss a form together.
        last_third_rms: error of ln loss in the last third of ln compute, predicted from the rest;
            nan where too few lengths are left.
    """

    fitted: Fit
    rms: float
    aic: float
    last_third_rms: float


def approach(table: Table) -> dict[str, Form]:
    """Both forms through the rows of one size; empty where the table cannot carry them."""
    ends = Table(x=table.budget, y=table.loss, trunk=table.trunk)
    lengths, index = np.unique(ends["x"], return_inverse=True)
    if lengths.size <= COEFFICIENTS:
        return {}
    means = np.bincount(index, np.log(ends["y"])) / np.bincount(index)
    split = np.log(lengths[0]) + 2 / 3 * np.log(lengths[-1] / lengths[0])
    early = np.log(lengths) < split
    try:
        return {name: _form(name, ends, lengths, means, early) for name in FORMS}
    except FitError:
        return {}


def _form(name: str, ends: Table, lengths: Floats, means: Floats, early: Floats) -> Form:
    # Only the floor of the power law is reported, with its interval.
    power = name == "power-offset"
    fitted = fit(ends, name, holdout=None, intervals="two-level" if power else "none")
    rms = _rms(fitted, lengths, means)
    held = np.nan
    if early.sum() > COEFFICIENTS and not early.all():
        rest = ends.subset(np.isin(ends["x"], lengths[np.asarray(early, bool)]))
        late = ~np.asarray(early, bool)
        held = _rms(fit(rest, name, holdout=None, intervals="none"), lengths[late], means[late])
    aic = lengths.size * float(np.log(max(rms**2, 1e-30))) + 2 * (COEFFICIENTS + 1)
    return Form(fitted=fitted, rms=rms, aic=aic, last_third_rms=held)


def _rms(fitted: Fit, lengths: Floats, means: Floats) -> float:
    return float(np.sqrt(np.mean((np.log(fitted.form(lengths)) - means) ** 2)))


LONG = 200.0
"""Tokens per parameter from which a training is long."""
LARGER, NEAREST = (3.0, 6.0), 4.5
"""How much larger the other size may be, and should."""
MINICPM = "MiniCPM: about 4 times the training for 5 times less inference, 0.036B against 0.17B"


@dataclass(frozen=True, kw_only=True, eq=False)
class OvertrainingFinding(Finding):
    """One pair of sizes of a scaling experiment.

    Attributes:
        table: decayed runs of both.
        noise: of ln loss, from the seeds of all sizes; None without.
        matches: by length of the larger size, short to long.
        forms: both forms of the smaller one's approach to its floor, or none.
        epochs: of the smaller one's longest run.
        diverged: runs of either size that diverged.
    """

    pair: SizePair
    table: Table
    noise: Noise | None
    matches: tuple[Match, ...]
    forms: dict[str, Form]
    epochs: float = 0.0
    diverged: int = 0

    kind: ClassVar[str] = "overtraining"
    title: ClassVar[str] = "Small model, long training"

    @cached_property
    def best(self) -> Match | None:
        """The longest length of the larger size that the smaller one catches up with."""
        return max(
            (match for match in self.matches if match.found),
            key=lambda match: match.larger_tokens,
            default=None,
        )

    @property
    def lead(self) -> str:
        """What catching up takes and saves, and how the loss approaches its floor."""
        return " ".join((self._on_match(), *self._on_forms()))

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Tokens and compute of every match, inference saved, break-even, floor and forms."""
        return (*self._of_matches(), *self._of_forms())

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What was not reached, what has no interval, and repeated data."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[Diagnostic]:
        small, large = self.pair.small.name, self.pair.large.name
        if beyond := [match.horizon for match in self.matches if match.tokens.value == math.inf]:
            yield Diagnostic(
                "loss-not-reached",
                f"{small} does not come down to the loss of {large} at {', '.join(beyond)} within "
                f"{self._longest:.0f} tokens per parameter{self._floor_against(self.matches[-1])}",
                small=small,
                large=large,
                horizons=beyond,
                tokens_per_param=self._longest,
            )
        if early := [match.horizon for match in self.matches if match.tokens.value == 0]:
            yield Diagnostic(
                "loss-reached-early",
                f"the shortest run of {small} is below {large} at {', '.join(early)}",
                small=small,
                large=large,
                horizons=early,
            )
        unsure = [match for match in self.matches if match.found and math.isnan(match.tokens.low)]
        if unsure:
            yield Diagnostic(
                "crossing-unsure",
                "where no interval is given, there is one seed, or noise may carry the crossing "
                f"beyond the lengths of {small}",
                small=small,
                horizons=[match.horizon for match in unsure],
            )
        if self.epochs > 1:
            message = f"the longest run of {small} reads its data {self.epochs:.1f} times"
            yield Diagnostic("repeated-data", message, small=small, epochs=self.epochs)
        if self.diverged:
            yield diverged_runs(self.diverged)

    @property
    def _longest(self) -> float:
        mine = self.table.tokens[self.table.params == self.pair.small.params]
        return float(mine.max()) / self.pair.small.params

    @property
    def _matching(self) -> str:
        return f"{self.pair.small.name} to match {self.pair.large.name}"

    def _floor_against(self, match: Match) -> str:
        if not self.forms:
            return ""
        floor = self._of_power("c")
        side = "above" if floor.value > match.loss else "below"
        return (
            f"; a power law puts its loss at endless training at {floor.value:.4f}"
            f"{_between(floor, '.4f')}, {side} the {match.loss:.4f} of {self.pair.large.name} at "
            f"{match.horizon}"
        )

    def _of_power(self, name: str) -> Interval:
        return coefficient(self.forms["power-offset"].fitted, name)

    def _on_match(self) -> str:
        small, large = self.pair.small, self.pair.large
        if self.best is None:
            beyond = [match for match in self.matches if match.tokens.value == math.inf]
            if not beyond:
                return f"The shortest run of {small.name} is below all of {large.name}."
            return (
                f"{small.name} does not reach the loss of {large.name} at {beyond[0].horizon} "
                f"within {self._longest:.0f} tokens per parameter{self._floor_against(beyond[0])}."
            )
        six, exact = (self.pair.training(self.best, exact=rule) for rule in (False, True))
        paid = self.pair.break_even(self.best, exact=False).value
        back = f", paid back after {paid:.2g} tokens of inference" if paid else ""
        return (
            f"{small.name} has the loss of {large.name} at {self.best.horizon} after "
            f"{self.best.tokens.value / small.params:.0f} tokens per parameter. That takes "
            f"{six.value:.2f} times the training compute by 6ND{_between(six, '.2f')}, "
            f"{exact.value:.2f} times with everything counted, and saves "
            f"{self.pair.saved(exact=False):.1f} times the inference compute "
            f"({self.pair.saved(exact=True):.1f}){back} ({MINICPM})."
        )

    def _on_forms(self) -> Iterator[str]:
        if not self.forms:
            return
        power, exp = self.forms["power-offset"], self.forms["exp-offset"]
        better = "a power law" if power.aic < exp.aic else "an exponential"
        clear = abs(power.aic - exp.aic) >= CLEAR_AIC
        yield (
            f"Of its loss against compute {better} is the better form"
            f"{'' if clear else ', though AIC does not tell them apart'}: it misses by "
            f"{power.rms:.2%} as a power law and {exp.rms:.2%} as an exponential."
        )

    def _of_matches(self) -> Iterator[Quantity]:
        pair = {"small": self.pair.small.name, "large": self.pair.large.name}
        for match in self.matches:
            if not match.found:
                continue
            of = pair | {"horizon": match.horizon}
            yield self.quantity("tokens", match.tokens, "tokens", **of)
            ratio = scaled(match.tokens, 1 / self.pair.small.params)
            yield self.quantity("tokens-per-param", ratio, **of)
            for exact, rule in ((False, "6ND"), (True, "exact")):
                times = self.pair.training(match, exact=exact)
                yield self.quantity("training-compute", times, **of, flops=rule)
                paid = self.pair.break_even(match, exact=exact)
                yield self.quantity("break-even", paid, "tokens", **of, flops=rule)
        for exact, rule in ((False, "6ND"), (True, "exact")):
            saved = self.pair.saved(exact=exact)
            yield self.quantity("inference-compute", saved, **pair, flops=rule)

    def _of_forms(self) -> Iterator[Quantity]:
        if not self.forms:
            return
        power, exp = self.forms["power-offset"], self.forms["exp-offset"]
        small = self.pair.small.name
        yield self.quantity("floor", self._of_power("c"), "nats", small=small)
        yield self.quantity("power", self._of_power("b"), small=small)
        yield self.quantity("aic-difference", exp.aic - power.aic, small=small)
        for words, form in (("power law", power), ("exponential", exp)):
            if not math.isnan(form.last_third_rms):
                error = 100 * form.last_third_rms
                yield self.quantity("late-error", error, "%", small=small, form=words)


def overtraining_pairs(records: Records) -> tuple[OvertrainingFinding, ...]:
    """A finding for each size with a long training and another one some 4.5 times larger."""
    found = []
    for experiment in records.config.experiments:
        if not isinstance(experiment, LadderExperiment):
            continue
        runs = sorted(records.of(experiment.name), key=lambda run: run.tokens)
        longest = {run.params: run for run in runs}
        for small, run in sorted(longest.items(), key=lambda item: item[0]):
            ratios = {large: large / small for large in longest}
            near = [n for n, ratio in ratios.items() if LARGER[0] <= ratio <= LARGER[1]]
            if near and run.tokens / small >= LONG:
                large = min(near, key=lambda n: abs(math.log(ratios[n] / NEAREST)))
                found.append(_pair(records, experiment.name, run, longest[large]))
    return tuple(found)


def _pair(records: Records, experiment: str, small: Run, large: Run) -> OvertrainingFinding:
    """`small` and `large` are the longest run of each size."""
    table = records.table(experiment)
    both = table.subset(np.isin(table.params, [small.params, large.params]))
    ends = Ends.of(both, large.params)
    spelt = {
        run.tokens: run.horizon for run in records.of(experiment) if run.params == large.params
    }
    noise = noise_of(table)
    tokens = tokens_to_match(Ends.of(both, small.params), ends, noise)
    return OvertrainingFinding(
        experiment=experiment,
        pair=SizePair(small=_size(small), large=_size(large)),
        table=both,
        noise=noise,
        matches=tuple(
            Match(
                horizon=spelt[int(length)],
                larger_tokens=float(length),
                loss=float(np.exp(log_loss)),
                tokens=needed,
            )
            for length, log_loss, needed in zip(ends.tokens, ends.log_loss, tokens, strict=True)
        ),
        forms=approach(both.subset(both.params == small.params)),
        epochs=small.epochs,
        diverged=sum(
            run.diverged and run.size in {small.size, large.size}
            for run in records.of(experiment, decayed=False)
        ),
    )


def _size(run: Run) -> TrainedSize:
    exact = run.flops_exact / run.tokens
    return TrainedSize(name=run.size, params=float(run.params), flops_per_token=exact)


def _between(interval: Interval, spec: str) -> str:
    """` (90%: 0.56 to 0.62)`; nothing without an interval."""
    if math.isnan(interval.low):
        return ""
    return f" (90%: {interval.low:{spec}} to {interval.high:{spec}})"
