import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windtunnel.data import DataSpec, Source, prepare
from windtunnel.data.dedup import NearDuplicates, repeated_mask, repeated_windows, without_repeats
from windtunnel.data.tokenize import split_documents


def test_near_duplicates(paragraphs):
    memory = NearDuplicates(drop_repeats=False)
    one = paragraphs(1, 2, 3, 4)
    assert memory.novel(one) == one
    assert memory.novel(one) is None
    assert memory.novel(b"\r\n  \r\n".join(one.split(b"\n\n"))) is None  # other spacing
    assert memory.novel(paragraphs(1, 2, 3, 99)) is None  # three quarters
    assert memory.novel(paragraphs(1, 5, 6, 7)) == paragraphs(1, 5, 6, 7)  # one quarter
    sentences = b"Fish swim in the sea. Birds fly in the sky. Dogs run on the ground."
    assert memory.novel(sentences) == sentences
    assert memory.novel(sentences.replace(b"Dogs run", b"Cats sit")) is None
    assert memory.dropped == 4


def test_repeated_paragraphs_are_dropped_where_asked(paragraphs):
    memory = NearDuplicates(drop_repeats=True)
    memory.novel(paragraphs(1, 2, 3))
    assert memory.novel(paragraphs(4, 1, 5, 5)) == paragraphs(4, 5)


def test_near_duplicates_are_counted_in_the_dataset(tmp_path, paragraphs):
    texts = [paragraphs(*range(10 * i, 10 * i + 5)).decode() for i in range(40)]
    copies = [text.replace("a", "A", 1) for text in texts[:7]]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts + copies)
    (tmp_path / "a.jsonl").write_text(lines)
    dataset = prepare(
        DataSpec(sources=(Source(name="a", path=str(tmp_path / "a.jsonl")),)), root=tmp_path
    )
    assert dataset.sources[0].documents_dropped == 7
    assert dataset.sources[0].documents + dataset.validation[0].documents == 40


def test_split_gives_both_sides_something(refuses):
    documents = [str(i).encode() for i in range(1000)]

    def held_out(count, fraction):
        parts = list(
            split_documents(documents[:count], fraction=fraction, content=bytes, where="s")
        )
        assert sorted(document for document, _ in parts) == sorted(documents[:count])
        return [document for document, side in parts if side]

    assert 70 <= len(held_out(1000, 0.1)) <= 130
    assert set(held_out(1000, 0.05)) <= set(held_out(1000, 0.1))
    assert len(held_out(2, 1e-9)) == 1
    assert held_out(5, 0) == []
    assert len(held_out(5, 1)) == 5
    with refuses("too-few-documents", where="s", documents=1):
        held_out(1, 0.02)


def mask_of(train, validation, window=64):
    return repeated_mask(
        validation, repeated_windows(train, validation, window=window), window=window
    )


@given(train=st.binary(max_size=120), validation=st.binary(max_size=80), at=st.integers(0, 60))
def test_contamination_against_counting(train, validation, at):
    validation = validation[:40] + train[at : at + 37] + validation[40:]
    inside = set()
    for start in range(len(validation) - 15):
        if validation[start : start + 16] in train:
            inside |= set(range(start, start + 16))
    mask = mask_of(np.frombuffer(train, "u1"), np.frombuffer(validation, "u1"), window=16)
    assert set(np.flatnonzero(mask)) == inside


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4"])
def test_contamination_of_a_planted_copy(dtype):
    rng = np.random.default_rng(0)
    train, validation = (rng.integers(0, 256, size=n).astype(dtype) for n in (300_000, 10_000))
    assert not mask_of(train, validation).any()
    validation[5000:5100] = train[131_000:131_100]  # across the edge of a chunk of blocks
    validation[7000:7063] = train[10:73]  # one short of a window
    validation[-64:] = train[-64:]
    want = np.zeros(10_000, bool)
    want[5000:5100] = want[-64:] = True
    assert np.array_equal(mask_of(train, validation), want)
    assert not mask_of(train[:50], validation).any()


def test_validation_loses_the_paragraphs_that_training_holds(paragraphs):
    train = np.frombuffer(paragraphs(1, 2, 3), "u1")
    documents = [paragraphs(7, 2, 8), paragraphs(3), paragraphs(9)]
    mask = mask_of(train, np.frombuffer(b"\0".join(documents) + b"\0", "u1"))
    assert without_repeats(documents, mask) == [paragraphs(7, 8), paragraphs(9)]


def test_a_large_contamination_is_published_and_warned_of(tmp_path, prose):
    shared = [prose(10_000 + i, words=15) for i in range(8)]
    texts = [
        "\n\n".join([*(prose(10 * i + k, words=20) for k in range(5)), shared[i % 8], shared[-1]])
        for i in range(300)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = DataSpec(sources=(Source(name="a", path=str(path)),), validation_fraction=0.1)
    dataset = prepare(spec, root=tmp_path)
    # Two paragraphs of 15 words in each document of 130 words are shared.
    assert dataset.validation[0].contamination == pytest.approx(30 / 130, abs=0.02)
    contamination, size = dataset.warnings
    assert "also stands in training (limit 5%)" in contamination
    assert "fewer than 256000" in size
