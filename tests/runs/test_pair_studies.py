"""A study on pairs: its sources, its validation sets, and its pin."""

import json

import pytest

from windtunnel.config import load_study
from windtunnel.errors import ConfigError, DataError
from windtunnel.runs.files import read_json
from windtunnel.runs.study import open_study

FIELDS = "pairs: [q, a]"


@pytest.fixture
def sft(tmp_path):
    path = tmp_path / "sft.jsonl"
    pairs = [{"q": f"{i} + {i} =", "a": f" {2 * i}"} for i in range(60)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def test_every_source_of_pairs_has_two_sets(study_file, sft):
    added = f"name: words}}, {{path: {sft}, {FIELDS}, weight: 0}}]"
    extra = f"fraction: 0.1, extra: [{{path: {sft}, name: exam, {FIELDS}}}],"
    file = study_file(replace=("name: words}]", added))
    file.write_text(file.read_text().replace("fraction: 0.1,", extra))
    study = open_study(file, prepared=True)
    names = ["sft", "sft_conditional", "words", "exam", "exam_conditional"]
    assert [each.name for each in study.validation] == names
    named = study.config.data
    assert [
        name
        for source in (named.sources[1], named.sources[0], *named.validation.extra)
        for name in source.set_names
    ] == names
    assert len({study.wanted[name].fingerprint for name in names}) == 5
    exam = study.validation[-1]
    # 60 answers: a space, one to three digits, and the end.
    assert exam.tokens == exam.bytes == sum(len(f" {2 * i}") + 1 for i in range(60))
    assert open_study(file).validation == study.validation


def test_the_pin_of_a_study_without_pairs_knows_of_none(study_file, tmp_path):
    study = open_study(study_file(), prepared=True)
    pin = read_json(study.folder / "data.json")
    assert pin is not None
    (source,) = pin["asked"]["sources"]
    assert source.keys() == {"path", "name", "weight", "text_column", "dtype"}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            "{path: a.jsonl, name: a, pairs: [q, a]}, {path: b.txt, name: a_conditional}",
            "is called 'a_conditional', as is the validation set of the completions of 'a'",
        ),
        (
            "'builtin:doctests', {path: b.txt, name: doctests_conditional}",
            "'doctests_conditional', as is the validation set of the completions of 'doctests'",
        ),
        ("{path: a.jsonl, pairs: [q]}", "pairs"),
    ],
)
def test_sources_of_pairs_are_checked(study_file, words, sources, message):
    file = study_file(replace=(f"{{path: {words}, name: words}}", sources))
    with pytest.raises(ConfigError, match=message):
        load_study(file)


def test_a_name_of_that_form_is_free_beside_plain_text(study_file, words):
    both = f"{{path: {words}, name: a}}, {{path: {words}, name: a_conditional}}"
    file = study_file(replace=(f"{{path: {words}, name: words}}", both))
    assert [each.label for each in load_study(file).data.sources] == ["a", "a_conditional"]


def test_a_set_too_short_for_a_context_is_told_before_training(study_file):
    file = study_file()
    plain = file.read_text()
    for context in (128, 100_096):
        stage = f"{{context: {context}, batch_tokens: {context}, decay: 20 steps}}"
        branch = f"{{kind: branch, name: b, forks: [100 steps], variants: {{long: {stage}}}}}"
        file.write_text(plain.replace("experiments:", f"experiments:\n  - {branch}"))
        if context == 128:
            assert open_study(file, prepared=True).contexts == (32, 128)
        else:
            with pytest.raises(DataError, match=r"'words': .* too few for one row of context"):
                open_study(file)
