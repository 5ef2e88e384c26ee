"""Training dynamics: what gradients and steps do in the decay, beside the stable phase before it.

Intervals are Student's over seeds. The six claims are those of MiniCPM (arXiv 2404.06395, section
4.4).
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import ClassVar

from windtunnel.findings.dynamics.claims import Claim, claims_of
from windtunnel.findings.dynamics.pair import Pair, mean_of_known
from windtunnel.findings.finding import Finding, Quantity
from windtunnel.findings.records import Records
from windtunnel.spec.search import SearchExperiment
from windtunnel.trials.gather import Row
from windtunnel.trials.seed_noise import interval_of_mean

OfPair = Callable[[Pair], float]
Scale = tuple[Callable[[float], float], Callable[[float], float]]
"""There and back: where seeds scatter evenly about their mean."""

PLAIN: Scale = (float, float)
LOG: Scale = (math.log, math.exp)
FISHER: Scale = (lambda r: math.atanh(min(r, 1 - 1e-12)), math.tanh)
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
    pairs: tuple[Pair, ...]
    lacking: int

    title: ClassVar[str] = "Training dynamics"

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """The six claims of the paper, each with what was seen here."""
        return claims_of({each.name: each for each in self.quantities}) if self.pairs else ()

    @property
    def lead(self) -> str:
        """How many of the claims held, and each of them in a clause."""
        if not self.pairs:
            return (
                f"{self.what}: its {self.lacking} finished decays have no dynamics to compare with "
                "their trunks."
            )
        seeds = f"{len(self.pairs)} seed{'s' if len(self.pairs) > 1 else ''}"
        answers = (("held here", True), ("did not hold here", False), ("not told from noise", None))
        by_answer = {
            words: [claim.said for claim in self.claims if claim.held is held]
            for words, held in answers
        }
        tally = ", ".join(f"{len(said)} {words}" for words, said in by_answer.items() if said)
        clauses = [
            f"{words.capitalize()}: {'; '.join(said)}." for words, said in by_answer.items() if said
        ]
        return " ".join([f"{self.what}, {seeds}: of MiniCPM's six findings {tally}.", *clauses])

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Every series at the end of the decay against before it, and how it follows the rate."""
        if not self.pairs:
            return ()
        found = [self._over_seeds(*measure) for measure in MEASURES]
        return tuple(each for each in found if each is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is missing, and what one seed cannot tell."""
        said = []
        if self.lacking:
            said.append(
                f"{self.what}: {self.lacking} finished decays have too few rows of dynamics, they "
                "or their trunks; what was trained before `dynamics` was asked for is not trained "
                "again"
            )
        if len(self.pairs) == 1:
            said.append(f"{self.what}: one seed has no interval, and what held may be its luck")
        return tuple(said)

    def _over_seeds(self, name: str, of_pair: OfPair, unit: str, scale: Scale) -> Quantity | None:
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
        low = high = None
        if len(values) > 1:
            low, high = map(back, interval_of_mean(mean, stdev(scaled), len(values)))
        return Quantity(name=name, value=back(mean), low=low, high=high, unit=unit)


MEASURES: tuple[tuple[str, OfPair, str, Scale], ...] = (
    ("change of weights, end of decay over stable", Pair.change_ratio, "", LOG),
    ("correlation of ln change with ln rate, mean of matrices",
     lambda pair: mean_of_known(pair.change_correlations()), "", FISHER),
    ("correlation of ln change with ln rate, lowest matrix",
     lambda pair: float(pair.change_correlations().min()), "", FISHER),
    ("exponent of change on rate", Pair.change_exponent, "", PLAIN),
    ("gradient norm, end of decay over stable", lambda pair: pair.ratio("grad_norm"), "", LOG),
    ("share of positive cosines in decay",
     lambda pair: pair.in_decay("cosine_positive"), "", PLAIN),
    ("share of positive cosines in stable",
     lambda pair: pair.before("cosine_positive"), "", PLAIN),
    ("share of positive cosines, decay less stable",
     lambda pair: pair.in_decay("cosine_positive") - pair.before("cosine_positive"),
     "", PLAIN),
    ("mean cosine in decay", lambda pair: pair.in_decay("cosine"), "", PLAIN),
    ("mean cosine in stable", lambda pair: pair.before("cosine"), "", PLAIN),
    ("size of D1, end of decay over stable", lambda pair: pair.ratio("d1_size"), "", LOG),
    ("exponent of the size of D1 on rate", lambda pair: pair.exponent("d1_size"), "", PLAIN),
    ("mean of D1, end of decay over stable", lambda pair: pair.ratio("d1"), "", PLAIN),
    ("size of D2, end of decay over stable", lambda pair: pair.ratio("d2_size"), "", LOG),
    ("curvature, end of decay over stable", lambda pair: pair.ratio("curvature"), "", LOG),
    ("exponent of curvature on rate", lambda pair: pair.exponent("curvature"), "", PLAIN),
    ("fall of the training loss over the decay",
     lambda pair: pair.loss_falls()[0], "nats per token", PLAIN),
    ("fall of the training loss over as many updates before",
     lambda pair: pair.loss_falls()[1], "nats per token", PLAIN),
)  # fmt: skip
"""Name, number of one pair, unit, and the scale on which seeds are averaged."""


def training_dynamics(records: Records) -> tuple[TrainingDynamics, ...]:
    """One finding for every group of finished decays that differ in their seed alone."""
    if records.config.dynamics is None:
        return ()
    dynamics = {each.segment: each for each in records.dynamics}
    found = []
    for experiment in records.config.experiments:
        if isinstance(experiment, SearchExperiment):  # each of its trials is another recipe
            continue
        for what, rows in _alike(records, experiment.name).items():
            pairs = [
                Pair(trunk=dynamics[row["trunk"]], branch=dynamics[row["segment"]])
                for row in rows
                if row["trunk"] in dynamics and row["segment"] in dynamics
            ]
            whole = tuple(pair for pair in pairs if pair.is_whole)
            found.append(
                TrainingDynamics(
                    experiment=experiment.name,
                    what=what,
                    pairs=whole,
                    lacking=len(rows) - len(whole),
                )
            )
    return tuple(found)


def _alike(records: Records, experiment: str) -> dict[str, list[Row]]:
    """Finished decays by size, horizon and every axis that varied within the experiment."""
    rows = records.of(experiment)
    axes = [name for name in (rows[0] if rows else ()) if "." in name]
    varied = [axis for axis in axes if len({row[axis] for row in rows}) > 1]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        said = [f"{axis.partition('.')[2]} {row[axis]}" for axis in varied]
        groups[", ".join([f"{row['size']} to {row['horizon']}", *said])].append(row)
    return dict(groups)
