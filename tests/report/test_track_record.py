"""The forecasts of a store, by how far they reached."""

import math

import pytest

from windtunnel.findings.track_record import PastForecast, by_distance
from windtunnel.report.collect import past_forecasts
from windtunnel.runs.files import write_json
from windtunnel.runs.forecast import read_forecasts
from windtunnel.runs.gc import PLAN_FILE
from windtunnel.runs.measured import gather


@pytest.fixture
def swept(full):
    """The planted study with the plan that a sweep leaves."""
    write_json(full.folder / PLAN_FILE, full.plan.model_dump(mode="json"))
    yield full
    (full.folder / PLAN_FILE).unlink()


def past(params, error, *, inside=True):
    return PastForecast(
        study="s", experiment="e", params=params, tokens=1.0, blind=True, error=error, inside=inside
    )


def test_half_decades_of_the_distance():
    found = by_distance(
        [
            past(0.5, 0.01),
            past(1.0, -0.03),
            past(2.0, 0.02, inside=None),
            past(8.0, 0.1, inside=False),
        ],
        "params",
    )
    assert [(each.low, each.high) for each in found] == [(0.0, 1.0), (1.0, 3.0), (3.0, 10.0)]
    near, middle, far = found
    assert (near.error, near.bias) == pytest.approx((0.02, -0.01))
    assert (near.inside, near.with_interval) == (2, 2)
    assert (middle.inside, middle.with_interval) == (0, 0)
    assert (far.inside, far.with_interval) == (0, 1)


@pytest.mark.medium
def test_every_measured_run_of_a_store_that_was_forecast(swept):
    (forecast,) = read_forecasts(swept.folder)
    loss = {run.segment: run.loss for run in gather(swept.store, swept.plan)}
    found = past_forecasts(swept.store)
    measured = [point for point in forecast["points"] if loss.get(point["segment"]) is not None]
    assert len(found) == len(measured) > 0
    largest = max(p.segment.model.params for p in swept.plan.branches if not p.held_out)
    assert {each.params for each in found} == {measured[0]["params"] / largest}
    assert {each.blind for each in found} == {True}
    errors = sorted(each.error for each in found)
    wanted = sorted(math.log(point["loss"] / loss[point["segment"]]) for point in measured)
    assert errors == pytest.approx(wanted)


@pytest.mark.medium
def test_a_damaged_study_of_the_store_does_not_stop_the_page(swept):
    other = swept.store.root / "studies" / "damaged"
    other.mkdir()
    (other / "forecasts.jsonl").write_text("{")
    (other / "plan.json").write_text("{")
    try:
        assert past_forecasts(swept.store)
    finally:
        for name in ("forecasts.jsonl", "plan.json"):
            (other / name).unlink()
        other.rmdir()
