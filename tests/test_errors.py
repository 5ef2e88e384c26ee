"""The boundary behind which no foreign exception passes."""

import json
import pickle

import pytest

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
    said = str(raised.value)
    assert said.startswith("a.jsonl:7: ")
    assert said.endswith("; mend it")
    assert cause_of(foreign) in said
    assert "\n" not in said
    assert raised.value.__cause__ is foreign


def test_errors_of_our_own_and_interrupts_pass():
    with pytest.raises(ConfigError, match=r"^ours$"), boundary("a", "b"):
        raise ConfigError("ours")
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


def test_an_error_keeps_its_code_and_values_when_a_worker_sends_it():
    error = pickle.loads(pickle.dumps(ColumnError("is -2: must be above 0", "loss", 3)))
    assert (error.column, error.row) == ("loss", 3)
    assert str(error) == "column 'loss', row 3 is -2: must be above 0"
    sent = pickle.loads(pickle.dumps(DataError("too-few-rows", "3 rows", rows=3)))
    assert (sent.code, sent.values, str(sent)) == ("too-few-rows", {"rows": 3}, "3 rows")


def test_an_error_for_machines_holds_plain_values_and_no_secret(tmp_path):
    uri = "postgresql://me:hunter2@host/db"
    document = DataError("missing", f"{uri}: gone", uri=uri, path=tmp_path, known=("a",)).document()
    assert document["code"] == "missing"
    assert document["values"]["path"] == str(tmp_path)
    assert document["values"]["known"] == ["a"]
    assert "hunter2" not in json.dumps(document)


def test_a_boundary_passes_the_code_of_a_refused_value_on():
    with pytest.raises(DataError) as caught, boundary("file.json:3", "mend it"):
        raise Refused("not-a-number", "'x' is no number", value="x")
    assert caught.value.code == "not-a-number"
    assert caught.value.values == {"where": "file.json:3", "value": "x"}


def test_a_command_that_fails_says_its_error_as_json(windtunnel, tmp_path):
    code, out, err = windtunnel("plan", tmp_path / "none.yaml", "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert f"error: {error['message']}" in err
    assert "unspecified" not in err
