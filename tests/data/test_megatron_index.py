"""Megatron's index: what leads out of its file is refused, with the entry that does."""

import struct

import numpy as np
import pytest

from windtunnel.data import DataSpec, Source, prepare
from windtunnel.data.cache_key import changes_since
from windtunnel.errors import DataError

SIZES = [3, 4, 5, 8]
STARTS = [0, 3, 7, 12]
DOCUMENTS = [0, 2, 4]
IDS = np.arange(20)


def write(folder, *, sizes=SIZES, pointers=None, documents=DOCUMENTS, names=("a.bin", "a.idx")):
    IDS.astype("<u2").tofile(folder / names[0])
    pointers = [2 * start for start in STARTS] if pointers is None else pointers
    (folder / names[1]).write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 8, len(sizes), len(documents))
        + np.array(sizes, "<i4").tobytes()
        + np.array(pointers, "<i8").tobytes()
        + np.array(documents, "<i8").tobytes()
    )
    return folder / names[0]


def prepared(path, root):
    source = Source(name="ids", path=str(path))
    spec = DataSpec(sources=(source,), vocab_size=100, validation_fraction=0)
    return prepare(spec, root=root / "data").sources[0]


@pytest.mark.parametrize("names", [("a.bin", "a.idx"), ("A.BIN", "A.IDX"), ("A.BIN", "A.idx")])
def test_documents_are_read_by_their_index(tmp_path, names):
    (tmp_path / "in").mkdir()
    source = prepared(write(tmp_path / "in", names=names), tmp_path)
    assert (source.tokens, source.documents, source.account.left_out) == (20, 2, ())
    assert prepared(tmp_path / "in", tmp_path).sha256 == source.sha256


def test_tokens_outside_of_the_index_are_told(tmp_path):
    source = prepared(write(tmp_path, sizes=[3, 4, 5, 7]), tmp_path)
    assert source.account.share("unindexed-tokens") == pytest.approx(1 / 20)
    assert not list(source.account.diagnostics())
    source = prepared(write(tmp_path, sizes=[3, 4, 5, 6]), tmp_path)
    assert [each.code for each in source.account.diagnostics()] == ["data-left-out"]


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"sizes": [3, 4, -5, 8]}, {"entry": 2, "value": -5}),
        ({"pointers": [0, -6, 14, 24]}, {"entry": 1, "value": -6}),
        ({"pointers": [0, 7, 14, 24]}, {"entry": 1, "value": 7}),
        ({"pointers": [0, 6, 14, 26]}, {"entry": 3, "value": 21}),
        ({"pointers": [0, 6, 14, 2**62]}, {"entry": 3}),
        ({"pointers": [6, 0, 14, 24]}, {"entry": 0}),
        ({"documents": [0, 5]}, {"entry": 1, "value": 5}),
        ({"documents": [0, -1, 4]}, {"entry": 1, "value": -1}),
        ({"documents": [0, 3, 2, 4]}, {"entry": 1, "value": 3}),
        ({"documents": [0, 2]}, {"sequences": 4, "documents": 2}),
        ({"documents": [1, 4]}, {"sequences": 4, "documents": 2}),
        ({"documents": []}, {"sequences": 4, "documents": 0}),
    ],
)
def test_an_index_that_leads_astray_is_refused(tmp_path, refuses, change, values):
    path = write(tmp_path, **change)
    with refuses("inconsistent-index", path=tmp_path / "a.idx", **values):
        prepared(path, tmp_path)


def test_the_form_of_a_message(tmp_path):
    path = write(tmp_path, sizes=[3, 4, -5, 8])
    with pytest.raises(DataError) as refused:
        prepared(path, tmp_path)
    assert str(refused.value) == (
        f"{tmp_path / 'a.idx'}: sequence 2 has a length of -5; is it cut off, or of another .bin? "
        "Write both again with Megatron's preprocess_data.py"
    )


def test_a_cut_index_is_refused(tmp_path, refuses):
    path = write(tmp_path)
    index = tmp_path / "a.idx"
    whole = index.read_bytes()
    for length, code in (
        (3, "wrong-format"), (20, "wrong-format"),
        (40, "wrong-size"), (len(whole) - 1, "wrong-size"),
    ):  # fmt: skip
        index.write_bytes(whole[:length])
        with refuses(code, path=index):
            prepared(path, tmp_path)


def test_an_index_that_is_a_broken_link_is_refused(tmp_path, refuses):
    path = write(tmp_path)
    (tmp_path / "a.idx").rename(tmp_path / "gone")
    (tmp_path / "a.idx").symlink_to(tmp_path / "elsewhere")
    with refuses("broken-link", path=tmp_path / "a.idx"):
        prepared(path, tmp_path)


def test_an_index_that_changed_after_the_tokens_is_told(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    write(folder)
    source = Source(name="ids", path=str(folder / "a.bin"))
    spec = DataSpec(sources=(source,), vocab_size=100, validation_fraction=0)
    dataset = prepare(spec, root=tmp_path / "data")
    assert changes_since(dataset, spec, root=tmp_path / "data") == ()
    with (folder / "a.idx").open("ab") as file:
        file.write(b"\0" * 8)
    (diagnostic,) = changes_since(dataset, spec, root=tmp_path / "data")
    assert diagnostic.code == "source-changed"
    assert diagnostic.values["files"] == ["*.idx"]
