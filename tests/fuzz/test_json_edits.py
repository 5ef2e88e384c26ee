"""Edited JSON through every command that reads it back: harmless, or an error that names the file.

Of files of JSON lines the first line is edited. FUZZ_CASES and FUZZ_SEED as for the whole suite.
"""

import json
import os
from pathlib import Path

import edited_files
import pytest
from json_edits import edits, structural, texts

SHARE = float(os.environ.get("FUZZ_SHARE_OF_JSON", "0.5"))
"""Of FUZZ_CASES, for each of the two tests."""


@pytest.fixture(scope="session")
def fits(tmp_path_factory):
    return edited_files.fits(tmp_path_factory.mktemp("fits"))


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    return edited_files.commands(edited_files.store(tmp_path_factory.mktemp("stored")))


@pytest.mark.medium
def test_fits_of_every_law(fits, cases, command):
    check_edits("json of fits", fits, cases, command)


@pytest.mark.medium
def test_files_of_a_store(stored, cases, command):
    check_edits("json of a store", stored, cases, command)


@pytest.mark.parametrize("law", [*edited_files.tables(), "mixture"])
@pytest.mark.medium
def test_fits_as_written_still_read(fits, command, law):
    (commands,) = (each for path, each in fits.items() if path.stem == law)
    for arguments in commands:
        assert command(law, *arguments)[0] == 0


@pytest.mark.medium
def test_a_store_as_written_still_reads(stored, command):
    for arguments in {tuple(each) for commands in stored.values() for each in commands}:
        assert command("as written", *arguments)[0] in {0, 3}


@pytest.mark.medium
def test_folders_in_place_of_files(fits, stored, command):
    for path, commands in {**fits, **stored}.items():
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        try:
            check(path, "a folder of that name", commands[0], command)
        finally:
            path.rmdir()
            path.write_bytes(content)


def test_every_way_of_editing_is_there():
    document = {"a": [1, {"b": None}], "c": "text"}
    found = dict(structural(document))
    assert found["a.1.b removed"] == {"a": [1, {}], "c": "text"}
    assert found["c renamed"] == {"a": [1, {"b": None}], "c_": "text"}
    assert found["a.0 twice"] == {"a": [1, 1, {"b": None}], "c": "text"}
    assert document == {"a": [1, {"b": None}], "c": "text"}
    assert dict(texts("{}"))["twice"] == b"{}{}"


def check_edits(name, files, cases, command):
    paths = list(files)
    for rng in cases(name, SHARE):
        path = rng.choice(paths)
        content = path.read_bytes()
        first, *rest = content.splitlines(keepends=True) if path.suffix == ".jsonl" else [content]
        what, edited = next(edits(first.decode(), rng))
        if path.suffix == ".jsonl":
            edited = b"".join([edited.replace(b"\n", b""), b"\n", *rest])
        path.write_bytes(edited)
        try:
            check(path, what, rng.choice(files[path]), command)
        finally:
            path.write_bytes(content)


def check(path: Path, what: str, arguments: list[str], command) -> None:
    code, _, said = command(f"{path.name}: {what}", *arguments)
    assert code in {0, 2, 3}, (what, said)
    if code == 2:
        assert str(path) in said or json.dumps(str(path)) in said, (what, said)
