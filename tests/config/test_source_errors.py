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
    ("source", "said"),
    [
        (
            "{path: sft.jsonl, pairs: [answer, answer]}",
            ".pairs: [answer, answer]: prompt and completion are two fields; name both",
        ),
        (
            "{path: builtin:code, pairs: [q, a]}",
            ".pairs: [q, a] are fields of .jsonl files, and builtin:code has none; remove `pairs`",
        ),
        (
            "{path: sft.parquet, pairs: [q, a]}",
            ".pairs: [q, a] are fields of JSON lines, and sft.parquet holds none; allowed with "
            "pairs are .jsonl, .jsonl.gz, .jsonl.zst, .ndjson, ",
        ),
        ("{path: SFT.TXT, pairs: [q, a]}", ".pairs: [q, a] are fields of JSON lines, and SFT.TXT"),
        ("{path: ids.npy, pairs: [q, a]}", ".pairs: [q, a] are fields of JSON lines, and ids.npy"),
        ("{path: a.txt.gz, pairs: [q, a]}", ".pairs: [q, a] are fields of JSON lines, and a.txt"),
        ("{path: a.bin, dtype: float32}", ".dtype = 'float32': "),
        ("builtin:docs", ": two sources are called 'docs'; give this one another name: {path: "),
        ("{path: docs.txt, weight: 0}", ": two sources are called 'docs'; give this one another "),
        ("{path: code.txt, weight: 10%}", ".weight: '10%': weights are numbers relative to each"),
    ],
)
def test_a_source_is_refused_at_its_line(tmp_path, source, said):
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, source)
    assert str(refused.value).startswith(f"{tmp_path / 'study.yaml'}:5: data.sources[1]{said}")


def test_a_set_of_a_source_s_name_is_told_where_it_is(tmp_path):
    with pytest.raises(ConfigError, match=r":6: data.validation.extra\[1\]: two .* 'docs'"):
        loaded(tmp_path, "code.txt", "exam.txt, docs.txt")


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
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"{{path: a.txt}}\n  dedup: {written}")
    assert str(refused.value).startswith(f"{tmp_path / 'study.yaml'}:6: data.dedup: ")


@pytest.mark.parametrize("path", ["builtin:foo", "builtin:", "builtin:doctests/numpy"])
def test_a_builtin_that_is_none_is_refused_at_its_line(study_file, words, path):
    file = study_file(replace=(f"path: {words}", f"path: '{path}'"))
    with pytest.raises(ConfigError, match=r"hparams\.yaml:3: data\.sources\[0\]\.path"):
        load_study(file)
