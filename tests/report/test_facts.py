import numpy as np
import planted
import pytest
from unrun import made_run

from windtunnel.findings.forecast_scores import forecast_scores
from windtunnel.report import collect, render
from windtunnel.report.collect import read_states
from windtunnel.report.headline import grid_value
from windtunnel.report.page import spent
from windtunnel.runs.curves import MOST_POINTS, downsample


def spending(kind, tokens, own):
    return made_run(
        kind=kind,
        flops_spent=12.0 * own,
        flops_exact=12.0 * tokens,
        flops_6nd=6.0 * tokens,
        seconds=1.0,
    )


def test_what_the_papers_design_has_spent():
    """Horizons of 10 to 60 N with a decay of 10%: 71.5 N."""
    horizons = (10, 15, 20, 30, 40, 60)
    runs = [spending("trunk", 54, 54), *(spending("branch", h, 0.1 * h) for h in horizons)]
    found = spent(runs)
    assert found.flops == pytest.approx(12 * 71.5)
    assert found.flops_6nd == pytest.approx(6 * 71.5)
    assert found.seconds == 7


def test_downsampling_keeps_the_mean_and_leaves_out_nan():
    rows = [{"step": s, "tokens": 10 * s, "loss": 1 / s} for s in range(1, 5001)]
    tokens, loss = downsample(rows)
    assert tokens.size == loss.size <= MOST_POINTS
    assert (np.diff(tokens) > 0).all()
    late = tokens > 30_000
    assert loss[late] == pytest.approx(10 / tokens[late], rel=1e-3)
    short = [{"step": 1, "tokens": 10, "loss": 2.0}, {"step": 2, "tokens": 20, "loss": None}]
    assert [column.tolist() for column in downsample(short)] == [[10.0], [2.0]]
    assert downsample([])[0].size == 0


@pytest.mark.usefixtures("undrawn")
def test_states(tmp_path):
    study = planted.make_study(tmp_path)
    first = [p for p in study.plan.trunks if p.segment.init_seed == 0]
    dead, broken, begun = first[:3]
    planted.diverge(study, dead, reached=7)
    study.store.segment(broken.id).finish(
        {"outcome": "failed", "reached": 0, "error": "Traceback\n  File\nOSError: disk full"}
    )
    folder = study.store.segment(begun.id)
    folder.create(begun.segment)
    planted.write_curve(folder, begun, planted.LAW, 0.0, rows=10)
    found = {state.segment: state for state in read_states(study.store, study.plan)}
    assert (found[dead.id].state, found[dead.id].reached) == ("diverged", 7)
    assert (found[broken.id].state, found[broken.id].why) == ("failed", "OSError: disk full")
    assert found[begun.id].state == "unfinished"
    children = [p for p in study.plan.branches if p.segment.parent.id in (dead.id, broken.id)]
    assert len(children) == 10
    assert {found[child.id].state for child in children} == {"blocked"}
    text = render(collect(study))
    assert "OSError: disk full" in text
    assert "its trunk diverged before update" in text


FORECAST = {
    "written": 0.0, "inputs": "abc", "rows": 8, "held_out_trained_before": False,
    "sigma": 0.01, "level": 0.9,
    "points": [
        {"segment": s, "params": 1e6, "tokens": t, "loss": 2.0, "low": 1.95, "high": 2.05,
         "naive": {"line": 2.2}}
        for s, t in (("a", 2e7), ("b", 2e7), ("c", 4e7))
    ],
}  # fmt: skip


def test_scores_by_hand():
    runs = [made_run("a", loss=2.02), made_run("b", loss=2.06)]
    (found,) = forecast_scores([FORECAST | {"held_out_trained_before": True}, FORECAST], runs)
    near, far = found.points
    assert (found.earlier, found.blind_earlier) == (1, 0)
    assert near.measured == (2.02, 2.06)
    assert near.error(near.forecast) == pytest.approx(np.log(2.0 / np.sqrt(2.02 * 2.06)))
    assert (near.inside, found.inside, found.measured) == (1, 1, 2)
    assert far.measured == () and far.truth is None and far.error(2.0) is None  # noqa: PT018
    assert found.comparison.winner == "this law"


def test_a_baseline_may_win():
    (found,) = forecast_scores([FORECAST], [made_run(name, loss=2.2) for name in "abc"])
    assert found.comparison.winner == "line"
    assert found.inside == 0


def test_a_forecast_without_an_interval_has_nothing_inside_or_outside():
    for end in (None, float("nan")):
        points = [each | {"low": end, "high": end} for each in FORECAST["points"]]
        (found,) = forecast_scores([FORECAST | {"points": points}], [made_run("a", loss=2.0)])
        assert (found.measured, found.with_interval, found.inside) == (1, 0, 0)


def test_no_seed_noise_is_said_and_does_not_crash():
    (found,) = forecast_scores([FORECAST | {"sigma": 0.0}], [made_run("a", loss=2.0)])
    assert found.comparison is None
    assert found.problem.code == "nothing-to-compare"
    assert forecast_scores([], []) == ()


GRID = """\
  - kind: grid
    axes: {recipe.lr: [5e-3, 1e-2, 2e-2], schedule.decay_fraction: [0.1, 0.2]}
    horizons: ["200 steps"]
    seeds: 2
"""


@pytest.mark.medium
def test_a_grid_alone(tmp_path, read):
    study = planted.make_study(tmp_path, sizes="32x2, 48x2", experiments=GRID)
    lost = study.plan.branches[0]
    planted.fill(study, skip=lambda p: p.id == lost.id)
    planted.diverge(study, lost, reached=190)
    inputs = collect(study)
    (grid,) = inputs.grids
    assert grid.axes == ("recipe.lr", "schedule.decay_fraction")
    assert len(grid.cells) == 12
    assert sum(len(cell.losses) for cell in grid.cells) == 23
    assert sum(cell.diverged for cell in grid.cells) == 1
    by_id = {run.segment: run for run in inputs.runs}
    for planned in study.plan.branches:
        segment = planned.segment
        values = (str(segment.recipe.lr), str(segment.steps / segment.end))
        (cell,) = (
            cell for cell in grid.cells if (cell.size, cell.values) == (segment.model.size, values)
        )
        if planned.id != lost.id:
            assert by_id[planned.id].loss in cell.losses
    page = read(render(inputs))
    assert page.faults == []
    text = page.section("grid-tables")  # the finding of the rates is read from it
    assert page.html.count('<tr class="best">') == 2
    for size in ("32x2", "48x2"):
        best = min((cell for cell in grid.cells if cell.size == size), key=lambda cell: cell.mean)
        values = " ".join(grid_value(value) for value in best.values)
        assert f"{size.replace('x', '×')} {values} 200 steps {best.mean:.4f}" in text
    assert "1 diverged" in text
    assert 'id="answer"' not in page.html
    (standing,) = inputs.recipes
    tested = [field for field in standing.fields if field.tuned]
    assert [(field.axis, field.value) for field in tested] == [
        ("recipe.lr", study.config.recipe.lr)
    ]
