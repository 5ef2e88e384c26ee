"""Sources that cannot be: each is refused at its own line, before any data is read."""

import pytest

from windtunnel.config import load_study
from windtunnel.errors import ConfigError

STUDY = """\
study: sources
data:
  sources:
    - builtin:docs
    - {source}
  validation: {{extra: [{extra}]}}
model: {{sizes: [32x2], head_dim: 16, context: 64}}
recipe: {{lr: 1e-2, base_width: 32, batch_tokens: 256, warmup_steps: 20}}
experiments:
  - {{kind: scaling, horizons: [200 steps]}}
"""


def loaded(tmp_path, source, extra=""):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.format(source=source, extra=extra))
    return load_study(file)


@pytest.mark.parametrize(
    ("source", "code", "values"),
    [
        (
            "{path: sft.jsonl, pairs: [answer, answer]}",
            "duplicate-value",
            {"key": "data.sources[1].pairs", "repeated": "answer"},
        ),
        (
            "{path: builtin:code, pairs: [q, a]}",
            "pairs-unsupported",
            {"key": "data.sources[1].pairs", "fields": ("q", "a"), "path": "builtin:code"},
        ),
        (
            "{path: sft.parquet, pairs: [q, a]}",
            "pairs-unsupported",
            {"key": "data.sources[1].pairs", "fields": ("q", "a"), "path": "sft.parquet"},
        ),
        (
            "{path: SFT.TXT, pairs: [q, a]}",
            "pairs-unsupported",
            {"key": "data.sources[1].pairs", "fields": ("q", "a"), "path": "SFT.TXT"},
        ),
        (
            "{path: ids.npy, pairs: [q, a]}",
            "pairs-unsupported",
            {"key": "data.sources[1].pairs", "fields": ("q", "a"), "path": "ids.npy"},
        ),
        (
            "{path: a.txt.gz, pairs: [q, a]}",
            "pairs-unsupported",
            {"key": "data.sources[1].pairs", "fields": ("q", "a"), "path": "a.txt.gz"},
        ),
        (
            "{path: a.bin, dtype: float32}",
            "unknown-value",
            {"key": "data.sources[1].dtype", "value": "float32"},
        ),
        (
            "builtin:docs",
            "duplicate-name",
            {"key": "data.sources[1]", "value": "builtin:docs", "name": "docs"},
        ),
        (
            "{path: docs.txt, weight: 0}",
            "duplicate-name",
            {"key": "data.sources[1]", "name": "docs"},
        ),
        (
            "{path: code.txt, weight: 10%}",
            "not-a-number",
            {"key": "data.sources[1].weight", "value": "10%"},
        ),
    ],
)
def test_a_source_is_refused_at_its_line(tmp_path, source, code, values):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, source)
    assert caught.value.code == code
    values = values | {"file": tmp_path / "study.yaml", "line": 5}
    assert {name: caught.value.values[name] for name in values} == values


def test_a_set_of_a_source_s_name_is_told_where_it_is(tmp_path):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "code.txt", "exam.txt, docs.txt")
    assert (caught.value.code, caught.value.values["name"]) == ("duplicate-name", "docs")
    values = caught.value.values
    assert (values["line"], values["key"]) == (6, "data.validation.extra[1]")


@pytest.mark.parametrize(
    "path",
    ["sft.jsonl", "sft.jsonl.gz", "SFT.JSONL.zst", "a.ndjson", "A.JSON.GZ", "folder", "my.sft"],
)
def test_pairs_may_be_in_lines_or_in_a_folder(tmp_path, path):
    source = loaded(tmp_path, f"{{path: {path}, pairs: [q, a], weight: 0}}").data.sources[1]
    assert source.pairs == ("q", "a")


@pytest.mark.parametrize(
    ("written", "share"),
    [
        ("on", 0.5),
        ("true", 0.5),
        ("off", None),
        ("false", None),
        ("0.5", 0.5),
        ("0.8", 0.8),
        ("1", 1.0),
    ],
)
def test_near_duplicates_are_switched(tmp_path, written, share):
    study = loaded(tmp_path, f"{{path: a.txt}}\n  dedup: {written}")
    assert study.data.dedup_share == share
    assert study.replace().data.dedup_share == share


@pytest.mark.parametrize("written", ["0", "1.5", "-1", "80%", "null", "some", "[0.5]", ".nan"])
def test_a_share_of_near_duplicates_out_of_range_is_refused_at_its_line(tmp_path, written):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"{{path: a.txt}}\n  dedup: {written}")
    assert caught.value.code in {"unknown-value", "not-finite"}
    assert (caught.value.values["line"], caught.value.values["key"]) == (6, "data.dedup")


@pytest.mark.parametrize("path", ["builtin:foo", "builtin:", "builtin:doctests/numpy"])
def test_a_builtin_that_is_none_is_refused_at_its_line(study_file, words, path):
    file = study_file(replace=(f"path: {words}", f"path: '{path}'"))
    with pytest.raises(ConfigError) as caught:
        load_study(file)
    assert (caught.value.code, caught.value.values["path"]) == ("unknown-builtin", path)
    assert (caught.value.values["line"], caught.value.values["key"]) == (3, "data.sources[0].path")
