"""`windtunnel init`: study files for a corpus and sizes of one's own, and what they plan."""

import json

import pytest

from windtunnel.config import load_study
from windtunnel.config.search import SearchExperiment
from windtunnel.config.study import GridExperiment, LadderExperiment
from windtunnel.runs.study import open_study


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "my corpus.v2"
    folder.mkdir()
    (folder / "a.txt").write_text("some text\n" * 1000)
    (folder / "b.py").write_text("pass")
    return folder


def test_the_study_is_named_after_the_corpus_and_reads_it(
    tmp_path, corpus, windtunnel, monkeypatch
):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "deep" / "hparams.yaml"
    assert windtunnel("init", "deep/hparams.yaml", "--data", corpus.name)[0] == 0
    study = load_study(file)
    assert study.study == "my-corpus"
    assert [each.path for each in study.data.sources] == ["../my corpus.v2"]
    (source,) = open_study(file).unread.values()
    assert source[1].files == 1


@pytest.mark.parametrize("full", [(), ("--full",)])
def test_templates_are_sound_designs(tmp_path, windtunnel, full):
    file = tmp_path / "hparams.yaml"
    windtunnel("init", file, *full)
    study = open_study(file)
    warnings = study.plan.warnings + study.expected_plan.warnings
    # of the full one, the largest batch of the grid over batches
    assert {each.code for each in warnings} == ({"short-horizons"} if full else set())
    kinds = [each.kind for each in study.config.experiments]
    assert kinds[0] == "search"
    assert kinds[-1] == ("forecast" if full else "scaling")
    for each in study.config.experiments:
        assert isinstance(each, SearchExperiment | GridExperiment | LadderExperiment)
        if isinstance(each, GridExperiment):
            assert {horizon.unit for horizon in each.horizons} == {"tokens"}
        if not isinstance(each, SearchExperiment):
            assert len(each.seeds) == 2


@pytest.mark.parametrize("full", [(), ("--full",)])
def test_sizes_of_ones_own(tmp_path, windtunnel, full):
    file = tmp_path / "hparams.yaml"
    sizes = "128x4,320x6, 256x4,192x4"
    assert windtunnel("init", file, "--sizes", sizes, "--data", "builtin:code/sympy", *full)[0] == 0
    study = load_study(file)
    assert study.study == "code-sympy"
    assert [str(each) for each in study.model.sizes] == ["128x4", "192x4", "256x4", "320x6"]
    assert (study.recipe.base_width, study.recipe.batch_tokens) == (128, 4096)
    search, grid = study.experiments[:2]
    assert str(search.size) == "128x4"
    # ten tokens per param of the smallest size, as two digits: 19 times the template's 4e5
    assert search.horizon.amount == grid.horizons[0].amount == 7.6e6
    assert [str(each) for each in grid.sizes_named] == (
        ["128x4", "192x4", "256x4"] if full else ["128x4", "256x4", "320x6"]
    )
    assert str(study.experiments[-1].sizes_named[-1]) == ("320x6" if full else "128x4")


@pytest.mark.parametrize("full", [(), ("--full",)])
def test_the_planned_run_stands_in_the_study(tmp_path, windtunnel, full):
    for number, (target, found) in enumerate(
        {
            "2.4B:1T": (2.4e9, 1e12, None),
            "2.4B:20N": (2.4e9, None, 20.0),
            "10M": (1e7, None, None),
        }.items()
    ):
        file = tmp_path / f"{number}.yaml"
        assert windtunnel("init", file, "--target", target, *full)[0] == 0
        planned = load_study(file).target
        assert (planned.params, planned.tokens, planned.tokens_per_param) == found
    windtunnel("init", tmp_path / "none.yaml", *full)
    assert load_study(tmp_path / "none.yaml").target is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--sizes", "32x3,48,64x3,80x3"], "not-a-size"),
        (["--sizes", "32x3,40x3,64x3,80x3"], "not-a-multiple"),
        (["--sizes", "32x3,48x3,64x3"], "too-few-values"),
        (["--sizes", "32-3"], "not-a-size"),
        (["--data", "CORPUS/none"], "missing-file"),
        (["--data", "CORPUS/code"], "no-readable-file"),
        (["--data", "builtin:prose"], "unknown-builtin"),
        (["--target", "large"], "not-a-target"),
        (["--target", "2.4B:-1"], "not-a-target"),
    ],
)
def test_what_no_study_could_use_is_refused(tmp_path, corpus, windtunnel, arguments, code):
    (corpus / "code").mkdir()
    (corpus / "code" / "b.py").write_text("pass")
    file = tmp_path / "hparams.yaml"
    arguments = [each.replace("CORPUS", str(corpus)) for each in arguments]
    status, _, error = windtunnel("init", file, *arguments)
    assert (status, f"[{code}]" in error) == (2, True)
    assert not file.exists()


def test_a_study_does_not_lie_in_its_corpus(corpus, windtunnel):
    file = corpus / "hparams.yaml"
    status, _, error = windtunnel("init", file, "--data", corpus)
    assert (status, "[is-an-input]" in error, file.exists()) == (2, True, False)


GRID = """\
study: grids
data: {sources: ["builtin:docs"]}
model: {sizes: [32x2, 64x2], head_dim: 16, context: 64}
recipe: {lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}
experiments:
  - {kind: grid, axes: {recipe.lr: [1e-2, 2e-2]GRID}
"""


@pytest.mark.parametrize(
    ("grid", "codes"),
    [
        (", size: [32x2, 64x2]}, horizons: [20N]", {"length-follows-size", "one-seed"}),
        ("}, horizons: [20N], seeds: 2", {"length-follows-size"}),  # at all sizes of the model
        (", size: [32x2, 64x2]}, horizons: [4e5 tokens]", {"one-seed"}),
        (", size: [32x2, 64x2]}, horizons: [4e5 tokens], seeds: 2", set()),
        (", size: [32x2]}, horizons: [20N, 40N]", {"one-seed"}),
        (", size: [32x2]}, horizons: [20N], seeds: 2", set()),
    ],
)
def test_a_grid_that_changes_two_things_is_warned_of(tmp_path, windtunnel, grid, codes):
    file = tmp_path / "hparams.yaml"
    file.write_text(GRID.replace("GRID", grid))
    found = {each.code: each.values for each in open_study(file).plan.warnings}
    assert set(found) - {"short-horizons"} == codes
    if "length-follows-size" in codes:
        values = found["length-follows-size"]
        assert (values["sizes"], values["horizons"]) == (["32x2", "64x2"], ["20N"])
    _, out, _ = windtunnel("plan", file, "--json")
    assert len(json.loads(out)["warnings"]) == len(found)


def test_the_other_suffix_is_named(tmp_path, windtunnel):
    windtunnel("init", tmp_path / "hparams.yaml")
    for missing in ("hparams.yml", "hparms.yaml"):
        status, out, _ = windtunnel("plan", tmp_path / missing, "--json")
        error = json.loads(out)["error"]
        assert (status, error["code"]) == (2, "missing-file")
        assert error["values"]["near"] == str(tmp_path / "hparams.yaml")
    _, out, _ = windtunnel("plan", tmp_path / "unlike.yaml", "--json")
    assert json.loads(out)["error"]["values"]["near"] is None
