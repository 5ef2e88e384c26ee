"""The flat public namespace: every name is there, is lazy, and says what it is."""

import inspect
import subprocess
import sys

import pytest

import windtunnel


@pytest.mark.parametrize("name", sorted(windtunnel._ROOM_OF))
def test_a_public_name_has_a_docstring_and_types(name):
    public = getattr(windtunnel, name)
    assert public.__name__ == name
    text = inspect.getdoc(public)
    assert text
    if inspect.isfunction(public):
        assert all(each.annotation is not each.empty for each in _parameters(public))


def test_all_and_the_rooms_name_the_same():
    assert set(windtunnel.__all__) == {*windtunnel._ROOM_OF, "__version__"}
    assert set(windtunnel.__all__) <= set(dir(windtunnel))


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = windtunnel.fits


def test_the_import_loads_nothing_and_laws_load_numpy_alone():
    code = (
        "import sys, windtunnel; assert 'numpy' not in sys.modules; windtunnel.fit; "
        "heavy = {'torch', 'scipy', 'pandas', 'pydantic', 'ray', 'mlflow', 'matplotlib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _parameters(function):
    return inspect.signature(function).parameters.values()
