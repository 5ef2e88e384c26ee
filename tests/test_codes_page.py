"""Codes of errors and warnings: each is literal in the source, and stands on docs/codes.md."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def codes_page():
    path = Path(__file__).resolve().parents[1] / "tools" / "codes_page.py"
    loaded = importlib.util.spec_from_file_location("codes_page", path)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(codes_page):
    return codes_page.survey()


def test_the_page_is_the_code(codes_page, found):
    assert codes_page.TARGET.read_text() == codes_page.page(found), "run `make schema`"


def test_every_error_has_a_literal_code(found):
    assert found.uncoded == [], "give each a code"


def test_a_planted_error_is_found(codes_page, monkeypatch, tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text(
        "class Own(ConfigError):\n"
        "    pass\n"
        "class ConfigError(Coded):\n"
        "    pass\n"
        "raise Own('bad-name', f'{place.name!r} and {1 + width:g}: no', name=name, width=2)\n"
        "raise Own('without a code')\n"
        "raise Own(problem.code, str(problem))\n"
    )
    monkeypatch.setattr(codes_page, "PACKAGE", tmp_path)
    found = codes_page.survey()
    (place,) = (each for each in found.places if each.room == "room")
    assert (place.code, place.kind, place.module) == ("bad-name", "error", "room/a")
    assert place.values == "`name`, `width`"
    assert place.message == "{name} and {1}: no"
    assert found.uncoded == [("room", "windtunnel/room/a.py:6")]
