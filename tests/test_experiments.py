"""The experiments: their files, that each can be planned at scale, and the score of predictions."""

import functools
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.config import load_study
from windtunnel.findings import Quantity, QuantityId
from windtunnel.runs.plan import make_plan
from windtunnel.runs.points import StudyContext

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted(each.parent for each in (ROOT / "experiments").glob("[0-9]*/hparams.yaml"))
RECORDED = [each for each in EXPERIMENTS if (each / "records" / "runs.csv").exists()]
NAMES = [each.name for each in EXPERIMENTS]


@pytest.fixture(scope="module")
def score():
    """The script of scores; each experiment is scored once."""
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        import score

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(score, "scored", functools.cache(score.scored))
            yield score
    finally:
        sys.path.remove(str(ROOT / "experiments"))


def test_the_experiments_are_these():
    assert [name[:3] for name in NAMES] == [f"{number:03}" for number in range(1, 24)]


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=NAMES)
def test_every_experiment_is_whole_and_planned_at_both_scales(folder):
    for name in ("prediction.yaml", "README.md"):
        assert (folder / name).exists(), name
    for name in ("hparams.yaml", "scale-gpu.yaml"):
        config = load_study(folder / name)
        assert config.study.startswith(folder.name)
        plan = make_plan(StudyContext(config=config, vocab_size=256, stream="unprepared"))
        assert plan.segments or any(each.kind == "search" for each in config.experiments)
    large = load_study(folder / "scale-gpu.yaml")
    small = load_study(folder / "hparams.yaml")
    assert min(s.width for s in large.model.sizes) > min(s.width for s in small.model.sizes)
    assert large.resources.gpus_per_trial == 1


def test_a_plan_at_scale_on_the_command_line():
    path = ROOT / "experiments" / "008-data-model-law" / "scale-gpu.yaml"
    done = CliRunner().invoke(app, ["plan", str(path)])
    assert done.exit_code == 0, done.output
    assert "2176x36" in done.output


@pytest.mark.parametrize("folder", RECORDED, ids=[each.name for each in RECORDED])
@pytest.mark.medium
def test_every_prediction_is_measured_and_older_than_its_records(score, folder):
    found = score.scored(folder)
    assert [each.name for each in found if each.measured is None] == []
    assert score.order_of_commits(folder) is None


@pytest.mark.slow
def test_the_table_of_scores_is_that_of_the_records(score):
    page = score.page({folder.name: score.scored(folder) for folder in RECORDED})
    told = (ROOT / "experiments" / "SCORES.md").read_text()
    for found, wanted in zip(page.splitlines(), told.splitlines(), strict=True):
        if "D/N" not in wanted and "a3 of" not in wanted:
            assert found == wanted
            continue
        # Draws differ between processors; the verdict does not.
        assert re.sub(NUMBER, "#", found) == re.sub(NUMBER, "#", wanted)
        values, shown = (
            [float(each) for each in re.findall(NUMBER, text)] for text in (found, wanted)
        )
        ends = -2 if "a3 of" in wanted else len(values)  # an interval along a flat direction
        assert values[:ends] == pytest.approx(shown[:ends], rel=0.25)


NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


@pytest.mark.parametrize(
    ("ends", "value", "verdict"),
    [
        ((None, None), 1.5, "inside"),
        ((None, None), 2.5, "outside"),
        ((1.2, 1.8), 1.5, "inside"),
        ((0.9, 1.8), 1.5, "inside, reaches out"),
        ((1.9, 2.6), 2.1, "outside, reaches in"),
        ((2.1, 2.6), 2.2, "outside"),
    ],
)
def test_a_verdict(score, ends, value, verdict):
    of = QuantityId(experiment="e", finding="comparison", quantity="q")
    measured = Quantity(id=of, value=value, low=ends[0], high=ends[1])
    made = score.Scored(name="q", unit="", low=1, high=2, measured=measured)
    assert made.verdict == verdict


def test_a_difference_is_paired_by_seed(score):
    from comparisons import mean_difference

    found = mean_difference("d", {0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 1.3})
    assert found.value == pytest.approx(0.6)
    assert found.high - found.value == pytest.approx(6.3138 * 0.1, rel=1e-3)  # Student, 1 d.o.f.


@pytest.mark.parametrize(
    ("name", "columns", "lines"),
    [
        ("016", ["hold"], 12),
        ("017", ["parametrization"], 72),
        ("018", ["weight_decay", "hold"], 14),
    ],
)
def test_a_plan_shows_what_else_differs(name, columns, lines):
    (folder,) = (each for each in EXPERIMENTS if each.name.startswith(name))
    out = CliRunner().invoke(app, ["plan", str(folder / "hparams.yaml")]).stdout.splitlines()
    head = out[1].split()
    assert head[4 : head.index("seeds")] == columns
    rows = [line for line in out[2:] if re.match(r" *\d+x\d+ ", line)]
    assert len(rows) == len(set(rows)) == lines


def test_the_run_that_the_quickstart_answers_for_is_trained_by_its_recipe():
    quickstart, target = (
        load_study(ROOT / "experiments" / "quickstart" / name)
        for name in ("hparams.yaml", "target.yaml")
    )
    assert target.experiments[:2] == quickstart.experiments[:2]
    (horizon,) = target.experiments[-1].horizons
    planned = quickstart.target
    assert target.experiments[-1].listed("size") == (str(planned.shape),)
    assert (horizon.amount, horizon.unit) == (planned.tokens, "tokens")
    assert (target.recipe, target.schedule) == (quickstart.recipe, quickstart.schedule)
