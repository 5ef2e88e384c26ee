"""Families of tests lie on PYTHONPATH, as a user's own would."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="module")
def _importable():
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(HERE))
    patch.setenv("PYTHONPATH", str(HERE))
    yield
    patch.undo()
