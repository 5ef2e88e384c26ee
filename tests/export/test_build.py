"""Handoffs of a planted law: every number against the truth or a calculation by hand."""

import json
import math

import planted
import pytest

from windtunnel.errors import ConfigError
from windtunnel.export.build import build_handoff
from windtunnel.export.diagnostics import shape_diagnostics
from windtunnel.export.handoff import Handoff
from windtunnel.export.request import Request
from windtunnel.export.size import nearest_model
from windtunnel.mup import Role
from windtunnel.runs.study import open_study
from windtunnel.runs.study_files import keep_check


@pytest.fixture(scope="module")
def handoff(study):
    return build_handoff(study, Request(shape="128x5", tokens=2e7)).handoff


def codes(handoff):
    return [warning.code for warning in handoff.warnings]


def test_the_recipe_at_the_target(handoff):
    """Width 128 over base 32: m = 4 (methodology 1.1)."""
    assert handoff.width_ratio == 4
    hidden, embedding, gain = (handoff.roles[r] for r in (Role.HIDDEN, Role.EMBEDDING, Role.GAIN))
    assert (hidden.lr, hidden.init_std, hidden.weight_decay) == (0.0025, 0.05, 0.4)
    assert (embedding.lr, embedding.init_std, embedding.weight_decay) == (0.01, 0.1, 0.1)
    assert (gain.lr, gain.weight_decay) == (0.01, 0.0)
    assert Role.READOUT not in handoff.roles  # tied
    sites = handoff.multipliers
    assert sites.logits == 0.25
    assert sites.residual == pytest.approx(1.4 / math.sqrt(5))
    assert sites.attention == 0.25
    assert handoff.counts.params == 5 * (4 * 128**2 + 3 * 128 * 320 + 2 * 128) + 128


def test_a_handoff_has_the_warnings_of_the_data(study, handoff):
    of_data = {each.code for each in study.token_diagnostics}
    assert {"small-validation", "repeated-data"} <= of_data <= set(codes(handoff))


def test_the_schedule_counts_whole_updates(handoff):
    steps = handoff.schedule
    assert steps.end == math.ceil(2e7 / 1024)
    assert steps.decay_start == steps.end - round(0.1 * steps.end)
    assert steps.warmup_tokens + steps.stable_tokens + steps.decay_tokens == steps.end * 1024
    assert handoff.counts.tokens == steps.end * 1024
    early, half, start, end = handoff.checkpoints
    assert early.horizon_step == math.ceil(steps.end / 4)
    assert early.step == early.horizon_step - round(0.1 * early.horizon_step)
    assert half.horizon_tokens == math.ceil(steps.end / 2) * 1024
    assert (start.step, end.step) == (steps.decay_start, steps.end)
    assert early.loss.value > half.loss.value > handoff.forecast["mean"].value


def test_the_forecast_covers_the_planted_truth(handoff):
    truth = float(planted.LAW(handoff.counts.params, handoff.counts.tokens))
    forecast = handoff.forecast["mean"]
    assert truth in forecast
    assert forecast.high - forecast.low < 0.1
    assert handoff.forecast["text"] == forecast  # one set is the mean
    assert handoff.checkpoints[0].loss.low < planted.LAW(
        handoff.counts.params, handoff.checkpoints[0].horizon_tokens
    ) < handoff.checkpoints[0].loss.high  # fmt: skip


def test_the_best_split_of_its_compute(study, handoff):
    flops = handoff.counts.flops_6nd
    log_params, log_tokens = planted.LAW.log_optimum(planted.LAW.vector, flops)
    for truth, found in ((log_params, handoff.best.params), (log_tokens, handoff.best.tokens)):
        half = math.log(found.high / found.low) / 2  # one table in ten lies just outside of it
        assert abs(math.log(found.value) - truth) < 2 * half < 0.4
    assert handoff.best.flops == flops


@pytest.mark.medium
def test_a_forecast_keeps_apart_what_it_holds_for_a_transition(tmp_path, handoff):
    made = planted.make_study(tmp_path)
    planted.fill(made, copying=lambda p: 0.01 * (p.tokens_at_end / 2e7) ** 0.2)
    planted.write_fit(made)
    study = open_study(made.file)
    near = build_handoff(study, Request(shape="128x5", tokens=2e7)).handoff
    assert near.forecast == handoff.forecast
    assert near.transition == {}
    assert "transition" not in codes(near)
    request = Request(shape="128x5", tokens=2e12, batch_tokens=1 << 20, extrapolate=True)
    far = build_handoff(study, request).handoff
    assert codes(far).count("transition") == 1
    assert far.transition.keys() == far.forecast.keys() == {"mean", "text"}
    for name, held in far.transition.items():
        assert held.share == 0.03
        assert far.forecast[name].low == pytest.approx(held.low * 0.97)
    (tmp_path / "handoff.json").write_text(far.to_json())
    assert Handoff.read(tmp_path / "handoff.json").transition == far.transition


