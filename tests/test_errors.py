"""The boundary behind which no foreign exception passes."""

import json

import pytest

from windtunnel.errors import ConfigError, DataError, boundary, cause_of


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
