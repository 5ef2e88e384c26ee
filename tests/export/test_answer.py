"""Answers for targets: of the study, of options, near the runs and far beyond them."""

import dataclasses
import json
import math

import numpy as np
import planted
import pytest
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.errors import ConfigError
from windtunnel.export.answer import _inherited, _left, answer_of
from windtunnel.export.build import build_handoff
from windtunnel.export.extrapolation import FURTHEST, beyond_of
from windtunnel.export.request import Request
from windtunnel.findings.track_record import PastForecast
from windtunnel.laws import Fit
from windtunnel.runs.study import open_study


def with_target(study, tmp_path, target):
    """The same study over the same store, with a target in its file."""
    file = study.file.with_name("with-target.yaml")
    file.write_text(f"{study.file.read_text()}\ntarget: {target}\n")
    return file


def test_without_a_target_it_answers_for_the_largest_measured_budget(study):
    found = answer_of(study, Request())
    largest = Fit.read(study.folder / "fit.json").domain["flops"][1]
    assert found.best.flops == pytest.approx(largest, rel=0.02)
    assert found.best.tokens_per_param.low < found.best.tokens_per_param.value
    truth = float(planted.LAW(found.model.params, found.tokens))
    assert found.loss.low < truth < found.loss.high
    assert found.level == 0.9
    assert found.handoff.counts.tokens == found.tokens
    assert found.problem is None
    assert not found.requested


def test_the_target_of_the_study_is_answered_and_exported(study, tmp_path):
    file = with_target(study, tmp_path, "{shape: 96x5, tokens: 5e6, batch_tokens: 2048}")
    told = open_study(file)
    assert told.plan == study.plan
    found = answer_of(told, Request())
    assert (found.model.size, found.handoff.batch.batch_tokens) == ("96x5", 2048)
    assert found.tokens == pytest.approx(5e6, abs=2048)
    assert build_handoff(told, Request()).handoff.model.size == "96x5"
    longer = answer_of(told, Request(tokens=1e7))
    assert (longer.model.size, longer.tokens) == ("96x5", pytest.approx(1e7, abs=2048))
    per_param = with_target(study, tmp_path, "{shape: 96x5, tokens: 20N}")
    assert open_study(per_param).config.target.tokens_per_param == 20
    smaller = answer_of(told, Request(shape="64x4", flops=1e12))
    assert smaller.model.size == "64x4"
    assert 6 * smaller.model.params * smaller.tokens == pytest.approx(1e12, rel=0.01)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("{params: 1e6, shape: 64x4}", "contradiction"),
        ("{tokens: 1e6, flops: 1e12}", "contradiction"),
        ("{context: 128}", "missing-key"),
        ("{parms: 1e6}", "unknown-key"),
        ("{params: -1}", "out-of-range"),
    ],
)
def test_a_target_that_says_nothing_or_too_much(study, tmp_path, target, code):
    file = with_target(study, tmp_path, target)
    with pytest.raises(ConfigError) as caught:
        open_study(file)
    assert caught.value.code == code
    assert f"{file}:" in str(caught.value)


def test_beyond_what_past_forecasts_support_there_is_no_level(study):
    found = answer_of(study, Request(params=1e9, tokens=1e12, batch_tokens=4096 * 1024))
    assert found.level is None
    assert found.loss.low < found.loss.value < found.loss.high
    assert not found.beyond["params"].holds
    largest = Fit.read(study.folder / "fit.json").domain["params"][1]
    assert found.beyond["params"].times == pytest.approx(found.model.params / largest)
    assert not found.handoff.calibrated


def test_a_batch_of_the_small_models_is_no_batch_of_a_large_one(study):
    found = answer_of(study, Request(params=1e9, tokens=1e13))
    assert (found.handoff, found.problem.code) == (None, "too-many-updates")
    assert found.loss.value > 0


def test_far_below_the_runs_there_is_no_level_either(study):
    largest = Fit.read(study.folder / "fit.json").domain
    found = answer_of(study, Request(shape="16x1", tokens=largest["tokens"][0]))
    assert found.beyond["params"].times < 1
    assert found.beyond["params"].below == pytest.approx(largest["params"][0] / found.model.params)
    assert (found.beyond["params"].holds, found.level) == (False, None)


