"""`windtunnel export` and `windtunnel forecast check`, as a user types them."""

import json
import math
import shutil

import numpy as np
import planted
import pytest
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.errors import WindtunnelError
from windtunnel.export.fits import fingerprint_of
from windtunnel.export.handoff import Handoff
from windtunnel.export.write import TARGETS
from windtunnel.laws import Fit, fit
from windtunnel.runs.study_files import read_handoffs


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = planted.make_study(tmp_path_factory.mktemp("planted"))
    planted.fill(made)
    planted.write_fit(made)
    text = made.file.read_text() + "tracking: {enabled: false}\n"
    made.file.write_text(text)
    return made


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def refused(*arguments):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert isinstance(result.exception, WindtunnelError), (result.output, result.exception)
    assert result.exception.exit_code == 2
    return f"{result.exception} [{result.exception.code}]"


ASKED = ("--shape", "128x5", "--tokens", "2e7")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.medium
def test_every_target_writes_its_folder(study, tmp_path, target):
    out = tmp_path / "out"
    said = run("export", study.file, "--to", target, *ASKED, "--out", out)
    assert said.startswith("128x5: ")
    assert "forecast loss, mean:" in said
    assert f"wrote {out / 'handoff.json'}" in said
    handoff = Handoff.read(out)
    assert handoff.model.size == "128x5"
    assert {path.name for path in (out / "fits").iterdir()} == {"mean.json", "text.json"}
    own = {path.name for path in out.iterdir()} - {"handoff.json", "fits", "validation"}
    rows = np.load(out / "validation" / "text.npy")
    assert rows.shape == (2048 // 64, 65)
    assert rows.dtype == np.uint8
    assert bool(own) == (target != "json")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no scratch is left


def test_json_and_the_study_keeps_a_copy(study, tmp_path):
    said = run("export", study.file, "--to", "json", *ASKED, "--out", tmp_path / "a", "--json")
    document = json.loads(said)
    assert document == json.loads((tmp_path / "a" / "handoff.json").read_text())
    assert read_handoffs(study.folder)[-1] == {"target": "json", "handoff": document}


def test_nothing_is_overwritten_and_nothing_half_written(study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    run("export", study.file, "--to", "json", *ASKED, "--out", out)  # empty: taken
    assert "not empty" in refused("export", study.file, "--to", "torch", *ASKED, "--out", out)
    assert not (out / "train.py").exists()
    fresh = tmp_path / "fresh"
    refused("export", study.file, "--to", "json", "--shape", "100x5", "--out", fresh)
    assert not fresh.exists()
    file = tmp_path / "file"
    file.write_text("mine")
    refused("export", study.file, "--to", "json", *ASKED, "--out", file)
    assert file.read_text() == "mine"


def test_names_that_do_not_exist(study, tmp_path):
    out = ("--out", tmp_path / "out")
    assert "[unknown-value]" in refused("export", study.file, "--to", "torhc", *ASKED, *out)
    said = refused("export", study.file, "--to", "json", *ASKED, "--lr-rule", "linear", *out)
    assert "[unknown-value]" in said
    said = refused("export", study.file, "--to", "torch", "--segment", "abc", *out)
    assert "[contradicting-options]" in said
    said = refused("export", study.file, "--to", "hf", "--segment", "abc", *ASKED, *out)
    assert "[contradicting-options]" in said
    assert "is a file" in refused("export", study.file, "--to", "json", *ASKED, "--out", __file__)


@pytest.fixture(scope="module")
def handed(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("handed") / "out"
    run("export", study.file, "--to", "json", *ASKED, "--out", out)
    return out


def test_a_run_inside_and_one_outside(handed):
    handoff = Handoff.read(handed)
    forecast = handoff.forecast["mean"]
    truth = float(planted.LAW(handoff.counts.params, handoff.counts.tokens))
    said = run("forecast", "check", handed, "--loss", truth)
    assert "inside" in said
    assert f"measured {truth:.4f}" in said
    worse = forecast.high * 1.01
    said = run("forecast", "check", handed, "--loss", truth, "--loss", f"text={worse}", code=3)
    assert "OUTSIDE" in said
    assert "too low" in said
    kept = [json.loads(x) for x in (handed / "forecast-checks.jsonl").read_text().splitlines()]
    assert [check["inside"] for check in kept] == [True, False]
    found = json.loads(run("forecast", "check", handed, "--loss", truth, "--json"))
    assert found["sets"][0]["forecast"] == forecast.value
    assert found["sets"][0]["log_error"] == pytest.approx(math.log(forecast.value / truth))


def test_a_run_of_another_length_is_forecast_anew(handed):
    handoff = Handoff.read(handed)
    early = handoff.checkpoints[0]
    options = ("--tokens", early.horizon_tokens, "--json")
    found = json.loads(run("forecast", "check", handed, "--loss", early.loss.value, *options))
    assert found["sets"][0]["forecast"] == pytest.approx(early.loss.value, rel=1e-6)
    assert found["inside"]


def test_a_forecast_far_beyond_warns_and_needs_the_fit_that_was_handed_over(handed, tmp_path):
    said = run("forecast", "check", handed, "--loss", 1.2, "--tokens", 1e13, code=3)
    assert "decades above the largest fitted" in said
    shutil.copytree(handed, tmp_path / "copy")
    mean = tmp_path / "copy" / "fits" / "mean.json"
    mean.write_text(mean.read_text().replace('"E": 1.', '"E": 0.'))
    options = ("--loss", "1.2", "--tokens", "5e6")
    said = refused("forecast", "check", tmp_path / "copy", *options)
    assert "not the fit that was handed over" in said
    mean.write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused("forecast", "check", tmp_path / "copy", *options)


def test_a_fit_of_one_set_is_known_by_its_text(handed, tmp_path):
    """Fits of single sets are handed over as made; read again, their draws are rounded."""
    shutil.copytree(handed, tmp_path / "copy")
    sizes, ratios = (
        each.ravel() for each in np.meshgrid(np.geomspace(2e4, 4e5, 4), [10.0, 40.0, 160.0])
    )
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(12))
    rows = {"params": sizes, "tokens": ratios * sizes}
    fresh = fit(rows | {"loss": planted.LAW(*rows.values()) * noise}, bootstrap=20)
    again = Fit.from_json(fresh.to_json())
    assert fingerprint_of(fresh) != fingerprint_of(again)
    fresh.to_json(tmp_path / "copy" / "fits" / "mean.json")
    path = tmp_path / "copy" / "handoff.json"
    document = json.loads(path.read_text())
    document["inputs"]["fits"]["mean"] = fingerprint_of(fresh)
    path.write_text(json.dumps(document))
    options = ("--loss", 2.0, "--tokens", 5e6, "--json")
    result = CliRunner().invoke(app, ["forecast", "check", *map(str, (path.parent, *options))])
    found = json.loads(result.stdout)
    params = Handoff.read(path).counts.params
    assert found["sets"][0]["forecast"] == again.predict(params, 5e6).value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("level",), 1.0, "level: 1"),
        (("counts", "params"), 123, "counts.params: 123"),
        (("forecast", "mean"), {"value": 0.0}, "forecast.mean.value"),
        (("forecast", "extra"), {"value": 2.0}, "inputs.fits"),
        (
            ("roles", "readout"),
            {"lr": 1.0, "init_std": 1.0, "weight_decay": 0.1, "eps": 1e-8},
            "roles",
        ),
        (("schedule", "decay_start"), 10**9, "schedule: warmup"),
        (("batch", "batch_tokens"), 0, "batch.batch_tokens"),
        (("bytes_per_token", "text"), -1.0, "bytes_per_token.text"),
        (("checkpoints", 0, "step"), -5, "checkpoints: step -5"),
    ],
)
def test_a_handoff_whose_numbers_do_not_go_together(handed, tmp_path, key, value, said):
    document = json.loads((handed / "handoff.json").read_text())
    at = document
    for name in key[:-1]:
        at = at[name]
    at[key[-1]] = value
    (tmp_path / "handoff.json").write_text(json.dumps(document))
    found = refused("forecast", "check", tmp_path, "--loss", "2")
    assert said in found
    assert f"{tmp_path / 'handoff.json'}: not a Handoff of schema 1" in found


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("forecast", "mean", "value"), 9.0, "lies outside its interval"),
        (("counts", "params"), -1, "counts.params"),
        (("forecast",), {}, "forecast"),
    ],
)
def test_a_handoff_that_contradicts_itself(handed, tmp_path, key, value, said):
    document = json.loads((handed / "handoff.json").read_text())
    at = document
    for name in key[:-1]:
        at = at[name]
    at[key[-1]] = value
    (tmp_path / "handoff.json").write_text(json.dumps(document))
    assert said in refused("forecast", "check", tmp_path, "--loss", "2")


