"""Manifests that were edited: one error with the file and what to do, wherever they are read."""

import copy
import json
import random
import sys

import pytest

from windtunnel.cli import main
from windtunnel.data import Dataset, prepare
from windtunnel.errors import DataError
from windtunnel.runs.study import open_study


@pytest.fixture
def dataset(text_spec, tmp_path):
    return prepare(text_spec, root=tmp_path / "data")


def read_all(folder):
    """What plan, status and sweep read of prepared data."""
    dataset = Dataset.open(folder)
    accounts = [source.account for source in dataset.sources]
    accounts += [held_out.account for held_out in dataset.validation]
    for account in accounts:
        account.line()
        account.as_json()
    return dataset.fingerprint, dataset.diagnostics, dataset.bytes_per_token, dataset.row_counts(64)


def places(value, path=()):
    """Every place within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*path, key))


def edited(manifest, path, value):
    changed = copy.deepcopy(manifest)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("train", "tokens"), ...),
        (("train", "tokens"), "9"),
        (("train", "bytes"), ...),
        (("train", "mask_sha256"), "0" * 64),
        (("train", "documents"), 10**400),
        (("validation", "residue"), float("nan")),
        (("account", "files"), "x"),
        (("account", "left_out"), {"null": {"count": "a"}}),
        (("account", "left_out"), 5),
        (("account",), None),
        (("recipe",), []),
        (("recipe", "files"), [["a"]]),
        (("dtype",), "<u3"),
        (("vocab_size",), True),
    ],
)
def test_an_edited_manifest_of_a_source_is_named_with_what_to_do(dataset, refuses, path, value):
    file = dataset.sources[0].folder / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(edited(manifest, path, value)))
    with refuses("damaged", where=file) as caught:
        read_all(dataset.folder)
    assert f"delete {file.parent}" in str(caught.value)


@pytest.mark.parametrize("of", ["source", "dataset"])
@pytest.mark.medium
def test_no_edit_of_a_manifest_gives_another_error(dataset, of):
    folder = dataset.sources[0].folder if of == "source" else dataset.folder
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    values = [..., None, 5, -1, "x", [], {}, True, 1e308, [None], {"a": 1}, 10**30, "../x", "\0"]
    generator, refusals = random.Random(0), list[str]()
    for path in places(manifest):
        for value in generator.sample(values, 5):
            file.write_text(json.dumps(edited(manifest, path, value)))
            try:
                read_all(dataset.folder)
            except DataError as refused:
                refusals.append(str(refused))
    assert len(refusals) > 20
    assert all(str(folder) in said for said in refusals)
    file.write_text(json.dumps(manifest))
    assert read_all(dataset.folder)[0] == dataset.fingerprint


@pytest.mark.parametrize("command", ["plan", "status", "sweep"])
@pytest.mark.medium
def test_the_commands_name_the_file_and_the_fix(study_file, words, command, capsys, monkeypatch):
    file = study_file(text=words)
    folder = open_study(file, prepared=True).dataset.sources[0].folder
    manifest = json.loads((folder / "manifest.json").read_text())
    left_out = {"null": {"count": "a"}}
    changed = edited(manifest, ("account", "left_out"), left_out)
    (folder / "manifest.json").write_text(json.dumps(changed))
    monkeypatch.setattr(sys, "argv", ["windtunnel", command, str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"{folder / 'manifest.json'}: damaged: account.left_out.null.count" in said
    assert f"delete {folder}" in said
