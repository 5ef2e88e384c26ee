"""Handoffs of a planted law: every number against the truth or a calculation by hand."""

import json
import math
from types import SimpleNamespace

import planted
import pytest
from unrun import planted_records

from windtunnel.errors import ConfigError, FitError
from windtunnel.export.asked import Asked
from windtunnel.export.batch import batch_of, lr_rule_of
from windtunnel.export.build import build_handoff
from windtunnel.export.handoff import Handoff
from windtunnel.export.sizing import nearest_model
from windtunnel.laws import Fit, fit
from windtunnel.parametrization import Role
from windtunnel.spec import Recipe
from windtunnel.trials.forecast import as_table, law_inputs, law_rows
from windtunnel.trials.imported import Imported, Measured, add_runs, study_rows
from windtunnel.trials.kept_checks import keep_check
from windtunnel.trials.study import open_study


def write_fit(study, *, bootstrap=300, **changes) -> Fit:
    """The fit that a report leaves, with fewer resamples."""
    rows = study_rows(study)
    law = fit(as_table(law_rows(rows, experiment="scaling")), bootstrap=bootstrap, **changes)
    law = law.made_from(law_inputs(study.config.study, rows, {"scaling"}))
    law.to_json(study.folder / "fit.json")
    return law


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = planted.make_study(tmp_path_factory.mktemp("planted"))
    planted.fill(made)
    write_fit(made)
    return open_study(made.file)


@pytest.fixture(scope="module")
def handoff(study):
    return build_handoff(study, Asked(shape="128x5", tokens=2e7)).handoff


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
    assert math.exp(log_params) in handoff.best.params
    assert math.exp(log_tokens) in handoff.best.tokens
    assert handoff.best.flops == flops


def test_what_is_missing_comes_from_the_law(study):
    by_flops = build_handoff(study, Asked(flops=2e12)).handoff
    best = by_flops.best
    assert by_flops.counts.flops_6nd == pytest.approx(2e12, rel=2e-3)  # whole updates
    assert by_flops.counts.params == pytest.approx(best.params.value, rel=0.3)  # whole heads
    by_size = build_handoff(study, Asked(shape="96x5")).handoff
    assert by_size.counts.tokens == pytest.approx(by_size.best.tokens.value, rel=1e-3)
    by_ratio = build_handoff(study, Asked(shape="96x5", tokens_per_param=30)).handoff
    assert by_ratio.counts.tokens_per_param == pytest.approx(30, rel=1e-3)
    by_data = build_handoff(study, Asked(tokens=8e6)).handoff
    assert by_data.counts.params == pytest.approx(by_data.best.params.value, rel=0.3)


@pytest.mark.parametrize("params", [3e5, 1.5e6, 2.4e9, 1e12])
def test_a_size_by_params_keeps_the_shape(study, params):
    model = nearest_model(study.ground, params)
    assert model.params == pytest.approx(params, rel=0.25 if params < 1e7 else 0.02)
    largest = 96 / 5
    assert model.width / model.depth == pytest.approx(largest, rel=0.35 if params < 1e7 else 0.02)


def test_a_model_section_and_another_head_size(study, tmp_path):
    file = tmp_path / "model.yaml"
    file.write_text("model: {sizes: [128x5], head_dim: 64, heads_per_kv: 2, context: 256}\n")
    handoff = build_handoff(study, Asked(model=file, tokens=1e7)).handoff
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
    with pytest.raises(ConfigError, match="not a Handoff of schema 1"):
        Handoff.read(tmp_path)


def test_what_a_reader_must_know(study):
    assert {"batch-kept", "transfer-unchecked", "extrapolates", "lr-length"} <= set(
        codes(build_handoff(study, Asked(shape="128x5", tokens=1e8)).handoff)
    )
    keep_check(study.folder, {"parametrization": "mup", "passed": True})
    inside = build_handoff(study, Asked(shape="80x4", tokens=5e6)).handoff
    late = build_handoff(study, Asked(shape="80x4", tokens=1e7, batch_tokens=65536)).handoff
    assert {"warmup-long", "lr-rule-assumed"} <= set(codes(late))
    assert set(codes(inside)).isdisjoint({"transfer-unchecked", "extrapolates", "lr-length"})


# Batch and rate

RECIPE = Recipe(lr=8e-3, base_width=32, batch_tokens=512, warmup_steps=50)
HEAD = """
data: {sources: [builtin:docs]}
model: {sizes: [32x3, 64x3, 96x3], head_dim: 16, context: 128}
recipe: {lr: 8e-3, base_width: 32, batch_tokens: 512, warmup_steps: 50}
schedule: {shape: linear, decay_fraction: 0.2}
"""
BATCHES = """
  - kind: grid
    name: batch
    axes: {size: [32x3, 64x3, 96x3], recipe.batch_tokens: [128, 256, 512, 1024, 2048, 4096]}
    horizons: [5e5 tokens, 8e5 tokens, 1.25e6 tokens, 2e6 tokens, 3.2e6 tokens, 5e6 tokens]
    seeds: 2
"""
JOINT = """
  - kind: grid
    name: joint
    axes:
      size: [32x3, 64x3, 96x3]
      recipe.lr: [2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
      recipe.batch_tokens: [256, 512, 1024, 2048]
    horizons: [819200 tokens]
    seeds: 2
"""
ASKED = Asked(tokens=1.0)


