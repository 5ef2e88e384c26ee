"""What an error or a warning of a law says: its code, and some of its values."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from windtunnel.errors import Coded, Diagnostic, FitError


@contextmanager
def refuses(code: str, kind: type[Coded] = FitError, **values: object) -> Iterator[None]:
    """The body raises `kind` with this code, and these among its values."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code
    assert some_of(caught.value, values) == values


def some_of(coded: Coded | Diagnostic, names: object) -> dict[str, object]:
    """The values of these names."""
    return {name: coded.values.get(name) for name in names}
