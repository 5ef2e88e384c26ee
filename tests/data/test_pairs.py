import gzip
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import zstandard

from windtunnel.data import (
    Dataset,
    DataSpec,
    Source,
    ValidationSet,
    cache_key_hash,
    prepare,
    prepare_validation,
)
from windtunnel.data.pairs import COUNTS, OPENS, Pair
from windtunnel.data.readers import text_documents, text_pairs
from windtunnel.errors import ConfigError, DataError

FIELDS = ("prompt", "completion")


def lines_of(pairs, fields=FIELDS):
    return "".join(json.dumps(dict(zip(fields, pair, strict=True))) + "\n" for pair in pairs)


@pytest.fixture
def sft(tmp_path, prose):
    """A function that writes pairs of random prose: a source of `count` of them."""

    def write(count=200, *, prompt=12, completion=6):
        path = tmp_path / f"{count}.jsonl"
        pairs = [
            (f"{prose(2 * i, words=prompt)}\n", prose(2 * i + 1, words=completion))
            for i in range(count)
        ]
        path.write_text(lines_of(pairs))
        return Source(name="sft", path=str(path), pairs=FIELDS)

    return write


def tokens_and_mask(folder, side, dtype="<u2"):
    return np.fromfile(folder / f"{side}.bin", dtype), np.fromfile(
        folder / f"{side}.mask.bin", "u1"
    )


def pairs_of(folder, side):
    """The pairs of a side of bytes, read back from its two files."""
    tokens, mask = tokens_and_mask(folder, side)
    starts = np.flatnonzero(mask & OPENS)
    found = []
    for first, last in zip(starts, [*starts[1:], len(mask)], strict=True):
        part, counts = tokens[first:last].astype("u1"), mask[first:last] & COUNTS
        assert part[-1] == 0
        prompt = int(len(counts) - counts.sum())
        assert counts[prompt:].all()
        found.append((part[:prompt].tobytes().decode(), part[prompt:-1].tobytes().decode()))
    return found


# --- reading --------------------------------------------------------------------------------------

PAIRS = [("1 + 1 =", " 2"), ("", "no prompt"), ("a\0b", "c\0d"), ("nothing", " \n"), ("ü", "é")]


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.jsonl", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.zst", zstandard.compress),
    ],
)
def test_pairs_are_read_from_files_and_folders(tmp_path, name, packed):
    (tmp_path / name).write_bytes(packed(lines_of(PAIRS, ("q", "a")).encode()))
    want = [Pair(b"1 + 1 =", b" 2"), Pair(b"", b"no prompt"), Pair(b"ab", b"cd")]
    want.append(Pair("ü".encode(), "é".encode()))
    for path in (tmp_path / name, tmp_path):
        assert list(text_pairs(Source(name="s", path=str(path), pairs=("q", "a")))) == want


def test_pairs_that_cannot_be_read_say_why(tmp_path, corpus, refuses):
    def fails(path, code, pairs=None, error=DataError, /, **values):
        with refuses(code, error, **values):
            prepare(
                DataSpec(sources=(Source(name="s", path=str(path), pairs=pairs),)),
                root=tmp_path / "data",
            )

    fails(corpus, "pairs-unsupported", ("p", "c"), source="s")
    np.save(tmp_path / "a.npy", np.arange(9))
    fails(tmp_path / "a.npy", "pairs-unsupported", ("p", "c"), path=tmp_path / "a.npy")
    path = tmp_path / "a.jsonl"
    path.write_text(lines_of([("x", "y")]))
    known = ["prompt", "completion"]
    fails(path, "unknown-column", where=f"{path}:1", column="text", known=known)
    fails(path, "unknown-column", ("prompt", "answer"), column="answer", known=known)
    fails(path, "too-few-documents", FIELDS, documents=1)
    path.write_text(lines_of([("x", "")]))
    with refuses("empty", field="completion", blank=1):
        prepare_validation(Source(name="s", path=str(path), pairs=FIELDS), root=tmp_path)
    fails("builtin:docs", "pairs-unsupported", FIELDS, ConfigError, path="builtin:docs")
    path.write_text(lines_of([("x", "y")], ("text", "z")))
    assert list(text_documents(Source(name="s", path=str(path)))) == [b"x"]


# --- what lies on the disk ------------------------------------------------------------------------


