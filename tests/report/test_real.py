"""One sweep that really trains, so that the page reads what the engine writes."""

import planted
import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.report import collect, render
from windtunnel.runs.study import open_study

EXPERIMENT = """\
  - {kind: scaling, horizons: [100 steps, 140 steps], extra_horizons: {16x1: [200 steps]}, seeds: 2}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    study = planted.make_study(
        tmp_path_factory.mktemp("real"), sizes="16x1, 16x2, 32x1, 32x2", batch=256,
        experiments=EXPERIMENT + "resources: {device: cpu, compile: never}",
    )  # fmt: skip
    Sweep(study, engine="local").run()
    return open_study(study.file)


@pytest.mark.medium
def test_page_of_a_real_sweep(swept, read):
    inputs = collect(swept)
    page = read(render(inputs))
    assert page.faults == []
    assert {state.state for state in inputs.states} == {"finished"}
    assert {curve.kind for curve in inputs.curves} == {"trunk", "branch"}
    assert len(inputs.curves) == len(inputs.states)
    text = page.section("forecast")
    assert "before any held-out trunk had finished" in text
    held_out = [run for run in inputs.runs if run.held_out and run.decayed]
    assert len(held_out) == 4
    for run in held_out:
        assert f"{run.loss:.4f}" in text
    assert inputs.executions[0].record["device"] == "cpu"
    assert inputs.executions[0].record["torch"] in page.text
    assert swept.dataset.fingerprint in page.text
