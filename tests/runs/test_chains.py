"""Chains of stages: what each changes, exactness, and what an end that goes on has to keep."""

import json

import numpy as np
import pytest
from domains import branch_of, write_domains

from windtunnel.config.segment import rows_at, tokens_at
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.runs.measured import gather
from windtunnel.runs.segment_run import SegmentRun
from windtunnel.runs.store import MOMENTS
from windtunnel.runs.study import open_study
from windtunnel.runs.table import variant_name
from windtunnel.runs.worker import WorkerContext
from windtunnel.train.checkpoint import MOMENTS as MOMENTS_FILE
from windtunnel.train.checkpoint import WEIGHTS

STUDY = """\
study: {name}
data:
  sources: [letters.txt, {{path: digits.txt, weight: 0}}]
  validation: {{fraction: 0.2, tokens: 4096, fork_tokens: 1024}}
model: {{sizes: [32x2], head_dim: 16, context: 64}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}}
schedule: {{shape: linear, decay_fraction: 0.2}}
resources: {{compile: never, kernels: {kernels}, checkpoint_seconds: {seconds}}}
tracking: {{enabled: false}}
store: store
experiments:
  - kind: branch
    name: chains
    forks: [{fork}]
    seeds: [0]
    variants:
{variants}
"""
VARIANTS = """
      plain: {}
      extended: [{stable: 50 steps}, {decay: 40 steps}]
      rewarmed: [{}, {warmup: 10 steps, stable: 40 steps}, {decay: 30 steps}]
      annealed: [{}, {mixture: {digits: 1}, decay: 30 steps, final_factor: 0.01}]
      ramped: [{mixture: {digits: 1}, ramp: 20 steps, decay: 40 steps}]
      larger: [{batch_tokens: 512, decay: 40 steps}]
      longer: [{context: 128, rope_base: 50000, decay: 40 steps}]
"""


def study_in(
    folder, *, name="chains", fork="200 steps", variants=VARIANTS, kernels="auto", seconds=30
):
    file = folder / f"{name}.yaml"
    asked = {"fork": fork, "variants": variants, "kernels": kernels, "seconds": seconds}
    file.write_text(STUDY.format(name=name, **asked))
    return open_study(file, prepared=True)


def sweep(study):
    result = Sweep(study, engine="local").run()
    assert not result.failed, result.errors
    return open_study(study.file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("chain-domains"))


@pytest.fixture(scope="module")
def swept(folder):
    return sweep(study_in(folder))


def curve(study, planned):
    return list(study.store.segment(planned.id).curve_rows())


def rates(study, planned):
    return [row["lr"] for row in curve(study, planned)]


def by_variant(study):
    """Branches by the name of their variant."""
    runs = gather(study.store, study.plan)
    return {variant_name(run.variants): run for run in runs if run.variants}


def stages(study, variant):
    """The planned branches of a variant, first to last."""
    planned, found = study.plan.by_id(), []
    segment = branch_of(study, variant).segment
    while segment.kind == "branch":
        found.insert(0, planned[segment.id])
        segment = segment.parent
    return found


def test_stages_follow_each_other_and_are_shared(swept):
    first, again, last = stages(swept, "rewarmed")
    assert first.id == branch_of(swept, "plain").id == stages(swept, "annealed")[0].id
    assert [each.steps for each in (first, again, last)] == [50, 40, 30]
    assert first.forks == (250,)
    assert first.variant == "plain"
    assert last.forks == ()
    order = [planned.id for planned in swept.plan.segments]
    assert order.index(first.id) < order.index(again.id) < order.index(last.id)
    # plain; extended, 2; rewarmed, 2 more; annealed, 1 more; ramped; larger; longer
    assert len(swept.plan.branches) == 9


def test_rates_of_a_chain(swept):
    first, again, last = stages(swept, "rewarmed")
    assert rates(swept, first)[0] == pytest.approx(1e-2)
    assert rates(swept, first)[-1] == pytest.approx(1e-2 * (0.1 + 0.9 / 50))
    warmed = rates(swept, again)
    assert warmed[:11] == pytest.approx([1e-3 * k for k in range(1, 11)] + [1e-2])
    assert warmed[-1] == pytest.approx(1e-2)
    assert rates(swept, last)[0] == pytest.approx(1e-2)
    _, annealed = stages(swept, "annealed")  # begins where the decay has ended
    assert rates(swept, annealed)[0] == pytest.approx(1e-3)
    assert rates(swept, annealed)[-1] == pytest.approx(1e-4 + 9e-4 / 30)


def test_an_extended_stable_phase_is_the_trunk_itself(swept, folder):
    straight = sweep(
        study_in(folder, name="straight", fork="250 steps", variants="      d: {decay: 40 steps}")
    )
    chain, alone = branch_of(swept, "extended"), branch_of(straight, "d")
    assert chain.id != alone.id
    assert curve(swept, chain)[-1]["loss"] == curve(straight, alone)[-1]["loss"]
    ends = [
        study.store.segment(each.id).checkpoint(290) / WEIGHTS
        for study, each in ((swept, chain), (straight, alone))
    ]
    assert ends[0].read_bytes() == ends[1].read_bytes()