def test_no_pair_is_lost_and_each_is_masked(sft, tmp_path):
    source = sft()
    dataset = prepare(DataSpec(sources=(source,), validation_fraction=0.1), root=tmp_path)
    folder, held_out = dataset.sources[0].folder, dataset.validation[0]
    train, validation = (pairs_of(folder, side) for side in ("train", "validation"))
    want = [(pair.prompt.decode(), pair.completion.decode()) for pair in text_pairs(source)]
    assert sorted(train + validation) == sorted(want)
    assert (dataset.sources[0].documents, held_out.documents) == (len(train), len(validation))
    sizes = [len(p) + len(c) + 1 for p, c in train]
    assert dataset.sources[0].tokens == dataset.sources[0].bytes == sum(sizes)
    manifest = json.loads((folder / "manifest.json").read_text())
    for side in ("train", "validation"):
        mask = (folder / f"{side}.mask.bin").read_bytes()
        assert manifest[side]["mask_sha256"] == hashlib.sha256(mask).hexdigest()


def test_pairs_are_compared_as_wholes(tmp_path, prose):
    """A template is no copy, nor is another answer; another spacing is."""
    template = f"{prose(1, words=60)}\n\n"
    pairs = [
        (template + question, answer)
        for question, answer in [("a?", "yes"), ("a?", "no"), ("b?", "yes"), ("a? ", " yes")]
    ]
    (tmp_path / "a.jsonl").write_text(lines_of(pairs))
    source = Source(name="s", path=str(tmp_path / "a.jsonl"), pairs=FIELDS)
    dataset = prepare(DataSpec(sources=(source,)), root=tmp_path / "data")
    assert dataset.sources[0].documents_dropped == 1
    assert dataset.sources[0].documents + dataset.validation[0].documents == 3
    whole, _ = prepare_validation(source, root=tmp_path / "data")
    assert pairs_of(whole.folder, "validation") == pairs


def test_a_token_ends_where_the_prompt_does(tmp_path):
    from tokenizers import Tokenizer, models

    vocab = {"<eos>": 0, "a": 1, "b": 2, "ab": 3}
    tokenizer = tmp_path / "t.json"
    Tokenizer(models.BPE(vocab, [("a", "b")])).save(str(tokenizer))
    (tmp_path / "a.jsonl").write_text(lines_of([("aba", "bab"), ("", "ab"), ("b", "a")]))
    source = Source(name="s", path=str(tmp_path / "a.jsonl"), pairs=FIELDS)
    whole, conditional = prepare_validation(source, root=tmp_path, tokenizer=str(tokenizer))
    tokens, mask = tokens_and_mask(whole.folder, "validation")
    # Encoded as one, 'aba' + 'bab' would be ab, ab, ab.
    assert tokens.tolist() == [3, 1, 2, 3, 0, 3, 0, 2, 1, 0]
    assert mask.tolist() == [2, 0, 1, 1, 1, 3, 1, 2, 1, 1]
    assert (whole.tokens, whole.bytes) == (10, 6 + 2 + 2 + 3)
    assert (conditional.tokens, conditional.bytes) == (7, 3 + 2 + 1 + 3)


def test_a_damaged_mask_is_detected(sft, tmp_path, refuses):
    dataset = prepare(DataSpec(sources=(sft(),)), root=tmp_path)
    dataset.verify()
    for side in ("train", "validation"):
        mask = dataset.sources[0].folder / f"{side}.mask.bin"
        data = bytearray(mask.read_bytes())
        mask.write_bytes(bytes([*data[:-1], 0]))
        Dataset.open(dataset.folder)
        with refuses("damaged", path=mask):
            dataset.verify()
        mask.write_bytes(data[:-1])
        with refuses("damaged", path=mask, bytes=len(data) - 1, expected=len(data)):
            Dataset.open(dataset.folder)
        mask.write_bytes(data)


def test_a_pair_and_its_text_are_other_sources(tmp_path):
    records = [{"prompt": f"p{i}", "completion": f"c{i}", "text": f"p{i}c{i}"} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))

    def spec(**fields):
        source = Source(name="s", path=str(tmp_path / "a.jsonl"), **fields)
        return DataSpec(sources=(source,), validation_fraction=0)

    paired, turned, plain = spec(pairs=FIELDS), spec(pairs=FIELDS[::-1]), spec()
    assert len({cache_key_hash(each) for each in (paired, turned, plain)}) == 3
    one, other = (prepare(each, root=tmp_path / "data") for each in (paired, plain))
    # The same bytes, in rows that are cut elsewhere.
    assert one.sources[0].sha256 == other.sources[0].sha256
    assert one.fingerprint != other.fingerprint
    assert not list(other.sources[0].folder.glob("*.mask.bin"))


# --- validation sets ------------------------------------------------------------------------------


