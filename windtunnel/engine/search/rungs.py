"""Early stopping: which trials of a batch go on from a rung.

Trials are compared at equal phase: each was branched off its trunk and decayed, and the loss at the
end of that branch counts (design decision 6: a shortened run is not a shorter run). A batch is
judged when all of it has come to the rung, beside all that came there before it, so that who was
first does not matter. ASHA: Li et al. 2020 (arXiv 1810.05934); median rule: Golovin et al. 2017.
"""

from collections.abc import Sequence
from statistics import median

from windtunnel.spec.search import SearchExperiment
from windtunnel.trials.search import TrialResult


def going_on(
    experiment: SearchExperiment, results: Sequence[TrialResult], *, horizons: int
) -> set[int]:
    """Numbers of the last batch's trials that go on from its latest rung; empty when none is left.

    `horizons` counts the rungs and the end.
    """
    if not results or experiment.early_stopping is None:
        return set()
    batch = [each for each in results if each.trial.batch == results[-1].trial.batch]
    rung = max(each.trial.admitted for each in batch)
    if rung == horizons:
        return set()
    there = [(loss, each.trial.number) for each in results if (loss := _loss_at(each, rung))]
    candidates = {each.trial.number for each in batch if each.trial.admitted == rung}
    if experiment.early_stopping.rule == "median":
        middle = median(loss for loss, _ in there) if there else 0.0
        chosen = {number for loss, number in there if loss <= middle}
    else:
        places = max(1, int(len(there) / experiment.early_stopping.reduction))
        chosen = {number for _, number in sorted(there)[:places]}
    return candidates & chosen


def _loss_at(result: TrialResult, rung: int) -> float | None:
    """Loss at the end of a rung (counted from 1); None where the trial has none there."""
    return result.at[rung - 1] if len(result.at) >= rung else None