def past(times, *, inside, blind=True):
    return PastForecast(
        study="s", experiment=None, params=times, tokens=1.0, blind=blind, error=0.0, inside=inside
    )


@pytest.mark.parametrize(
    ("forecasts", "supported"),
    [
        ([], 10**FURTHEST),
        ([past(9.0, inside=True)] * 2, 10**FURTHEST),
        ([past(9.0, inside=True)] * 3, 9.0),
        ([past(9.0, inside=True, blind=False)] * 3, 10**FURTHEST),
        ([past(9.0, inside=True)] * 2 + [past(9.0, inside=None)], 10**FURTHEST),
        ([past(20.0, inside=False)] + [past(5.0, inside=True)] * 4, 5.0),
        ([past(20.0, inside=False)] * 2 + [past(5.0, inside=True)] * 4, 10**FURTHEST),
    ],
)
def test_past_forecasts_say_how_far_an_interval_holds(study, forecasts, supported):
    fitted = Fit.read(study.folder / "fit.json")
    found = beyond_of(fitted, 1e9, 1e9, forecasts)
    assert found["params"].supported == pytest.approx(supported)
    assert found["tokens"].supported == pytest.approx(10**FURTHEST)


def test_the_width_that_a_run_leaves_is_that_of_bayes():
    """A line with a normal prior: the posterior after a measurement, by hand."""
    rng = np.random.default_rng(0)
    prior = np.array([0.02, 0.05])
    line = rng.standard_normal((200_000, 2)) * prior
    x = np.array([0.0, 1.0, 3.0])
    noise = 0.01**2
    left = _left(line[:, :1] + line[:, 1:] * x, noise)
    for at, found in zip(x[:-1], left, strict=True):
        seen = np.array([1.0, at])
        precision = np.diag(prior**-2.0) + np.outer(seen, seen) / noise
        target = np.array([1.0, x[-1]])
        after = target @ np.linalg.inv(precision) @ target + noise
        before = target @ np.diag(prior**2.0) @ target + noise
        assert found == pytest.approx(math.sqrt(after / before), rel=0.01)


def test_runs_that_would_narrow_the_interval_come_cheapest_first(study):
    found = answer_of(study, Request(shape="256x5", tokens=2e7)).narrowing
    assert 0 < len(found) <= 3
    costs, widths = [each.flops for each in found], [each.width for each in found]
    assert costs == sorted(costs)
    assert widths == sorted(widths, reverse=True)
    assert all(0 < width < 1 for width in widths)


def test_what_nobody_gives_is_inherited(study):
    found = answer_of(study, Request(shape="128x5", tokens=5e6))
    assert set(found.inherited) == {
        "context", "vocab_size", "head_dim", "heads_per_kv", "batch_tokens"
    }  # fmt: skip
    own = answer_of(
        study,
        Request(shape="128x5", tokens=5e6, context=256, vocab_size=32000, batch_tokens=2048),
    )
    assert set(own.inherited) == {"head_dim", "heads_per_kv"}
    assert (own.model.context, own.model.vocab_size) == (256, 32000)
    (differs,) = (w for w in own.warnings if w.code == "shape-differs")
    assert len(differs.values["differing"]) == 2
    stays = study.config.model.model_copy(update={"kv_heads": 2})
    few = dataclasses.replace(study, config=study.config.model_copy(update={"model": stays}))
    assert dict(_inherited(few, Request(), None)) == {
        "context": 64, "head_dim": 16, "kv_heads": 2, "vocab_size": 256
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        answer_of(study, Request(shape="128x5", tokens=5e6, vocab_size=8))
    assert caught.value.code == "out-of-range"


def test_the_command_prints_text_and_json(study):
    arguments = ["answer", str(study.file), "--shape", "96x5", "--tokens", "5e6"]
    text, document = (
        CliRunner().invoke(app, command, catch_exceptions=False).stdout
        for command in (arguments, [*arguments, "--json"])
    )
    found = json.loads(document)
    assert f"{found['loss']['value']:.4f}" in text
    assert found["target"]["size"] == "96x5"
    assert found["recipe"]["batch"]["batch_tokens"] == 1024
