"""A search as JSON: for scripts, for MLflow and for a study's records."""

from typing import Any

from windtunnel.trials.finalists import Finalist
from windtunnel.trials.points import search_size
from windtunnel.trials.search_words import missing, standing
from windtunnel.trials.seed_noise import LEVEL, Difference
from windtunnel.trials.study import Study
from windtunnel.trials.winner import SearchOutcome


def outcome_json(study: Study, outcome: SearchOutcome) -> dict[str, Any]:
    """One search for machines: losses in nats per token, intervals at `level`."""
    experiment, winner = outcome.experiment, outcome.winner
    return {
        "experiment": experiment.name,
        "size": str(search_size(study.ground, experiment)),
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
        "warnings": list(outcome.warnings),
    }


def _finalist_json(outcome: SearchOutcome, each: Finalist) -> dict[str, Any]:
    return {
        "trial": each.result.trial.number,
        "values": each.result.trial.values,
        "loss_in_search": each.result.value,
        "losses": {str(seed): loss for seed, loss in each.losses.items()},
        "loss": each.mean,
        "behind": _difference_json(each.behind),
        "longer_loss": each.longer_mean,
        "behind_longer": _difference_json(each.behind_longer),
        "standing": standing(outcome, each),
    }


def _difference_json(difference: Difference | None) -> dict[str, float | None] | None:
    if difference is None:
        return None
    return {"value": difference.value, "low": difference.low, "high": difference.high}
