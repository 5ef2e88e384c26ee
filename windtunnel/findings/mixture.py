"""A mixture design: the law over its mixtures, and the best mixture."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from windtunnel.config.branch import BranchExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import LEVEL, NATS, Finding, Quantity, with_ends
from windtunnel.findings.records import Records
from windtunnel.findings.variants import branches_at
from windtunnel.laws.mixture import MixtureFit, fit_mixture
from windtunnel.runs.table import as_row


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureFinding(Finding):
    """The mixture law of one design, at one size and fork; `problem` says why there is none."""

    size: str
    fork: str
    law: MixtureFit | None
    problem: FitError | None

    kind: ClassVar[str] = "mixture"
    title: ClassVar[str] = "Which mixture to decay on"

    @property
    def lead(self) -> str:
        """The best mixture, what it gains, and how well mixtures left out were predicted."""
        where = f"{self.size}, left after {self.fork}"
        if self.law is None:
            return f"{where}: no law: {self.problem}."
        best = self.law.best
        mixture = ", ".join(
            f"{with_ends(share, '.2f')} {source}" for source, share in best.shares.items()
        )
        sets = " and ".join(name for name, weight in self.law.target.items() if weight)
        gains = "; ".join(
            f"{with_ends(gain.nats, '.4f')} nats over {gain.over}"
            for gain in best.gains
            if not gain.none
        )
        ranks = ", ".join(
            f"{with_ends(choice.taken.rank, '.2f')} on {name} ({choice.chosen})"
            for name, choice in self.law.choices.items()
        )
        return (
            f"{where}: the mean loss on {sets} is predicted to be lowest at {mixture}"
            f"{f', by {gains}' if gains else ''}. Rank correlation with mixtures left out: "
            f"{with_ends(self.law.score.rank, '.2f')} of that mean; {ranks}."
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Shares of the best mixture, its gains, and by set the error on mixtures left out."""
        return tuple(self._quantities()) if self.law else ()

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings of the law."""
        return self.law.warnings if self.law else ()

    def _quantities(self) -> Iterator[Quantity]:
        assert self.law is not None
        at = {"size": self.size, "fork": self.fork}
        for source, share in self.law.best.shares.items():
            yield self.quantity("share", share, source=source, **at)
        for gain in self.law.best.gains:
            yield self.quantity("gain", gain.nats, NATS, base=gain.over, **at)
        yield self.quantity("target-rank", self.law.score.rank, **at)
        for name, choice in self.law.choices.items():
            taken = choice.taken
            yield self.quantity("rank", taken.rank, set=name, **at)
            yield self.quantity("error", taken.rms, NATS, set=name, **at)


def mixture_laws(records: Records) -> tuple[MixtureFinding, ...]:
    """A finding for each size and fork of each branch experiment that has a design.

    The law is that of `windtunnel fit` with its defaults, number for number.
    """
    found = []
    for experiment in records.config.experiments:
        if not isinstance(experiment, BranchExperiment) or experiment.design is None:
            continue
        sizes = experiment.sizes or records.config.model.sizes
        for size, fork in product(map(str, sizes), experiment.forks):
            drawn = experiment.design.mixtures()
            runs = [
                run
                for run in branches_at(records, experiment, size, fork)
                if run.loss is not None and run.variants.get(experiment.name) in drawn
            ]
            if not runs:
                continue
            law, problem = None, None
            try:
                law = fit_mixture([as_row(run) for run in runs], level=LEVEL)
            except FitError as refused:
                problem = refused
            found.append(
                MixtureFinding(
                    experiment=experiment.name, size=size, fork=str(fork), law=law, problem=problem
                )
            )
    return tuple(found)