def test_pairs_have_a_set_of_all_text_and_one_of_completions(sft, corpus, tmp_path):
    sources = (replace(sft(), weight=0.0), Source(name="text", path=str(corpus)))
    dataset = prepare(DataSpec(sources=sources, validation_fraction=0.1), root=tmp_path)
    whole, conditional, text = dataset.validation
    assert [each.name for each in dataset.validation] == ["sft", "sft_conditional", "text"]
    assert [each.conditional for each in dataset.validation] == [False, True, False]
    pairs = pairs_of(whole.folder, "validation")
    answers = sum(len(completion) + 1 for _, completion in pairs)
    assert whole.tokens == answers + sum(len(prompt) for prompt, _ in pairs)
    assert (conditional.tokens, conditional.bytes, conditional.bytes_per_token) == (
        answers,
        answers,
        1.0,
    )
    content = hashlib.sha256((whole.folder / "validation.bin").read_bytes()).hexdigest()
    assert whole.fingerprint == content[:16] != conditional.fingerprint
    assert (whole.documents, whole.contamination) == (
        conditional.documents,
        conditional.contamination,
    )
    assert not text.paired
    # The rows are the same; what is marked is not.
    some, more = whole.rows(128, 700), whole.rows(128, 10**9)
    assert len(some) == 6  # ceil(700 / 128)
    assert np.array_equal(some, more[:6])
    only = conditional.rows(128, 10**9)
    assert np.array_equal(np.where(only < 0, ~only, only), np.where(more < 0, ~more, more))
    assert ((only < 0) >= (more < 0)).all()
    # No pair is longer than a row, so every completion is counted once.
    assert max(len(prompt) + len(completion) + 1 for prompt, completion in pairs) <= 129
    assert (only[:, 1:] >= 0).sum() == answers
    # All text is, but for the token that opens a row.
    assert (more[:, 1:] >= 0).sum() == whole.tokens - len(more)
    assert whole.tokens < 256_000
    assert sum("fewer than 256000" in line for line in dataset.warnings) == 2  # sft's once


def test_a_conditional_set_knows_where_prompts_end(tmp_path):
    def sets(name, *pairs):
        (tmp_path / f"{name}.jsonl").write_text(lines_of(pairs))
        source = Source(name="x", path=str(tmp_path / f"{name}.jsonl"), pairs=FIELDS)
        return prepare_validation(source, root=tmp_path / "data")

    (one, one_given), (other, other_given) = sets("a", ("ab", "c")), sets("b", ("a", "bc"))
    assert one.fingerprint == other.fingerprint
    assert one_given.fingerprint != other_given.fingerprint
    assert (one.name, one_given.name) == ("x", "x_conditional")
    assert (one_given.tokens, other_given.tokens) == (2, 3)
    assert ValidationSet.open(one.folder, name="x") == (one, one_given)
    assert one_given.rows(4, 1).tolist() == [[97, ~98, 99, 0, ~0]]
    assert other_given.rows(4, 1).tolist() == [[97, 98, 99, 0, ~0]]


# --- streams --------------------------------------------------------------------------------------


def test_a_dataset_streams_pairs_beside_text(sft, corpus, tmp_path):
    sources = (sft(), Source(name="text", path=str(corpus)))
    dataset = prepare(DataSpec(sources=sources), root=tmp_path)
    full, only = (dataset.stream(128, completion=completion) for completion in (False, True))
    one, other = (stream.rows(0, 200, data_seed=0) for stream in (full, only))
    assert np.array_equal(np.where(one < 0, ~one, one), np.where(other < 0, ~other, other))
    assert full.read(200) == only.read(200) == {"sft": 100, "text": 100}
    assert ((other < 0).any(axis=1)).sum() == 100
    counts = dataset.row_counts(128)
    assert full.epochs(200) == {name: 100 / rows for name, rows in counts.items()}
    # Two pairs of about 100 bytes do not fit in a row, so a row holds one.
    assert counts["sft"] == dataset.sources[0].documents
    turned = dataset.stream(
        128, weights={"sft": 1.0}, ramp=50, before={"text": 1.0}, first=10, begun={"text": 10}
    )
    assert turned.read(60) == {"sft": 25, "text": 35}


def test_pairs_that_are_cut_are_warned_of_at_their_context(sft, tmp_path):
    dataset = prepare(DataSpec(sources=(sft(),)), root=tmp_path)
    assert dataset.cut_diagnostics(256) == ()
    (warning,) = dataset.cut_diagnostics(64)
    count = dataset.sources[0].documents
    sizes = [(len(p), len(p) + len(c) + 1) for p, c in pairs_of(dataset.sources[0].folder, "train")]
    left_out = sum(prompt >= 65 for prompt, _ in sizes)
    cut = sum(prompt < 65 < size for prompt, size in sizes)
    assert warning.code == "cut-pairs"
    assert warning.values == {
        "source": "sft", "pairs": count, "cut": cut, "left_out": left_out, "context": 64,
    }  # fmt: skip
