"""A study that has run, opened again with something else in its file: what is said of it."""

import json

import pytest

from windtunnel.errors import ConfigError
from windtunnel.runs.study import open_study

SOURCES = """\
    - {path: words.jsonl, name: words}
    - {path: sft.jsonl, pairs: [q, a], weight: 0}
"""


@pytest.fixture
def pinned(study_file, words):
    """The file of a study whose data has been made."""
    file = study_file(replace=(f"[{{path: {words}, name: words}}]", f"\n{SOURCES}"))
    (file.parent / "words.jsonl").write_text(words.read_text())
    lines = [json.dumps({"q": f"{i} + {i} =", "a": f" {2 * i}"}) for i in range(60)]
    (file.parent / "sft.jsonl").write_text("\n".join(lines))
    open_study(file, prepared=True)
    return file


def said_of(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as refused:
        open_study(file)
    return str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[q, a]", "[a, q]", "source 'sft': pairs was [q, a], is [a, q]"),
        ("weight: 0", "weight: 0.5", "source 'sft': weight was 0, is 0.5"),
        (", pairs: [q, a]", "", "source 'sft': pairs was [q, a], is not set"),
        ("fraction: 0.1", "fraction: 0.2", "validation.fraction was 0.1, is 0.2"),
        ("name: words", "name: text", "source 'words': name was words, is text"),
        (SOURCES.splitlines()[1], "", "source 'sft' is gone"),
        (SOURCES, f"{SOURCES}    - builtin:docs\n", "source 'docs' is new"),
        (
            SOURCES,
            "".join(reversed(SOURCES.splitlines(keepends=True))),
            "the sources were in the order words, sft, are sft, words",
        ),
    ],
)
def test_what_differs_is_told(pinned, old, new, told):
    said = said_of(pinned, old, new)
    assert said.startswith(f"{pinned}: data: The runs of study 'small' were made on other data")
    assert f"data.json pins them): {told}. Put it back, or give the changed study a new" in said


@pytest.mark.parametrize("missing", ["word.jsonl", "elsewhere/words.jsonl"])
def test_a_path_that_is_not_there_is_told_first(pinned, missing):
    said = said_of(pinned, "words.jsonl", missing)
    path = pinned.parent / missing
    assert said.startswith(f"{pinned}: data: there is no {path}: mend `path` of source 'words', ")
    assert f"source 'words': path was words.jsonl, is {missing}. Put it back" in said


def test_a_source_that_was_pinned_and_is_gone_is_not_what_to_mend(pinned):
    (pinned.parent / "words.jsonl").unlink()
    assert "there is no" not in said_of(pinned, "[q, a]", "[a, q]")


@pytest.mark.parametrize("kind", ["scaling", "search"])
def test_what_cannot_be_planned_is_told_at_its_experiment(study_file, kind):
    search = "space: {recipe.lr: [0.01, 0.02]}\n    trials: 2\n    horizon: 10 steps"
    asked = {"scaling": "horizons: [10 steps]", "search": search}[kind]
    file = study_file()
    text = file.read_text()
    file.write_text(
        text.replace("resources:", f"  - kind: {kind}\n    name: brief\n    {asked}\nresources:")
    )
    lines = file.read_text().splitlines()
    begin = lines.index(f"  - kind: {kind}", 15)
    line = next(n for n, each in enumerate(lines, 1) if n > begin and "10 steps" in each)
    with pytest.raises(ConfigError) as refused:
        open_study(file)
    assert str(refused.value).startswith(f"{file}:{line}: experiment 'brief', size ")
    assert str(refused.value).count(str(file)) == 1


# --- near-duplicates, and files that changed since ------------------------------------------------


@pytest.mark.parametrize("written", ["on", "true", "0.5"])
def test_a_pin_from_before_there_was_a_switch_is_found(pinned, written):
    pin = json.loads((pinned.parent / "store" / "studies" / "small" / "data.json").read_text())
    assert "dedup" not in pin["asked"]
    text = pinned.read_text()
    pinned.write_text(text.replace("data:\n", f"data:\n  dedup: {written}\n"))
    assert open_study(pinned).dataset.fingerprint == pin["stream"]


def test_another_share_of_near_duplicates_is_other_data(pinned):
    said = said_of(pinned, "data:\n", "data:\n  dedup: off\n")
    assert "dedup was not set, is off" in said


def changes(file):
    return [
        each.message for each in open_study(file).data_diagnostics if each.code == "source-changed"
    ]


def test_a_source_that_changed_is_told_and_its_pinned_tokens_are_kept(pinned):
    before = open_study(pinned).dataset
    assert changes(pinned) == []
    words = pinned.parent / "words.jsonl"
    whole = words.read_bytes()
    words.write_bytes(whole.replace(b"a", b"b", 1))  # of equal length
    (said,) = changes(pinned)
    assert "'words': 1 of its files changed" in said
    assert "(words.jsonl)" in said
    study = open_study(pinned)
    assert study.dataset == before
    assert said in study.warnings
    words.write_bytes(whole)
    assert changes(pinned) == []  # other times, the same content
    words.write_bytes(whole + b"\n")
    assert len(changes(pinned)) == 1
    words.unlink()
    assert changes(pinned) == []  # a study may go on without its sources


def test_files_that_came_and_went_are_told(study_file, words, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text(words.read_text().replace("document", name))
    file = study_file(text=folder)
    open_study(file, prepared=True)
    (folder / "a.jsonl").rename(folder / "c.jsonl")
    (said,) = changes(file)
    assert "a.jsonl is gone, c.jsonl is new" in said


def test_a_pin_of_before_is_compared_by_size(pinned):
    """Its digests are of a few stretches of a file, and its rules of what is read were others."""
    folder = open_study(pinned).dataset.sources[1].folder
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recipe"]["files"][0][2] = "0" * 32
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert changes(pinned) == []
    (pinned.parent / "words.jsonl").write_text("{}")
    assert len(changes(pinned)) == 1


def test_a_tokenizer_that_changed_is_told(study_file, words, tmp_path):
    from tokenizers import Tokenizer, models

    vocab = {"<eos>": 0} | {chr(code): code for code in range(32, 127)}
    Tokenizer(models.BPE(vocab, [])).save(str(tmp_path / "t.json"))
    file = study_file(replace=("data:\n", "data:\n  tokenizer: t.json\n"))
    open_study(file, prepared=True)
    assert "tokenizer-changed" not in [each.code for each in open_study(file).data_diagnostics]
    (tmp_path / "t.json").write_text((tmp_path / "t.json").read_text() + "\n")
    assert "tokenizer-changed" in [each.code for each in open_study(file).data_diagnostics]
