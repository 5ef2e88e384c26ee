"""The command line in this process, tables, a study."""

import sys

import pytest
from large_runs import TABLE, fill
from table_files import HEAD, ROWS

from windtunnel.cli import main
from windtunnel.trials.study import open_study


@pytest.fixture
def windtunnel(monkeypatch, capsys):
    """Run the command line in this process: exit code, output, errors; no traceback passes."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["windtunnel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


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


@pytest.fixture
def csv(tmp_path):
    """Write a table: its path."""

    def write(text, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def runs(csv):
    """A table of four runs."""
    return csv(HEAD + "\n".join(ROWS) + "\n")
