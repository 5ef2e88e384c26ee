"""Which files of a folder are read, and what is said of the others."""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from windtunnel.data import Source
from windtunnel.data.account import Tally
from windtunnel.data.files import index_of, source_files
from windtunnel.data.readers import text_documents
from windtunnel.errors import DataError


def listed(path, **fields):
    tally = Tally()
    names = [name for name, _ in source_files(Source(name="s", path=str(path), **fields), tally)]
    return names, {reason: each.number for reason, each in tally.left_out.items()}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    (made / "a.txt").write_text("one")
    return made


def test_folders_behind_links_are_read(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "b.txt").write_text("two")
    (folder / "linked").symlink_to(elsewhere)
    (tmp_path / "c.txt").write_text("three")
    (folder / "c.txt").symlink_to(tmp_path / "c.txt")
    assert listed(folder) == (["a.txt", "c.txt", "linked/deep/b.txt"], {})
    (folder / "d.txt").symlink_to(elsewhere / "deep" / "b.txt")
    assert listed(folder) == (["a.txt", "c.txt", "linked/deep/b.txt"], {"same-file": 1})


def test_a_circle_of_links_ends_and_a_folder_is_read_once(folder):
    (folder / "up").symlink_to(folder)
    (folder / "real").mkdir()
    (folder / "real" / "b.txt").write_text("two")
    (folder / "again").symlink_to(folder / "real")
    assert listed(folder) == (["a.txt", "real/b.txt"], {"linked-twice": 2})


def test_a_file_of_several_names_is_read_once(folder):
    (folder / "b.txt").symlink_to(folder / "a.txt")
    (folder / "0.txt").symlink_to(folder / "a.txt")
    os.link(folder / "a.txt", folder / "c.txt")
    (folder / "copy.txt").write_text("one")  # another file, of the same text
    assert listed(folder) == (["a.txt", "copy.txt"], {"same-file": 3})


def test_a_hugging_face_cache_is_read_once_and_its_blobs_are_not_told(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "refs").mkdir()
    (tmp_path / "blobs" / "6b86b273ff34").write_text('{"text": "one"}\n' * 9)
    (tmp_path / "blobs" / "d4735e3a265e").write_text("of an older revision")
    (tmp_path / "refs" / "main").write_text("b")
    for revision in "ab":
        (tmp_path / "snapshots" / revision).mkdir(parents=True)
        link = tmp_path / "snapshots" / revision / "train.jsonl"
        link.symlink_to("../../blobs/6b86b273ff34")
    assert listed(tmp_path) == (
        ["snapshots/a/train.jsonl"],
        {"same-file": 1, "unread-suffix": 2},
    )


def test_a_link_to_megatron_tokens_is_read_by_their_index(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "x.bin").write_bytes(bytes(8))
    (real / "x.idx").write_bytes(b"MMIDIDX")
    (tmp_path / "y.bin").symlink_to(real / "x.bin")
    assert index_of(tmp_path / "y.bin") == real / "x.idx"
    assert listed(real) == (["x.bin"], {})


DOCUMENTATION = ["README.md", "data_card.md", "license.txt", "requirements.txt", "NOTICE.txt"]


@pytest.mark.parametrize("data", ["a.jsonl", "a.parquet", "a.bin", "meta.jsonl", "authors.json.gz"])
def test_several_files_about_records_are_no_corpus(tmp_path, data):
    for name in (data, *DOCUMENTATION, "LICENSE", "README.rst", "dataset_info.json"):
        (tmp_path / name).write_text("about the data")
    told = {"documentation-file": len(DOCUMENTATION) + 2, "metadata-file": 1}
    assert listed(tmp_path) == ([data], told)


def test_such_names_among_text_are_corpus(folder):
    (folder / "numbers.json").write_text('{"rows": 3}')
    for name in ("discard.md", "data_card.md", "requirements.txt"):
        (folder / name).write_text("text")
    assert listed(folder) == (
        ["a.txt", "data_card.md", "discard.md", "requirements.txt"],
        {"metadata-file": 1},
    )
    (folder / "a.txt").rename(folder / "a.jsonl")
    assert listed(folder)[0] == ["a.jsonl", "discard.md"]


