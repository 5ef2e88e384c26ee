"""Study files for the chaos suite."""

import os
from pathlib import Path

import pytest
from sweeps import RunningSweep

LOG = os.environ.get("CHAOS_LOG")

STUDIES = [Path(__file__).with_name("study.yaml")]


def pytest_terminal_summary(terminalreporter):
    if LOG and Path(LOG).exists():
        terminalreporter.section("where each kill landed")
        terminalreporter.write_line(Path(LOG).read_text())
        terminalreporter.write_line(f"also in {LOG}")


@pytest.fixture(params=STUDIES, ids=lambda path: path.stem)
def chaos_study(request, tmp_path, words):
    """A study to disturb, in a folder of its own."""
    path = tmp_path / "hparams.yaml"
    path.write_text(request.param.read_text().replace("{text}", str(words)))
    return path


@pytest.fixture
def chaos_log(tmp_path):
    """Where the landings are written: CHAOS_LOG, or a file of the test's own."""
    return Path(LOG or tmp_path / "landings.log")


@pytest.fixture(scope="session")
def known():
    """Results of undisturbed runs, by the name of what is tested on them."""
    return {}


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
    yield
    RunningSweep.end_all()
