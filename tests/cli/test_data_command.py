"""`windtunnel data`: rows of sources, exclusions and sets, before anything is locked or trained."""

import json

import pytest

from windtunnel.runs.study import open_study


@pytest.fixture
def corpus(tmp_path, words):
    """A folder of text, of which some is copied, beside files of other suffixes."""
    folder = tmp_path / "corpus"
    (folder / "pkg").mkdir(parents=True)
    texts = [json.loads(line)["text"] for line in words.read_text().splitlines()]
    for number in range(0, 400, 20):
        (folder / f"{number:03d}.txt").write_text("\n\n".join(texts[number : number + 20]))
    (folder / "copy.txt").write_text((folder / "000.txt").read_text())
    for name in ("a.py", "b.py", "c.py", "d.py", "e.rst", "f.csv.gz", "g"):
        (folder / "pkg" / name).write_text("x" * 500)
    return folder


@pytest.fixture
def file(study_file, corpus):
    return study_file(text=corpus, sizes="[16x1]", horizons="[110 steps]")


def test_rows_of_a_folder(file, windtunnel, corpus):
    code, out, _ = windtunnel("data", file, "--json")
    assert code == 0
    found = json.loads(out)
    (source,) = found["sources"]
    assert (source["name"], source["path"], source["share"]) == ("words", str(corpus), 1.0)
    assert (source["files"], source["suffixes"]) == (21, {".txt": 21})
    by_reason = {each["reason"]: each for each in source["exclusions"]}
    assert set(by_reason) == {"near-duplicate", "unread-suffix"}
    copies = by_reason["near-duplicate"]
    assert copies["examples"][0] == "copy.txt"
    assert copies["remedy"]
    skipped = by_reason["unread-suffix"]
    assert (skipped["count"], skipped["bytes"]) == (7, 3500)
    assert {kind: each["count"] for kind, each in skipped["kinds"].items()} == {
        ".py": 4, ".csv.gz": 1, ".rst": 1, "without a suffix": 1,
    }  # fmt: skip
    assert next(iter(skipped["kinds"])) == ".py"
    assert skipped["kinds"][".py"]["examples"] == ["pkg/a.py", "pkg/b.py", "pkg/c.py"]
    (held_out,) = found["validation"]
    assert 0.0 <= held_out["contamination"] < 1.0
    assert held_out["measured"] == 2048 < held_out["tokens"]
    assert [each["code"] for each in found["warnings"]].count("small-validation") == 1


def test_text_has_every_row(file, windtunnel):
    code, out, _ = windtunnel("data", file)
    assert code == 0
    assert "4 .py (pkg/a.py, pkg/b.py, pkg/c.py, ...)" in out
    assert "copy.txt" in out
    assert "(small-validation):" in out


def test_the_data_may_still_change_after_it_was_shown(file, windtunnel):
    windtunnel("data", file)
    study = open_study(file)
    assert study.dataset is not None  # `plan` shows what is prepared
    assert not (study.folder / "data.json").exists()
    file.write_text(file.read_text().replace("  validation:", "  dedup: off\n  validation:"))
    assert open_study(file).dataset is None
    _, out, _ = windtunnel("data", file, "--json")
    (source,) = json.loads(out)["sources"]
    assert [each["reason"] for each in source["exclusions"]] == ["unread-suffix"]


def test_locked_data_is_shown_as_it_was_locked(file, windtunnel, corpus):
    stream = open_study(file, prepared=True).dataset.fingerprint
    (corpus / "000.txt").write_text("something else")
    _, out, _ = windtunnel("data", file, "--json")
    found = json.loads(out)
    assert found["stream"] == stream
    assert "source-changed" in [each["code"] for each in found["warnings"]]


def test_a_study_sees_what_another_one_has_prepared_and_trained(study_file, words, windtunnel):
    from large_runs import fill

    first = study_file(sizes="[16x1]", horizons="[110 steps]")
    fill(open_study(first, prepared=True))
    second = first.with_name("second.yaml")
    second.write_text(first.read_text().replace("study: small", "study: other"))
    mine, theirs = (json.loads(windtunnel("runs", each, "--json")[1]) for each in (first, second))
    assert len(theirs) == 2
    assert theirs == mine
    words_changed = first.with_name("third.yaml")
    words_changed.write_text(second.read_text().replace("fraction: 0.1", "fraction: 0.2"))
    assert json.loads(windtunnel("runs", words_changed, "--json")[1]) == []


def test_the_plan_names_files_and_what_is_missing_before_anything_is_read(file, windtunnel, corpus):
    _, out, _ = windtunnel("plan", file, "--json")
    data = json.loads(out)["data"]
    (source,) = data["sources"]
    assert (source["name"], source["path"], source["files"]) == ("words", str(corpus), 21)
    assert source["left_out"]["unread-suffix"]["count"] == 7
    assert data["warnings"] == []
    for path in corpus.glob("*.txt"):
        path.unlink()
    _, out, _ = windtunnel("plan", file, "--json")
    (warning,) = json.loads(out)["data"]["warnings"]
    assert warning["code"] == "no-readable-file"
    assert windtunnel("data", file)[0] == 2
