"""The errors that a newcomer makes, each by its message."""

import json

import pytest

from windtunnel.config import load_study
from windtunnel.config.schema import SCHEMA_FILE, schema_text
from windtunnel.errors import ConfigError


def test_a_good_file_loads(study_file):
    study = load_study(study_file())
    assert study.recipe.lr == 1e-2  # YAML 1.2: a number, not a string
    assert [str(h) for h in study.experiments[0].horizons] == ["110 steps", "140 steps"]


ERRORS = {
    "unknown key": (("lr: 1e-2", "lr: 1e-2\n  lrr: 3"), r":11: recipe\.lrr: unknown key"),
    "near key": (("warmup_steps", "warmup_step"), r"did you mean 'warmup_steps'\?"),
    "wrong type": (("lr: 1e-2", "lr: fast"), r":10: recipe\.lr = 'fast': expected a number"),
    "repeated key": (("lr: 1e-2", "lr: 1e-2\n  lr: 1e-3"), r':11: found duplicate key "lr"'),
    "missing key": (("  base_width: 16\n", ""), r"recipe\.base_width: required, and missing"),
    "bare horizon": (("[110 steps,", "[110,"), r"horizons\[0\]: 110 is no duration.*110N"),
    "unknown unit": (("[110 steps,", "[110 epochs,"), r"'110 epochs' is no duration"),
    "zero horizon": (("[110 steps,", "[0 steps,"), r"a duration is above zero"),
    "width": (
        ("[16x1, 16x2", "[20x1, 16x2"),
        r"width = 20 is not a multiple of head_dim = 16;.*16 or 32",
    ),
    "size": (("[16x1, 16x2", "[big, 16x2"), r"'big' is no size: write WIDTHxDEPTH"),
    "no depth": (("[16x1, 16x2", "[16, 16x2"), r"size 16 has no depth"),
    "not in family": (("sizes: [16x1, 32x1]", "sizes: [64x1]"), r"size 64x1 is not among"),
    "batch": (
        ("batch_tokens: 128", "batch_tokens: 100"),
        r"100 is not a multiple of model.context = 32; contexts of 25 or 50 fit; batches of 96 or",
    ),
    "unknown kind": (
        ("kind: scaling", "kind: scalling"),
        r":15: experiments\[0\]\.kind = 'scalling': unknown kind; did you mean 'scaling'",
    ),
    "bad name": (("study: small", "study: ../small"), r"study = '\.\./small'"),
    "broken yaml": (("study: small", "study: [small"), r"not valid YAML"),
    "nan": (("lr: 1e-2", "lr: .nan"), r"recipe\.lr"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_teach(study_file, name):
    replace, message = ERRORS[name]
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(study_file(replace=replace))
    assert "hparams.yaml" in str(caught.value)


def test_all_faults_are_listed_at_once(study_file):
    path = study_file(replace=("lr: 1e-2", "lr: -1\n  lrr: 3"))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert len(str(caught.value).splitlines()) == 2


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file; `windtunnel init"):
        load_study(tmp_path / "none.yaml")


def test_grid_axes_are_checked(study_file):
    grid = "kind: grid\n    axes: {recipe.lrate: [1]}\n    horizons: [200 steps]\n  - kind: scaling"
    with pytest.raises(ConfigError, match=r":16: .*'recipe.lrate' is no field of recipe"):
        load_study(study_file(replace=("kind: scaling", grid)))
    bad_value = grid.replace("lrate: [1]", "lr: [-1]")
    with pytest.raises(ConfigError, match="greater than 0"):
        load_study(study_file(replace=("kind: scaling", bad_value)))


def test_the_shipped_schema_is_the_models():
    assert SCHEMA_FILE.read_text() == schema_text() + "\n", "run `make schema`"
    assert json.loads(schema_text())["properties"]["recipe"]


def test_the_reference_page_is_the_models():
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "tools" / "study_reference.py"
    loaded = importlib.util.spec_from_file_location("study_reference", path)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    assert module.TARGET.read_text() == module.reference(), "run `make schema`"
