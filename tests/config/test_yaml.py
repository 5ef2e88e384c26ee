"""What a study file may be as YAML: anything else is one error with the file and the line."""

import os
import re
import time

import pytest

from windtunnel.config import load_study
from windtunnel.config.yaml import DEEPEST, MOST_BYTES, MOST_FILES, parse
from windtunnel.errors import ConfigError

STUDY = """\
study: s
data: {sources: [text.txt]}
model: {sizes: [32x1], head_dim: 16, context: 32}
recipe: {lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 2}
experiments:
  - {kind: scaling, horizons: [300 steps], seeds: 1, hold_out: none}
"""
BILLION = "x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"x{k}: &x{k} [{','.join([f'*x{k - 1}'] * 10)}]\n" for k in range(1, 12)
)
MERGES = "x0: &x0 {a: 1}\n" + "".join(
    f"x{k}: &x{k} {{<<: [{','.join([f'*x{k - 1}'] * 9)}]}}\n" for k in range(1, 12)
)


def written(folder, text):
    file = folder / "study.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def changed(old, new):
    assert old in STUDY
    return STUDY.replace(old, new)


REFUSED = {
    "tab": (changed("  - {kind", "\t- {kind"), 6, "not-yaml"),
    "utf-16": (STUDY.encode("utf-16"), 1, "not-utf8"),
    "utf-16 without a mark": (STUDY.encode("utf-16-le"), 1, "not-utf8"),
    "nul": (changed("text.txt", "te\0xt.txt"), 2, "not-utf8"),
    "latin-1": (STUDY.encode() + "store: é\n".encode("latin-1"), 7, "not-utf8"),
    "control character": (STUDY + "store: a\x07b\n", 7, "bad-character"),
    "python name": (STUDY + "store: !!python/name:os.system\n", 7, "unsupported-tag"),
    "python call": (STUDY + "store: !!python/object/apply:os.system [ls]\n", 7, "unsupported-tag"),
    "tuple of a mapping": (STUDY + "store: !!python/tuple {a: 1}\n", 7, "unsupported-tag"),
    "binary": (STUDY + "store: !!binary aGVsbG8=\n", 7, "unsupported-tag"),
    "set": (changed("[32x1]", "!!set {32x1}"), 3, "unsupported-tag"),
    "ordered mapping": (changed("[32x1]", "!!omap [32x1: 2]"), 3, "unsupported-tag"),
    "date": (changed("study: s", "study: 2024-01-01"), 1, "unsupported-tag"),
    "custom tag": (STUDY + "store: !env STORE\n", 7, "unsupported-tag"),
    "tag that does not fit": (
        STUDY + "resources: {deterministic: !!bool maybe}\n",
        7,
        "wrong-type",
    ),
    "list as a key": (STUDY + "? [a]\n: 3\n", 7, "bad-key"),
    "empty key": (STUDY + ": 3\n", 7, "bad-key"),
    "number as a key": (STUDY + "1: 3\n", 7, "unknown-key"),
    "null as a key": (STUDY + "~: 3\n", 7, "unknown-key"),
    "two documents": (STUDY + "---\n" + STUDY, 7, "not-yaml"),
    "other version": ("%YAML 1.1\n---\n" + STUDY, 1, "yaml-version"),
    "deep": (STUDY + f"store: {'[' * 400}{']' * 400}\n", 7, "too-deep"),
    "a little too deep": (STUDY + f"store: {'[' * DEEPEST}{']' * DEEPEST}\n", 7, "wrong-type"),
    "anchor within itself": (STUDY + "store: &a [*a]\n", 7, "circular-alias"),
    "aliases of aliases": (BILLION + STUDY, 1, "too-many-values"),
    "merges of merges": (MERGES + STUDY, 1, "too-many-values"),
    "merge of a number": (STUDY + "resources: {<<: 3}\n", 7, "bad-merge"),
    "two merges": (STUDY + "resources: {<<: {retries: 1}, <<: {retries: 2}}\n", 7, "duplicate-key"),
    "unknown alias": (STUDY + "store: *nowhere\n", 7, "not-yaml"),
    "400 digits": (changed("256", "9" * 400), 4, "out-of-range"),
    "5,000 digits": (changed("256", "9" * 5000), 4, "out-of-range"),
    "beyond 64 bits": (changed("256", "9223372036854775808"), 4, "out-of-range"),
    "beyond a float": (changed("1e-2", "1e999"), 4, "out-of-range"),
    "infinite": (changed("1e-2", ".inf"), 4, "not-finite"),
    "no number": (changed("1e-2", ".nan"), 4, "not-finite"),
    "true for a number": (changed("1e-2", "true"), 4, "not-a-number"),
    "true for a number in a list": (changed("seeds: 1", "seeds: [true]"), 6, "not-a-number"),
    "empty": ("", 1, "wrong-type"),
    "a comment alone": ("# nothing\n\n", 1, "wrong-type"),
    "a list": ("- a\n", 1, "wrong-type"),
    "text": ("hello\n", 1, "wrong-type"),
    "a quote without an end": (STUDY + "store: 'abc\n", 8, "not-yaml"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_with_its_line(tmp_path, name):
    text, line, code = REFUSED[name]
    file = written(tmp_path, text)
    before = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert time.process_time() - before < 2
    assert caught.value.code == code
    assert (caught.value.values["file"], caught.value.values["line"]) == (file, line)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + STUDY,
        changed("[32x1]", "!!python/tuple [32x1]"),
        changed("[32x1]", "!!python/tuple\n  - 32x1\n ")
        .replace("{sizes", "\n  sizes")
        .replace(", head_dim: 16, context: 32}", "\n  head_dim: 16\n  context: 32"),
        changed("study: s", "study: !!str s"),
        STUDY + "...\n",
        STUDY + "resources: {<<: [{retries: 1}, {retries: 2, compile: never}]}\n",
    ],
)
def test_what_means_one_thing_is_read(tmp_path, text):
    study = load_study(written(tmp_path, text))
    assert (study.study, [str(size) for size in study.model.sizes]) == ("s", ["32x1"])


