"""Who wins a search: numbers worked by hand, and intervals against a planted truth."""

import math

import numpy as np
import pytest

from windtunnel.config.search import SearchExperiment
from windtunnel.runs.search.noise import differences, interval_of_mean, residual_noise, seed_spread
from windtunnel.runs.search.projection import trial_count
from windtunnel.runs.search.summary import missing, ranges, searched
from windtunnel.runs.search.trial_log import SuggestedTrial
from windtunnel.runs.search.trials import TrialResult
from windtunnel.runs.search.winner import Finalist, SearchOutcome, edges_of, winner_warnings

SPACE = {
    "recipe.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "recipe.scale_emb": {"low": 0.0, "high": 10.0},
    "model.heads_per_kv": [1, 2, 4],
    "model.qk_norm": [True, False],
}


def search(**fields):
    return SearchExperiment.model_validate({"kind": "search", "space": SPACE} | fields)


def trial(number, value=1.0, *, outcome="finished", lr=1e-2, emb=5.0, heads=2, qk=True):
    values = dict(zip(SPACE, (lr, emb, heads, qk), strict=True))
    return TrialResult(
        trial=SuggestedTrial(number=number, batch=0, values=values),
        outcome=outcome,
        at=(value,),
        value=value,
    )


def finalist(number, losses, *, missing=None, behind=None, behind_longer=None):
    return Finalist(
        result=trial(number),
        losses=losses,
        longer_losses=losses,
        missing=missing or {},
        longer_missing={},
        behind=behind,
        behind_longer=behind_longer,
    )


def outcome(finalists, results=(), *, experiment=None, noise=0.1, units=None):
    return SearchOutcome(
        experiment=experiment or search(trials=max(len(results), 1)),
        results=tuple(results),
        finalists=tuple(finalists),
        noise=noise,
        noise_dof=2,
        spread=0.1,
        units=units or {},
        edges={},
        flops=(),
        flops_without_stopping=0.0,
        warnings=(),
    )


def test_residual_noise_by_hand():
    # Means of rows 1.2, 1.5; of columns 1.2, 1.5: residuals are +-0.1 at all four places, dof 1.
    rows = [{1: 1.1, 2: 1.3}, {1: 1.3, 2: 1.7}]
    noise, dof = residual_noise(rows)
    assert (noise, dof) == (pytest.approx(0.1), 1)
    # Variances within rows: 0.02 and 0.08.
    assert seed_spread(rows) == pytest.approx(math.sqrt(0.05))


def test_what_a_seed_does_to_all_is_no_noise_of_a_difference():
    rows = [{1: 1.0, 2: 3.0, 3: 2.0}, {1: 1.5, 2: 3.5, 3: 2.5}]
    assert residual_noise(rows) == (pytest.approx(0.0, abs=1e-12), 2)
    assert seed_spread(rows) == pytest.approx(1.0)


def test_one_finalist_has_the_spread_of_its_seeds_and_one_seed_none():
    assert residual_noise([{1: 1.0, 2: 2.0, 3: 3.0}, {}]) == (pytest.approx(1.0), 2)
    assert residual_noise([{1: 1.0}, {1: 2.0}]) == (None, 0)
    assert seed_spread([{1: 1.0}]) is None
    assert differences([{1: 1.0}, {1: 2.0}], 0)[1].within_noise is None


def test_widths_of_intervals_by_hand():
    first, second = differences([{1: 1.1, 2: 1.3}, {1: 1.3, 2: 1.7}], 0)
    assert (first.value, first.low) == (0.0, None)
    # Two finalists: Tukey's is Student's; t(0.95, 1) = 6.3138, and 0.1 sqrt(2 / 2) of noise.
    assert second.value == pytest.approx(0.3)
    assert second.high - second.value == pytest.approx(0.63138, rel=1e-4)
    assert second.within_noise is True
    # Three finalists of two seeds: q(0.90; 3, 2) = 5.733 in the published tables.
    rows = [{1: 1.1, 2: 1.3}, {1: 1.3, 2: 1.7}, {1: 1.2, 2: 1.5}]
    noise, dof = residual_noise(rows)
    assert dof == 2
    half = differences(rows, 0)[1]
    assert half.high - half.value == pytest.approx(5.733 * noise / math.sqrt(2), rel=1e-3)
    # t(0.95, 2) = 2.9200 standard errors.
    low, high = interval_of_mean(2.0, 0.3, 3)
    assert (low, high) == (pytest.approx(2 - 0.50575, rel=1e-4), pytest.approx(2 + 0.50575, 1e-4))


def covered(rng, gaps, *, seeds, spread, draws=2000):
    """Shares of simulated searches: all differences right at once, and the winner's mean right.

    A run's loss is its trial's truth, what its seed does to all, and noise of one.
    """
    truth, right, means = np.array(gaps), 0, 0
    for _ in range(draws):
        losses = truth[:, None] + spread * rng.standard_normal(seeds)
        losses = losses + rng.standard_normal(losses.shape)
        rows = [dict(enumerate(row)) for row in losses]
        winner = int(losses.mean(axis=1).argmin())
        others = [i for i in range(len(rows)) if i != winner]
        found = differences(rows, winner)
        right += all(found[i].low <= truth[i] - truth[winner] <= found[i].high for i in others)
        low, high = interval_of_mean(losses[winner].mean(), seed_spread(rows), seeds)
        means += low <= truth[winner] <= high
    return right / draws, means / draws


@pytest.mark.parametrize("gaps", [(0, 0, 0), (0, 0, 0, 0, 0), (0, 0.5, 1, 4, 8)])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_intervals_hold_after_the_best_was_picked(gaps, spread):
    right, means = covered(np.random.default_rng(0), gaps, seeds=3, spread=spread)
    # 2,000 draws: a standard error of 0.007. Equal finalists are the hardest case, and exact.
    assert 0.88 <= right <= (0.92 if not any(gaps) else 0.97)
    assert means >= 0.88


