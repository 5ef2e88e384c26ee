"""Raw token files: the type of their ids, headers of other trainers, and formats that are none."""

import gzip
import json
import pickle
import struct

import numpy as np
import pytest

from windtunnel.data import DataSpec, Source, prepare
from windtunnel.errors import DataError

IDS = np.random.default_rng(0).integers(0, 5000, size=100_000)
LARGE = np.random.default_rng(1).integers(0, 128_000, size=100_000)


def prepared(path, root, *, vocab_size=50_257, **fields):
    source = Source(name="ids", path=str(path), **fields)
    spec = DataSpec(sources=(source,), vocab_size=vocab_size, validation_fraction=0)
    return prepare(spec, root=root / "data")


def tokens_of(dataset):
    return np.fromfile(dataset.sources[0].folder / "train.bin", dataset.sources[0].dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64", "uint64"])
def test_every_type_is_read_as_stated(tmp_path, dtype):
    ids = IDS % 200
    ids.astype(dtype).tofile(tmp_path / "a.bin")
    assert np.array_equal(tokens_of(prepared(tmp_path / "a.bin", tmp_path, dtype=dtype)), ids)


@pytest.mark.parametrize("count", [100_000, 32])
@pytest.mark.parametrize(
    ("written", "stated", "fits"),
    [
        ("uint32", "uint16", "uint32"),
        ("int64", "uint16", "int64"),
        ("int64", "uint32", "int64"),
        ("int64", "int32", "int64"),
        ("uint16", "uint32", "uint16"),
        ("uint16", "int64", "uint16"),
        ("uint32", "int64", "uint32"),
    ],
)
def test_another_type_is_refused_with_the_one_that_fits(tmp_path, written, stated, fits, count):
    IDS[:count].astype(written).tofile(tmp_path / "a.bin")
    with pytest.raises(DataError) as caught:
        prepared(tmp_path / "a.bin", tmp_path, dtype=stated)
    assert caught.value.code in {"wrong-dtype", "out-of-range"}
    assert (caught.value.values["path"], caught.value.values["likely"]) == (
        tmp_path / "a.bin",
        fits,
    )


def test_wide_ids_of_a_large_vocabulary_are_seen_too(tmp_path, refuses):
    # Their upper halves are 0 and 1, all of them allowed ids.
    LARGE.astype("<u4").tofile(tmp_path / "a.bin")
    with refuses("wrong-dtype", dtype="uint16", likely="uint32"):
        prepared(tmp_path / "a.bin", tmp_path, vocab_size=128_000)
    right = prepared(tmp_path / "a.bin", tmp_path, vocab_size=128_000, dtype="uint32")
    assert np.array_equal(tokens_of(right), LARGE)


def test_bytes_and_words_are_told_apart(tmp_path, refuses):
    small = IDS % 200
    small.astype("<u2").tofile(tmp_path / "a.bin")
    with refuses("wrong-dtype", dtype="uint8", likely="uint16"):
        prepared(tmp_path / "a.bin", tmp_path, dtype="uint8", vocab_size=256)
    small.astype("u1").tofile(tmp_path / "b.bin")
    with refuses("wrong-dtype", dtype="uint16", likely="uint8"):
        prepared(tmp_path / "b.bin", tmp_path, vocab_size=256)


def test_other_byte_order_is_named(tmp_path, refuses):
    IDS.astype(">u2").tofile(tmp_path / "a.bin")
    with refuses("out-of-range", vocab_size=5000, likely="big-endian uint16"):
        prepared(tmp_path / "a.bin", tmp_path, vocab_size=5000)
    np.save(tmp_path / "b.npy", IDS.astype(">u2"))
    assert np.array_equal(tokens_of(prepared(tmp_path / "b.npy", tmp_path)), IDS)


@pytest.mark.parametrize("ids", [np.zeros(1000), np.arange(1000) % 7, np.tile([5, 0, 0], 900)])
def test_ordinary_zeros_are_no_sign(tmp_path, ids):
    ids.astype("<u2").tofile(tmp_path / "a.bin")
    assert np.array_equal(tokens_of(prepared(tmp_path / "a.bin", tmp_path)), ids)


# --- headers of other trainers --------------------------------------------------------------------


def write_headed(path, ids, *, magic, version, dtype, count=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + ids.astype(dtype).tobytes())


@pytest.mark.parametrize(
    ("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")]
)
def test_the_header_of_llm_c_is_read_and_not_trained_on(tmp_path, refuses, magic, version, dtype):
    write_headed(tmp_path / "a.bin", IDS, magic=magic, version=version, dtype=dtype)
    assert np.array_equal(tokens_of(prepared(tmp_path / "a.bin", tmp_path)), IDS)
    for count in (len(IDS) + 1, len(IDS) - 1):
        write_headed(
            tmp_path / "b.bin", IDS, magic=magic, version=version, dtype=dtype, count=count
        )
        with refuses("wrong-size", path=tmp_path / "b.bin", tokens=count):
            prepared(tmp_path / "b.bin", tmp_path)