def companion(records):
    return (SimpleNamespace(records=records, name=records.study),)


@pytest.fixture(scope="module")
def batch_study(tmp_path_factory):
    """Fewest tokens at batch 50e3 / L^6."""
    import numpy as np

    def loss(row):
        floor = 1.0 + 12 * row["params"] ** -0.28
        losses = floor + np.geomspace(1e-3, 4, 4000)
        off = np.log(row["batch_tokens"] * losses**6.0 / 50e3)
        log_tokens = np.log(3.5e5) - 3.2 * np.log(losses - floor) + 0.05 * off**2
        return float(np.interp(-np.log(row["tokens"]), -log_tokens, losses))

    return companion(planted_records(tmp_path_factory.mktemp("batch"), BATCHES, loss, head=HEAD))


@pytest.fixture(scope="module")
def joint_study(tmp_path_factory):
    """The best rate grows as batch^0.5."""

    def loss(row):
        best = 8e-3 * (row["batch_tokens"] / 724) ** 0.5
        return 2.2 * math.exp(0.03 * math.log(row["lr"] / best) ** 2)

    return companion(planted_records(tmp_path_factory.mktemp("joint"), JOINT, loss, head=HEAD))


def test_the_batch_law_at_the_forecast_loss(batch_study):
    choice, warnings = batch_of(batch_study, RECIPE, ASKED, loss=2.0, context=128)
    assert choice.how == "law"
    assert choice.batch_tokens == pytest.approx(50e3 / 2.0**6, rel=0.2)  # 781: whole rows of 128
    assert choice.batch_tokens == choice.rows * 128
    assert "batch-extrapolated" not in [each.code for each in warnings]
    far, warnings = batch_of(batch_study, RECIPE, ASKED, loss=1.0, context=128)
    assert far.rows % 16 == 0
    assert far.batch_tokens == pytest.approx(50e3, rel=0.2)
    assert "batch-extrapolated" in [each.code for each in warnings]


def test_a_batch_that_is_given_or_kept(batch_study):
    asked = Asked(tokens=1.0, batch_tokens=4096)
    given, _ = batch_of(batch_study, RECIPE, asked, loss=2.0, context=128)
    assert (given.how, given.rows) == ("given", 32)
    kept, warnings = batch_of((), RECIPE, ASKED, loss=2.0, context=128)
    assert (kept.how, kept.batch_tokens) == ("study", 512)
    assert "does not transfer" in kept.evidence
    assert [each.code for each in warnings] == ["batch-kept"]
    with pytest.raises(ConfigError, match=r"--batch-tokens 1000.*nearest is 1024"):
        batch_of((), RECIPE, Asked(tokens=1.0, batch_tokens=1000), loss=2.0, context=128)


def test_the_rate_follows_the_measured_rule(joint_study):
    rule, warnings = lr_rule_of(joint_study, RECIPE, ASKED, batch_tokens=1024)
    assert rule.rule == "measured"
    assert rule.exponent == pytest.approx(0.5, rel=1e-3)
    assert rule.factor == pytest.approx(2**0.5, rel=1e-3)
    assert "batch^0.50" in rule.evidence
    assert "gave up" in rule.evidence
    assert not warnings
    _, warnings = lr_rule_of(joint_study, RECIPE, ASKED, batch_tokens=8192)
    assert [each.code for each in warnings] == ["batch-outside"]
    assert "256 to 2,048" in warnings[0].message


@pytest.mark.parametrize(("name", "factor"), [("none", 1.0), ("sqrt", 2.0), (None, 2.0)])
def test_rules_without_evidence(name, factor):
    asked = Asked(tokens=1.0, lr_rule=name)
    rule, warnings = lr_rule_of((), RECIPE, asked, batch_tokens=2048)
    assert rule.factor == factor
    assert rule.rule == (name or "sqrt")
    assert rule.evidence.startswith("assumed")
    assert [each.code for each in warnings] == ["lr-rule-assumed"]
    same, warnings = lr_rule_of((), RECIPE, asked, batch_tokens=512)
    assert (same.factor, warnings) == (1.0, [])


def test_no_measured_rule_without_a_measurement():
    asked = Asked(tokens=1.0, lr_rule="measured")
    with pytest.raises(ConfigError, match=r"--lr-rule measured: no grid"):
        lr_rule_of((), RECIPE, asked, batch_tokens=2048)


# Refusals


def refused(study, error=ConfigError, **asked):
    with pytest.raises(error) as caught:
        build_handoff(study, Asked(**({"shape": "96x5", "tokens": 5e6} | asked)))
    return str(caught.value)


