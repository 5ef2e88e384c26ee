"""A command writes the files that it was told to write, and its own folder; nothing else."""

import csv
import os
import shutil

import pytest

MINE = "the user's own\n"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.medium
def test_a_report_elsewhere_is_the_page_alone(windtunnel, finished, tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    code, _, error = windtunnel(
        "fit", finished, "--fix", "E=0.5", "--bootstrap", "20", "--out", folder / "fit.json"
    )
    assert code == 0, error
    before = (folder / "fit.json").read_bytes()
    code, _, error = windtunnel("report", finished, "--out", folder / "page.html")
    assert code == 0, error
    assert (folder / "fit.json").read_bytes() == before
    assert sorted(each.name for each in folder.iterdir()) == ["fit.json", "page.html"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "{study}", "--out", "{study}"],
        ["runs", "{study}", "--out", "{study}"],
        ["fit", "{study}", "--out", "{study}"],
        ["fit", "{table}", "--out", "{table}"],
        ["fit", "{table}", "--out", "{link}"],
        ["fit", "{table}", "--law", "mixture", "--out", "{table}"],
    ],
)
def test_no_command_writes_over_what_it_reads(windtunnel, finished, table, tmp_path, arguments):
    link = tmp_path / "link.csv"
    link.symlink_to(table)
    before = finished.read_bytes(), table.read_bytes()
    code, _, error = windtunnel(
        *(each.format(study=finished, table=table, link=link) for each in arguments)
    )
    assert code == 2
    assert "[is-an-input]" in error
    assert (finished.read_bytes(), table.read_bytes()) == before
    assert link.is_symlink()


@pytest.mark.parametrize("command", ["report", "runs", "fit"])
@pytest.mark.parametrize("read", ["words", "base.yaml", "data.json", "plan.json", "new.json"])
def test_nothing_that_a_study_reads_or_keeps_is_written_over(
    windtunnel, finished, words, command, read
):
    """Its sources, what it extends, and its store, where no new file belongs either."""
    tmp_path = finished.parent
    (tmp_path / "base.yaml").write_text(finished.read_text())
    extending = tmp_path / "extending.yaml"
    extending.write_text("extends: base.yaml\n")
    own = tmp_path / "store" / "studies" / "small"
    (own / "plan.json").write_text("{}")
    out = {"words": words, "base.yaml": tmp_path / read}.get(read, own / read)
    before = out.read_bytes() if out.exists() else None
    code, _, error = windtunnel(command, extending, "--out", out)
    assert code == 2
    assert ("[is-an-input]" if read in {"words", "base.yaml"} else "[is-in-store]") in error
    assert (out.read_bytes() if out.exists() else None) == before


def test_no_file_is_added_to_what_a_study_trains_on(windtunnel, finished, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("text\n")
    study = tmp_path / "other.yaml"
    study.write_text(finished.read_text().replace("name: words}", f"name: words}}, {corpus}", 1))
    code, _, error = windtunnel("runs", study, "--out", corpus / "runs.csv")
    assert code == 2
    assert "[is-an-input]" in error
    assert [each.name for each in corpus.iterdir()] == ["a.txt"]


def test_a_home_that_is_not_there_is_one_error(windtunnel, finished, tmp_path):
    study = tmp_path / "other.yaml"
    study.write_text(finished.read_text().replace("store: store", "store: ~nosuchuser/store"))
    code, _, error = windtunnel("runs", study, "--out", tmp_path / "runs.csv")
    assert code == 2
    assert "there is no home for ~nosuchuser" in error


def test_records_leave_what_they_did_not_write(windtunnel, finished, tmp_path):
    folder = tmp_path / "records"
    assert windtunnel("records", finished, "--out", folder)[0] == 0
    (folder / "dynamics.csv").write_text(MINE)  # this study has none
    assert windtunnel("records", finished, "--out", folder)[0] == 0
    assert (folder / "dynamics.csv").read_text() == MINE
    moved = folder / "study.yaml"
    moved.write_text(finished.read_text().replace("store: store", f"store: {tmp_path}/store"))
    before = moved.read_bytes()
    code, _, error = windtunnel("records", moved, "--out", folder)
    assert code == 2
    assert str(moved) in error
    assert moved.read_bytes() == before


@pytest.mark.parametrize("command", ["report", "runs", "fit"])
def test_a_folder_is_no_file_to_write(windtunnel, finished, tmp_path, command):
    (tmp_path / "folder").mkdir()
    code, _, error = windtunnel(command, finished, "--out", tmp_path / "folder")
    assert code == 2
    assert str(tmp_path / "folder") in error
    assert not list((tmp_path / "folder").iterdir())


def test_records_go_over_records_alone(windtunnel, finished, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "study.yaml").write_text(MINE)
    code, _, error = windtunnel("records", finished, "--out", folder)
    assert code == 2
    assert str(folder / "study.yaml") in error
    assert [each.name for each in folder.iterdir()] == ["study.yaml"]
    assert (folder / "study.yaml").read_text() == MINE
    shutil.rmtree(folder)
    for _ in range(2):
        assert windtunnel("records", finished, "--out", folder)[0] == 0
    (folder / "runs.csv").unlink()  # half a folder, as a kill leaves one, is still records
    assert windtunnel("records", finished, "--out", folder)[0] == 0
    assert (folder / "runs.csv").exists()


def test_a_link_is_written_through_and_a_device_is_not_replaced(windtunnel, finished, tmp_path):
    target, link = tmp_path / "deep" / "runs.csv", tmp_path / "link.csv"
    target.parent.mkdir()
    link.symlink_to(target)
    assert windtunnel("runs", finished, "--out", link)[0] == 0
    assert link.is_symlink()
    assert target.read_text().startswith("segment,")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert windtunnel("runs", finished, "--out", pipe)[0] == 0
        assert os.read(reader, 8) == b"segment,"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_no_cell_of_a_csv_is_a_formula(windtunnel, finished, table, tmp_path):
    table.write_text(table.read_text().replace("big-0", "=1+1").replace("big-1", "@SUM(A1)"))
    options = ("--params", "N", "--tokens", "D", "--loss", "val_loss", "--decayed", "true")
    code, _, error = windtunnel("import-runs", finished, table, *options)
    assert code == 0, error
    assert windtunnel("runs", finished, "--out", tmp_path / "runs.csv")[0] == 0
    with (tmp_path / "runs.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert {"'=1+1", "'@SUM(A1)"} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in {"=", "@", "+"}]
