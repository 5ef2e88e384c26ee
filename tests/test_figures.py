"""Every figure is drawn again from the committed records, by its script."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "analysis" / "figures").glob("[a-z]*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
@pytest.mark.medium
def test_a_script_draws_its_figure(script, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(script.parent))
    import _drawing

    monkeypatch.setattr(_drawing, "FIGURES", tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    (drawn,) = tmp_path.glob("*.png")
    assert drawn.stat().st_size > 5000
    assert (ROOT / "docs" / "figures" / drawn.name).exists()
    assert capsys.readouterr().out.strip() == drawn.name
    sys.modules.pop("_drawing", None)
