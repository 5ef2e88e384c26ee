"""What is not exported, and the code and values of each refusal."""

import time
from dataclasses import replace

import planted
import pytest
from handed import planted_handoff
from planted import write_fit
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.config.shape import upcycled
from windtunnel.errors import ConfigError, FitError
from windtunnel.export.build import Export, build_handoff
from windtunnel.export.request import Request
from windtunnel.export.size import nearest_model
from windtunnel.export.write import TARGETS, write_export
from windtunnel.laws import Fit
from windtunnel.runs.imported import Imported, Measured, add_runs
from windtunnel.runs.study import open_study
from windtunnel.runs.study_files import keep_check


def codes(handoff):
    return [warning.code for warning in handoff.warnings]


def refused(study, error=ConfigError, **request):
    with pytest.raises(error) as caught:
        build_handoff(study, Request(**({"shape": "96x5", "tokens": 5e6} | request)))
    return caught.value


@pytest.mark.parametrize("target", ["megatron", "torchtitan", "nanotron"])
def test_an_init_of_keys_and_values_that_a_target_cannot_draw(target, tmp_path):
    handoff = planted_handoff(recipe={"kv_rule": "spectral"})
    export = Export(handoff=handoff, fits={}, validation={})
    with pytest.raises(ConfigError) as caught:
        write_export(export, target, tmp_path / "out")
    values = {"target": target, "field": "kv_rule", "allowed": ["json", "hf", "torch"]}
    assert caught.value.code == "unsupported-model"
    assert {key: caught.value.values[key] for key in values} == values
    ungrouped = planted_handoff(recipe={"kv_rule": "spectral"}, model={"kv_heads": 6})
    assert write_export(replace(export, handoff=ungrouped), target, tmp_path / "out")


@pytest.mark.parametrize("target", sorted({*TARGETS} - {"json"}))
def test_experts_go_to_json_alone(target, tmp_path):
    dense = planted_handoff().model
    handoff = planted_handoff(model=upcycled(dense, {"experts": 4, "top_k": 2}))
    export = Export(handoff=handoff, fits={}, validation={})
    with pytest.raises(ConfigError) as caught:
        write_export(export, target, tmp_path / "out")
    values = {"target": target, "field": "experts", "value": 4, "allowed": ["json"]}
    assert caught.value.code == "unsupported-model"
    assert {key: caught.value.values[key] for key in values} == values
    assert write_export(export, "json", tmp_path / "out")


def test_no_fit_yet(tmp_path):
    fresh = planted.make_study(tmp_path)
    error = refused(fresh)
    assert (error.code, error.values["study"]) == ("missing-fit", fresh.file)
    assert "finish `windtunnel sweep" in str(error)


def test_too_far_without_extrapolate(study):
    error = refused(study, shape=None, params=2.4e9, tokens=1e12)
    assert (error.code, error.values["furthest"]) == ("beyond-domain", 0.5)
    assert [(each["column"], each["code"]) for each in error.values["beyond"]] == [
        ("params", "extrapolates"),
        ("tokens", "extrapolates"),
    ]
    assert all(each["decades"] > 0.5 for each in error.values["beyond"])
    request = Request(params=2.4e9, tokens=1e12, batch_tokens=1 << 22, extrapolate=True)
    far = build_handoff(study, request).handoff
    assert far.asked["extrapolate"] == "True"
    messages = [each.message for each in far.warnings if each.code == "extrapolates"]
    assert any("params = 2." in message and "decades above" in message for message in messages)


def test_a_width_that_holds_no_whole_heads(study, tmp_path):
    error = refused(study, shape="100x4")
    assert (error.code, error.values["value"]) == ("invalid-value", "100x4")
    file = tmp_path / "model.yaml"
    file.write_text("model:\n  sizes: [96x5]\n  head_dim: 64\n")
    error = refused(study, shape=None, model=file)
    assert (error.code, error.values["path"]) == ("invalid-value", file)
    assert error.values["line"] in {1, 2}
    file.write_text("model:\n  sizes: [96x5]\n  ffn_rato: 2\n")
    error = refused(study, shape=None, model=file)
    assert (error.code, error.values["key"]) == ("unknown-key", "model.ffn_rato")
    assert (error.values["path"], error.values["line"]) == (file, 3)
    assert "ffn_ratio" in error.values["known"]
    assert refused(study, shape=None, model=tmp_path / "none.yaml").code == "missing-file"


