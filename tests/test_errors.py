"""The boundary behind which no foreign exception passes."""

import json
import pickle
from pathlib import Path

import pytest

from windtunnel.config.units import Misfit
from windtunnel.errors import ColumnError, ConfigError, DataError, Refused, boundary, cause_of


class Panic(BaseException):
    """What Rust's libraries raise is no Exception."""


FOREIGN = (
    ValueError("no JSON"),
    KeyError("loss"),
    RecursionError("maximum recursion depth exceeded"),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    OSError(5, "Input/output error"),
    Panic("index out of bounds"),
    type("Odd", (Exception,), {})(),
)


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda each: type(each).__name__)
def test_any_exception_names_file_cause_and_fix(foreign):
    with pytest.raises(DataError) as raised, boundary("a.jsonl:7", "mend it"):
        raise foreign
    message = str(raised.value)
    assert message == f"a.jsonl:7: {cause_of(foreign)}; mend it"
    assert "\n" not in message
    assert raised.value.code == "unreadable"
    assert raised.value.values == {"where": "a.jsonl:7", "cause": cause_of(foreign)}
    assert raised.value.__cause__ is foreign


def test_errors_of_our_own_and_interrupts_pass():
    with pytest.raises(ConfigError, match=r"^ours$"), boundary("a", "b"):
        raise ConfigError("unknown-key", "ours")
    for passing in (KeyboardInterrupt, SystemExit):
        with pytest.raises(passing), boundary("a", "b"):
            raise passing


def test_the_place_may_be_known_only_after():
    line = 0

    def read():
        nonlocal line
        with boundary(lambda: f"t:{line}", "mend it", ConfigError, what="not JSON"):
            for text in ("1", "{"):
                line += 1
                json.loads(text)

    with pytest.raises(ConfigError, match=r"^t:2: not JSON: "):
        read()


def test_a_cause_is_one_short_line_without_secrets():
    long = ValueError("http://a:secret@h failed " + "x" * 1000 + "\nand more")
    said = cause_of(long)
    assert "secret" not in said
    assert len(said) < 320
    assert "and more" not in said


def test_a_check_below_a_boundary_keeps_its_code_and_values():
    with pytest.raises(DataError) as caught, boundary("a.jsonl:7", "mend it", code="not-json"):
        raise Refused("not-a-number", "'x' is no number", value="x")
    assert caught.value.code == "not-a-number"
    assert caught.value.values == {"where": "a.jsonl:7", "value": "x"}


def test_a_document_is_plain_json_without_secrets():
    error = ConfigError(
        "out-of-range", "at http://a:secret@h", path=Path("a"), value=float("inf"), known={"b"}
    )
    assert error.document() == {
        "code": "out-of-range",
        "message": "at http://***@h",
        "values": {"path": "a", "value": "inf", "known": ["b"]},
    }
    json.dumps(error.document(), allow_nan=False)


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(Misfit("unknown-source", "none", "sources", 0, source="a")))
    assert (error.code, error.place, error.values) == (
        "unknown-source",
        ("sources", 0),
        {"source": "a"},
    )
    error = pickle.loads(
        pickle.dumps(ColumnError("out-of-range", "is -2: must be above 0", "loss", 3, value=-2))
    )
    assert (error.column, error.row, error.values["value"]) == ("loss", 3, -2)
    assert str(error) == "column 'loss', row 3 is -2: must be above 0"


def test_a_command_that_fails_says_its_error_as_json(windtunnel, tmp_path):
    code, out, err = windtunnel("plan", tmp_path / "none.yaml", "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert f"error: {error['message']}" in err
    assert "unspecified" not in err
