"""The command line in this process, tables, a study."""

import pytest
from large_runs import TABLE, fill

from windtunnel.runs.study import open_study


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "large.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def finished(study_file):
    """A finished study of four sizes; its data is prepared."""
    path = study_file(
        sizes="[16x1, 16x2, 32x1, 32x2]", horizons="[110 steps, 140 steps, 180 steps, 240 steps]"
    )
    fill(open_study(path, prepared=True))
    return path
