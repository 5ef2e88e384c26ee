"""A study of a class of one's own, through the command line."""

import json

import pytest

from windtunnel.config import load_study
from windtunnel.report.collect import execution_warnings
from windtunnel.runs.study import open_study
from windtunnel.train.execution import decide

MINE = "from faulty import Sound\n\n\nclass Mine(Sound):\n    pass\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The file of the class, in a folder on the path."""
    folder = tmp_path / "package"
    folder.mkdir()
    path = folder / "mine.py"
    path.write_text(MINE)
    monkeypatch.syspath_prepend(str(folder))
    return path


@pytest.fixture
def mine(source, study_file):
    """A study of `mine:Mine`."""
    path = study_file(replace=("model:\n", "model:\n  family: mine:Mine\n"))
    path.write_text(path.read_text().replace("  head_dim: 16\n", ""))
    return path


@pytest.mark.slow
def test_it_trains_goes_on_and_tells_of_changed_code(mine, source, windtunnel):
    assert windtunnel("sweep", mine, "--engine", "local")[0] == 0
    runs = json.loads(windtunnel("runs", mine, "--json")[1])
    assert {run["outcome"] for run in runs} == {"finished"}
    store = open_study(mine).store
    assert all(
        store.segment(name).execution["source"].startswith("mine:Mine ")
        for name in store.segment_ids()
        if store.segment(name).execution
    )
    mine.write_text(mine.read_text().replace("140 steps", "170 steps"))  # trunks go on
    source.write_text(MINE + "\n# another line\n")
    code, out, err = windtunnel("sweep", mine, "--engine", "local")
    assert code == 3
    assert "--accept-execution-change" in out + err
    changed = execution_warnings(open_study(mine, prepared=True))
    assert [each.code for each in changed] == ["family-changed"]
    source.write_text(MINE)
    assert windtunnel("sweep", mine, "--engine", "local")[0] == 0
    assert execution_warnings(open_study(mine, prepared=True)) == ()


def test_torch_is_the_backend_of_other_families(mine):
    config = load_study(mine)
    spec = config.model.spec(config.model.sizes[0], vocab_size=256)
    execution = decide(config.resources, spec, config.recipe, planned_tokens=10**12)
    assert execution.kernels == "torch"
    assert not execution.compile  # nobody knows whether a stranger's graph compiles whole
    assert execution.source.startswith("mine:Mine ")


@pytest.mark.slow
def test_the_page_names_the_family_and_leaves_out_what_it_does_not_use(mine, windtunnel, undrawn):
    assert windtunnel("sweep", mine, "--engine", "local")[0] == 0
    page = next(mine.parent.rglob("report.html")).read_text()
    assert "2 model sizes of family mine:Mine" in page
    assert "recipe.lr" in page
    for idle in ("scale_emb", "scale_depth", "kv_rule"):
        assert f"recipe.{idle}" not in page
