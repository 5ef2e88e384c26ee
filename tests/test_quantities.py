"""Counts as people write them, and the same reader in options, conditions and study files."""

import json

import numpy as np
import pytest

from windtunnel.config import load_study
from windtunnel.config.units import Duration
from windtunnel.errors import ConfigError, Refused
from windtunnel.laws.conditions import Condition
from windtunnel.quantities import count_of, read_count, read_ratio, write_count

READ = {
    "1.2M": 1.2e6,
    "2.4B": 2.4e9,
    "2.4 b": 2.4e9,
    "2.4G": 2.4e9,
    "1T": 1e12,
    "142k": 142_000,
    "1e23": 1e23,
    ".5M": 5e5,
    "0.07B": 7e7,
    "131,072": 131_072,
    "131_072": 131_072,
    "1,234.5k": 1_234_500,
    "-3": -3,
}


@pytest.mark.parametrize("text", READ)
def test_a_count(text):
    assert read_count(text) == READ[text]


@pytest.mark.parametrize(
    "text", ["", "k", "2,4B", "12,34", "1.2.3", "2.4X", "128x4", "20N", "inf", "nan", "1e400", "١"]
)
def test_no_count(text):
    assert read_count(text) is None
    with pytest.raises(Refused) as refused:
        count_of(text)
    assert refused.value.code == "not-a-number"
    assert refused.value.values["value"] == text
    assert refused.value.values["example"] == "2.4B"
    assert refused.value.values.get("suggested") == {"2,4B": "2.4B", "12,34": "12.34"}.get(text)


def test_tokens_per_param():
    assert [read_ratio(text) for text in ("20N", "1.5kN", "20", "N", "20 tokens")] == [
        20, 1500, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (512, "512"),
        (999.7, "1k"),
        (999_600, "1M"),
        (1.3e6, "1.3M"),
        (2.4e9, "2.4B"),
        (1e12, "1T"),
        (9.996e14, "1e+15"),
        (1.2e21, "1.2e+21"),
        (-2e6, "-2M"),
        (0.003, "0.003"),
        (1e-7, "1e-07"),
    ],
)
def test_a_written_count(value, text):
    assert write_count(value) == text


def test_what_is_written_is_read():
    values = 10 ** np.random.default_rng(0).uniform(-3, 26, 500)
    assert [read_count(write_count(each)) for each in values] == pytest.approx(values, rel=0.006)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("params>=1.2M", [False, True, True]),
        ("params<1B", [True, True, False]),
        ("params in 1.2M,2.4B", [False, True, True]),
        ("params!=1,200,000", [True, False, True]),
    ],
)
def test_a_condition_on_numbers(text, kept):
    assert Condition.parse(text).mask([3e5, 1.2e6, 2.4e9]).tolist() == kept


def test_a_condition_on_words_stays_one():
    assert Condition.parse("family==1B").mask(["1B", "1000000000"]).tolist() == [True, False]
    with pytest.raises(ConfigError) as refused:
        Condition.parse("params>large").mask([1.0])
    assert refused.value.code == "not-a-number"
    assert refused.value.values["value"] == "large"


@pytest.mark.parametrize(
    ("text", "same"),
    [("2.5M tokens", "2.5e6 tokens"), ("5k steps", "5000 steps"), ("0.07B tokens", "7e7 tokens")],
)
def test_a_duration(text, same):
    assert Duration.parse(text) == Duration.parse(same)
    assert str(Duration.parse(text)) == str(Duration.parse(same))


@pytest.mark.parametrize("text", ["2.5M", "2.5MN", "2.5X tokens"])
def test_no_duration(text):
    with pytest.raises(Refused) as refused:
        Duration.parse(text)
    assert refused.value.code == "not-a-duration"


STUDY = """\
study: s
data: {{sources: [text.txt], validation: {{tokens: {tokens}, fork_tokens: 4k}}}}
model: {{sizes: [32x1], head_dim: 16, context: 32}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: {batch}, warmup_steps: 2}}
budget: {{flops: {flops}}}
transfer: {{tuned: {{tokens: {tokens}, size: 32x1}}}}
experiments:
  - kind: grid
    axes: {{recipe.batch_tokens: {axis}}}
    horizons: [{horizon}]
    recipe: {{batch_tokens: {batch}}}
"""
PLAIN = {"tokens": "16000", "batch": "3200", "flops": "1e15", "axis": "[1600, 3200]",
         "horizon": "1e6 tokens"}  # fmt: skip
WRITTEN = {"tokens": "16k", "batch": "3.2k", "flops": "1000T", "axis": "[1.6k, '3,200']",
           "horizon": "1M tokens"}  # fmt: skip


def load(folder, **values):
    path = folder / "study.yaml"
    path.write_text(STUDY.format(**values))
    return load_study(path)


def test_a_study_of_written_counts_is_the_same_study(tmp_path):
    plain, written = load(tmp_path, **PLAIN), load(tmp_path, **WRITTEN)
    assert written == plain
    assert written.model_dump_json() == plain.model_dump_json()
    assert written.recipe.batch_tokens == 3200


@pytest.mark.parametrize(
    ("key", "text", "at", "code"),
    [
        ("batch", "4X", "recipe.batch_tokens", "not-a-number"),
        ("batch", "1.5", "recipe.batch_tokens", "not-whole"),
        ("batch", "0k", "recipe.batch_tokens", "out-of-range"),
        ("flops", "much", "budget.flops", "not-a-number"),
        ("axis", "[1.6k, many]", "experiments[0].axes.recipe.batch_tokens", "not-a-number"),
        ("axis", "[1.6k, 1600]", "experiments[0].axes.recipe.batch_tokens", "duplicate-value"),
    ],
)
def test_a_study_of_no_counts(tmp_path, key, text, at, code):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, **PLAIN | {key: text})
    assert (refused.value.code, refused.value.values["key"]) == (code, at)


OPTIONS = {
    "predict": (("--params", "1.2X"), "--params", "2.4B"),
    "optimum": (("--flops", "large"), "--flops", "1e23"),
    "export": (
        ("--to", "json", "--out", "new", "--batch-tokens", "4Q"), "--batch-tokens", "4M",
    ),
    "forecast check": (("--loss", "2", "--tokens", "1,5T"), "--tokens", "2.4B"),
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_an_option_that_is_no_count(windtunnel, command):
    arguments, option, example = OPTIONS[command]
    code, out, _ = windtunnel(*command.split(), "none.json", *arguments, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (2, "not-a-number")
    assert (error["values"]["option"], error["values"]["example"]) == (option, example)
