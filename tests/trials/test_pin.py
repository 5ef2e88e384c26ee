"""A study that has run, opened again with something else in its file: what is said of it."""

import json

import pytest

from windtunnel.errors import ConfigError
from windtunnel.trials.study import open_study

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
    line = file.read_text().splitlines().index(f"  - kind: {kind}", 15) + 1
    with pytest.raises(ConfigError) as refused:
        open_study(file)
    assert str(refused.value).startswith(f"{file}:{line}: experiment 'brief', size ")
    assert str(refused.value).count(str(file)) == 1
