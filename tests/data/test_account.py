"""What preparation says of a source: what was kept and left out, and when that is warned of."""

import json

import pytest

from windtunnel.data import Dataset, DataSpec, Source, prepare, prepare_validation
from windtunnel.data.account import Account


def prepared(path, root, **spec):
    source = Source(name="s", path=str(path), **spec.pop("source", {}))
    return prepare(DataSpec(sources=(source,), **{"validation_fraction": 0.1} | spec), root=root)


def left_out(dataset):
    return {reason: each.number for reason, each in dataset.sources[0].account.left_out}


def codes(dataset):
    return [each.code for each in dataset.diagnostics if each.code != "small-validation"]


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def texts(prose):
    return [prose(seed, words=30) for seed in range(100)]


def test_all_is_kept_and_counted(tmp_path, texts):
    write_lines(tmp_path / "a.jsonl", texts)
    dataset = prepared(tmp_path / "a.jsonl", tmp_path / "data")
    account = dataset.sources[0].account
    size = sum(len(text) + 1 for text in texts)
    assert (account.files, account.documents, account.tokens, account.bytes) == (1, 100, size, size)
    assert account.left_out == ()
    assert codes(dataset) == []
    assert account.line() == f"s: 1 file, 100 documents, {size / 1000:.3g}k tokens"


def test_what_is_left_out_has_a_reason_a_count_and_its_bytes(tmp_path, texts):
    write_lines(tmp_path / "a.jsonl", [*texts, None, None, " \n ", *texts[:4], "a\0b\0 unlike all"])
    dataset = prepared(tmp_path / "a.jsonl", tmp_path / "data")
    assert left_out(dataset) == {"null": 2, "blank": 1, "near-duplicate": 4, "nul-bytes": 2}
    of = dict(dataset.sources[0].account.left_out)
    assert of["near-duplicate"].bytes == sum(map(len, texts[:4]))
    assert of["nul-bytes"].bytes == 2
    manifest = json.loads((dataset.sources[0].folder / "manifest.json").read_text())
    assert manifest["account"]["left_out"]["null"] == {"count": 2, "bytes": None, "examples": []}
    assert codes(dataset) == []  # 4 of 108 is 3.7%
    assert 4 / 108 < dataset.sources[0].account.share("near-duplicate") < 0.04
    line = dataset.sources[0].account.line()
    assert line.startswith("s: 1 file, 101 documents, 12.1k tokens; left out: 1 blank document (")
    assert "2 NUL bytes (under 0.1%), 2 nulls (1.9%)" in line


@pytest.mark.parametrize(("copies", "warned"), [(5, []), (6, ["data-left-out"])])
def test_a_share_above_a_twentieth_is_warned_of(tmp_path, texts, copies, warned):
    write_lines(
        tmp_path / "a.jsonl", [*(text[:150] for text in texts), *(t[:150] for t in texts[:copies])]
    )
    assert codes(prepared(tmp_path / "a.jsonl", tmp_path / "data")) == warned


def test_nulls_are_left_out_of_json_as_of_parquet(tmp_path, texts):
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = [*texts, *[None] * 10]
    write_lines(tmp_path / "a.jsonl", values)
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    one, other = (prepared(tmp_path / name, tmp_path / "data") for name in ("a.jsonl", "a.parquet"))
    assert one.fingerprint == other.fingerprint
    assert left_out(one) == left_out(other) == {"null": 10}
    assert codes(one) == codes(other) == ["data-left-out"]


def test_pairs_count_blank_and_null_completions(tmp_path, texts):
    pairs = [*((text, "yes") for text in texts), ("a", " "), ("b", None), (None, "c")]
    lines = [json.dumps({"q": question, "a": answer}) for question, answer in pairs]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    dataset = prepared(tmp_path / "a.jsonl", tmp_path / "data", source={"pairs": ("q", "a")})
    assert left_out(dataset) == {"blank": 1, "null": 2}


def test_half_surrogates_are_replaced_and_told(tmp_path, texts):
    lines = "".join(f'{{"text": "{text} \\ud83d and \\ud83d\\ude00"}}\n' for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    dataset = prepared(tmp_path / "a.jsonl", tmp_path / "data")
    assert left_out(dataset) == {"lone-surrogates": 100}
    assert "read in another form: 100 halves" in dataset.sources[0].account.line()


def test_a_manifest_of_before_opens_and_tells_its_near_duplicates(tmp_path, texts):
    write_lines(tmp_path / "a.jsonl", [*texts, *texts[:20]])
    dataset = prepared(tmp_path / "a.jsonl", tmp_path / "data")
    path = dataset.sources[0].folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["account"]
    path.write_text(json.dumps(manifest))
    older = Dataset.open(dataset.folder)
    assert older.fingerprint == dataset.fingerprint
    assert older.sources[0].account.files is None
    assert older.sources[0].account.share("near-duplicate") == pytest.approx(20 / 120)
    assert codes(older) == ["data-left-out"]


def test_a_builtin_is_told_of_and_not_warned_of(builtins):
    for source in builtins.dataset.sources:
        assert dict(source.account.left_out)["repeated-paragraph"].number > 0
        assert source.account.builtin
        assert list(source.account.diagnostics()) == []


def test_an_extra_validation_set_has_an_account(tmp_path, texts):
    write_lines(tmp_path / "a.jsonl", [*texts, None])
    (held_out,) = prepare_validation(
        Source(name="x", path=str(tmp_path / "a.jsonl")), root=tmp_path
    )
    account = held_out.account
    assert isinstance(account, Account)
    assert (account.documents, account.left_out[0][0]) == (100, "null")
    assert held_out.documents == 100


def test_small_files_beside_the_data_are_no_alarm(tmp_path, texts):
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", texts)
    for name in ("_SUCCESS", "LICENSE", "meta.pkl", "prepare.py", "b.csv.gz"):
        (folder / name).write_bytes(b"" if name == "_SUCCESS" else b"x" * 50)
    dataset = prepared(folder, tmp_path / "data")
    assert left_out(dataset) == {"documentation-file": 1, "unread-suffix": 4}
    assert codes(dataset) == []
    (folder / "b.csv.gz").write_bytes(b"x" * 1000)
    write_lines(folder / "a.jsonl", texts[:99])
    assert codes(prepared(folder, tmp_path / "data")) == ["data-left-out"]
