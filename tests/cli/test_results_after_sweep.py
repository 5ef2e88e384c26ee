"""What is written after a sweep has ended replaces no outcome, and loses nothing."""

import pytest


@pytest.fixture
def swept(windtunnel, study_file):
    file = study_file(sizes="[16x1]", horizons="[110 steps]")
    assert windtunnel("sweep", file, "--engine", "local")[0] == 0
    return file


@pytest.mark.medium
def test_a_page_that_cannot_be_written_is_exit_3(windtunnel, swept, tmp_path):
    page = tmp_path / "store" / "studies" / "small" / "report.html"
    page.unlink()
    page.mkdir()
    code, output, error = windtunnel("sweep", swept, "--engine", "local")
    assert code == 3, error
    assert str(page) in output
    assert "2 finished" in output


@pytest.mark.medium
def test_a_damaged_fit_of_an_earlier_sweep_is_written_again(windtunnel, swept, tmp_path):
    fit = tmp_path / "store" / "studies" / "small" / "fit.json"
    fit.write_text("{")
    code, output, error = windtunnel("sweep", swept, "--engine", "local")
    assert code in {0, 3}, error  # one size carries no law, so nothing writes over it
    assert "2 finished" in output
    assert "Traceback" not in output + error
