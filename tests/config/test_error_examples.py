"""A refused value is answered with an example of what is taken."""

import pytest

from windtunnel.config import load_study
from windtunnel.errors import ConfigError

STUDY = """\
study: small
data: {sources: [text.txt], validation: {fraction: 0.1}}
model: {sizes: [32x2, 64x2], head_dim: 16, context: 64}
recipe: {lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}
schedule: {decay_fraction: 0.2}
experiments:
  - {kind: search, name: tune, space: {recipe.lr: {low: 1e-3, high: 1e-1}}, trials: 8, horizon: 10N}
  - {kind: grid, recipe: {from: tune}, axes: {recipe.lr: {times: [1, 2]}}, horizons: [10N]}
budget: {flops: 1e15}
tracking: {enabled: false}
"""


@pytest.mark.parametrize(
    ("key", "right", "wrong", "example"),
    [
        ("recipe.lr", "lr: 1e-2", "lr: fast", "0.008"),
        ("recipe.lr", "lr: 1e-2", "lr: -1", "0.008"),
        ("model.sizes", "[32x2, 64x2]", "32x2", "[32x2]"),
        ("model.head_dim", "head_dim: 16", "head_dim: 7", "64"),
        ("data.sources", "[text.txt]", "text.txt", "[text.txt]"),
        ("data.sources", "[text.txt]", "{path: text.txt}", "[{path: text.txt}]"),
        ("data.validation", "{fraction: 0.1}", "0.1", "{fraction: 0.02}"),
        ("schedule.decay_fraction", "0.2", "20%", "0.2"),
        ("experiments[0].trials", "trials: 8", "trials: many", "40"),
        ("experiments[0].space.recipe.lr", "{low: 1e-3, high: 1e-1}", "1e-3",
         "{low: 0.001, high: 0.1}"),
        ("experiments[1].horizons", "horizons: [10N]", "horizons: 10N", "[10N]"),
        ("experiments[1].horizons", "horizons: [10N]", "horizons: 20", "[10N]"),
        ("experiments[1].recipe", "{from: tune}", "tune", "{from: tune}"),
        ("experiments[1].axes.recipe.lr.times", "[1, 2]", "2", "[2]"),
        ("budget", "{flops: 1e15}", "1e15", "{flops: 1e+18}"),
        ("tracking", "{enabled: false}", "false", "{enabled: true}"),
    ],
)  # fmt: skip
def test_the_example_of_a_refused_value(tmp_path, key, right, wrong, example):
    file = tmp_path / "hparams.yaml"
    assert STUDY.count(right) == 1
    file.write_text(STUDY.replace(right, wrong))
    with pytest.raises(ConfigError) as refused:
        load_study(file)
    assert (refused.value.values["key"], refused.value.values["example"]) == (key, example)


def test_a_long_value_is_not_repeated(tmp_path):
    file = tmp_path / "hparams.yaml"
    file.write_text(STUDY.replace("[text.txt]", f"{{path: {'x' * 100}}}"))
    with pytest.raises(ConfigError) as refused:
        load_study(file)
    assert "x" * 100 not in str(refused.value)