def test_other_units(handed):
    handoff = Handoff.read(handed)
    assert handoff.bytes_per_token["text"] == pytest.approx(1.0, rel=0.01)  # bytes are the tokens
    nats = handoff.forecast["text"].value
    bits = nats / math.log(2) / handoff.bytes_per_token["text"]
    for name in ("text=", ""):
        options = ("--unit", "bits-per-byte", "--json")
        found = json.loads(run("forecast", "check", handed, "--loss", f"{name}{bits}", *options))
        assert found["sets"][0]["measured"] == pytest.approx(nats)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--loss", "abc"), "[not-a-number]"),
        (("--loss", "-1"), "[not-a-number]"),
        (("--loss", "nan"), "[not-a-number]"),
        (("--loss", "txet=2"), "did you mean 'text'"),
        (("--loss", "=1"), "[not-a-number]"),
        (("--loss", "1.3", "--loss", "1.4"), "[duplicate-name]"),
        (("--loss", "2", "--unit", "bits"), "[unknown-value]"),
        (("--loss", "2", "--tokens", "0"), "[out-of-range]"),
    ],
)
def test_checks_that_cannot_be_made(handed, options, said):
    assert said in refused("forecast", "check", handed, *options)


def test_no_handoff_there(tmp_path):
    assert "cannot be read" in refused("forecast", "check", tmp_path, "--loss", "2")
    (tmp_path / "handoff.json").write_bytes(b"\xff\xfe")
    assert "no text" in refused("forecast", "check", tmp_path, "--loss", "2")
    (tmp_path / "handoff.json").write_text("{}")
    assert "not a Handoff of schema 1" in refused("forecast", "check", tmp_path, "--loss", "2")