def test_a_failed_fit_unless_accepted(tmp_path):
    made = planted.make_study(tmp_path)
    planted.fill(made)
    law = write_fit(made)
    from windtunnel.laws import Diagnostic

    failed = law.warned(Diagnostic("holdout-missed", "predicted 1.0, measured 2.0"))
    failed.to_json(made.folder / "fit.json")
    error = refused(made, FitError)
    assert (error.code, error.values["warning"]) == ("failed-fit", "holdout-missed")
    taken = build_handoff(made, Request(shape="96x5", tokens=5e6, accept=("holdout-missed",)))
    assert {"holdout-missed", "accepted"} <= set(codes(taken.handoff))
    error = refused(made, accept=("nonsense",))
    assert (error.code, error.values["value"]) == ("unknown-warning", "nonsense")
    write_fit(made, bootstrap=0)
    assert refused(made, FitError).code == "no-intervals"


def test_a_store_that_changed_since_the_fit(tmp_path):
    made = planted.make_study(tmp_path)
    held = made.plan.branches[-1]
    planted.fill(made, skip=lambda planned: planned.id == held.id)
    write_fit(made)
    build_handoff(made, Request(shape="96x5", tokens=5e6))
    planted.fill_one(made, held, loss=2.0)
    error = refused(made, FitError)
    assert error.code == "other-runs"
    assert error.values["now"] == error.values["fitted"] + 1
    file = tmp_path / "changed.yaml"
    file.write_text(made.file.read_text().replace("lr: 1e-2", "lr: 9e-3"))
    error = refused(open_study(file), FitError)
    assert (error.code, error.values["study"]) == ("no-finished-runs", file)


def test_imported_runs_reach_further_for_the_law_and_not_for_the_recipe(tmp_path):
    made = planted.make_study(tmp_path)
    planted.fill(made)
    runs = [
        Imported(
            label=f"large-{n}",
            measured=Measured(
                experiment="scaling", params=n, tokens=20 * n, decayed=True, losses={},
                loss=float(planted.LAW(n, 20 * n)),
            ),
            origin={"tool": "csv", "source": "large.csv"},
            time=0.0,
        )
        for n in (20_000_000, 40_000_000)
    ]  # fmt: skip
    add_runs(made.folder, runs)
    write_fit(made)
    accept = ("holdout-missed",)  # by a hair, in this draw of the noise
    error = refused(made, shape=None, params=2e7, tokens=4e8, accept=accept)
    assert error.code == "beyond-domain"
    assert {each["code"] for each in error.values["beyond"]} == {"recipe-beyond"}
    request = Request(params=2e7, tokens=4e8, extrapolate=True, accept=accept)
    handoff = build_handoff(made, request).handoff
    assert {"recipe-beyond", "lr-length"} <= set(codes(handoff))
    assert "extrapolates" not in codes(handoff)
    assert (
        float(planted.LAW(handoff.counts.params, handoff.counts.tokens))
        in (handoff.forecast["mean"])
    )


def test_a_fit_of_something_else(study, tmp_path):
    path = tmp_path / "fit.json"
    law = Fit.from_json((study.folder / "fit.json").read_text())
    law.made_from({}).to_json(path)
    error = refused(study, FitError, fit=path)
    assert (error.code, error.values["found"]) == ("other-study", None)
    law.made_from({**law.inputs, "study": "other"}).to_json(path)
    assert refused(study, FitError, fit=path).values["found"] == "other"
    path.write_text("{}")
    assert str(path) in str(refused(study, FitError, fit=path))
    assert str(tmp_path / "none.json") in str(refused(study, fit=tmp_path / "none.json"))


def test_a_study_on_other_data_is_not_taken_along(study, tmp_path):
    other = planted.make_study(tmp_path, name="other")
    text = (tmp_path / "text.txt").read_text()
    (tmp_path / "text.txt").write_text(text[:-2000])
    file = tmp_path / "third.yaml"
    file.write_text(other.file.read_text().replace("study: other", "study: third"))
    open_study(file, prepared=True)
    error = refused(study, extra_studies=(file,))
    assert (error.code, error.values["what"]) == ("other-data", "token stream")
    assert build_handoff(study, Request(shape="96x5", tokens=5e6, extra_studies=(other.file,)))


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({}, "missing-option", None),
        ({"params": 1e6, "shape": "64x3"}, "contradicting-options", ["--params", "--shape"]),
        (
            {"params": 1e6, "tokens": 1e6, "flops": 1e9},
            "contradicting-options",
            ["--flops", "--tokens"],
        ),
        ({"params": -1.0}, "out-of-range", "--params"),
        ({"tokens": float("nan")}, "out-of-range", "--tokens"),
        ({"flops": float("inf")}, "out-of-range", "--flops"),
    ],
)
def test_options_that_contradict(options, code, named):
    with pytest.raises(ConfigError) as caught:
        Request(**options).checked()
    values = caught.value.values
    assert caught.value.code == code
    assert values.get("options", values.get("option")) == named


