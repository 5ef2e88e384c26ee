"""A small Handoff, its reference train.py as a module, and the folder of any target."""

import importlib
from pathlib import Path
from types import ModuleType

import planted
import pytest
from handed import load_reference, planted_handoff

from windtunnel.export.handoff import Handoff
from windtunnel.runs.study import open_study


@pytest.fixture
def handoff() -> Handoff:
    return planted_handoff()


@pytest.fixture
def write_target(tmp_path: Path):
    """Write one target of a Handoff into a fresh folder, and say where."""

    def write(name: str, handoff: Handoff) -> Path:
        target = importlib.import_module(f"windtunnel.export.targets.{name}")
        folder = tmp_path / name
        folder.mkdir()
        target.write(handoff, folder)
        return folder

    return write


@pytest.fixture
def reference(handoff: Handoff, tmp_path: Path) -> ModuleType:
    return load_reference(handoff, tmp_path / "reference")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A planted study with its fit."""
    made = planted.make_study(tmp_path_factory.mktemp("planted"))
    planted.fill(made)
    planted.write_fit(made)
    return open_study(made.file)
