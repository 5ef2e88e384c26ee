"""Each promise of docs/faults.md names the tests that would break with it, and they are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"


def promises():
    """(what happens, the last cell) of each row of the first table."""
    table = PAGE.read_text().split("\n\n")[2].splitlines()
    assert table[0].startswith("| what happens |")
    return [(cells[1].strip(), cells[-2]) for cells in (row.split("|") for row in table[2:])]


def test_each_promise_names_tests_that_are_there():
    found = promises()
    assert len(found) > 25
    for what, cell in found:
        named = re.findall(r"`(\w+/test_\w+\.py)`", cell)
        assert named, what
        for name in named:
            assert "\ndef test_" in (TESTS / name).read_text(), name
