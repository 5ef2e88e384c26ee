"""Training dynamics: what gradients and steps do in the decay, compared with the stable phase.

The last quarter of a decay is compared with a stretch of the trunk that ends at the fork and is as
long as the decay. Intervals are Student's over seeds. MiniCPM's six findings on the decay (arXiv
2404.06395, section 4.4) are each held to a number: one held if all of its interval says so, did
not hold if all of it says otherwise, and is undecided in between. With one seed the number stands
for its interval.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from windtunnel.config.search import SearchExperiment
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import Finding, Quantity
from windtunnel.findings.records import Records
from windtunnel.laws import Interval, fit
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.laws.table import Floats
from windtunnel.runs.dynamics import SegmentDynamics
from windtunnel.runs.run import Run
from windtunnel.runs.search.noise import interval_of_mean

FEWEST_BINS = 4
"""Of a stretch and of a decay: fewer show no trend."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrunkAndDecay:
    """A trunk and the decay that leaves it; updates are counted from the start of the trunk."""

    trunk: SegmentDynamics
    branch: SegmentDynamics

    @property
    def fork(self) -> float:
        """The update after which the decay begins."""
        return float(self.branch.after[0])

    @property
    def decay(self) -> float:
        """Updates of the decay."""
        return float(self.branch.step[-1]) - self.fork

    @cached_property
    def stable(self) -> NDArray[np.intp]:
        """Bins of the trunk in the stretch before the fork, as long as the decay."""
        inside = (self.trunk.step <= self.fork) & (self.trunk.after >= self.fork - self.decay)
        return np.flatnonzero(inside)

    @cached_property
    def late(self) -> NDArray[np.intp]:
        """Bins in the last quarter of the decay."""
        return np.flatnonzero(self.branch.after >= self.branch.step[-1] - self.decay / 4)

    @property
    def is_whole(self) -> bool:
        """Whether both were recorded finely enough to be compared."""
        return min(self.stable.size, self.branch.after.size) >= FEWEST_BINS and self.late.size > 0

    def ratio(self, name: str) -> float:
        """Mean of a series at the end of the decay, over that of the stable stretch."""
        return self.end_of_decay(name) / self.before(name)

    def before(self, name: str) -> float:
        """Mean of a series over the stable stretch."""
        return mean_of_known(self.trunk.series[name][self.stable])

    def end_of_decay(self, name: str) -> float:
        """Mean of a series over the last quarter of the decay."""
        return mean_of_known(self.branch.series[name][self.late])

    def in_decay(self, name: str) -> float:
        """Mean of a series over all of the decay."""
        return mean_of_known(self.branch.series[name])

    def exponent(self, name: str) -> float:
        """Exponent of a series in the rate over the decay: `series ~ rate^b`."""
        return _exponent(self.branch.series["lr"], self.branch.series[name])

    def change_ratio(self) -> float:
        """Largest change of a weight at the end of the decay over that before; mean of matrices."""
        both = [
            mean_of_known(self.branch.changes[name][self.late])
            / mean_of_known(self.trunk.changes[name][self.stable])
            for name in self._matrices
        ]
        return mean_of_known(np.array(both))

    def change_exponent(self) -> float:
        """Exponent of the largest change of a weight in the rate, both phases; mean of matrices."""
        rate, changes = self._changes
        return _exponent(rate, np.exp(np.log(changes).mean(axis=0))) if len(changes) else math.nan

    def change_correlations(self) -> Floats:
        """Correlation of ln change with ln rate over both phases, for every matrix."""
        rate, changes = self._changes
        if not len(changes) or rate.size < FEWEST_BINS:
            return np.full(1, math.nan)
        return np.array([np.corrcoef(np.log(rate), each)[0, 1] for each in np.log(changes)])

    def loss_falls(self) -> tuple[float, float]:
        """Training loss lost over the decay, and over as many updates before it; nats per token."""
        quarter = self.decay / 4

        def near(segment: SegmentDynamics, end: float) -> float:
            inside = (segment.step <= end) & (segment.after >= end - quarter)
            return mean_of_known(segment.series["loss"][inside])

        at_fork = near(self.trunk, self.fork)
        at_end = near(self.branch, float(self.branch.step[-1]))
        return at_fork - at_end, near(self.trunk, self.fork - self.decay) - at_fork

    @property
    def _matrices(self) -> list[str]:
        return [name for name in self.branch.changes if name in self.trunk.changes]

    @cached_property
    def _changes(self) -> tuple[Floats, Floats]:
        """Rate, and change of every matrix, where a window ended; the stable stretch first."""
        rate = np.append(self.trunk.series["lr"][self.stable], self.branch.series["lr"])
        changes = np.array(
            [
                np.append(self.trunk.changes[name][self.stable], self.branch.changes[name])
                for name in self._matrices
            ]
        )
        known = np.all(np.nan_to_num(changes) > 0, axis=0)
        return (rate[known], changes[:, known]) if changes.size else (rate, changes)


