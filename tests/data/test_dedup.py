"""The switch of near-duplicates: on, off, or a share."""

import json

import numpy as np
import pytest

from windtunnel.data import DataSpec, Source, cache_key_hash, prepare
from windtunnel.errors import ConfigError


@pytest.fixture
def chats(tmp_path, prose):
    """Ninety chats of which two thirds are one system prompt."""
    prompt = [prose(seed, words=20) for seed in range(8)]
    path = tmp_path / "chats.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "text": "\n\n".join(
                        [*prompt, *(prose(100 + 4 * i + k, words=20) for k in range(4))]
                    )
                }
            )
            + "\n"
            for i in range(90)
        )
    )
    return path


def spec_of(path, **spec):
    source = Source(name="s", path=str(path))
    return DataSpec(sources=(source,), **{"validation_fraction": 0.1} | spec)


def test_templated_text_is_refused_with_its_cause_and_the_switch(chats, tmp_path, refuses):
    with refuses("too-few-documents", documents=1) as caught:
        prepare(spec_of(chats), root=tmp_path / "data")
    assert "89 others were left out as near-duplicates" in str(caught.value)
    assert "data.dedup: off" in str(caught.value)


@pytest.mark.parametrize(
    ("dedup", "kept"), [(None, 90), (0.8, 90), (0.67, 90), (0.6, 1), (1.0, 90)]
)
def test_a_document_is_dropped_from_a_share_on(chats, tmp_path, dedup, kept):
    spec = spec_of(chats, dedup=dedup, validation_fraction=0)
    assert prepare(spec, root=tmp_path / "data").sources[0].documents == kept


def test_whole_copies_are_dropped_at_one_and_kept_where_off(tmp_path, prose):
    texts = [prose(seed, words=30) for seed in range(50)] * 2
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    counts = {
        dedup: prepare(spec_of(path, dedup=dedup, validation_fraction=0), root=tmp_path).sources[0]
        for dedup in (1.0, None)
    }
    assert {dedup: source.documents for dedup, source in counts.items()} == {1.0: 50, None: 100}
    held = np.fromfile(counts[None].folder / "train.bin", "<u2").astype("u1").tobytes()
    assert held == ("\0".join(texts) + "\0").encode()


def test_the_default_is_the_folder_of_before(chats):
    hashes = [cache_key_hash(spec_of(chats, **dedup)) for dedup in ({}, {"dedup": 0.5})]
    assert hashes[0] == hashes[1]
    assert (
        len({hashes[0], *(cache_key_hash(spec_of(chats, dedup=each)) for each in (None, 0.8))}) == 3
    )


def test_builtins_stay_as_they_are():
    source = Source(name="d", path="builtin:docs/sympy")
    hashes = {cache_key_hash(DataSpec(sources=(source,), dedup=each)) for each in (0.5, 0.9, None)}
    assert len(hashes) == 1


@pytest.mark.parametrize("dedup", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(chats, dedup):
    with pytest.raises(ConfigError) as caught:
        spec_of(chats, dedup=dedup)
    assert (caught.value.code, *caught.value.values) == ("out-of-range", "dedup")