def test_no_fit_yet(tmp_path):
    fresh = planted.make_study(tmp_path)
    said = refused(fresh)
    assert "no fit yet" in said
    assert "windtunnel sweep" in said


def test_too_far_without_extrapolate(study):
    said = refused(study, shape=None, params=2.4e9, tokens=1e12)
    assert "decades above the fitted runs" in said
    assert "--extrapolate" in said
    asked = Asked(params=2.4e9, tokens=1e12, extrapolate=True)
    far = build_handoff(study, asked).handoff
    assert far.asked["extrapolate"] == "True"
    messages = [each.message for each in far.warnings if each.code == "extrapolates"]
    assert any("params = 2." in message and "decades above" in message for message in messages)


def test_a_width_that_holds_no_whole_heads(study, tmp_path):
    assert "not a multiple of head_dim = 16" in refused(study, shape="100x4")
    file = tmp_path / "model.yaml"
    file.write_text("model:\n  sizes: [96x5]\n  head_dim: 64\n")
    said = refused(study, shape=None, model=file)
    assert f"{file}:2" in said or f"{file}:1" in said
    assert "not a multiple of head_dim = 64" in said
    file.write_text("model:\n  sizes: [96x5]\n  ffn_rato: 2\n")
    said = refused(study, shape=None, model=file)
    assert f"{file}:3: model.ffn_rato: unknown key; did you mean 'ffn_ratio'?" in said
    assert "no such file" in refused(study, shape=None, model=tmp_path / "none.yaml")


def test_a_failed_fit_unless_accepted(tmp_path):
    made = planted.make_study(tmp_path)
    planted.fill(made)
    law = write_fit(made)
    from windtunnel.laws import Caution

    failed = law.warned(Caution("holdout-missed", "predicted 1.0, measured 2.0"))
    failed.to_json(made.folder / "fit.json")
    said = refused(made, FitError)
    assert "failed its own hold-out" in said
    assert "--accept holdout-missed" in said
    taken = build_handoff(made, Asked(shape="96x5", tokens=5e6, accept=("holdout-missed",)))
    assert {"holdout-missed", "accepted"} <= set(codes(taken.handoff))
    assert "allowed are" in refused(made, accept=("nonsense",))
    write_fit(made, bootstrap=0)
    assert "no intervals" in refused(made, FitError)


def test_a_store_that_changed_since_the_fit(tmp_path):
    made = planted.make_study(tmp_path)
    held = made.plan.branches[-1]
    planted.fill(made, skip=lambda planned: planned.id == held.id)
    write_fit(made)
    build_handoff(made, Asked(shape="96x5", tokens=5e6))
    planted.fill_one(made, held, loss=2.0)
    said = refused(made, FitError)
    assert "has changed since this fit" in said
    assert "windtunnel report" in said
    file = tmp_path / "changed.yaml"
    file.write_text(made.file.read_text().replace("lr: 1e-2", "lr: 9e-3"))
    said = refused(open_study(file), FitError)
    assert "no run of" in said
    assert "another recipe" in said


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
    said = refused(made, shape=None, params=2e7, tokens=4e8, accept=accept)
    assert "beyond" not in said.split("the runs of this recipe")[0]
    assert "above the runs of this recipe (the study's own)" in said
    asked = Asked(params=2e7, tokens=4e8, extrapolate=True, accept=accept)
    handoff = build_handoff(made, asked).handoff
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
    assert "is of a table" in refused(study, FitError, fit=path)
    law.made_from({**law.inputs, "study": "other"}).to_json(path)
    assert "is of study 'other'" in refused(study, FitError, fit=path)
    path.write_text("{}")
    assert str(path) in refused(study, FitError, fit=path)
    assert "cannot be read" in refused(study, fit=tmp_path / "none.json")


def test_a_study_on_other_data_is_not_taken_along(study, tmp_path):
    other = planted.make_study(tmp_path, name="other")
    text = (tmp_path / "text.txt").read_text()
    (tmp_path / "text.txt").write_text(text[:-2000])
    file = tmp_path / "third.yaml"
    file.write_text(other.file.read_text().replace("study: other", "study: third"))
    open_study(file, prepared=True)
    assert "its token stream is" in refused(study, companions=(file,))
    assert build_handoff(study, Asked(shape="96x5", tokens=5e6, companions=(other.file,)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "say what to train"),
        ({"params": 1e6, "shape": "64x3"}, "--params and --shape say the same in two ways"),
        ({"params": 1e6, "tokens": 1e6, "flops": 1e9}, "--flops and --tokens say the same"),
        ({"params": -1.0}, "--params -1: must be above 0"),
        ({"tokens": float("nan")}, "--tokens nan: must be above 0"),
        ({"flops": float("inf")}, "--flops inf: must be above 0"),
    ],
)
def test_options_that_contradict(asked, said):
    with pytest.raises(ConfigError, match=said):
        Asked(**asked)