def test_students_intervals_would_not_hold():
    """Why they are Tukey's: the same differences with t's width, all five finalists equal."""
    rng = np.random.default_rng(0)
    losses = rng.standard_normal((2000, 5, 3))
    means = losses.mean(axis=2)
    residuals = losses - means[..., None]
    residuals = residuals - residuals.mean(axis=1, keepdims=True)
    noise = np.sqrt((residuals**2).sum(axis=(1, 2)) / 8)
    half = 1.8595 * noise * math.sqrt(2 / 3)  # t(0.95, 8)
    assert 0.55 <= np.mean(np.ptp(means, axis=1) <= half) <= 0.65


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ({}, {}),
        ({"lr": 1.1e-3}, {"recipe.lr": "low"}),  # 2% of the way, in logs
        ({"lr": 2e-3}, {}),  # 15% in logs; of plain numbers it would be 1%
        ({"emb": 9.6}, {"recipe.scale_emb": "high"}),
        ({"emb": 9.4}, {}),
        ({"heads": 4}, {"model.heads_per_kv": "high"}),
        ({"heads": 1, "qk": False}, {"model.heads_per_kv": "low"}),  # words have no edge
    ],
)
def test_edges(values, want):
    assert edges_of(search(), trial(0, **values)) == want


def test_a_finalist_without_all_its_losses_does_not_win_and_is_waited_for():
    done, waiting = finalist(0, {1: 1.0, 2: 1.1}), finalist(1, {}, missing={"unfinished": 1})
    running = outcome([done, waiting], [trial(0), trial(1)])
    assert running.winner is None
    assert any("1 of 6 repeats to 10N have not ended" in sentence for sentence in missing(running))
    lost = finalist(1, {}, missing={"diverged": 1})
    ended = outcome([done, lost], [trial(0), trial(1)])
    assert ended.winner is done
    assert missing(ended) == []
    (warning,) = winner_warnings(search(), [done, lost], {}, 0.1, 4)
    assert warning.code == "lost-finalist"
    assert warning.values == {"trial": 1, "outcome": "diverged", "seeds": 1, "repeats": 3}
    assert warning.message == "trial 1 diverged on 1 of 3 new seeds and cannot win"


def test_warnings_of_rivals():
    best, close, far = {1: 1.0, 2: 1.2}, {1: 1.1, 2: 1.2}, {1: 9.0, 2: 9.1}
    rows = differences([best, close, far], 0)
    longer = differences([close, best, {1: -9.0, 2: -9.1}], 0)
    found = winner_warnings(
        search(),
        [
            finalist(i, row, behind=rows[i], behind_longer=longer[i])
            for i, row in enumerate((best, close, far))
        ],
        {"recipe.lr": "low"},
        *residual_noise([best, close, far]),
    )
    assert [(each.code, each.values) for each in found] == [
        ("edge-winner", {"axis": "recipe.lr", "edge": "low"}),
        ("few-dof", {"dof": 2}),
        ("within-noise", {"trials": [1], "others": 2}),
        ("longer-horizon-differs", {"trials": [2], "longer": 2.0}),
    ]


def test_two_finalists_are_spoken_of_as_two():
    rows = [{1: 1.0, 2: 1.2}, {1: 1.1, 2: 1.2}]
    behind = differences(rows, 0)
    finalists = [finalist(i, row, behind=behind[i]) for i, row in enumerate(rows)]
    few, close = winner_warnings(search(), finalists, {}, *residual_noise(rows))
    assert (few.code, few.values) == ("few-dof", {"dof": 1})
    assert close.values == {"trials": [1], "others": 1}
    assert "the other finalist is within noise" in close.message


def test_a_search_cut_short_and_a_grid_count_their_own_trials():
    results = [trial(number) for number in range(6)]
    assert searched(outcome([], results, experiment=search(trials=4))).startswith("6 trials to")
    lists = {"model.heads_per_kv": [1, 2, 4], "model.qk_norm": [True, False]}
    grid = search(space=lists, sampler="grid", trials=40)
    assert trial_count(grid) == 6
    assert searched(outcome([], results, experiment=grid)).startswith("6 of 6 trials to")
    assert not any(
        "suggested" in sentence for sentence in missing(outcome([], results[:6], experiment=grid))
    )


def test_near_trials_and_their_values():
    results = [trial(0), trial(1, lr=3e-2), trial(2, lr=5e-3, qk=False), trial(3, lr=9e-2)]
    found = outcome([finalist(0, {1: 1.0})], results, units={0: 0.0, 1: 1.9, 2: -0.4, 3: 2.1})
    assert [each.trial.number for each in found.near] == [1, 2]
    assert ranges(found.experiment, found.near) == {
        "recipe.lr": "0.005 to 0.03",
        "recipe.scale_emb": "5",
        "model.heads_per_kv": "2",
        "model.qk_norm": "false, true",
    }
    assert found.winner_values() == {
        "recipe": {"lr": 1e-2, "scale_emb": 5.0},
        "model": {"heads_per_kv": 2, "qk_norm": True},
    }


def test_what_was_searched_is_counted():
    results = [trial(0), trial(1, None, outcome="diverged"), trial(2, None, outcome="unfinished")]
    running = outcome([], results, experiment=search(trials=8, sampler="sobol"))
    assert searched(running) == (
        "3 of 8 trials to 10N by sobol: 1 finished, 1 diverged, 1 unfinished"
    )
    assert missing(running) == [
        "5 of 8 trials are still to be suggested",
        "1 of 3 suggested trials have not ended",
    ]
