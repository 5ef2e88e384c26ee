"""`plan --calibrate`, `gc`, `status` and a budget, as they are typed."""

import json

import pytest

from windtunnel.cli import EXIT_SOME_FAILED
from windtunnel.runs.study import open_study

THREE = "[110 steps, 150 steps, 200 steps]"


@pytest.mark.medium
def test_plan_says_disk_and_time_and_how_it_knows(windtunnel, study_file):
    path = study_file()
    code, out, _ = windtunnel("plan", path)
    assert code == 0
    assert "at the peak" in out
    assert "free there" in out
    assert "assumed: --calibrate times it here" in out
    code, out, told = windtunnel("plan", path, "--calibrate")
    assert code == 0
    assert "(timed here)" in out
    assert "ms/update" in out
    assert "timing 16x1, 128 tokens an update" in told
    code, out, _ = windtunnel("plan", path, "--json")
    found = json.loads(out)
    assert found["time"]["speed"] == "calibrated"
    assert found["time"]["seconds"] >= found["time"]["bound_seconds"] > 0
    assert found["disk"]["peak_bytes"] > found["disk"]["end_bytes"] > 0
    assert all(segment["seconds"] > 0 for segment in found["segments"])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_gc_says_what_it_would_free_and_frees_on_yes(windtunnel, study_file):
    path = study_file(sizes="[16x1]", horizons=THREE)
    assert windtunnel("plan", path, "--calibrate")[0] == 0
    assert windtunnel("sweep", path, "--engine", "local")[0] == 0
    code, out, _ = windtunnel("gc", path)
    assert code == 0
    assert "run it again with --yes" in out
    before = json.loads(windtunnel("gc", path, "--json")[1])
    assert before["kinds"]["forks"]["count"] == 2
    assert before["freed_bytes"] is None
    after = json.loads(windtunnel("gc", path, "--yes", "--json")[1])
    assert after["freed_bytes"] == before["would_free_bytes"] > 0
    code, out, _ = windtunnel("gc", path)
    assert "nothing to free" in out
    assert "--last-forks" in out
    assert "freed" in windtunnel("gc", path, "--yes", "--last-forks", "--ends")[1]

    code, out, _ = windtunnel("status", path)
    assert code == 0
    assert "4 finished" in out
    assert "actual/predicted" in out
    assert "1 sweep took" in out
    found = json.loads(windtunnel("status", path, "--json")[1])
    assert found["utilisation"]["segments"] == 4
    assert {row["kind"] for row in found["predicted_and_actual"]} == {"trunk", "branch"}


def test_a_budget_is_refused_in_one_line(windtunnel, study_file):
    path = study_file(replace=("store: store", "store: store\nbudget: {flops: 1e6, disk: 1 kB}"))
    code, out, err = windtunnel("sweep", path, "--engine", "local")
    assert code == 2
    assert "budget.flops is 1e+06" in err
    assert "budget.disk is 1000" in err
    code, out, _ = windtunnel("plan", path)
    assert code == 0
    assert out.count("over budget:") == 2


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_a_spent_budget_stops_with_a_line_and_its_own_exit_code(windtunnel, study_file):
    """The speed was thought a thousand times higher than it is, so that the sweep was let begin."""
    path = study_file(sizes="[16x1]", horizons=THREE)
    assert windtunnel("plan", path, "--calibrate")[0] == 0
    calibration = path.parent / "store" / "studies" / "small" / "calibration.json"
    found = json.loads(calibration.read_text())
    del found["checksum"]
    for shape in found["shapes"]:
        timing = shape["timing"]
        timing |= dict.fromkeys(("fork", "end", "prepare"), 0.0)
        timing |= {name: timing[name] / 1e3 for name in ("update", "evaluation")}
    calibration.write_text(json.dumps(found))
    path.write_text(path.read_text() + "budget: {device_hours: 2e-6}\n")
    code, out, _ = windtunnel("sweep", path, "--engine", "local")
    assert code == EXIT_SOME_FAILED
    assert "stopped: budget.device_hours is spent" in out
    assert "3 segments were not started" in out
    assert "budget.device_hours" in windtunnel("status", path)[1]


@pytest.mark.medium
def test_a_size_on_a_disk_teaches(windtunnel, study_file):
    path = study_file(replace=("store: store", "store: store\nbudget: {disk: 20 gigs}"))
    code, _, err = windtunnel("plan", path)
    assert code == 2
    assert "budget.disk" in err
    assert "for example 20 GB" in err


def test_plan_says_which_source_a_sweep_would_not_find(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "study: lost\n"
        "data: {sources: [builtin:docs, corpus/text.txt]}\n"
        "model: {sizes: [32x2], head_dim: 16, context: 64}\n"
        "recipe: {lr: 1e-2, base_width: 32, batch_tokens: 1024, warmup_steps: 20}\n"
        "experiments: [{kind: scaling, horizons: [1e6 tokens], hold_out: none}]\n"
    )
    (lost,) = (text for text in open_study(file).warnings if "source" in text)
    assert lost.startswith(f"{file}: data source 'text': there is no {tmp_path}/corpus/text.txt")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "text.txt").write_text("found")
    assert not [text for text in open_study(file).warnings if "source" in text]