def test_keys_are_read_as_they_are_written(tmp_path):
    text = "1e-2: a\n0x10: b\ntrue: c\n2024-01-01: d\nx: {<<: {y: 1, z: 2}, y: 3}\n"
    assert parse(written(tmp_path, text)).plain() == {
        "1e-2": "a",
        "0x10": "b",
        "true": "c",
        "2024-01-01": "d",
        "x": {"y": 3, "z": 2},
    }


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    text = "[1e-3, 6e18, 1_000, 0o17, 0x1F, 1., .5, -3, yes, 'true', true, ~]"
    values = parse(written(tmp_path, text)).plain()
    assert values == [1e-3, 6e18, 1000, 15, 31, 1.0, 0.5, -3, "yes", "true", True, None]
    assert [type(each) for each in values[:3]] == [float, float, int]


def test_only_a_small_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    for path, code in (
        (tmp_path, "not-a-file"),
        (tmp_path / "pipe", "not-a-file"),
        (tmp_path / "large.yaml", "too-large"),
        (tmp_path / "none.yaml", "missing-file"),
        (tmp_path / ("a" * 300), "unreadable"),
        (tmp_path / "large.yaml" / "study.yaml", "unreadable"),
    ):
        with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
            load_study(path)
        assert caught.value.code == code
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("extended", "code"),
    [
        ("s3://bucket/base.yaml", "url-as-path"),
        ('"a\\0b"', "bad-character"),
        (".", "not-a-file"),
        ("''", "empty"),
        ("~nobody-here/b.yaml", "no-home"),
    ],
)
def test_what_cannot_be_extended_is_told_where_it_is_named(tmp_path, extended, code):
    file = written(tmp_path, f"extends: {extended}\n{STUDY}")
    with pytest.raises(ConfigError, match=r"study\.yaml:1: extends") as caught:
        load_study(file)
    assert caught.value.code == code


def test_a_base_of_bad_yaml_is_told_in_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text("store: here\nrecipe: !!python/tuple {lr: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_study(written(tmp_path, f"extends: base.yaml\n{STUDY}"))
    assert caught.value.code == "unsupported-tag"
    assert caught.value.values == {
        "file": tmp_path / "base.yaml",
        "line": 2,
        "tag": "tag:yaml.org,2002:python/tuple",
    }


def test_bases_that_multiply_are_counted(tmp_path):
    for number in range(12):
        names = f"[b{number + 1}.yaml, b{number + 1}.yaml]"
        (tmp_path / f"b{number}.yaml").write_text(f"extends: {names}\n")
    (tmp_path / "b12.yaml").write_text("store: here\n")
    with pytest.raises(ConfigError) as caught:
        load_study(written(tmp_path, f"extends: b0.yaml\n{STUDY}"))
    assert (caught.value.code, caught.value.values["most"]) == ("too-many-files", MOST_FILES)


def test_two_experiments_of_one_name_in_a_base_are_not_one(tmp_path):
    twice = (
        "experiments:\n  - {kind: scaling, horizons: [9N]}\n  - {kind: scaling, horizons: [8N]}\n"
    )
    (tmp_path / "base.yaml").write_text(twice)
    with pytest.raises(ConfigError) as caught:
        load_study(written(tmp_path, f"extends: base.yaml\n{STUDY}"))
    assert caught.value.code == "duplicate-name"
    assert caught.value.values == {
        "file": tmp_path / "base.yaml",
        "line": 3,
        "key": "experiments",
        "name": "scaling",
    }
