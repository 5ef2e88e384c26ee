"""Every figure of the documentation is drawn again from the committed records."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
loaded = importlib.util.spec_from_file_location("figures", ROOT / "analysis" / "figures.py")
figures = importlib.util.module_from_spec(loaded)
loaded.loader.exec_module(figures)


@pytest.mark.parametrize("name", figures.NAMES)
@pytest.mark.medium
def test_a_figure_is_drawn(name, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", tmp_path)
    drawn = figures.draw(name)
    assert drawn == tmp_path / f"{name}.png"
    assert drawn.stat().st_size > 5000
    assert (ROOT / "docs" / "figures" / drawn.name).exists()