def mean_of_known(values: Floats) -> float:
    """Mean of the finite values; nan without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _exponent(rate: Floats, values: Floats) -> float:
    """Exponent of the power law through the points; nan where there are too few."""
    known = np.isfinite(values) & (values > 0)
    if np.unique(rate[known]).size < 3:
        return math.nan
    fitted = fit({"x": rate[known], "y": values[known]}, "power", intervals="none", holdout=None)
    return fitted.form.coefficients["b"]


TRACKS = 0.9
"""Correlation, in the worst matrix, from which a change of weights tracks the rate (assumed)."""
ALIGNED = 0.5
"""Exponent from which D1 falls aligned with the rate; 1 would be in proportion (assumed)."""
ORDER_OF_MAGNITUDE = 10**0.5
"""A rise from half a decade on is about an order of magnitude (assumed)."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What was seen here, in a clause, and whether it was claimed; None where noise hides it."""

    clause: str
    held: bool | None


def claims_of(found: Mapping[str, Quantity]) -> tuple[Claim, ...]:
    """Those of the six whose quantities are known, in the paper's order."""
    made = (_change, _gradient, _cosine, _first, _second, _curvature)
    claims = []
    for claim in made:
        try:
            claims.append(claim(found))
        except KeyError:  # its number could not be made of these rows
            continue
    return tuple(claims)


def _change(found: Mapping[str, Quantity]) -> Claim:
    lowest = found["change-correlation-lowest"]
    exponent = found["change-exponent"]
    held = _above(lowest, TRACKS)
    verb = _verb(held, "tracked the rate in every matrix", "did not track the rate in every matrix")
    return Claim(
        clause=f"the largest change of a weight {verb} (correlation {_span(lowest)} in the worst, "
        f"exponent {_span(exponent)})",
        held=held,
    )


def _gradient(found: Mapping[str, Quantity]) -> Claim:
    ratio = found["grad-norm-ratio"]
    held = _not(_above(ratio, 1.0))
    return Claim(
        clause=f"the gradient norm {_verb(held, 'diminished', 'did not diminish')} "
        f"({_times(ratio)})",
        held=held,
    )


def _cosine(found: Mapping[str, Quantity]) -> Claim:
    share = found["cosine-positive-decay"]
    stable = found["cosine-positive-stable"]
    more = found["cosine-positive-difference"]
    mostly, rose = _above(share, 0.5), _above(more, 0.0)
    held = False if False in (mostly, rose) else (None if None in (mostly, rose) else True)
    verb = _verb(held, "became more often positive", "did not become more often positive")
    return Claim(
        clause=f"the cosine between gradients {verb} (in {share.value:.0%} of the decay's updates, "
        f"in {stable.value:.0%} before)",
        held=held,
    )


def _first(found: Mapping[str, Quantity]) -> Claim:
    exponent = found["d1-size-exponent"]
    held = _above(exponent, ALIGNED)
    verb = _verb(held, "fell with the rate", "did not fall with the rate")
    mean = found["d1-mean-ratio"]
    return Claim(
        clause=f"the size of D1 {verb} (exponent {_span(exponent)}; the mean of D1, in which "
        f"batches cancel, came to {_span(mean)} times what it was)",
        held=held,
    )


