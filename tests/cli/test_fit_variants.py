"""A mixture law of a study's variants, which may differ in their mixture alone."""

import json

import numpy as np
import pytest
from domains import write_domains
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.config import Branch
from windtunnel.errors import ConfigError
from windtunnel.laws.mixture.models import KINDS
from windtunnel.runs.streams import mixture_of
from windtunnel.runs.study import open_study

STUDY = """\
study: turns
data: {{sources: [letters.txt, {{path: digits.txt, weight: 0}}]}}
model: {{sizes: [32x2], head_dim: 16, context: 64}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}}
schedule: {{shape: linear, decay_fraction: 0.2}}
tracking: {{enabled: false}}
experiments:
  - kind: branch
    name: turn
    forks: [200 steps]
    seeds: 2
    variants:
      plain: {{}}
{variants}
"""
MIXED = "".join(
    f"      m{digits}: {{{{mixture: {{{{letters: {8 - digits}, digits: {digits}}}}}}}}}\n"
    for digits in (1, 2, 4, 5, 6, 8)
).format()


@pytest.fixture(autouse=True)
def without_trees(monkeypatch):
    """Trees take seconds."""
    kinds = {name: kind for name, kind in KINDS.items() if name != "boosting"}
    monkeypatch.setattr("windtunnel.laws.mixture.selection.KINDS", kinds)


def fill(study):
    """Finish every segment with losses that follow from its share of digits; no training."""
    rng = np.random.default_rng(0)
    for planned in study.plan.segments:
        folder, segment = study.store.segment(planned.id), planned.segment
        folder.create(segment)
        read = mixture_of(segment) or {"letters": 1.0}
        share = read.get("digits", 0.0) / sum(read.values())
        for step in (planned.end,) if isinstance(segment, Branch) else planned.forks:
            folder.add_measurement(step, {
                each.name: {
                    "nats_per_token": 2 + slope * share + 0.001 * rng.normal(),
                    "bits_per_byte": 3.0, "tokens": 2048, "fingerprint": each.fingerprint,
                }
                for each, slope in zip(study.validation, (0.4, -0.3), strict=True)
            })  # fmt: skip
        folder.finish({
            "segment": planned.id, "outcome": "finished", "reached": planned.end, "seconds": 1.0,
            "epochs": {}, "execution": {}, "written": 1.8e9,
        })  # fmt: skip


def fitted(folder, variants, *options, experiment="turn"):
    write_domains(folder)
    file = folder / "study.yaml"
    file.write_text(STUDY.format(variants=MIXED + variants))
    fill(open_study(file, prepared=True))
    options += ("--experiment", experiment) if experiment else ()
    asked = ("fit", file, "--law", "mixture", "--bootstrap", 0, *options)
    return CliRunner().invoke(app, [str(each) for each in asked])


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        (
            "one: {mixture: {digits: 3, letters: 5}, shape: one_minus_sqrt}",
            ["Unlike 'plain', 'one' has shape one_minus_sqrt, not linear"],
        ),
        (
            "one: {mixture: {digits: 3, letters: 5}, decay: 70 steps, final_factor: 0}",
            ["'one' has length 70 updates, not 50 updates and final_factor 0, not 0.1"],
        ),
        (
            "one: {mixture: {digits: 3, letters: 5}, ramp: 9 steps}\n"
            "      two: {mixture: {digits: 7, letters: 1}, warmup: 8 steps}",
            [
                "'one' has ramp 9 updates, not 0 updates; 'two' has warmup 8 updates, not 0",
                "--where 'variant in plain,m1,m2,m4,m5,m6,m8'",
            ],
        ),
        (
            "one: {mixture: {digits: 3, letters: 5}, batch_tokens: 512, decay: 25 steps}",
            ["'one' has length 25 updates", "batch_tokens 512, not 256", "lr 0.0141421, not 0.01"],
        ),
        (
            "one: {mixture: {digits: 3, letters: 5}, context: 128, rope_base: 5e4}",
            ["'one' has context 128, not 64 and rope_base 50000, not 10000"],
        ),
        (
            "one: [{stable: 20 steps}, {mixture: {digits: 3, letters: 5}, decay: 30 steps}]",
            ["'one' has stages 2, not 1"],
        ),
    ],
)
def test_variants_that_differ_in_more_are_refused_and_named(tmp_path, variants, said):
    refused = fitted(tmp_path, f"      {variants}").exception
    assert isinstance(refused, ConfigError)
    assert refused.code == "unlike-variants"
    for words in said:
        assert words in str(refused)


