import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from windtunnel.data import Dataset, DataSpec, Source, cache_key_hash, prepare, prepare_validation
from windtunnel.data.artifacts import build_once
from windtunnel.errors import ConfigError, DataError


def test_reopening_gives_the_same_dataset_and_builds_nothing(text_spec, tmp_path):
    stages = []
    one = prepare(text_spec, root=tmp_path / "data", progress=lambda *stage: stages.append(stage))
    assert stages[-1] == ("text: writing tokens", one.sources[0].tokens, None)
    stages.clear()
    two = prepare(text_spec, root=tmp_path / "data", progress=lambda *stage: stages.append(stage))
    assert not stages
    assert one == two == Dataset.open(one.folder)
    assert one.folder.name == cache_key_hash(text_spec)
    one.verify()


def test_nothing_is_lost_between_text_and_tokens(text_spec, corpus, tmp_path):
    dataset = prepare(text_spec, root=tmp_path)
    files = [
        np.fromfile(dataset.sources[0].folder / f"{side}.bin", "<u2").astype("u1").tobytes()
        for side in ("train", "validation")
    ]
    documents = [document for data in files for document in data.split(b"\0")[:-1]]
    assert sorted(documents) == sorted(path.read_bytes() for path in corpus.iterdir())
    source, held_out = dataset.sources[0], dataset.validation[0]
    assert source.documents + held_out.documents == 200
    assert 8 <= held_out.documents <= 35  # 20 expected, binomial
    assert source.bytes == source.tokens == len(files[0])
    assert dataset.bytes_per_token == held_out.bytes_per_token == 1.0
    assert held_out.contamination < 0.01


def test_the_split_follows_the_document_and_not_its_place(text_spec, corpus, tmp_path):
    before = prepare(text_spec, root=tmp_path / "one")
    for path in list(corpus.iterdir()):
        path.rename(path.with_name(f"{999 - int(path.stem)}.txt"))
    after = prepare(text_spec, root=tmp_path / "two")
    one, two = (
        np.fromfile(dataset.sources[0].folder / "validation.bin", "<u2").astype("u1").tobytes()
        for dataset in (before, after)
    )
    assert set(one.split(b"\0")) == set(two.split(b"\0"))


def test_a_copy_elsewhere_is_the_same_and_an_edit_is_not(text_spec, corpus, tmp_path):
    before = prepare(text_spec, root=tmp_path / "one")
    copy = shutil.copytree(corpus, tmp_path / "copy")
    moved = replace(text_spec, sources=(Source(name="text", path=str(copy)),))
    assert cache_key_hash(moved) == cache_key_hash(text_spec)
    file = copy / "000.txt"
    file.write_text(file.read_text().swapcase())
    assert cache_key_hash(moved) != cache_key_hash(text_spec)
    assert prepare(moved, root=tmp_path / "one").fingerprint != before.fingerprint


@pytest.mark.medium
def test_the_fingerprint_is_of_the_train_stream_only(corpus, tmp_path, prose):
    one = tmp_path / "one.jsonl"
    one.write_text("".join(json.dumps({"text": prose(i, words=30)}) + "\n" for i in range(50)))

    def fingerprint(*weights, names=("x", "y")):
        sources = (
            Source(name=names[0], path=str(corpus), weight=weights[0]),
            Source(name=names[1], path=str(one), weight=weights[1]),
        )
        spec = DataSpec(sources=sources, validation_fraction=0.1)
        turned = replace(spec, sources=sources[::-1])
        assert cache_key_hash(spec) == cache_key_hash(turned)
        return prepare(spec, root=tmp_path / "data").fingerprint

    base = fingerprint(1.0, 1.0)
    assert fingerprint(2.0, 2.0) == base
    assert fingerprint(1.0, 2.0) != base
    assert fingerprint(1.0, 1.0, names=("x", "z")) != base
    # Two sources were built once; each set of names and weights only adds a manifest.
    kinds = [
        json.loads(path.read_text())["kind"] for path in (tmp_path / "data").glob("*/manifest.json")
    ]
    assert sorted(kinds) == ["dataset"] * 4 + ["source"] * 2


def test_fingerprint_is_pinned(tmp_path):
    # A change here silently re-ids every trunk: raise FORMAT instead.
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"paragraph {i} of a pinned text" for i in range(4000)))
    dataset = prepare(DataSpec(sources=(Source(name="a", path=str(path)),)), root=tmp_path)
    assert dataset.fingerprint == PINNED


PINNED = "8e933e204e8b70cc"


def test_damage_is_detected(text_spec, tmp_path, refuses):
    dataset = prepare(text_spec, root=tmp_path)
    train = dataset.sources[0].folder / "train.bin"
    data = bytearray(train.read_bytes())
    data[100] ^= 1
    train.write_bytes(data)
    Dataset.open(dataset.folder)
    with refuses("damaged", path=train):
        dataset.verify()
    train.write_bytes(data[:-2])
    with refuses("damaged", path=train, bytes=len(data) - 2, expected=len(data)):
        Dataset.open(dataset.folder)
    train.unlink()
    with refuses("damaged", path=train, bytes=0):
        Dataset.open(dataset.folder)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "damaged"),
        ("{}", "wrong-format"),
        ('{"kind": "dataset", "format": 99}', "later-version"),
    ],
)
def test_a_damaged_manifest_is_refused(text_spec, tmp_path, refuses, text, code):
    dataset = prepare(text_spec, root=tmp_path)
    (dataset.folder / "manifest.json").write_text(text)
    with refuses(code):
        Dataset.open(dataset.folder)
    with refuses("missing-file", path=tmp_path / "elsewhere" / "manifest.json"):
        Dataset.open(tmp_path / "elsewhere")


