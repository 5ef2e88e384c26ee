import planted
import pytest

from windtunnel.errors import StoreError
from windtunnel.laws import Fit
from windtunnel.report import write_report

pytestmark = pytest.mark.usefixtures("undrawn")


def test_page_and_fit_lie_in_the_studys_folder(full, inputs):
    path = write_report(full)
    assert path == full.folder / "report.html"
    assert path.read_text().startswith("<!doctype html>")
    kept = Fit.from_json((full.folder / "fit.json").read_text())
    assert kept.coefficients == inputs.laws[0].fit.coefficients
    ours, theirs = (fit.optimum(1e15).ratio for fit in (inputs.laws[0].fit, kept))
    assert (theirs.value, theirs.low, theirs.high) == pytest.approx(
        (ours.value, ours.low, ours.high), rel=1e-6
    )
    assert not list(full.folder.glob(".*"))


def test_out_may_be_anywhere_and_is_the_page_alone(full, tmp_path):
    path = write_report(full, tmp_path / "deep" / "page.html")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["page.html"]


def test_a_folder_that_is_none_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "page.html"
    with pytest.raises(StoreError) as caught:
        write_report(planted.make_study(tmp_path), path)
    assert (caught.value.code, caught.value.values["path"]) == ("cannot-write", path)
