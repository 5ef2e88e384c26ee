"""What a newcomer gets wrong is answered with the place and a good value."""

import re
import subprocess
import sys
from importlib import import_module
from typing import get_args, get_type_hints

import pytest

from windtunnel.cli.app import CHECKS, COMMANDS, FORECASTS, _load
from windtunnel.cli.options import GOOD

GROUPS = {(): COMMANDS, ("check",): CHECKS, ("forecast",): FORECASTS}
ALL = {
    (*group, name): _load(name, entry)
    for group, entries in GROUPS.items()
    for name, entry in entries.items()
}
TYPES = {
    (*group, name): get_type_hints(getattr(import_module(f"windtunnel.cli.{each[0]}"), each[1]))
    for group, entries in GROUPS.items()
    for name, each in entries.items()
}
NUMBERS = [
    (*command, f"--{name.replace('_', '-')}")
    for command, types in TYPES.items()
    for name, kind in types.items()
    if {int, float} & {kind, *get_args(kind)}
]


def on_one_line(text):
    """The text of Typer's box on one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_there_are_such_options():
    assert len(NUMBERS) > 30


@pytest.mark.parametrize("words", NUMBERS, ids=" ".join)
def test_a_number_that_is_none_is_answered_with_one(windtunnel, words):
    *command, option = words
    code, _, error = windtunnel(*command, "file.yaml", option, "x")
    assert code == 2
    assert option in error
    assert re.search(rf"for example ({option} )?[0-9.]+", on_one_line(error)), error


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_what_is_missing_is_answered_with_an_example(windtunnel, command):
    needed = [each for each in ALL[command].params if each.required]
    given = []
    for parameter in needed:
        code, _, error = windtunnel(*command, *given)
        assert code == 2
        assert "For example " in on_one_line(error), error
        option = next((each for each in parameter.opts if each.startswith("--")), None)
        given += ["x"] if option is None else [option, GOOD.get(option, "x")]


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "windtunnel"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("windtunnel ")
    done = subprocess.run(
        [*command, "plan", "none.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: none.yaml: no such file")


WRONG = {
    "colon": ("study mine\ndata: {sources: [a.txt]}\n", "study.yaml:2: ", "lack its colon"),
    "no space": ("study:mine\nrecipe: {lr: 1e-3}\n", "study.yaml:2: ", "colon"),
}


@pytest.mark.parametrize("name", WRONG)
def test_yaml_that_is_none_is_answered_with_what_to_write(windtunnel, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    text, place, fix = WRONG[name]
    (tmp_path / "study.yaml").write_text(text)
    code, _, error = windtunnel("plan", "study.yaml")
    assert code == 2
    assert place in error
    assert fix in error


def test_values_of_a_study_file_that_are_no_mapping_or_no_search(windtunnel, study_file):
    path = study_file()
    text = path.read_text()
    path.write_text(text + "target: 7B\n")
    assert "for example {params: 2.4B, tokens: 1T}" in windtunnel("plan", path)[2]
    path.write_text(text.replace("kind: scaling", "kind: scaling\n    recipe: {from: tune}"))
    _, _, error = windtunnel("plan", path)
    assert "[unknown-source-experiment]" in error
    assert "put an experiment of `kind: search`" in error


def test_a_folder_for_a_study_and_a_file_for_a_folder(windtunnel, study_file, tmp_path):
    path = study_file()
    _, _, error = windtunnel("plan", path.parent)
    assert f"such as {path}" in error
    (tmp_path / "empty").mkdir()
    assert "windtunnel init" in windtunnel("plan", tmp_path / "empty")[2]
    taken = tmp_path / "taken.csv"
    taken.write_text("a,b\n")
    _, _, error = windtunnel("records", path, "--out", taken)
    assert "[not-a-folder]" in error
    assert "taken-files/" in error
    assert taken.read_text() == "a,b\n"


def test_records_of_nothing_are_refused(windtunnel, study_file, tmp_path):
    code, _, error = windtunnel("records", study_file(), "--out", tmp_path / "records")
    assert code == 2
    assert "[no-runs]" in error
    assert not (tmp_path / "records").exists()


def test_files_that_are_not_there(windtunnel, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"did you mean {table.name}?" in windtunnel("fit", "larg.csv")[2]
    assert "give the path of a table (.csv" in windtunnel("fit", "runs-of-mine.csv")[2]
    _, _, error = windtunnel("init", "mine.yaml", "--data", "nowhere/")
    assert "--data nowhere/: no such file or folder" in error
    assert not (tmp_path / "mine.yaml").exists()


def test_inputs_of_a_law_are_named_as_options(windtunnel, csv, tmp_path):
    rows = [(n, d, 1.5 + 400 / n**0.34 + 400 / d**0.28) for n in (1e6, 3e6, 9e6)
            for d in (2e7, 6e7, 2e8)]  # fmt: skip
    path = csv("params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in rows))
    fitted = tmp_path / "fit.json"
    options = ("--law", "chinchilla", "--bootstrap", "0", "--out", fitted)
    assert windtunnel("fit", path, *options)[0] == 0
    assert "add --params 2.4B --tokens 1T" in windtunnel("predict", fitted)[2]
    assert "--flops 1e23" in windtunnel("optimum", fitted)[2]