def _second(found: Mapping[str, Quantity]) -> Claim:
    ratio = found["d2-size-ratio"]
    held = _above(ratio, 1.0)
    return Claim(clause=f"the size of D2 {_verb(held, 'rose', 'did not rise')} ({_times(ratio)})",
                 held=held)  # fmt: skip


def _curvature(found: Mapping[str, Quantity]) -> Claim:
    ratio = found["curvature-ratio"]
    exponent = found["curvature-exponent"]
    held = _above(ratio, ORDER_OF_MAGNITUDE)
    verb = _verb(held, "rose by about an order of magnitude", "rose by less than half a decade")
    return Claim(
        clause=f"curvature {verb} ({_times(ratio)}; exponent {_span(exponent)} on the rate, where "
        "gradients that change alike over ever smaller steps give -1)",
        held=held,
    )


def _above(found: Quantity, bound: float) -> bool | None:
    """Whether a number lies above a bound; None where its interval contains the bound."""
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    return True if low > bound else (False if high < bound else None)


def _not(held: bool | None) -> bool | None:
    return None if held is None else not held


def _verb(held: bool | None, yes: str, no: str) -> str:
    """The clause for yes, for no, and for undecided."""
    return {True: yes, False: no, None: f"perhaps {yes}"}[held]


def _times(found: Quantity) -> str:
    return f"times {_span(found)}"


def _span(found: Quantity) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f}"


Measure = Callable[[TrunkAndDecay], float]
MeanScale = tuple[Callable[[float], float], Callable[[float], float]]
"""There and back: where seeds scatter evenly about their mean."""

