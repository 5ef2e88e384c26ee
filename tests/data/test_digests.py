"""Which content a prepared folder is of: every byte counts, and nothing unchanged is read again."""

import json
import os
import time

import pytest

from windtunnel.data import DataSpec, Source, cache_key_hash, prepare
from windtunnel.data import digests as digests_module
from windtunnel.data.digests import Digests


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """A file that was written long ago, where even a small one is worth remembering."""
    monkeypatch.setattr(digests_module, "_WORTH_BYTES", 0)
    monkeypatch.setattr(digests_module, "_SETTLED_NS", 0)
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\n" * 100_000)
    return path


def reads(monkeypatch):
    """Counts the files that are hashed."""
    seen = []
    hashed = Digests._hash
    monkeypatch.setattr(
        Digests, "_hash", lambda self, path, tell: (seen.append(path), hashed(self, path, tell))[1]
    )
    return seen


def test_an_edit_of_equal_length_anywhere_is_another_recipe(tmp_path, prose):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(prose(seed, words=100) for seed in range(600)))
    spec = DataSpec(sources=(Source(name="a", path=str(path)),))
    data, times = bytearray(path.read_bytes()), path.stat()
    hashes = {cache_key_hash(spec)}
    for place in range(0, len(data), len(data) // 9):
        data[place] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        hashes.add(cache_key_hash(spec))
    assert len(hashes) == 11


def test_the_tokens_of_an_edited_file_are_made_again(tmp_path, prose):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(prose(seed, words=100) for seed in range(900)))
    spec = DataSpec(sources=(Source(name="a", path=str(path)),))
    before = prepare(spec, root=tmp_path / "data")
    half = path.read_text()
    path.write_text(half[: len(half) // 3] + half[len(half) // 3 :].replace("a", "X"))
    after = prepare(spec, root=tmp_path / "data")
    held = [
        (after.sources[0].folder / f"{side}.bin").read_bytes() for side in ("train", "validation")
    ]
    assert sum(each.count(b"X") for each in held) == path.read_text().count("X") > 1000
    assert after.fingerprint != before.fingerprint


def test_what_is_unchanged_is_not_read_again(settled, tmp_path, monkeypatch):
    seen = reads(monkeypatch)
    one = Digests(tmp_path)
    digest = one.of(settled)
    one.save()
    assert Digests(tmp_path).of(settled) == one.of(settled) == digest
    assert seen == [settled]
    settled.write_bytes(settled.read_bytes().replace(b"f", b"F"))
    assert Digests(tmp_path).of(settled) != digest
    assert len(seen) == 2


@pytest.mark.parametrize(
    "damage",
    [b"", b"\0\xff", b"[]", b"3", b'{"x": 3}', b'{"x": [1, 2, 3, 4, 5, "short"]}', b"[" * 99_999],
)
def test_a_damaged_list_is_made_again(settled, tmp_path, damage):
    file = tmp_path / digests_module.NAME
    file.write_bytes(damage)
    again = Digests(tmp_path)
    digest = again.of(settled)
    again.save()
    assert json.loads(file.read_text())[str(settled)][5] == digest


def test_a_file_that_was_just_written_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(digests_module, "_WORTH_BYTES", 0)
    path = tmp_path / "a.txt"
    path.write_text("x")
    held = Digests(tmp_path)
    held.of(path)
    held.save()
    assert not (tmp_path / digests_module.NAME).exists()


def test_a_store_that_cannot_be_written_is_no_harm(settled, tmp_path):
    held = Digests(tmp_path / "missing")
    held.of(settled)
    held.save()
    assert not (tmp_path / "missing").exists()


def test_a_small_corpus_leaves_no_list(tmp_path, corpus):
    os.utime(corpus, (1, 1))
    prepare(DataSpec(sources=(Source(name="a", path=str(corpus)),)), root=tmp_path / "data")
    assert all(path.is_dir() for path in (tmp_path / "data").iterdir())


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, prose, refuses):
    path = tmp_path / "a.jsonl"
    lines = "".join(json.dumps({"text": prose(seed, words=10)}) + "\n" for seed in range(600))
    path.write_text(lines)
    spec = DataSpec(sources=(Source(name="a", path=str(path)),))

    def meddle(stage, done, total):
        if "reading" in stage:
            path.write_text(lines.replace("a", "b"))
            os.utime(path, (time.time() + done, time.time() + done))

    with refuses("changed-while-read", path=path):
        prepare(spec, root=tmp_path / "data", progress=meddle)
    assert list((tmp_path / "data").iterdir()) == []
    prepare(spec, root=tmp_path / "data")