@pytest.mark.parametrize("magic", [20240520, 20240801, 20240326])
def test_a_known_header_in_another_version_is_refused(tmp_path, refuses, magic):
    write_headed(tmp_path / "a.bin", IDS, magic=magic, version=99, dtype="<u2")
    with refuses("wrong-format" if magic == 20240326 else "unknown-version"):
        prepared(tmp_path / "a.bin", tmp_path, vocab_size=1 << 16)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("magic", [278895051, 300])
def test_a_header_with_another_magic_is_not_trained_on(tmp_path, refuses, magic, place):
    """Also where all of it is below the vocabulary."""
    header = np.zeros(256, "<i4")
    header[[0, place]] = magic, len(IDS)
    (tmp_path / "a.bin").write_bytes(header.tobytes() + IDS.astype("<u2").tobytes())
    dataset = prepared(tmp_path / "a.bin", tmp_path, vocab_size=1 << 16)
    assert np.array_equal(tokens_of(dataset), IDS)
    (tmp_path / "b.bin").write_bytes(header.tobytes() + IDS.astype("<u4").tobytes())
    with refuses("wrong-dtype", path=tmp_path / "b.bin", likely="uint32"):
        prepared(tmp_path / "b.bin", tmp_path, vocab_size=1 << 16)


def test_a_header_whose_count_is_another_is_refused(tmp_path, refuses):
    write_headed(tmp_path / "a.bin", IDS, magic=20250801, version=1, dtype="<u2", count=7)
    with refuses("unknown-header", path=tmp_path / "a.bin", magic=20250801):
        prepared(tmp_path / "a.bin", tmp_path, vocab_size=1 << 16)


def test_padding_at_the_beginning_is_no_header(tmp_path):
    ids = np.concatenate([IDS[:6], np.zeros(506, int), IDS])
    ids.astype("<u2").tofile(tmp_path / "a.bin")
    assert np.array_equal(tokens_of(prepared(tmp_path / "a.bin", tmp_path)), ids)


@pytest.mark.parametrize("extra", ["another array", "bytes"])
def test_what_follows_an_array_is_not_dropped(tmp_path, refuses, extra):
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, IDS.astype("<u2"))
        np.save(file, IDS.astype("<u2")) if extra == "another array" else file.write(b"xx")
    with refuses("wrong-size", path=tmp_path / "a.npy"):
        prepared(tmp_path / "a.npy", tmp_path)


def test_a_negative_id_of_an_array_is_not_blamed_on_its_type(tmp_path, refuses):
    np.save(tmp_path / "a.npy", np.array([1, 2, -100]))
    with refuses("out-of-range", path=tmp_path / "a.npy", token=2, id=-100) as refused:
        prepared(tmp_path / "a.npy", tmp_path)
    assert "dtype" not in str(refused.value)


