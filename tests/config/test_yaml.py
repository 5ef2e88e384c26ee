"""What a study file may be as YAML: anything else is one error with the file and the line."""

import os
import re
import time

import pytest

from windtunnel.config import load_study
from windtunnel.config.yaml import DEEPEST, MOST_BYTES, parse
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
    "tab": (changed("  - {kind", "\t- {kind"), 6),
    "utf-16": (STUDY.encode("utf-16"), 1),
    "utf-16 without a mark": (STUDY.encode("utf-16-le"), 1),
    "nul": (changed("text.txt", "te\0xt.txt"), 2),
    "latin-1": (STUDY.encode() + "store: é\n".encode("latin-1"), 7),
    "control character": (STUDY + "store: a\x07b\n", 7),
    "python name": (STUDY + "store: !!python/name:os.system\n", 7),
    "python call": (STUDY + "store: !!python/object/apply:os.system [ls]\n", 7),
    "tuple of a mapping": (STUDY + "store: !!python/tuple {a: 1}\n", 7),
    "binary": (STUDY + "store: !!binary aGVsbG8=\n", 7),
    "set": (changed("[32x1]", "!!set {32x1}"), 3),
    "ordered mapping": (changed("[32x1]", "!!omap [32x1: 2]"), 3),
    "date": (changed("study: s", "study: 2024-01-01"), 1),
    "custom tag": (STUDY + "store: !env STORE\n", 7),
    "tag that does not fit": (STUDY + "resources: {deterministic: !!bool maybe}\n", 7),
    "list as a key": (STUDY + "? [a]\n: 3\n", 7),
    "empty key": (STUDY + ": 3\n", 7),
    "number as a key": (STUDY + "1: 3\n", 7),
    "null as a key": (STUDY + "~: 3\n", 7),
    "two documents": (STUDY + "---\n" + STUDY, 7),
    "other version": ("%YAML 1.1\n---\n" + STUDY, 1),
    "deep": (STUDY + f"store: {'[' * 400}{']' * 400}\n", 7),
    "a little too deep": (STUDY + f"store: {'[' * DEEPEST}{']' * DEEPEST}\n", 7),
    "anchor within itself": (STUDY + "store: &a [*a]\n", 7),
    "aliases of aliases": (BILLION + STUDY, 1),
    "merges of merges": (MERGES + STUDY, 1),
    "merge of a number": (STUDY + "resources: {<<: 3}\n", 7),
    "two merges": (STUDY + "resources: {<<: {retries: 1}, <<: {retries: 2}}\n", 7),
    "unknown alias": (STUDY + "store: *nowhere\n", 7),
    "400 digits": (changed("256", "9" * 400), 4),
    "5,000 digits": (changed("256", "9" * 5000), 4),
    "beyond 64 bits": (changed("256", "9223372036854775808"), 4),
    "beyond a float": (changed("1e-2", "1e999"), 4),
    "infinite": (changed("1e-2", ".inf"), 4),
    "no number": (changed("1e-2", ".nan"), 4),
    "true for a number": (changed("1e-2", "true"), 4),
    "true for a number in a list": (changed("seeds: 1", "seeds: [true]"), 6),
    "empty": ("", 1),
    "a comment alone": ("# nothing\n\n", 1),
    "a list": ("- a\n", 1),
    "text": ("hello\n", 1),
    "a quote without an end": (STUDY + "store: 'abc\n", 8),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_with_its_line(tmp_path, name):
    text, line = REFUSED[name]
    file = written(tmp_path, text)
    before = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert time.process_time() - before < 2
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{file}:{line}: ")


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
    for path in (
        tmp_path,
        tmp_path / "pipe",
        tmp_path / "large.yaml",
        tmp_path / "none.yaml",
        tmp_path / ("a" * 300),
        tmp_path / "large.yaml" / "study.yaml",
    ):
        with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
            load_study(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("extended", "line"),
    [("s3://bucket/base.yaml", 1), ('"a\\0b"', 1), (".", 1), ("''", 1), ("~nobody-here/b.yaml", 1)],
)
def test_what_cannot_be_extended_is_told_where_it_is_named(tmp_path, extended, line):
    file = written(tmp_path, f"extends: {extended}\n{STUDY}")
    with pytest.raises(ConfigError, match=rf"study\.yaml:{line}: extends"):
        load_study(file)


def test_a_base_of_bad_yaml_is_told_in_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text("store: here\nrecipe: !!python/tuple {lr: 1}\n")
    with pytest.raises(ConfigError, match=r"base\.yaml:2: the YAML tag"):
        load_study(written(tmp_path, f"extends: base.yaml\n{STUDY}"))


def test_bases_that_multiply_are_counted(tmp_path):
    for number in range(12):
        names = f"[b{number + 1}.yaml, b{number + 1}.yaml]"
        (tmp_path / f"b{number}.yaml").write_text(f"extends: {names}\n")
    (tmp_path / "b12.yaml").write_text("store: here\n")
    with pytest.raises(ConfigError, match=r"b\d+\.yaml:1: extends: .* more than \d+ files"):
        load_study(written(tmp_path, f"extends: b0.yaml\n{STUDY}"))


def test_two_experiments_of_one_name_in_a_base_are_not_one(tmp_path):
    twice = (
        "experiments:\n  - {kind: scaling, horizons: [9N]}\n  - {kind: scaling, horizons: [8N]}\n"
    )
    (tmp_path / "base.yaml").write_text(twice)
    with pytest.raises(ConfigError, match=r"base\.yaml:3: experiments: two experiments are called"):
        load_study(written(tmp_path, f"extends: base.yaml\n{STUDY}"))
