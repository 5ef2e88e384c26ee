"""A table read from a file, its warnings, and errors by code: for the tests of `read_table`."""

import pytest

from windtunnel.errors import ConfigError
from windtunnel.tables.read import read_table

NEEDS = ("params", "tokens", "loss")
HEAD = "params,tokens,loss,trunk,family\n"
ROWS = [
    "1e6,2e7,4.5,a,dense",
    "1e6,4e7,4.2,a,dense",
    "3e6,6e7,3.9,b,moe",
    "3e6,1.2e8,3.6,b,moe",
]


def read(path, *, columns=None, needs=NEEDS, **options):
    found = read_table(path, columns=columns or {}, needs=needs, **options)
    return found.table, found.diagnostics


def refused(path, **options):
    """The error with which a table is refused."""
    with pytest.raises(ConfigError) as caught:
        read(path, **options)
    return caught.value


def values(error, *names):
    """The error's code, and some of its values."""
    return error.code, *(error.values[name] for name in names)


def codes(diagnostics):
    return [diagnostic.code for diagnostic in diagnostics]