def test_what_is_not_read_is_told(folder):
    (folder / "lost.txt").symlink_to(folder / "nowhere")
    (folder / ".hidden.txt").write_text("no")
    (folder / ".git").mkdir()
    (folder / ".git" / "b.txt").write_text("no")
    (folder / "page.pdf").write_text("no")
    names, told = listed(folder)
    assert names == ["a.txt"]
    assert told == {"broken-link": 1, "hidden": 2, "unread-suffix": 1}


@pytest.mark.parametrize(
    "name", ["README.md", "readme.txt", "LICENSE.txt", "Licence.md", "README_de.md", "LICENSES.txt"]
)
def test_the_readme_of_a_data_set_is_not_trained_on(folder, name):
    (folder / "a.txt").rename(folder / "a.jsonl")
    (folder / name).write_text("about the data")
    assert listed(folder) == (["a.jsonl"], {"documentation-file": 1})


def test_a_readme_among_files_of_its_kind_is_corpus(folder):
    (folder / "readme.txt").write_text("two")
    (folder / "readmission.md").write_text("three")
    assert listed(folder) == (["a.txt", "readme.txt", "readmission.md"], {})


def test_a_readme_alone_is_read(tmp_path):
    (tmp_path / "README.md").write_text("all there is")
    assert listed(tmp_path)[0] == ["README.md"]
    assert listed(tmp_path / "README.md")[0] == ["README.md"]


def test_json_about_a_data_set_is_not_trained_on(folder):
    (folder / "dataset_info.json").write_text('{"features": {}}')
    (folder / "numbers.json").write_text('{"rows": 3}')
    (folder / "more.json").write_text('{"text": "two"}\n{"text": "three"}\n')
    assert listed(folder) == (["a.txt", "more.json"], {"metadata-file": 2})
    for name in ("a.txt", "numbers.json"):
        (folder / name).unlink()
    assert listed(folder) == (["more.json"], {"metadata-file": 1})


def test_indexes_that_megatron_caches_are_no_tokens(tmp_path):
    np.arange(100, dtype="<u2").tofile(tmp_path / "a.bin")
    for name in ("a_train_indexmap_8ns_2sl_1s_doc_idx.npy", "x-GPTDataset-document_index.npy"):
        np.save(tmp_path / name, np.arange(9))
    assert listed(tmp_path) == (["a.bin"], {"metadata-file": 2})


def test_upper_case_suffixes_are_read_as_what_they_are(tmp_path):
    (tmp_path / "A.TXT").write_text("one")
    (tmp_path / "B.JSONL.GZ").write_bytes(gzip.compress(json.dumps({"text": "two"}).encode()))
    (tmp_path / "C.Json").write_text(json.dumps([{"text": "three"}]))
    source = Source(name="s", path=str(tmp_path))
    assert list(text_documents(source)) == [b"one", b"two", b"three"]


def test_a_pipe_is_refused_and_not_waited_for(folder, refuses):
    os.mkfifo(folder / "b.txt")
    for path in (folder, folder / "b.txt"):
        with refuses("not-a-file", path=folder / "b.txt"):
            listed(path)
    with refuses("unknown-format", path=Path("/dev/null")):
        listed("/dev/null")


def test_a_broken_link_of_a_source_is_told(tmp_path, refuses):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with refuses("broken-link", path=tmp_path / "a.txt", target=str(tmp_path / "gone.txt")):
        listed(tmp_path / "a.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_what_may_not_be_read_is_named(folder):
    (folder / "a.txt").chmod(0)
    with pytest.raises(DataError, match=r"a\.txt.*[Pp]ermission"):
        list(text_documents(Source(name="s", path=str(folder))))
    (folder / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match=r"closed.*[Pp]ermission"):
        listed(folder)
    (folder / "closed").chmod(0o755)


def test_a_foreign_suffix_is_refused_with_what_to_do(folder, refuses):
    shutil.move(folder / "a.txt", folder / "a.ds")
    for path, code in ((folder, "no-readable-file"), (folder / "a.ds", "unknown-format")):
        with refuses(code, path=path) as caught:
            listed(path)
        assert ".ds: datatrove writes raw token ids" in str(caught.value)
