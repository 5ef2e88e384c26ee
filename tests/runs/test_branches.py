"""Branches that leave a trunk on another mixture: identity, plan, a real sweep, what is refused."""

import json
import pickle

import pytest
from domains import branch_of, write_domains

from windtunnel.config import DataChange, load_study
from windtunnel.engine.sweep import Sweep
from windtunnel.errors import ConfigError
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study
from windtunnel.runs.table import variant_name

STUDY = """\
study: {name}
data:
  sources: {sources}
  validation: {{fraction: 0.2, tokens: 4096, fork_tokens: 1024}}
model: {{sizes: [32x2], head_dim: 16, context: 64}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}}
schedule: {{shape: linear, decay_fraction: 0.2}}
resources: {{compile: never}}
tracking: {{enabled: false}}
store: store
experiments:
  - kind: branch
    name: turn
    forks: [200 steps]
    seeds: [0]
    variants: {variants}
"""
BOTH = "[letters.txt, {path: digits.txt, weight: 0}]"
VARIANTS = """
      plain: {}
      half: {mixture: {letters: 1, digits: 1}}
      digits: {mixture: {digits: 1}, decay: 100 steps, shape: one_minus_sqrt, final_factor: 0}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("domains"))


def study_in(folder, *, name="turn", sources=BOTH, variants=VARIANTS):
    file = folder / f"{name}.yaml"
    file.write_text(STUDY.format(name=name, sources=sources, variants=variants))
    return file


@pytest.fixture(scope="module")
def swept(folder):
    opened = open_study(study_in(folder), prepared=True)
    result = Sweep(opened, engine="local").run()
    assert not result.failed, result.errors
    return open_study(opened.file)


def test_a_source_without_weight_is_no_part_of_the_trunk(swept, folder):
    alone = open_study(
        study_in(folder, name="alone", sources="[letters.txt]", variants="{plain: {}}"),
        prepared=True,
    )
    assert [t.id for t in alone.plan.trunks] == [t.id for t in swept.plan.trunks]
    assert branch_of(alone, "plain").id == branch_of(swept, "plain").id


def test_the_identity_knows_what_is_read_and_not_how_it_is_written(swept):
    own = swept.study_context.mixed({"letters": 2.0})
    assert own.stream == swept.study_context.stream
    assert len(branch_of(swept, "plain").segment.changes) == 1  # the trunk's own changes nothing
    half = branch_of(swept, "half").segment
    (change,) = (each for each in half.changes if isinstance(each, DataChange))
    scaled = change.replace(mixture={"letters": 7.0, "digits": 7.0})
    assert half.replace(changes=(half.changes[0], scaled)).id == half.id
    other = change.replace(stream="0" * 16)
    assert half.replace(changes=(half.changes[0], other)).id != half.id


def test_each_variant_learns_what_it_reads(swept):
    decayed = [run for run in gather(swept.store, swept.plan) if run.decayed]
    runs = {variant_name(run.variants): run for run in decayed}
    assert set(runs) == {"plain", "half", "digits"}
    plain, half, digits = (runs[name].losses for name in ("plain", "half", "digits"))
    assert half["digits"] < plain["digits"] - 1
    assert plain["letters"] < half["letters"]
    assert digits["letters"] > plain["letters"] + 0.5  # forgotten
    assert runs["digits"].tokens == 300 * 256
    assert runs["plain"].tokens == 250 * 256
    records = {name: swept.store.segment(run.segment).record for name, run in runs.items()}
    assert set(records["plain"]["epochs"]) == {"letters"}
    assert set(records["half"]["epochs"]) == {"letters", "digits"}
    turned = records["digits"]["epochs"]
    counts = {source.name: (source.tokens - 1) // 64 for source in swept.dataset.sources}
    assert turned["letters"] == pytest.approx(200 * 4 / counts["letters"])
    assert turned["digits"] == pytest.approx(100 * 4 / counts["digits"])


def test_the_same_command_runs_nothing_twice(swept):
    again = Sweep(swept, engine="local")
    assert again.graph.done
    labels = [label.variant for p in swept.plan.branches for label in p.labels]
    assert sorted(labels) == ["digits", "half", "plain"]


def test_a_plan_before_the_data_counts_as_many(folder):
    file = study_in(folder, name="unprepared")
    plan = open_study(file).plan
    assert len(plan.branches) == 3
    assert json.loads(json.dumps(plan.model_dump(mode="json")))


def test_a_plan_before_the_data_knows_mixtures_that_are_one(tmp_path):
    write_domains(tmp_path)
    sources = "[{path: letters.txt, weight: 2}, {path: digits.txt, weight: 1}]"
    variants = """{plain: {}, half: {mixture: {letters: 1, digits: 1}}}
  - kind: branch
    name: again
    forks: [200 steps]
    seeds: [0]
    variants: {own: {mixture: {letters: 4, digits: 2}}, half: {mixture: {digits: 3, letters: 3}}}
"""
    file = study_in(tmp_path, sources=sources, variants=variants)
    before, after = open_study(file).plan, open_study(file, prepared=True).plan
    assert len(before.branches) == len(after.branches) == 2
    names = {branch.variant for branch in before.branches}
    assert (
        names == {branch.variant for branch in after.branches} == {"half", "turn:plain+again:own"}
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": "{a: {mixture: {letter: 1}}}"}, "did you mean 'letters'"),
        ({"variants": "{a: {mixture: {letters: 0}}}"}, "every weight is 0"),
        ({"variants": "{a: {mixture: {}}}"}, "mixture"),
        ({"variants": "{}"}, "variants"),
        ({"variants": "{a: {}, b: {mixture: {letters: 3}}}"}, "'a' and 'b' are the same branch"),
        ({"variants": "{a: {decay: 10}}"}, "not a duration"),
        ({"sources": "[{path: letters.txt, weight: 0}]", "variants": "{a: {}}"}, "weight 0"),
        ({"sources": "[{path: letters.txt, weight: -1}]"}, "greater than or equal to 0"),
    ],
)
def test_what_is_refused(tmp_path, changes, said):
    write_domains(tmp_path)
    with pytest.raises(ConfigError, match=said):
        open_study(study_in(tmp_path, **changes), prepared=True)


def test_a_fork_within_warmup(folder):
    file = study_in(folder, name="early")
    file.write_text(file.read_text().replace("200 steps", "10 steps"))
    assert load_study(file)
    with pytest.raises(ConfigError, match="of which 20 warm up"):
        open_study(file)


def test_a_study_holds_no_rows(swept):
    """Ray copies it, with all that it has cached, into every sweep."""
    assert swept.warnings is not None
    rows = sum(source.tokens for source in swept.dataset.sources)
    assert len(pickle.dumps(swept)) < min(rows, 100_000)