def test_a_fit_of_other_columns_or_rows(study, tmp_path):
    """A fit's own options: columns and units are refused, a choice of rows is said."""
    path = tmp_path / "fit.json"

    def fitted(*options):
        text = ["fit", str(study.file), "--bootstrap", "200", "--out", str(path), *options]
        result = CliRunner().invoke(app, text)
        assert result.exit_code == 0, (result.output, result.exception)

    for options in (("--loss", "bits_per_byte"), ("--scale", "tokens=0.5")):
        fitted(*options)
        error = refused(study, FitError, fit=path)
        assert (error.code, error.values["columns"]) == ("other-columns", " ".join(options))
    fitted("--where", "params > 4e4")
    taken = build_handoff(study, Request(shape="96x5", tokens=5e6, fit=path)).handoff
    assert "fit-options" in codes(taken)
    assert set(taken.forecast) == {"mean"}
    error = refused(study, fit=path, experiment="scaling")
    assert (error.code, error.values["options"]) == (
        "contradicting-options",
        ["--fit", "--experiment"],
    )


def test_a_validation_set_called_mean(tmp_path):
    made = planted.make_study(tmp_path)
    (tmp_path / "mean.txt").write_text((tmp_path / "text.txt").read_text())
    file = tmp_path / "named.yaml"
    file.write_text(made.file.read_text().replace("text.txt", "mean.txt"))
    file.write_text(file.read_text().replace("study: wind", "study: named"))
    named = open_study(file, prepared=True)
    planted.fill(named)
    write_fit(named)
    error = refused(named)
    assert (error.code, error.values) == ("reserved-name", {"name": "mean"})


def test_early_decays_that_do_not_fit_are_left_out_and_huge_sizes_do_not_hang(study):
    near = build_handoff(
        study, Request(shape="96x5", tokens=5e6, batch_tokens=65536, extrapolate=True)
    ).handoff
    assert [kept.horizon_step for kept in near.checkpoints] == [39, None, None]  # not the quarter
    began = time.monotonic()
    assert nearest_model(
        study.config.model, study.study_context.vocab_size, 1e30
    ).params == pytest.approx(1e30, rel=0.05)
    assert time.monotonic() - began < 10
    small = build_handoff(study, Request(params=6e4, tokens=5e6)).handoff
    assert "size-rounded" in codes(small)
    assert f"{small.counts.params:,}" in next(
        each.message for each in small.warnings if each.code == "size-rounded"
    )


def test_a_failed_check_is_no_passed_one(tmp_path):
    made = planted.make_study(tmp_path)
    planted.fill(made)
    write_fit(made)
    keep_check(made.folder, planted.check_of("standard"))
    request = Request(shape="80x4", tokens=5e6)
    assert "transfer-unchecked" in codes(build_handoff(made, request).handoff)
    keep_check(made.folder, planted.check_of("mup", passed=False))
    assert "transfer-failed" in codes(build_handoff(made, request).handoff)


@pytest.mark.parametrize(
    ("shape", "depth_passed", "warned"),
    [("80x8", False, True), ("80x5", False, False), ("80x8", True, False), ("80x8", None, False)],
)
def test_a_failed_check_over_depth_is_told_where_the_target_is_deeper(
    tmp_path, shape, depth_passed, warned
):
    made = planted.make_study(tmp_path)
    planted.fill(made)
    write_fit(made)
    keep_check(made.folder, planted.check_of("mup", depth_passed=depth_passed))
    request = Request(shape=shape, tokens=5e6, extrapolate=True)
    found = {each.code: each for each in build_handoff(made, request).handoff.warnings}
    assert "transfer-failed" not in found
    assert ("depth-transfer-failed" in found) == warned
    if warned:
        told = found["depth-transfer-failed"].values
        assert told == {"depth": 8, "studied": 5, "parametrization": "mup"}
