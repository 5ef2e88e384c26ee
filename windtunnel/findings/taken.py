"""What experiments take from the results of earlier ones: winners, and powers of transfer rules."""

import math
import time
from collections.abc import Collection, Iterator

from windtunnel.config.own_values import by_axis, source_of
from windtunnel.errors import FitError
from windtunnel.findings.lr_batch import joints
from windtunnel.findings.lr_curves import mean_exponent
from windtunnel.findings.lr_transfer import transfers, weight_decays
from windtunnel.findings.records import Records, records_of
from windtunnel.laws import Interval
from windtunnel.runs.search.winner import SearchOutcome, search_outcomes
from windtunnel.runs.study import Study
from windtunnel.runs.taken import MeasuredPower, Taken, TakenWinner
from windtunnel.transfer import Along, Setting

ALONG = {"length": "tokens", "depth": "depth"}
"""What the finding of a rate grid calls the thing that a rule follows."""


class NoAnswer(FitError):
    """An experiment has ended without the answer that another one waits for."""


def take(study: Study, ended: Collection[str]) -> Taken:
    """What has been taken so far, and what the experiments that have `ended` add.

    Raises:
        NoAnswer: One of them has no winner, or no exponent.
        StoreError: A file of the store is damaged.
    """
    winners, powers = dict(study.taken.winners), list(study.taken.powers)
    outcomes = {each.experiment.name: each for each in search_outcomes(study)}
    for experiment in study.config.experiments:
        source = source_of(experiment)
        if source is not None and source in ended and experiment.name not in winners:
            winners[experiment.name] = _winner(outcomes[source])
    wanted = [
        (setting, along, source)
        for setting, along in _unmeasured(study)
        if (source := study.config.measuring(setting, along)) is not None and source in ended
    ]
    if wanted:
        records = records_of(study)
        powers += [_power(records, *each) for each in wanted]
    return Taken(winners=winners, powers=tuple(powers))


def _unmeasured(study: Study) -> Iterator[tuple[Setting, Along]]:
    for cell, rule in study.config.transfer.chosen.items():
        if rule.is_measured and rule.power is None:
            yield cell


def _winner(outcome: SearchOutcome) -> TakenWinner:
    winner = outcome.winner
    if winner is None or winner.mean is None:
        raise NoAnswer(
            "no-winner",
            f"search {outcome.experiment.name!r} has no winner: no repeated trial finished on all "
            "of its new seeds; widen its space, or give it a new name",
            experiment=outcome.experiment.name,
        )
    low, high = outcome.winner_interval() or (None, None)
    return TakenWinner(
        source=outcome.experiment.name,
        trial=winner.result.trial.number,
        values=by_axis(outcome.experiment) | dict(winner.result.trial.values),
        loss=winner.mean,
        low=low,
        high=high,
        taken=time.time(),
    )


def _power(records: Records, setting: Setting, along: Along, experiment: str) -> MeasuredPower:
    exponent = exponent_of(records, setting, along, experiment)
    if exponent is None:
        raise NoAnswer(
            "no-exponent",
            f"experiment {experiment!r} does not tell how {setting} follows {along}: it needs two "
            "places or more whose best value lies inside the values tried; widen them",
            experiment=experiment,
            setting=setting,
            along=along,
        )
    return MeasuredPower(
        setting=setting,
        along=along,
        source=experiment,
        power=float(f"{exponent.value:.6g}"),
        low=_end(exponent.low),
        high=_end(exponent.high),
        taken=time.time(),
    )


def _end(end: float) -> float | None:
    """An end of an interval; None where there is none, for JSON has no infinity."""
    return end if math.isfinite(end) else None


def exponent_of(
    records: Records, setting: Setting, along: Along, experiment: str
) -> Interval | None:
    """The exponent by which the best value of a setting follows something, with its 90% interval.

    The mean over the variants of the grid that have one; None where none has.
    """
    if along == "batch":
        found = (each.exponent for each in joints(records) if each.experiment == experiment)
        return next(found, None)
    for finding in (transfers if setting == "lr" else weight_decays)(records):
        if finding.experiment == experiment and finding.along == ALONG[along]:
            known = [each for each in finding.variants if each.exponent is not None]
            return mean_exponent(known) if known else None
    return None
