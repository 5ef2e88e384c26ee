"""The page of a study whose target lies after a transition that its ladder does not know."""

import planted
import pytest

from windtunnel.findings.forecast_scores import forecast_scores
from windtunnel.laws.transition import EFFECT
from windtunnel.report import collect, render
from windtunnel.runs.forecast import write_forecasts
from windtunnel.runs.measured import gather

STEEP = 0.029, 2.0
"""Copy gain of the ladder's longest run, and its power of tokens."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    study = planted.make_study(tmp_path_factory.mktemp("transition"))
    longest = max(p.tokens_at_end for p in study.plan.branches if not p.held_out)

    def copying(planned):
        return STEEP[0] * (planned.tokens_at_end / longest) ** STEEP[1]

    planted.fill(study, skip=lambda p: p.held_out, copying=copying)
    write_forecasts(study.folder, study.store, study.plan, gather(study.store, study.plan))
    planted.fill(study, skip=lambda p: not p.held_out, seed=3, copying=copying)
    return collect(study)


@pytest.mark.medium
def test_scores_tell_of_the_transition_and_of_the_laws_own_end(inputs):
    (scores,) = forecast_scores(inputs.forecasts, inputs.runs)
    told = [point for point in scores.points if point.law_low is not None]
    assert told
    assert scores.has_transition
    for point in told:
        assert point.low == pytest.approx(point.law_low * (1 - EFFECT))
    assert scores.transition.code == "transition"
    assert scores.transition.values["where"] == "target"
    ladder_alone = [run for run in inputs.runs if not run.held_out]
    (before,) = forecast_scores(inputs.forecasts, ladder_alone)
    assert before.transition.values["where"] == "trend"


@pytest.mark.medium
def test_the_page_shows_it(inputs, read):
    page = read(render(inputs))
    assert page.faults == []
    assert "<code>transition</code>" in page.html
    warnings = [each for finding in inputs.findings for each in finding.warnings]
    assert [w.values["where"] for w in warnings if w.code == "transition"] == ["target"]
    fitted = inputs.laws[0].fit
    of_fit = [w for w in fitted.warnings if w.code == "transition"]
    assert [w.values["where"] for w in of_fit] == ["ladder"]  # it is fitted to the target as well
    gains = [run.copy_gain for run in inputs.runs if run.copy_gain is not None]
    assert f"{max(gains):.3f}" in page.section("runs")
