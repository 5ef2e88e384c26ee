"""Paths, counts and numbers beyond all use are refused at their line, before anything is made."""

import time

import pytest

from windtunnel.config import load_study
from windtunnel.config.study import MOST_SEGMENTS
from windtunnel.config.units import checked_path, expanded
from windtunnel.errors import ConfigError

STUDY = """\
study: s
data: {sources: [text.txt]}
model:
  sizes: [32x1]
  head_dim: 16
  context: 32
recipe: {lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 2}
experiments:
"""
SCALING = "  - kind: scaling\n    horizons: [300 steps]\n    seeds: 1\n    hold_out: none\n"
SEARCH = "  - kind: search\n    space: {recipe.lr: {low: 1e-3, high: 1}}\n    horizon: 300 steps\n"


def load(folder, text):
    file = folder / "study.yaml"
    file.write_text(text)
    return load_study(file)


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        (SCALING.replace("seeds: 1", "seeds: 1000000000"), 11, "out-of-range"),
        (SCALING.replace("seeds: 1", "seeds: [0, 1, 0]"), 11, "duplicate-value"),
        (
            SCALING.replace(
                "[300 steps]", f"[{', '.join(f'{k} steps' for k in range(300, 5000))}]"
            ),
            10,
            "too-many-values",
        ),
        (SCALING.replace("[300 steps]", "[300 steps, 300 steps]"), 10, "duplicate-value"),
        (SCALING.replace("[300 steps]", "[1e400 steps]"), 10, "out-of-range"),
        (SCALING.replace("[300 steps]", "[1e30 tokens]"), 10, "out-of-range"),
        (SEARCH + "    trials: 1000000000\n", 12, "out-of-range"),
        (SEARCH + "    repeats: 1000000000\n", 12, "out-of-range"),
        (SEARCH + "    longer: 1e300\n", 12, "out-of-range"),
        (SEARCH + "    seed: 4294967296\n", 12, "out-of-range"),
        (
            SEARCH.replace("low: 1e-3", "low: -1e308").replace("high: 1", "high: 1e308"),
            10,
            "range-too-wide",
        ),
        (SEARCH.replace("low: 1e-3", "log: true, low: 1e-320"), 10, "range-too-wide"),
        (SCALING + "budget: {disk: 1e308 TB}\n", 13, "not-a-disk-size"),
        (SCALING + f"store: {'a' * 300}\n", 13, "name-too-long"),
    ],
)
def test_what_is_beyond_all_use_is_refused_at_its_line(tmp_path, text, line, code):
    before = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, STUDY + text)
    assert time.process_time() - before < 2
    assert (caught.value.code, caught.value.values["line"]) == (code, line)
    (message,) = str(caught.value).splitlines()
    assert message.startswith(f"{tmp_path / 'study.yaml'}:{line}: ")
    assert len(message) < 600


@pytest.mark.parametrize("size", ["9999999999x1", "32x9999999999", f"{'9' * 5000}x1", "1000016"])
def test_a_size_beyond_any_model_is_refused(tmp_path, size):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, STUDY.replace("32x1", size) + SCALING)
    assert caught.value.code == "out-of-range"
    assert (caught.value.values["line"], caught.value.values["key"]) == (4, "model.sizes[0]")


def test_a_product_of_counts_is_refused_before_it_is_made(tmp_path):
    hundred = [round(1e-3 * k, 4) for k in range(1, 101)]
    axes = f"{{recipe.lr: {hundred}, recipe.init_std: {hundred}, recipe.beta2: [0.9, 0.95]}}"
    grid = f"  - kind: grid\n    axes: {axes}\n    horizons: [300 steps]\n    seeds: 6\n"
    before = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, STUDY + grid)
    assert time.process_time() - before < 2
    assert caught.value.code == "too-many-segments"
    assert caught.value.values == {
        "file": tmp_path / "study.yaml",
        "line": 9,
        "key": "experiments[0]",
        "experiment": "grid",
        "branches": 120_000,
        "total": 120_000,
        "most": MOST_SEGMENTS,
    }


def test_a_model_that_does_not_fit_is_told_at_its_size(tmp_path):
    two = STUDY.replace("sizes: [32x1]", "sizes:\n    - 32x1\n    - 40x1")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, two + SCALING)
    assert caught.value.code == "not-a-multiple"
    values = caught.value.values
    assert (values["line"], values["key"]) == (6, "model.sizes[1]")
    assert (values["width"], values["head_dim"]) == (40, 16)


@pytest.mark.parametrize(
    ("path", "code", "fix"),
    [
        ("$STORE/runs", "variable-in-path", "write the path itself"),
        ("/data/${USER}/runs", "variable-in-path", "write the path itself"),
        ("s3://bucket/runs", "url-as-path", "mount it"),
        ("hdfs://host/runs", "url-as-path", "mount it"),
        ("dbfs:/runs", "url-as-path", "mount it"),
        ("file:///data/runs", "url-as-path", "write /data/runs"),
        ("FILE:/data/runs", "url-as-path", "write /data/runs"),
        ("''", "empty", "write a path"),
        ("'  '", "empty", "write a path"),
        ('"a\\0b"', "bad-character", "remove it"),
        ('"a\\nb"', "bad-character", "remove it"),
    ],
)
def test_a_store_that_would_mean_another_place_is_refused(tmp_path, path, code, fix):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{STUDY}{SCALING}store: {path}\n")
    assert caught.value.code == code
    assert (caught.value.values["line"], caught.value.values["key"]) == (13, "store")
    assert fix in str(caught.value)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text(f"{STUDY}{SCALING}store: {path}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "extends: base/base.yaml\n")
    assert caught.value.code == code
    assert caught.value.values["file"].name == "base.yaml"
    assert (caught.value.values["line"], caught.value.values["key"]) == (13, "store")


@pytest.mark.parametrize(
    "path", ["store", "100%/a b", "a$", "$1", "a:b", "../x", "~/runs", "ünï/コ", "C", "{x}"]
)
def test_other_characters_are_ordinary(tmp_path, path):
    assert load(tmp_path, f"{STUDY}{SCALING}store: '{path}'\n").store == path


def test_the_home_is_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/runs") == tmp_path / "runs"
    assert checked_path("~/runs") == "~/runs"
    assert str(expanded("a/~b")) == "a/~b"
