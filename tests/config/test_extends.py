"""Files that extend others: what is laid over what, where paths lead, and what is refused."""

import pytest

from windtunnel.config import load_study
from windtunnel.config.load import resolved_text
from windtunnel.errors import ConfigError

BASE = """\
study: base
data: {sources: [text.jsonl, {path: more, name: other}], tokenizer: tok.json}
model: {sizes: [16x1, 32x1], head_dim: 16, context: 32}
recipe: {lr: 1e-2, base_width: 16, batch_tokens: 128, warmup_steps: 10}
schedule: {shape: linear, decay_fraction: 0.2}
experiments:
  - {kind: scaling, horizons: [10N], seeds: 3}
  - {kind: grid, name: rates, axes: {recipe.lr: [1e-2, 2e-2]}, horizons: [20N]}
store: store
"""


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    write("base/base.yaml", BASE)
    return write


def test_mappings_merge_experiments_by_name_and_the_rest_is_replaced(write):
    file = write(
        "base/above.yaml",
        "extends: base.yaml\nstudy: above\nmodel: {sizes: [64x2]}\nrecipe: {lr: 5e-3}\n"
        "schedule: {decay_fraction: null}\nexperiments:\n"
        "  - {kind: scaling, horizons: [30N, 40N]}\n"
        "  - {kind: grid, name: batches, axes: {recipe.batch_tokens: [64]}, horizons: [20N]}\n",
    )
    study = load_study(file)
    assert (study.study, study.recipe.lr, study.recipe.batch_tokens) == ("above", 5e-3, 128)
    assert [str(size) for size in study.model.sizes] == ["64x2"]
    assert study.schedule.shape == "linear"
    assert study.schedule.decay_fraction is None
    scaling, rates, batches = study.experiments
    assert [str(each) for each in scaling.horizons] == ["30N", "40N"]
    assert scaling.seeds == (0, 1, 2)
    assert (rates.name, batches.name) == ("rates", "batches")


def test_the_last_of_several_is_on_top(write):
    write("base/fast.yaml", "recipe: {lr: 3e-3, warmup_steps: 5}\n")
    file = write("base/above.yaml", "extends: [base.yaml, fast.yaml]\nstudy: above\n")
    study = load_study(file)
    assert (study.recipe.lr, study.recipe.warmup_steps, study.recipe.base_width) == (3e-3, 5, 16)


def test_paths_stay_relative_to_the_file_that_wrote_them(write):
    file = write("base/deep/er/above.yaml", "extends: ../../base.yaml\nstudy: above\n")
    study = load_study(file)
    assert [source.path for source in study.data.sources] == ["../../text.jsonl", "../../more"]
    assert (study.data.tokenizer, study.store) == ("../../tok.json", "../../store")


@pytest.mark.parametrize("data", ["[text.jsonl]", "{sources: text.jsonl}", "{sources: 3}"])
def test_a_malformed_base_is_a_fault_of_the_base(write, data):
    write("base/base.yaml", BASE.replace(BASE.splitlines()[1], f"data: {data}"))
    with pytest.raises(ConfigError) as caught:
        load_study(write("base/deep/above.yaml", "extends: ../base.yaml\nstudy: above\n"))
    assert caught.value.code in {"wrong-type", "missing-key"}
    assert caught.value.values["file"].name == "base.yaml"
    assert caught.value.values["line"] == 2


def test_a_fault_is_named_where_it_was_written(write):
    file = write("base/above.yaml", "extends: base.yaml\nstudy: above\n\nrecipe: {lr: -1}\n")
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert caught.value.code == "out-of-range"
    assert caught.value.values == {
        "file": file,
        "line": 4,
        "key": "recipe.lr",
        "value": -1,
        "above": 0,
        "example": "0.008",
    }
    write("base/base.yaml", BASE.replace("warmup_steps", "warmup"))
    with pytest.raises(ConfigError) as caught:
        load_study(write("base/above.yaml", "extends: base.yaml\nstudy: above\n"))
    missing, unknown = caught.value.values["errors"]
    assert (missing["code"], missing["key"]) == ("missing-key", "recipe.warmup_steps")
    assert (unknown["code"], unknown["key"]) == ("unknown-key", "recipe.warmup")
    assert (unknown["file"].name, unknown["line"]) == ("base.yaml", 4)


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        ("extends: gone.yaml\n", "missing-file", "extends"),
        ("extends: above.yaml\n", "circular-extends", "extends"),
        ("extends: other.yaml\n", "circular-extends", "extends"),
        ("extends: 3\n", "wrong-type", "extends"),
        ("study: s\nextend: base.yaml\n", "missing-key", "data"),
    ],
)
def test_what_is_refused(write, text, code, key):
    write("base/other.yaml", "extends: above.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load_study(write("base/above.yaml", text))
    assert (caught.value.code, caught.value.values["key"]) == (code, key)


def test_extends_is_suggested_for_a_key_like_it(write):
    with pytest.raises(ConfigError, match="did you mean 'extends'") as caught:
        load_study(write("base/above.yaml", "extend: base.yaml\n"))
    unknown = caught.value.values["errors"][-1]
    assert (unknown["code"], unknown["key"]) == ("unknown-key", "extend")


def test_the_resolved_text_is_the_same_study(write):
    file = write("base/above.yaml", "extends: base.yaml\nstudy: above\n")
    study = load_study(file)
    assert load_study(write("base/resolved.yaml", resolved_text(study))) == study
