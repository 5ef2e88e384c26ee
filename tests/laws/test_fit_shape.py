"""A written fit that was changed by hand: one error with the place, or the same fit."""

import json
import math

import pytest
from law_errors import refuses

from windtunnel.errors import ConfigError, FitError
from windtunnel.laws import Fit, fit
from windtunnel.laws.schema import fields, named, number, parse, span, text, whole


@pytest.fixture(scope="module")
def written(table):
    made = fit(table(), bootstrap=8)
    return json.loads(made.to_json())


DAMAGES = {
    "missing-key", "unknown-key", "wrong-type", "not-a-number", "out-of-range", "out-of-order",
    "wrong-length", "unknown-law", "damaged",
}  # fmt: skip


def changed(document, place, value):
    """A copy with another value at a dotted place; `...` takes the key away."""
    found = json.loads(json.dumps(document))
    *way, last = (int(key) if key.isdecimal() else key for key in place.split("."))
    at = found
    for key in way:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("n", ...), ("n", 0), ("n", 1.5), ("n", True), ("law", []), ("level", 1), ("level", "0.9"),
        ("seed", -1), ("seed", "1"), ("coefficients.E", ...), ("coefficients.E", None),
        ("coefficients.E", -1.0), ("coefficients.E", "inf"), ("coefficients.extra", 1.0),
        ("coefficients", []), ("intervals.E", [2.0, 1.0]), ("intervals.E", [1.0]),
        ("intervals.E.0", "low"), ("intervals.extra", [1.0, 2.0]), ("domain.params", ...),
        ("domain.flops", ...), ("domain.params.0", 0.0), ("domain.params", [1e-200, 1e-190]),
        ("domain.params", [1e9, 1e3]), ("draws.0", ...), ("draws.0.0", ...), ("draws.0.0", "x"),
        ("noise_draws.0.0", 10**400), ("noise_draws", None), ("noise.seeds_per_cell", [1]),
        ("convention.flop_factor", 0), ("convention.loss", 3), ("warnings", [{"code": []}]),
        ("dropped", [{"reason": "x"}]), ("holdout", []), ("holdout.points.0", [1, 2, 3]),
        ("influence.rows", {}), ("starts_agreeing", 10**6), ("converged", 1), ("details", []),
        ("exact_rule", {"log_params": [1.0], "log_excess": [], "flop_factor": 6.0}),
        ("exact_rule", {"log_params": [2.0, 1.0], "log_excess": [0.0, 0.0], "flop_factor": 6.0}),
        ("inputs", {"study": 1}), ("residuals.worst.0.row", 3), ("columns", ["params"]),
    ],
)  # fmt: skip
def test_what_no_fit_holds_is_refused_with_its_place(written, tmp_path, place, value):
    path = tmp_path / "fit.json"
    path.write_text(changed(written, place, value))
    with pytest.raises(FitError) as refused:
        Fit.read(path)
    error = refused.value
    assert error.code in DAMAGES
    assert error.values["path"] == path
    named = str(error.values.get("place", error.values.get("key", error.values)))
    assert place.split(".")[-1] in named or place.split(".")[0] in named
    assert "put back what stood there" in str(error)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("newer_key", {"a": 1}), ("inputs", ...), ("formula", ...), ("optimum", []),
        ("n_dropped", "x"),
        ("intervals", {}), ("intervals.E", [None, "inf"]), ("noise.newer", 1), ("seed", 10**30),
    ],
)  # fmt: skip
def test_what_is_not_read_or_may_stand_there_does_no_harm(written, place, value):
    again = Fit.from_json(changed(written, place, value))
    assert again.coefficients == written["coefficients"]
    assert math.isfinite(again.predict(1e6, 1e8).value)


def test_a_renamed_key_is_asked_for(written):
    document = json.loads(json.dumps(written))
    document["noise_draw"] = document.pop("noise_draws")
    with refuses("missing-key", key="noise_draws"):
        Fit.from_json(json.dumps(document))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe{", b"[" * 100_000, b'{"a": ' + b"9" * 9999 + b"}", b'{"a": NaN}',
     b'{"schema": 2, "schema": 2}'],
)  # fmt: skip
def test_what_is_no_json_names_the_file(tmp_path, content):
    path = tmp_path / "fit.json"
    path.write_bytes(content)
    with pytest.raises((FitError, ConfigError), match="windtunnel fit --out") as refused:
        Fit.read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert refused.value.code in {"not-json", "not-utf8", "not-a-number", "duplicate-key"}


def test_a_folder_and_no_file_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with refuses("unreadable", ConfigError):
            Fit.read(path)


def test_a_byte_order_mark_does_no_harm(written, tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(written), encoding="utf-8-sig")
    assert Fit.read(path).coefficients == written["coefficients"]


def test_a_fit_that_was_read_is_written_as_it_was_read(table):
    once = Fit.from_json(fit(table(), bootstrap=8).to_json())
    assert Fit.from_json(once.to_json()).to_json() == once.to_json()


def test_checks_name_place_value_and_what_is_allowed():
    check = fields(
        {"a": named(span(), among=("x",)), "b": number(0, 1, inside=True)}, {"c": whole()}
    )
    check({"a": {"x": [None, "inf"]}, "b": 0.5, "d": []}, "")
    for value, code, values in (
        ({"a": {"y": [1, 2]}, "b": 0.5}, "unknown-key", {"key": "a.y", "known": ["x"]}),
        ({"a": {"x": [3, 2]}, "b": 0.5}, "out-of-order", {"place": "a.x", "low": 3, "high": 2}),
        ({"a": {}, "b": 0.5, "c": 1.0}, "not-a-number", {"place": "c", "value": "1.0"}),
        ({"a": {}, "b": 0.5, "c": -1}, "out-of-range", {"place": "c", "value": "-1"}),
        ([], "wrong-type", {"place": "the document", "allowed": "an object"}),
    ):
        with refuses(code, **values):
            check(value, "")
    with pytest.raises(FitError, match=r"^b: 1, allowed: a number above 0 and below 1$"):
        check({"a": {}, "b": 1}, "")
    with refuses("wrong-type", place="name", allowed="text"):
        text(3, "name")
    with refuses("duplicate-key", ConfigError, where="here", key="a"):
        parse('{"a": 1, "a": 2}', "mend it", what="here", kind=ConfigError)
