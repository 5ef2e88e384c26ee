"""The repeated trials of a search: which wins, on what edges it lies, what to beware of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from windtunnel.spec.search import Range, SearchExperiment
from windtunnel.trials.search import Outcome, TrialResult
from windtunnel.trials.seed_noise import Difference

EDGE = 0.05
"""Nearer to an end of a range than this share of it (on the searched scale) is on its edge."""

FEW_DOF = 4
"""Below so many degrees of freedom a noise is hardly known: a warning."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A repeated trial: its losses on the new seeds, and its distance from the winner.

    Losses are by seed, and empty where some seed has none; `missing` counts the outcomes of those
    seeds, and `longer_missing` at the longer horizon.
    """

    result: TrialResult
    losses: Mapping[int, float]
    longer_losses: Mapping[int, float]
    missing: Mapping[Outcome, int]
    longer_missing: Mapping[Outcome, int]
    behind: Difference | None
    behind_longer: Difference | None

    @property
    def mean(self) -> float | None:
        """Over the new seeds, at the search's horizon; None while one is missing."""
        return fmean(self.losses.values()) if self.losses else None

    @property
    def longer_mean(self) -> float | None:
        """Over the new seeds, at the longer horizon."""
        return fmean(self.longer_losses.values()) if self.longer_losses else None


def winner_among(finalists: Sequence[Finalist]) -> Finalist | None:
    """The first in order, once no finalist has a repeat to come."""
    if not finalists or any("unfinished" in each.missing for each in finalists):
        return None
    return finalists[0] if finalists[0].losses else None


def edges_of(experiment: SearchExperiment, result: TrialResult) -> dict[str, str]:
    """Axes on whose edge a trial lies: axis -> low or high."""
    found = {}
    for axis, searched in experiment.space.items():
        value = result.trial.values[axis]
        if isinstance(searched, Range):
            position = searched.position(value)
        elif len(searched) > 2 and all(isinstance(each, int | float) for each in searched):
            position = sorted(searched).index(value) / (len(searched) - 1)
        else:
            continue
        if position < EDGE or position > 1 - EDGE:
            found[axis] = "low" if position < EDGE else "high"
    return found


def warnings_of(
    experiment: SearchExperiment,
    finalists: Sequence[Finalist],
    edges: Mapping[str, str],
    noise: float | None,
    dof: int,
) -> list[str]:
    """What to know before the winner is believed; nothing before there is one.

    `dof` are the degrees of freedom of `noise`, nats per token.
    """
    if winner_among(finalists) is None:
        return []
    found = [
        f"the winner's {axis} lies on the {side} edge of the space: the optimum may lie beyond; "
        f"widen it and give the search a new name"
        for axis, side in edges.items()
    ]
    if noise is None:
        found.append(
            "repeats: 1 measures no noise: no difference between finalists has an interval"
        )
    elif dof < FEW_DOF:
        found.append(
            f"the noise has {dof} {'degree' if dof == 1 else 'degrees'} of freedom, too few "
            "to know it well: intervals are wide, and within noise means little; raise `repeats` "
            "or `top`"
        )
    found += [
        f"trial {each.result.trial.number} {outcome} on {count} of {experiment.repeats} new seeds "
        "and cannot win"
        for each in finalists
        for outcome, count in each.missing.items()
        if outcome != "unfinished"
    ]
    close = [each for each in finalists[1:] if each.behind and each.behind.within_noise]
    if close and len(finalists) == 2:
        found.append(
            "the other finalist is within noise of the winner: take its values as just as good"
        )
    elif close:
        found.append(
            f"{_of_others(len(close), len(finalists) - 1)} finalists "
            f"{'is' if len(close) == 1 else 'are'} within noise of the winner: take their values "
            "as just as good"
        )
    better = [
        each.result.trial.number
        for each in finalists[1:]
        if each.behind_longer
        and each.behind_longer.high is not None
        and each.behind_longer.high < 0
    ]
    if better:
        found.append(
            f"at {experiment.longer:g} times the horizon trial {better[0]} is better than the "
            "winner, beyond noise: the optimum moves with the length of training"
        )
    return found


def _of_others(count: int, others: int) -> str:
    return f"all {others} other" if count == others else f"{count} of the other {others}"