def skewed(count):
    """Bytes as a text in a vocabulary of its characters: some far more often than others."""
    return np.minimum(np.random.default_rng(2).geometric(0.05, count), 64)


def test_bytes_that_are_ids_are_seen_in_a_large_vocabulary(tmp_path, refuses):
    skewed(200_000).astype("u1").tofile(tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes("Ein längerer Text, über Wörter\0\n".encode() * 8)
    for name, code in (("a.bin", "wrong-dtype"), ("b.bin", "wrong-format")):
        with refuses(code, path=tmp_path / name):
            prepared(tmp_path / name, tmp_path, vocab_size=1 << 16)
    right = prepared(tmp_path / "a.bin", tmp_path, vocab_size=1 << 16, dtype="uint8")
    assert np.array_equal(tokens_of(right), skewed(200_000))


@pytest.mark.parametrize(
    "ids",
    [
        np.random.default_rng(0).integers(0, 1 << 16, 200_000),
        np.random.default_rng(0).zipf(1.2, 200_000) % 50_257,
        skewed(200_000),
    ],
    ids=["even", "words", "characters"],
)
def test_ids_of_two_bytes_are_not_taken_for_bytes(tmp_path, ids):
    ids.astype("<u2").tofile(tmp_path / "a.bin")
    dataset = prepared(tmp_path / "a.bin", tmp_path, vocab_size=1 << 16)
    assert np.array_equal(tokens_of(dataset), ids)


def test_a_model_of_llm_c_is_no_tokens(tmp_path, refuses):
    write_headed(tmp_path / "a.bin", IDS, magic=20240326, version=3, dtype="<u2")
    with refuses("wrong-format", found="a model of llm.c"):
        prepared(tmp_path / "a.bin", tmp_path)


def test_npy_without_a_header_is_read_raw_and_told(tmp_path, refuses):
    IDS.astype("<u2").tofile(tmp_path / "a.npy")
    dataset = prepared(tmp_path / "a.npy", tmp_path)
    assert np.array_equal(tokens_of(dataset), IDS)
    assert [reason for reason, _ in dataset.sources[0].account.left_out] == ["raw-npy"]
    IDS.astype("<u4").tofile(tmp_path / "b.npy")
    with refuses("wrong-dtype", likely="uint32"):
        prepared(tmp_path / "b.npy", tmp_path)


# --- other formats --------------------------------------------------------------------------------


def litdata_chunk():
    items = [IDS[:100].astype("<u2").tobytes()] * 3
    offsets = np.cumsum([0, *map(len, items)]).astype("<u4") + 4 * 5
    return np.uint32(3).tobytes() + offsets.tobytes() + b"".join(items)


HEADER = json.dumps({"a": {"dtype": "U16", "shape": [4], "data_offsets": [0, 8]}}).encode()

OTHERS = {
    "a pickle": pickle.dumps(IDS),
    "a zip": b"PK\x03\x04" + bytes(200),
    "gzip": gzip.compress(IDS.tobytes()),
    "safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(8),
    "a chunk of LitData": litdata_chunk(),
    "a packed data set of lit-gpt": b"LITPKDS" + bytes(200),
    "Parquet": b"PAR1" + bytes(200),
    ".npy": b"\x93NUMPY" + bytes(200),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_name(tmp_path, refuses, name):
    data = OTHERS[name]
    (tmp_path / "a.bin").write_bytes(data + bytes(len(data) % 2) * (name != "a pickle"))
    with refuses("wrong-format", path=tmp_path / "a.bin") as caught:
        prepared(tmp_path / "a.bin", tmp_path)
    assert caught.value.values["found"].startswith(name)


def test_text_is_no_tokens(tmp_path, refuses):
    (tmp_path / "a.bin").write_text(
        "words and more words, of an even number, all in one file.." * 9
    )
    with refuses("wrong-format", found="text"):
        prepared(tmp_path / "a.bin", tmp_path)