PLAIN: MeanScale = (float, float)
LOG: MeanScale = (math.log, math.exp)
FISHER: MeanScale = (lambda r: math.atanh(min(r, 1 - 1e-12)), math.tanh)
"""Of correlations, which end at 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingDynamics(Finding):
    """The seeds of one size and horizon: every trunk with its decay.

    Attributes:
        what: the size, the horizon, and what else tells these runs from others.
        pairs: one a seed.
        lacking: finished decays that have no dynamics to compare.
    """

    what: str
    pairs: tuple[TrunkAndDecay, ...]
    lacking: int

    kind: ClassVar[str] = "training-dynamics"
    title: ClassVar[str] = "Training dynamics"

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """The six claims of the paper, each with what was seen here."""
        return claims_of({each.id.quantity: each for each in self.quantities}) if self.pairs else ()

    @property
    def lead(self) -> str:
        """How many of the claims held, and each of them in a clause."""
        if not self.pairs:
            return (
                f"{self.what}: its {self.lacking} finished decays have no dynamics to compare with "
                "their trunks."
            )
        seeds = f"{len(self.pairs)} seed{'s' if len(self.pairs) > 1 else ''}"
        outcomes = (
            ("held here", True),
            ("did not hold here", False),
            ("not told from noise", None),
        )
        found = {
            words: clauses
            for words, held in outcomes
            if (clauses := [claim.clause for claim in self.claims if claim.held is held])
        }
        tally = ", ".join(f"{len(clauses)} {words}" for words, clauses in found.items())
        sentences = [
            f"{words.capitalize()}: {'; '.join(clauses)}." for words, clauses in found.items()
        ]
        return " ".join([f"{self.what}, {seeds}: of MiniCPM's six findings {tally}.", *sentences])

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Every series at the end of the decay against before it, and how it follows the rate."""
        if not self.pairs:
            return ()
        found = [self._over_seeds(*measure) for measure in MEASURES]
        return tuple(each for each in found if each is not None)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Missing dynamics, and one seed."""
        found = []
        if self.lacking:
            found.append(
                Diagnostic(
                    "few-dynamics",
                    f"{self.lacking} finished decays have too few rows of dynamics, they or their "
                    "trunks; what was trained before `dynamics` was asked for is not trained again",
                    decays=self.lacking,
                )
            )
        if len(self.pairs) == 1:
            message = "one seed has no interval, and what held may be its luck"
            found.append(Diagnostic("one-seed", message, seeds=1))
        return tuple(each.at(self.what, runs=self.what) for each in found)

    def _over_seeds(
        self, quantity: str, of_pair: Measure, unit: str, scale: MeanScale
    ) -> Quantity | None:
        """Mean over seeds on the scale; None where some seed has no such number."""
        there, back = scale
        values = [of_pair(pair) for pair in self.pairs]
        try:
            scaled = [there(value) for value in values]
        except ValueError:  # the logarithm of a mean that is not positive
            return None
        if not all(map(math.isfinite, scaled)):
            return None
        mean = fmean(scaled)
        low, high = NO_INTERVAL
        if len(values) > 1:
            low, high = map(back, interval_of_mean(mean, stdev(scaled), len(values)))
        return self.quantity(quantity, Interval(back(mean), low, high), unit, runs=self.what)


MEASURES: tuple[tuple[str, Measure, str, MeanScale], ...] = (
    ("change-ratio", TrunkAndDecay.change_ratio, "", LOG),
    ("change-correlation-mean",
     lambda pair: mean_of_known(pair.change_correlations()), "", FISHER),
    ("change-correlation-lowest",
     lambda pair: float(pair.change_correlations().min()), "", FISHER),
    ("change-exponent", TrunkAndDecay.change_exponent, "", PLAIN),
    ("grad-norm-ratio", lambda pair: pair.ratio("grad_norm"), "", LOG),
    ("cosine-positive-decay",
     lambda pair: pair.in_decay("cosine_positive"), "", PLAIN),
    ("cosine-positive-stable",
     lambda pair: pair.before("cosine_positive"), "", PLAIN),
    ("cosine-positive-difference",
     lambda pair: pair.in_decay("cosine_positive") - pair.before("cosine_positive"),
     "", PLAIN),
    ("cosine-decay", lambda pair: pair.in_decay("cosine"), "", PLAIN),
    ("cosine-stable", lambda pair: pair.before("cosine"), "", PLAIN),
    ("d1-size-ratio", lambda pair: pair.ratio("d1_size"), "", LOG),
    ("d1-size-exponent", lambda pair: pair.exponent("d1_size"), "", PLAIN),
    ("d1-mean-ratio", lambda pair: pair.ratio("d1"), "", PLAIN),
    ("d2-size-ratio", lambda pair: pair.ratio("d2_size"), "", LOG),
    ("curvature-ratio", lambda pair: pair.ratio("curvature"), "", LOG),
    ("curvature-exponent", lambda pair: pair.exponent("curvature"), "", PLAIN),
    ("loss-fall-decay",
     lambda pair: pair.loss_falls()[0], "nats per token", PLAIN),
    ("loss-fall-stable",
     lambda pair: pair.loss_falls()[1], "nats per token", PLAIN),
)  # fmt: skip
"""Id, number of one pair, unit, and the scale on which seeds are averaged."""


def training_dynamics(records: Records) -> tuple[TrainingDynamics, ...]:
    """One finding for every group of finished decays that differ in their seed alone."""
    if records.config.dynamics is None:
        return ()
    dynamics = {each.segment: each for each in records.dynamics}
    found = []
    for experiment in records.config.experiments:
        if isinstance(experiment, SearchExperiment):  # each of its trials is another recipe
            continue
        for what, runs in _alike(records, experiment.name).items():
            pairs = [
                TrunkAndDecay(trunk=dynamics[run.trunk], branch=dynamics[run.segment])
                for run in runs
                if run.trunk in dynamics and run.segment in dynamics
            ]
            whole = tuple(pair for pair in pairs if pair.is_whole)
            found.append(
                TrainingDynamics(
                    experiment=experiment.name,
                    what=what,
                    pairs=whole,
                    lacking=len(runs) - len(whole),
                )
            )
    return tuple(found)


def _alike(records: Records, experiment: str) -> dict[str, list[Run]]:
    """Finished decays by size, horizon and every axis that varied within the experiment."""
    runs = records.of(experiment)
    axes = runs[0].axes if runs else ()
    varied = [axis for axis in axes if len({run.axes[axis] for run in runs}) > 1]
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        values = [f"{axis.partition('.')[2]} {run.axes[axis]}" for axis in varied]
        groups[", ".join([f"{run.size} to {run.horizon}", *values])].append(run)
    return dict(groups)
