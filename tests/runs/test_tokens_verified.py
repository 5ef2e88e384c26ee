"""Prepared tokens that are not what was written: refused before anything trains, and made again."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from windtunnel.cli import main
from windtunnel.data import digests as digests_module
from windtunnel.data.artifacts import digest_of
from windtunnel.data.digests import Digests
from windtunnel.errors import DataError
from windtunnel.runs.study import open_study


@pytest.fixture
def prepared(study_file, tmp_path, words):
    extra = tmp_path / "extra.txt"
    extra.write_text(words.read_text()[:4000])
    own = tmp_path / "own.jsonl"
    own.write_text(words.read_text())
    file = study_file(
        text=own, replace=("fraction: 0.1", f"fraction: 0.1, extra: [{{path: {extra}}}]")
    )
    return open_study(file, prepared=True)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zero_a_stretch(path):
    data = bytearray(path.read_bytes())
    data[10 : len(data) // 2] = bytes(len(data) // 2 - 10)
    path.write_bytes(data)


def truncate(path):
    os.truncate(path, path.stat().st_size - 2)


def empty(path):
    path.write_bytes(b"")


def flip_a_bit_and_keep_its_time(path):
    times = path.stat()
    flip_a_bit(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGE = [flip_a_bit, zero_a_stretch, truncate, empty, flip_a_bit_and_keep_its_time, os.unlink]


@pytest.mark.parametrize("which", ["train.bin", "validation.bin", "extra"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_tokens_are_refused_and_made_again(prepared, damage, which, capsys, monkeypatch):
    folder = prepared.dataset.sources[0].folder
    path = folder / which
    if which == "extra":
        folder = prepared.extra_validation[0].folder
        path = folder / "validation.bin"
    whole = path.read_bytes()
    damage(path)
    monkeypatch.setattr(sys, "argv", ["windtunnel", "sweep", str(prepared.file)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert str(path) in said
    assert f"delete {folder}" in said
    assert "Traceback" not in said
    assert prepared.store.begun() == set()
    shutil.rmtree(folder)
    again = open_study(prepared.file, prepared=True)
    assert path.read_bytes() == whole
    assert again.plan == prepared.plan


def test_ids_beyond_the_vocabulary_are_refused(prepared):
    """Also where the manifest was written anew around them."""
    folder = prepared.dataset.sources[0].folder
    ids = np.fromfile(folder / "train.bin", "<u2")
    ids[3] = 40_000
    ids.tofile(folder / "train.bin")
    with pytest.raises(DataError, match=r"train\.bin: damaged: it holds the id 40000") as refused:
        open_study(prepared.file, prepared=True)
    assert f"delete {folder}" in str(refused.value)


def test_an_edited_manifest_is_refused_by_a_sweep(prepared):
    """The bytes behind the tokens decide every loss per byte, and nothing else tells them."""
    path = prepared.dataset.sources[0].folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["validation"]["bytes"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json: damaged: its digest"):
        open_study(prepared.file, prepared=True)
    del manifest["digest"]  # as those of before, which nothing tells from it
    path.write_text(json.dumps(manifest))
    open_study(prepared.file, prepared=True)


def test_another_stream_than_the_pinned_one_is_refused(prepared):
    path = prepared.dataset.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["vocab_size"] += 1
    manifest["digest"] = digest_of({k: v for k, v in manifest.items() if k != "digest"})
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError) as refused:
        open_study(prepared.file)
    assert refused.value.code == "other-data"
    assert refused.value.values["locked"] == prepared.dataset.fingerprint


@pytest.mark.parametrize("which", ["dataset", "source", "both"])
def test_folders_that_are_gone_are_made_again(prepared, which):
    folders = {"dataset": prepared.dataset.folder, "source": prepared.dataset.sources[0].folder}
    for name, folder in folders.items():
        if which in {name, "both"}:
            shutil.rmtree(folder)
    assert open_study(prepared.file, prepared=True).plan == prepared.plan


def test_other_sources_are_not_taken_for_those_that_were_pinned(prepared):
    own = prepared.file.parent / "own.jsonl"
    own.write_text(own.read_text().replace("a", "b", 1))
    shutil.rmtree(prepared.dataset.sources[0].folder)
    pin = prepared.folder / "data.json"
    before = pin.read_bytes()
    with pytest.raises(DataError) as refused:
        open_study(prepared.file, prepared=True)
    assert refused.value.code == "other-data"
    assert refused.value.values["file"] == pin
    assert pin.read_bytes() == before


def test_what_is_unchanged_is_read_once(prepared, monkeypatch):
    monkeypatch.setattr(digests_module, "_WORTH_BYTES", 0)
    monkeypatch.setattr(digests_module, "_SETTLED_NS", 0)
    seen, hashed = [], Digests._hash

    def counted(self, path, *rest):
        seen.append(path)
        return hashed(self, path, *rest)

    def tokens():
        return [path.name for path in seen if path.suffix == ".bin"]

    monkeypatch.setattr(Digests, "_hash", counted)
    open_study(prepared.file, prepared=True)
    assert sorted(tokens()) == ["train.bin", "train.bin", "validation.bin", "validation.bin"]
    seen.clear()
    open_study(prepared.file, prepared=True)
    open_study(prepared.file)
    assert tokens() == []
    flip_a_bit(prepared.dataset.sources[0].folder / "validation.bin")
    with pytest.raises(DataError):
        open_study(prepared.file, prepared=True)
    assert tokens() == ["validation.bin"]
