"""Summaries of a search: sentences for people, and one JSON document for machines."""

from collections.abc import Sequence
from typing import Any

from windtunnel.config.search import SearchExperiment
from windtunnel.runs.points import search_size
from windtunnel.runs.search.noise import LEVEL, Difference
from windtunnel.runs.search.projection import trial_count
from windtunnel.runs.search.trial_log import TrialLog
from windtunnel.runs.search.trials import TrialResult
from windtunnel.runs.search.winner import Finalist, SearchOutcome
from windtunnel.runs.study import Study


def searched(outcome: "SearchOutcome") -> str:
    """`16 of 16 trials to 10N by gp: 14 finished, 2 diverged`."""
    experiment = outcome.experiment
    counts = ", ".join(f"{count} {name}" for name, count in outcome.counts.items())
    return (
        f"{of_trials(experiment, len(outcome.results))} to {experiment.horizon} by "
        f"{experiment.sampler_taken}" + (f": {counts}" if counts else "")
    )


def of_trials(experiment: SearchExperiment, count: int) -> str:
    """`12 of 30 trials`; `30 trials` where fewer are planned by now."""
    planned = trial_count(experiment)
    return f"{count} of {planned} trials" if count <= planned else f"{count} trials"


def suggested_so_far(experiment: SearchExperiment, suggested: TrialLog) -> str:
    """`16 of 30 trials suggested, in batch 2`, from the search's file alone."""
    text = f"{of_trials(experiment, len(suggested.trials))} suggested"
    if suggested.finalists:
        return f"{text}, repeats of the best {len(suggested.finalists)}"
    return f"{text}, in batch {suggested.batches}" if suggested.trials else text


def stands(outcome: "SearchOutcome") -> str:
    """`12 of 30 trials, batch 2 running`, or `30 of 30 trials; repeats of the best 3 running`."""
    experiment, results = outcome.experiment, outcome.results
    ended = len(results) - outcome.counts.get("unfinished", 0)
    text = of_trials(experiment, ended)
    if left := repeats_left(outcome):
        runs = "1 run" if left == 1 else f"{left} runs"
        return f"{text}; repeats of the best {len(outcome.finalists)}: {runs} to come"
    if outcome.winner is not None:
        return f"{text}; the best {len(outcome.finalists)} repeated"
    if ended < len(results):
        return f"{text}; batch {results[-1].trial.batch + 1} has {len(results) - ended} to end"
    return text


def repeats_left(outcome: "SearchOutcome") -> int:
    """Unfinished runs of finalists on new seeds, to either horizon."""
    return sum(
        each.missing.get("unfinished", 0) + each.longer_missing.get("unfinished", 0)
        for each in outcome.finalists
    )


def missing(outcome: "SearchOutcome") -> list[str]:
    """Reasons why there is no winner yet, or why it may still change; empty when all is done."""
    experiment, counts = outcome.experiment, outcome.counts
    reasons = []
    planned = trial_count(experiment)
    left = planned - len(outcome.results)
    if left > 0:
        reasons.append(
            f"{left} of {planned} trials {'is' if left == 1 else 'are'} still to be suggested"
        )
    if waiting := counts.get("unfinished", 0):
        reasons.append(f"{waiting} of {len(outcome.results)} suggested trials have not ended")
    if failed := counts.get("failed", 0):
        reasons.append(
            "1 trial failed; the next sweep tries it again"
            if failed == 1
            else f"{failed} trials failed; the next sweep tries them again"
        )
    if experiment.top == 0:
        reasons.append("top: 0 repeats no trial, and so names no winner")
    for horizon, each in (
        (experiment.horizon, [finalist.missing for finalist in outcome.finalists]),
        (experiment.longer_horizon, [finalist.longer_missing for finalist in outcome.finalists]),
    ):
        if runs := sum(seeds.get("unfinished", 0) for seeds in each):
            reasons.append(
                f"{runs} of {len(each) * experiment.repeats} repeats to {horizon} have not ended"
            )
    if not reasons and outcome.winner is None:
        reasons.append(
            "every finalist diverged or failed on a new seed: narrow the space"
            if outcome.finalists
            else "no trial finished: narrow the space, or lower its learning rates"
        )
    return reasons