@pytest.mark.medium
def test_stages_that_are_killed_again_and_again_arrive_at_the_same_bits(swept, tmp_path):
    write_domains(tmp_path)
    study = study_in(tmp_path, name="killed", seconds="1e-6")
    for planned in study.plan.segments:
        event = None
        while event != "done":  # every look at the clock saves and returns; then it is gone
            context = WorkerContext(Sweep(study, engine="local").worker_config)
            with SegmentRun(context, planned, planned_tokens=10**6) as run:
                event = run.advance().event
        rows = [
            [
                (row["step"], row["loss"], row["lr"], row["tokens"])
                for row in curve(each, planned)
                if row["step"] <= planned.end  # another test may have sent the trunk further
            ]
            for each in (study, swept)
        ]
        assert rows[0] == rows[1], planned.variant


def test_what_a_batch_changes(swept):
    branch = branch_of(swept, "larger")
    assert tokens_at(branch.segment, branch.end) == 200 * 256 + 40 * 512
    assert rows_at(branch.segment, branch.end) == 200 * 4 + 40 * 8
    assert rates(swept, branch)[0] == pytest.approx(1e-2 * 2**0.5)
    assert [row["tokens"] for row in curve(swept, branch)[:2]] == [51_712, 52_224]
    larger = by_variant(swept)["larger"]
    assert larger.tokens == 71_680
    assert larger.flops_6nd == 6 * larger.params * 71_680
    record = swept.store.segment(branch.id).record
    (source,) = (s for s in swept.dataset.sources if s.name == "letters")
    assert record["epochs"]["letters"] == pytest.approx(1120 / ((source.tokens - 1) // 64))


def test_what_a_context_changes(swept):
    branch = branch_of(swept, "longer")
    assert (branch.segment.model.context, branch.segment.model.rope_base) == (128, 50_000)
    assert rows_at(branch.segment, branch.end) == 200 * 4 + 40 * 2
    run = by_variant(swept)["longer"]
    trunk = branch.segment.root.model
    exact = 200 * 256 * trunk.flops_exact_per_token
    exact += 40 * 256 * branch.segment.model.flops_exact_per_token
    assert run.flops_exact == exact
    assert run.outcome == "finished"


def test_a_ramp_reads_both(swept):
    branch = branch_of(swept, "ramped")
    epochs = swept.store.segment(branch.id).record["epochs"]
    counts = {source.name: (source.tokens - 1) // 64 for source in swept.dataset.sources}
    read = {name: round(epochs[name] * count) for name, count in counts.items()}
    # Of 80 rows in the ramp half are of either; then 80 of digits.
    assert read == {"letters": 840, "digits": 120}


def test_runs_say_where_a_chain_left_and_what_it_reads(swept):
    runs = by_variant(swept)
    assert {run.fork_tokens for run in runs.values()} == {200 * 256}
    assert runs["annealed"].mixture["digits"] == 1.0
    assert runs["plain"].mixture["letters"] == 1.0
    assert runs["rewarmed"].tokens == 320 * 256


def test_moments_are_kept_where_a_stage_follows(swept):
    assert MOMENTS == MOMENTS_FILE
    first, again, last = stages(swept, "rewarmed")
    for planned, kept in ((first, True), (again, True), (last, False)):
        folder = swept.store.segment(planned.id)
        assert folder.has_checkpoint(planned.end)
        assert folder.has_checkpoint(planned.end, moments=True) is kept


def test_an_end_that_kept_no_moments_is_made_again(tmp_path):
    write_domains(tmp_path)
    short = sweep(study_in(tmp_path, variants="      plain: {}"))
    plain = branch_of(short, "plain")
    store = short.store.segment(plain.id)
    loss = store.measurements[plain.end]["letters"]["nats_per_token"]
    rows = [row["loss"] for row in store.curve_rows()]
    assert not store.has_checkpoint(plain.end, moments=True)
    longer = sweep(
        study_in(tmp_path, name="on", variants="      on: [{}, {warmup: 5 steps, decay: 20 steps}]")
    )
    assert stages(longer, "on")[0].id == plain.id
    assert store.has_checkpoint(plain.end, moments=True)
    assert [row["loss"] for row in store.curve_rows()] == rows
    assert store.measurements[plain.end]["letters"]["nats_per_token"] == loss
    assert "kept no moments" in store.last_note()


@pytest.mark.medium
def test_torch_takes_other_batches_too(tmp_path):
    write_domains(tmp_path)
    variants = """
      up: {batch_tokens: 384, decay: 10 steps}
      down: {batch_tokens: 64, decay: 10 steps}
"""
    study = sweep(study_in(tmp_path, variants=variants, kernels="torch"))
    for name, rows in (("up", 2), ("down", 1)):  # of the trunk's 4: gcd with 6 rows, with 1
        record = study.store.segment(branch_of(study, name).id).record
        assert record["execution"]["micro_batch_rows"] == rows
        assert np.isfinite(curve(study, branch_of(study, name))[-1]["loss"])


def test_a_chain_is_plain_data(swept):
    plain = swept.plan.model_dump(mode="json")
    again = type(swept.plan).model_validate_json(json.dumps(plain))
    assert again.segments == swept.plan.segments
    assert again.model_dump(mode="json") == plain  # of warnings the message


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ("      a: {stable: 10 steps, decay: 5 steps}", "either holds the rate or decays"),
        ("      a: {ramp: 10 steps}", "ramp without mixture"),
        ("      a: {rope_base: 50000}", "rope_base without context"),
        ("      a: []", "at least 1"),
        ("      a: {batch_tokens: 100}", "not a whole number of rows of 64"),
        ("      a: [{}, {context: 96}]", r"variants\.a\[1\]: a batch of 256 tokens"),
        ("      a: {warmup: 10 steps, decay: 10 steps}", "warmup takes 10 of its 10 updates"),
        (
            "      a: [{final_factor: 0}, {decay: 9 steps}]",
            "stage 2: the stage before ends at a rate",
        ),
        (
            "      a: [{}, {final_factor: 0.5}]",
            "stage 2: final_factor = 0.5 is above the rate of 0.1",
        ),
        (
            "      a: {shape: exponential, final_factor: 0}",
            "'a': final_factor = 0: between 0 and 1",
        ),
        ("      'a:b': {}", "variants"),
        ("      a: {lr_exponent: 1e5}", "less than or equal to 2"),
        ("      a: {loss: completion}", "no source of its mixture has completions"),
        ("      a: [{}, {rates: 1}]", "unknown key; did you mean 'rate'"),
        ("      a: {context: 128, lr: 1}", "Allowed: decay, stable, shape"),
        ("      a: [{}, {mixture: {digit: 1}}]", r"a\[1\]\.mixture\.digit: no source of data"),
    ],
)
def test_what_a_stage_may_not_ask(tmp_path, variants, said):
    write_domains(tmp_path)
    with pytest.raises(ConfigError, match=said):
        study_in(tmp_path, variants=variants)


def test_stages_on_the_way_have_names(swept):
    first, again, last = stages(swept, "rewarmed")
    assert [each.variant for each in (first, again, last)] == ["plain", "rewarmed/2", "rewarmed"]
    assert stages(swept, "extended")[0].variant == "extended/1"


def test_what_another_study_has_measured_is_not_in_the_runs(swept, folder):
    """Two studies share segments; each has the losses of its own sets, and their mean."""
    (folder / "more.txt").write_text((folder / "digits.txt").read_text() * 2)
    text = STUDY.format(
        name="others", fork="200 steps", kernels="auto", seconds=30, variants="      plain: {}"
    )
    file = folder / "others.yaml"
    file.write_text(text.replace("fork_tokens: 1024", "fork_tokens: 1024, extra: [more.txt]"))
    before = {run.segment: run for run in gather(swept.store, swept.plan)}
    other = sweep(open_study(file, prepared=True))
    after = {run.segment: run for run in gather(swept.store, swept.plan)}
    assert after == before
    shared = branch_of(other, "plain").id
    (run,) = (run for run in gather(other.store, other.plan) if run.segment == shared)
    assert set(run.losses) == {"more", "letters", "digits"}
    assert "more" not in after[shared].losses
    assert run.loss == pytest.approx(sum(run.losses.values()) / 3)


@pytest.mark.medium
def test_what_was_freed_up_the_path_is_made_again_in_one_sweep(tmp_path):
    write_domains(tmp_path)
    short = sweep(study_in(tmp_path, variants="      plain: {}"))
    plain = branch_of(short, "plain")
    (trunk,) = short.plan.trunks
    for planned, step in ((plain, plain.end), (trunk, 200)):
        short.store.segment(planned.id).release(step, why="a test")
    on = "      on: [{}, {warmup: 5 steps, stable: 20 steps}, {decay: 20 steps}]"
    result = Sweep(study_in(tmp_path, name="on", variants=on), engine="local").run()
    assert not result.failed, result.errors


def test_a_ramp_is_not_taken_for_a_divergence(tmp_path):
    """Losses rise while the mixture turns to letters that the trunk has never seen."""
    write_domains(tmp_path)
    ramp = "      on: {mixture: {digits: 1}, ramp: 150 steps, decay: 170 steps}"
    study = sweep(study_in(tmp_path, variants=ramp))
    run = by_variant(study)["on"]
    assert run.outcome == "finished"
