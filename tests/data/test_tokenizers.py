"""Tokenizers that fail, drop characters or do not know words: each is told, and bytes are right."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from windtunnel.data import DataSpec, Source, prepare, prepare_validation
from windtunnel.data.tokenizer import load_tokenizer

LETTERS = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz .", 1)}


@pytest.fixture
def saved(tmp_path):
    """A function that saves a tokenizer and returns its path."""

    def save(model, *, splits=None, normalizer=None):
        tokenizer = Tokenizer(model)
        if splits is not None:
            tokenizer.pre_tokenizer = splits
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.save(str(tmp_path / "t.json"))
        return str(tmp_path / "t.json")

    return save


def prepared(texts, tokenizer, folder, **source):
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    one = Source(name="s", path=str(path))
    return prepare(
        DataSpec(sources=(one,), tokenizer=tokenizer, validation_fraction=0), root=folder / "data"
    )


def lost(dataset):
    return dict(dataset.sources[0].account.left_out)


def test_dropped_characters_are_counted_and_not_in_the_bytes(saved, tmp_path):
    tokenizer = saved(models.BPE({"<eos>": 0} | LETTERS, []))
    texts = ["aé b", "naïve café", "plain", "日本 x 😀"]
    dataset = prepared(texts, tokenizer, tmp_path)
    known = [[char for char in text if char in LETTERS] for text in texts]
    source = dataset.sources[0]
    assert source.tokens == source.bytes == sum(len(chars) + 1 for chars in known)
    assert dataset.bytes_per_token == 1.0
    dropped = lost(dataset)["dropped-characters"]
    characters = [char for text in texts for char in text if char not in LETTERS]
    assert dropped.number == len(characters) == 6
    assert dropped.bytes == sum(len(char.encode()) for char in characters) == 16
    assert [each.code for each in dataset.diagnostics] == ["tokenizer-drops"]


def test_few_dropped_characters_are_told_and_not_warned_of(saved, tmp_path, prose):
    tokenizer = saved(models.BPE({"<eos>": 0} | LETTERS, []))
    texts = [prose(seed, words=50) + "é" for seed in range(20)]
    dataset = prepared(texts, tokenizer, tmp_path)
    assert lost(dataset)["dropped-characters"].number == 20
    assert dataset.diagnostics == ()


@pytest.mark.parametrize(
    ("parts", "text", "dropped"),
    [
        ({"splits": pre_tokenizers.Whitespace()}, "ab cd  ef", 3),
        ({"splits": pre_tokenizers.Split(".", "removed")}, "a.b..c", 3),
        ({"splits": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit()])}, "ab c", 1),
        ({"normalizer": normalizers.Strip()}, "  ab ", 3),
        ({"normalizer": normalizers.Replace("b", "")}, "abcb", 2),
        ({"normalizer": normalizers.Lowercase()}, "ABC", 0),
        ({}, "abc", 0),
    ],
)
def test_what_is_taken_out_before_the_model_is_dropped_too(saved, tmp_path, parts, text, dropped):
    model = models.BPE({"<eos>": 0} | LETTERS, [])
    path = tmp_path / "a.txt"
    path.write_text(text)
    (held_out,) = prepare_validation(
        Source(name="s", path=str(path)),
        tokenizer=saved(model, **parts),
        root=tmp_path / "data",
    )
    assert held_out.bytes == len(text) - dropped + 1


def test_offsets_are_not_trimmed_by_a_post_processor(saved, tmp_path):
    path = saved(
        models.BPE({"<eos>": 0, "Ġ": 1, "a": 2}, []),
        splits=pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    tokenizer = Tokenizer.from_file(path)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.save(path)
    (encoded,) = load_tokenizer(path).pieces([b"a a b"], "s")
    assert (encoded.ids.tolist(), encoded.dropped, encoded.dropped_bytes) == ([2, 1, 2, 1], 1, 1)


def test_tokenizers_that_keep_all_are_not_looked_through(saved):
    alphabet = {
        letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet(), 1)
    }
    of_bytes = saved(models.BPE({"<eos>": 0} | alphabet, []), splits=pre_tokenizers.ByteLevel())
    assert not load_tokenizer(of_bytes)._losses.possible
    falling_back = {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    assert not load_tokenizer(
        saved(models.BPE({"<eos>": 0} | falling_back, [], byte_fallback=True))
    )._losses.possible
    del falling_back["<0xC3>"]
    assert load_tokenizer(
        saved(models.BPE({"<eos>": 0} | falling_back, [], byte_fallback=True))
    )._losses.possible


def test_unknown_tokens_are_counted_and_warned_of(saved, tmp_path):
    vocab = {"<eos>": 0, "<unk>": 1, "known": 2}
    tokenizer = saved(
        models.WordLevel(vocab, unk_token="<unk>"), splits=pre_tokenizers.Whitespace()
    )
    dataset = prepared(["known other known", "known"], tokenizer, tmp_path)
    assert lost(dataset)["unknown-tokens"].number == 1
    assert dataset.sources[0].account.share("unknown-tokens") == pytest.approx(1 / 6)
    assert "unknown-tokens" in [each.code for each in dataset.diagnostics]
    ids = np.fromfile(dataset.sources[0].folder / "train.bin", "<u2")
    assert ids.tolist() == [2, 1, 2, 0, 2, 0]


def test_pairs_lose_what_is_dropped_on_each_side(saved, tmp_path):
    tokenizer = saved(models.BPE({"<eos>": 0} | LETTERS, []))
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "éa", "a": "bàc"}))
    whole, conditional = prepare_validation(
        Source(name="s", path=str(path), pairs=("q", "a")), tokenizer=tokenizer, root=tmp_path
    )
    assert (whole.bytes, conditional.bytes) == (4, 3)


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"<eos>": 0, "fine": 1}, unk_token="<unk>"),
        models.WordPiece({"<eos>": 0, "fine": 1}, unk_token="[UNK]"),
        models.Unigram([("<eos>", 0.0), ("fine", -1.0)], None, False),
    ],
    ids=["WordLevel", "WordPiece", "Unigram"],
)
def test_a_word_that_cannot_be_encoded_is_told_with_its_document(saved, tmp_path, refuses, model):
    tokenizer = saved(model, splits=pre_tokenizers.WhitespaceSplit())
    with refuses("cannot-encode", where="data source 's'") as caught:
        prepared(["fine fine", "fine but 😀 not"], tokenizer, tmp_path)
    assert caught.value.values["text"].startswith("fine ")


def test_an_empty_vocabulary_is_told(saved, refuses):
    for model in (models.WordLevel({}, unk_token="x"), models.BPE({}, [])):
        with refuses("empty"):
            load_tokenizer(saved(model))


def test_a_text_that_is_all_dropped_is_refused(saved, tmp_path, refuses):
    tokenizer = saved(models.BPE({"<eos>": 0, "z": 1}, []))
    with refuses("tokenizer-drops-all", source="s"):
        prepared(["abc", "def"], tokenizer, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\0", '{"model": 3}', "[" * 9999, "é"])
def test_any_damage_of_the_file_is_told(tmp_path, refuses, content):
    (tmp_path / "t.json").write_text(content, encoding="latin-1")
    with refuses("unreadable", where=f"tokenizer {tmp_path / 't.json'}"):
        load_tokenizer(str(tmp_path / "t.json"))