def ranges(experiment: SearchExperiment, results: Sequence[TrialResult]) -> dict[str, str]:
    """Values of the trials on each axis: `0.0085 to 0.028`, or `false, true`."""
    texts = {}
    for axis in experiment.space:
        values = [result.trial.values[axis] for result in results]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if numbers and len(numbers) == len(values):
            low, high = value_text(min(numbers)), value_text(max(numbers))
            texts[axis] = low if low == high else f"{low} to {high}"
        else:
            texts[axis] = ", ".join(sorted({value_text(value) for value in values}))
    return texts


def value_text(value: Any) -> str:
    """A searched value for people: three digits, and words as in a study file."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def standing(outcome: "SearchOutcome", finalist: "Finalist") -> str:
    """The position of a finalist: the winner, within noise of it, or behind it."""
    if outcome.winner is None:
        return ""
    if finalist is outcome.winner:
        return "winner"
    if finalist.behind is None:
        return ", ".join(f"{count} {name}" for name, count in finalist.missing.items())
    within = finalist.behind.within_noise
    if within is None:
        return "noise not measured"
    return "within noise" if within else "worse, beyond noise"


def field_name(experiment: SearchExperiment, axis: str) -> str:
    """An axis without its section, unless another axis has the same field."""
    field = axis.partition(".")[2]
    alike = [each for each in experiment.space if each.partition(".")[2] == field]
    return field if len(alike) == 1 else axis


def outcome_json(study: Study, outcome: SearchOutcome) -> dict[str, Any]:
    """One search for machines: losses in nats per token, intervals at `level`."""
    experiment, winner = outcome.experiment, outcome.winner
    return {
        "experiment": experiment.name,
        "size": str(search_size(study.study_context, experiment)),
        "horizon": str(experiment.horizon),
        "longer_horizon": str(experiment.longer_horizon),
        "objective": experiment.objective,
        "sampler": experiment.sampler_taken,
        "counts": dict(outcome.counts),
        "level": LEVEL,
        "winner": None
        if winner is None
        else {
            "trial": winner.result.trial.number,
            "values": winner.result.trial.values,
            "loss": winner.mean,
            "interval": outcome.winner_interval(),
            "seeds": list(winner.losses),
            "edges": dict(outcome.edges),
        },
        "best_so_far": [
            {"trial": each.trial.number, "loss_in_search": each.value} for each in outcome.leaders
        ],
        "finalists": [_finalist_json(outcome, each) for each in outcome.finalists],
        "noise": outcome.noise,
        "noise_dof": outcome.noise_dof,
        "spread_of_seeds": outcome.spread,
        "near": [result.trial.number for result in outcome.near],
        "trials": [
            {
                "trial": result.trial.number,
                "batch": result.trial.batch,
                "values": result.trial.values,
                "outcome": result.outcome,
                "losses": result.at,
                "noise_units_above_winner": outcome.units.get(result.trial.number),
            }
            for result in outcome.results
        ],
        "flops_spent": outcome.flops_spent,
        "flops_without_stopping": outcome.flops_without_stopping,
        "missing": missing(outcome),
        "warnings": [warning.message for warning in outcome.warnings],
    }


def _finalist_json(outcome: SearchOutcome, finalist: Finalist) -> dict[str, Any]:
    return {
        "trial": finalist.result.trial.number,
        "values": finalist.result.trial.values,
        "loss_in_search": finalist.result.value,
        "losses": {str(seed): loss for seed, loss in finalist.losses.items()},
        "loss": finalist.mean,
        "behind": _difference_json(finalist.behind),
        "longer_loss": finalist.longer_mean,
        "behind_longer": _difference_json(finalist.behind_longer),
        "standing": standing(outcome, finalist),
    }


def _difference_json(difference: Difference | None) -> dict[str, float | None] | None:
    if difference is None:
        return None
    return {"value": difference.value, "low": difference.low, "high": difference.high}