def test_a_failed_build_leaves_nothing(tmp_path, refuses):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("fine")
    (tmp_path / "in" / "b.txt").write_bytes(b"\xff")
    spec = DataSpec(sources=(Source(name="a", path=str(tmp_path / "in")),))
    with refuses("not-utf8", byte=0):
        prepare(spec, root=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.medium
def test_two_processes_prepare_at_once(text_spec, tmp_path):
    code = (
        "import sys; from pathlib import Path; from windtunnel.data import *;"
        f"source = Source(name='text', path={text_spec.sources[0].path!r});"
        "spec = DataSpec(sources=(source,), validation_fraction=0.1);"
        "print('ready', flush=True); sys.stdin.readline();"
        f"print(prepare(spec, root=Path({str(tmp_path / 'data')!r})).fingerprint)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    fingerprints = {child.communicate(timeout=60)[0].strip() for child in children}
    assert fingerprints == {prepare(text_spec, root=tmp_path / "data").fingerprint}
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_no_validation_when_none_is_asked_for(text_spec, tmp_path):
    dataset = prepare(replace(text_spec, validation_fraction=0), root=tmp_path)
    assert dataset.validation == ()
    assert dataset.sources[0].documents == 200
    assert dataset.warnings == ()


# --- validation rows and other tokenizers ---------------------------------------------------------


def test_validation_rows_are_fixed_nested_and_capped(text_spec, tmp_path, refuses):
    held_out = prepare(text_spec, root=tmp_path).validation[0]
    some, more = held_out.rows(16, 100), held_out.rows(16, 1000)
    assert some.shape == (7, 17)  # ceil(100 / 16)
    assert np.array_equal(some, more[:7])
    all_rows = held_out.rows(16, 10**9)
    assert len(all_rows) == (held_out.tokens - 1) // 16
    tokens = np.fromfile(held_out.folder / "validation.bin", "<u2")
    assert {row.tobytes() for row in all_rows} == {
        tokens[i : i + 17].astype("i8").tobytes() for i in range(0, len(tokens) - 16, 16)
    }
    with refuses("too-few-tokens", validation_set="text", context=10**6):
        held_out.rows(10**6, 1)


@pytest.fixture
def tokenizer_json(tmp_path, prose):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([prose(i, words=100) for i in range(50)], trainer)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_bytes_are_counted_behind_another_tokenizer(text_spec, tokenizer_json, tmp_path):
    from tokenizers import Tokenizer

    spec = replace(text_spec, tokenizer=str(tokenizer_json))
    dataset, plain = prepare(spec, root=tmp_path), prepare(text_spec, root=tmp_path)
    assert dataset.vocab_size == 400
    held_out = dataset.validation[0]
    # The same documents stand behind the tokens, so nats per byte compare.
    assert held_out.bytes == plain.validation[0].bytes
    assert held_out.bytes_per_token == held_out.bytes / held_out.tokens > 1.5
    assert held_out.contamination == plain.validation[0].contamination
    ids = np.fromfile(held_out.folder / "validation.bin", "<u2")
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    end = tokenizer.token_to_id("<|endoftext|>")
    assert (ids == end).sum() == held_out.documents
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    assert len(text.encode()) == held_out.bytes - held_out.documents
    (extra,) = prepare_validation(
        text_spec.sources[0], root=tmp_path, tokenizer=str(tokenizer_json)
    )
    assert extra.bytes == plain.sources[0].bytes + plain.validation[0].bytes


def test_tokenizers_that_cannot_be_used_are_refused(text_spec, tokenizer_json, tmp_path):
    def fails(error, match, **changes):
        with pytest.raises(error, match=match):
            prepare(replace(text_spec, **changes), root=tmp_path)

    path = str(tokenizer_json)
    fails(DataError, "no token '</x>' to end a document", tokenizer=path, end_of_text="</x>")
    fails(DataError, "cannot be read", tokenizer=str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    fails(DataError, "not a tokenizer.json", tokenizer=str(tmp_path / "bad.json"))
    both = r"vocab_size = 300, and the tokenizer .*tokenizer\.json has 400 tokens"
    fails(ConfigError, both, tokenizer=path, vocab_size=300)
    fails(ConfigError, "vocab_size = 100, and the tokenizer bytes has 256", vocab_size=100)


def test_a_folder_counts_only_once_its_files_and_its_name_are_on_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle))[1]
    )

    def write(unfinished):
        (unfinished / "a.bin").write_bytes(b"a")
        assert not (tmp_path / "whole").exists()
        return {"kind": "source"}

    build_once(tmp_path / "whole", write)
    paths = [*(tmp_path / "whole").iterdir(), tmp_path / "whole", tmp_path]
    assert {path.stat().st_ino for path in paths} == set(synced)
    assert synced[-1] == tmp_path.stat().st_ino  # the name last


def test_a_disk_that_refuses_to_sync_leaves_no_folder(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        build_once(tmp_path / "whole", lambda unfinished: {"kind": "source"})
    assert list(tmp_path.iterdir()) == []