@pytest.mark.medium
def test_what_is_missing_comes_from_the_law(study):
    by_flops = build_handoff(study, Request(flops=2e12)).handoff
    best = by_flops.best
    assert by_flops.counts.flops_6nd == pytest.approx(2e12, rel=2e-3)  # whole updates
    assert by_flops.counts.params == pytest.approx(best.params.value, rel=0.3)  # whole heads
    by_size = build_handoff(study, Request(shape="96x5")).handoff
    assert by_size.counts.tokens == pytest.approx(by_size.best.tokens.value, rel=1e-3)
    by_ratio = build_handoff(study, Request(shape="96x5", tokens_per_param=30)).handoff
    assert by_ratio.counts.tokens_per_param == pytest.approx(30, rel=1e-3)
    by_data = build_handoff(study, Request(tokens=8e6)).handoff
    assert by_data.counts.params == pytest.approx(by_data.best.params.value, rel=0.3)


@pytest.mark.parametrize("params", [3e5, 1.5e6, 2.4e9, 1e12])
def test_a_size_by_params_keeps_the_shape(study, params):
    model = nearest_model(study.config.model, study.study_context.vocab_size, params)
    assert model.params == pytest.approx(params, rel=0.25 if params < 1e7 else 0.02)
    largest = 96 / 5
    assert model.width / model.depth == pytest.approx(largest, rel=0.35 if params < 1e7 else 0.02)


def test_a_model_section_and_another_head_size(study, tmp_path):
    file = tmp_path / "model.yaml"
    file.write_text("model: {sizes: [128x5], head_dim: 64, heads_per_kv: 2, context: 256}\n")
    handoff = build_handoff(study, Request(model=file, tokens=1e7)).handoff
    assert (handoff.model.head_dim, handoff.model.kv_heads, handoff.model.context) == (64, 1, 256)
    # Anchored at the proxies' 1 / sqrt(16), falling as 1 / head_dim: 16 / 64 of it.
    assert handoff.multipliers.attention == pytest.approx((16 / 64) / math.sqrt(16))
    assert {"head-size", "shape-differs"} <= set(codes(handoff))
    assert "context 256 (study: 64)" in next(
        each.message for each in handoff.warnings if each.code == "shape-differs"
    )


def test_the_document_reads_back(handoff, tmp_path):
    (tmp_path / "handoff.json").write_text(handoff.to_json())
    assert Handoff.read(tmp_path) == handoff
    document = json.loads(handoff.to_json())
    assert document["schema"] == 1
    assert document["inputs"]["runs"]
    assert document["inputs"]["executions"] == [planted.EXECUTION]
    document["schema"] = 2
    (tmp_path / "handoff.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError) as caught:
        Handoff.read(tmp_path)
    assert (caught.value.code, caught.value.values["key"]) == ("invalid-value", "schema")


def test_what_a_reader_must_know(study):
    assert {"batch-kept", "transfer-unchecked", "extrapolates", "lr-length"} <= set(
        codes(build_handoff(study, Request(shape="128x5", tokens=1e8)).handoff)
    )
    keep_check(study.folder, planted.check_of("mup"))
    inside = build_handoff(study, Request(shape="80x4", tokens=5e6)).handoff
    late = build_handoff(study, Request(shape="80x4", tokens=1e7, batch_tokens=65536)).handoff
    assert {"warmup-long", "lr-rule-assumed"} <= set(codes(late))
    assert set(codes(inside)).isdisjoint({"transfer-unchecked", "extrapolates", "lr-length"})


def test_kv_heads_that_stay_at_every_size_stay_at_the_target(tmp_path):
    file = planted.make_study(tmp_path).file
    file.write_text(file.read_text().replace("head_dim: 16", "head_dim: 16\n  kv_heads: 1"))
    context = open_study(file, prepared=True).study_context
    target = nearest_model(context.config.model, context.vocab_size, 1e6)
    assert target.kv_heads == 1
    assert "shape-differs" not in [each.code for each in shape_diagnostics(context, target)]
    other = target.replace(width=128, kv_heads=2)
    (differs,) = (w for w in shape_diagnostics(context, other) if w.code == "shape-differs")
    assert differs.values["differing"] == ["kv_heads 2 (study: 1)"]
