"""The errors that a newcomer makes, by code and values; schema and reference page are current."""

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
    "unknown key": (("lr: 1e-2", "lr: 1e-2\n  lrr: 3"), "unknown-key", {"line": 11, "value": 3}),
    "near key": (("warmup_steps", "warmup_step"), "missing-key", {"key": "recipe.warmup_steps"}),
    "wrong type": (("lr: 1e-2", "lr: fast"), "not-a-number", {"line": 10, "value": "fast"}),
    "repeated key": (("lr: 1e-2", "lr: 1e-2\n  lr: 1e-3"), "duplicate-key", {"line": 11}),
    "missing key": (("  base_width: 16\n", ""), "missing-key", {"key": "recipe.base_width"}),
    "bare horizon": (("[110 steps,", "[110,"), "not-a-duration", {"value": 110}),
    "unknown unit": (("[110 steps,", "[110 epochs,"), "not-a-duration", {"value": "110 epochs"}),
    "zero horizon": (("[110 steps,", "[0 steps,"), "out-of-range", {"above": 0}),
    "width": (("[16x1, 16x2", "[20x1, 16x2"), "not-a-multiple", {"width": 20, "head_dim": 16}),
    "size": (("[16x1, 16x2", "[big, 16x2"), "not-a-size", {"value": "big"}),
    "no depth": (("[16x1, 16x2", "[16, 16x2"), "missing-depth", {"key": "model.sizes[0]"}),
    "not in family": (("sizes: [16x1, 32x1]", "sizes: [64x1]"), "unknown-size", {"line": 15}),
    "batch": (
        ("batch_tokens: 128", "batch_tokens: 100"),
        "not-a-multiple",
        {"key": "recipe.batch_tokens", "batch_tokens": 100, "context": 32},
    ),
    "unknown kind": (
        ("kind: scaling", "kind: scalling"),
        "unknown-kind",
        {"line": 15, "key": "experiments[0].kind", "value": "scalling"},
    ),
    "bad name": (("study: small", "study: ../small"), "bad-name", {"value": "../small"}),
    "broken yaml": (("study: small", "study: [small"), "not-yaml", {}),
    "no base depth": (
        ("lr: 1e-2", "lr: 1e-2\n  parametrization: completep"),
        "missing-base-depth",
        {"key": "recipe.parametrization", "line": 11},
    ),
    "nan": (("lr: 1e-2", "lr: .nan"), "not-finite", {"key": "recipe.lr"}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_carry_code_place_and_value(study_file, name):
    replace, code, values = ERRORS[name]
    file = study_file(replace=replace)
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert caught.value.code == code
    values = values | {"file": file}
    assert {key: caught.value.values[key] for key in values} == values
    json.dumps(caught.value.document(), allow_nan=False)


def test_the_form_of_a_message(study_file):
    file = study_file(replace=("kind: scaling", "kind: scalling"))
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert str(caught.value) == (
        f"{file}:15: experiments[0].kind = 'scalling': unknown kind; did you mean 'scaling'? "
        "Allowed: branch, forecast, grid, scaling, search"
    )


def test_all_faults_are_listed_at_once(study_file):
    path = study_file(replace=("lr: 1e-2", "lr: -1\n  lrr: 3"))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    first, second = str(caught.value).splitlines()
    assert (caught.value.code, caught.value.values["value"]) == ("out-of-range", -1)
    place = {"file": path, "line": 10}
    assert caught.value.values["errors"] == [
        {"code": "out-of-range", "key": "recipe.lr", "message": first} | place,
        {"code": "unknown-key", "key": "recipe.lrr", "message": second} | place | {"line": 11},
    ]


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="`windtunnel init") as caught:
        load_study(tmp_path / "none.yaml")
    assert caught.value.code == "missing-file"


def test_grid_axes_are_checked(study_file):
    grid = "kind: grid\n    axes: {recipe.lrate: [1]}\n    horizons: [200 steps]\n  - kind: scaling"
    with pytest.raises(ConfigError) as caught:
        load_study(study_file(replace=("kind: scaling", grid)))
    assert (caught.value.code, caught.value.values["line"]) == ("unknown-axis", 16)
    assert caught.value.values["axis"] == "recipe.lrate"
    bad_value = grid.replace("lrate: [1]", "lr: [-1]")
    with pytest.raises(ConfigError) as caught:
        load_study(study_file(replace=("kind: scaling", bad_value)))
    assert caught.value.code == "out-of-range"
    assert (caught.value.values["axis"], caught.value.values["value"]) == ("recipe.lr", -1)


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