def test_what_the_message_keeps_is_fitted(tmp_path):
    longer = "      one: {mixture: {digits: 3, letters: 5}, shape: one_minus_sqrt}"
    keep = fitted(tmp_path, longer).exception.values["keep"]
    found = fitted(tmp_path, longer, "--where", f"variant in {','.join(keep)}", "--json")
    assert json.loads(found.stdout)["n_mixtures"] == 7


def test_variants_of_two_experiments_are_told_apart(tmp_path):
    second = """
  - kind: branch
    name: more
    forks: [200 steps]
    seeds: 2
    variants: {m1: {mixture: {letters: 5, digits: 3}, shape: cosine}}
"""
    refused = str(fitted(tmp_path, second, experiment=None).exception)
    assert "Unlike 'turn:plain', 'more:m1' has shape cosine, not linear" in refused
    assert "Name one experiment with --experiment" in refused
    assert fitted(tmp_path, second, "--json").exit_code == 0
    both = str(fitted(tmp_path, second, "--experiment", "more").exception)
    assert "Unlike 'turn:plain', 'more:m1' has shape cosine" in both


def test_of_two_experiments_the_odd_one_can_be_left_out(tmp_path):
    second = """
  - kind: branch
    name: more
    forks: [200 steps]
    seeds: 2
    variants: {plain: {}, odd: {mixture: {letters: 5, digits: 3}, shape: cosine}}
"""
    refused = str(fitted(tmp_path, second, experiment=None).exception)
    assert "Unlike 'turn:plain or more:plain', 'more:odd' has shape cosine" in refused
    kept = refused.partition("--where '")[2].rstrip("'")
    assert fitted(tmp_path, second, "--where", kept, "--json", experiment=None).exit_code == 0


def test_which_experiments_were_read_is_said(tmp_path):
    second = """
  - kind: branch
    name: more
    forks: [200 steps]
    seeds: 2
    variants: {n3: {mixture: {letters: 5, digits: 3}}}
"""
    one = fitted(tmp_path, second)
    assert "study turns, experiment turn\n" in one.stdout
    assert "7 mixtures, 14 runs" in one.stdout
    both = fitted(tmp_path, second, "--experiment", "more")
    assert "study turns, experiments more, turn\n" in both.stdout
    assert "8 mixtures, 16 runs" in both.stdout


def test_defaults_that_are_written_out_change_nothing(tmp_path):
    same = "      one: {mixture: {digits: 3, letters: 5}, shape: linear, decay: 50 steps}"
    found = fitted(tmp_path, same, "--json")
    assert json.loads(found.stdout)["n_mixtures"] == 8


CHAIN = "[{{stable: 20 steps{before}}}, {{decay: 30 steps, mixture: {{digits: {d}, letters: 7}}}}]"


@pytest.mark.parametrize(
    ("before", "works"),
    [
        ([", mixture: {digits: 1}"] * 7, True),
        ([f", mixture: {{digits: {d}, letters: 7}}" for d in range(1, 8)], True),
        ([", mixture: {digits: 1}", *[""] * 6], False),
    ],
)
def test_earlier_stages_read_one_mixture_or_that_of_the_end(tmp_path, before, works):
    """And the first stages, which decay or not, are no rows of the law."""
    chains = "\n".join(
        f"      c{d}: {CHAIN.format(before=each, d=d)}" for d, each in enumerate(before, start=1)
    )
    only = ("--where", "variant in c1,c2,c3,c4,c5,c6,c7", "--json")
    found = fitted(tmp_path, chains, *only)
    if works:
        assert json.loads(found.stdout)["n_mixtures"] == 7
    else:
        assert "'c1' has mixture of stage 1 digits 1, not the trunk's" in str(found.exception)


def test_variants_of_another_experiment_join_a_design(tmp_path):
    second = """
  - kind: branch
    name: drawn
    forks: [200 steps]
    seeds: 2
    design: {sources: [letters, digits], mixtures_drawn: 5, decay: 50 steps}
"""
    alone = fitted(tmp_path, second, "--json", experiment=None)
    assert json.loads(alone.stdout)["inputs"]["experiments"] == "drawn"
    assert json.loads(alone.stdout)["n_mixtures"] == 8
    both = json.loads(fitted(tmp_path, second, "--experiment", "drawn", "--json").stdout)
    # Letters alone, digits alone and half of each are in both.
    assert both["n_mixtures"] == 8 + 7 - 3
