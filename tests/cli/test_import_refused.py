"""`windtunnel import-runs`: what it refuses, with what to type instead."""

import pytest
from large_runs import COLUMNS, TAKE

BAD = {
    "no source": ([], "[contradicting-options]"),
    "two": (["{table}", "--list"], "[contradicting-options]"),
    "no file": (["none.csv", *TAKE], "none.csv: no such file"),
    "kind": (["large.pkl", *TAKE], "not a table that can be read; allowed are .csv"),
    "format": (["{table}", *TAKE, "--format", "wand"], "[unknown-value]"),
    "no export": (["{table}", *TAKE, "--format", "wandb"], "[unknown-format]"),
    "column": (["{table}", *TAKE, "--loss", "val_los"], "did you mean 'val_loss'?"),
    "billions": (["{table}", *TAKE, "--scale", "N=1e-9"], "multiply it by 1e9 with --scale params"),
    "scale": (["{table}", *TAKE, "--scale", "N=x"], "[not-a-number]"),
    "perplexity": (["{table}", *TAKE, "--scale", "val_loss=100"], "looks like per cent or perplex"),
    "no file, no suffix": (["nope", *TAKE], "nope: no such file"),
    "scale twice": (["{table}", *TAKE, "--scale", "N=1", "--scale", "N=2"], "[duplicate-name]"),
    "set twice": (["{table}", *TAKE, "--loss-of", "words=lr", "--loss-of", "words=N"],
                  "[duplicate-name]"),
    "perplexity by name": (["ppl.csv", *COLUMNS[:4], "--loss", "valPPL", "--decayed", "true"],
                           "natural logarithm"),
    "unit": (["{table}", *TAKE, "--unit", "nats"], "[unknown-value]"),
    "experiment": (["{table}", *TAKE, "--experiment", "laws"], "[unknown-experiment]"),
    "condition": (["{table}", *TAKE, "--where", "N > 1e12"], "no row is left after"),
    "all out": (["{table}", *TAKE, "--exclude", "N > 1"], "[no-rows-left]"),
    "no column": (["{table}", *TAKE, "--exclude", "State == x"], "[unknown-column]"),
    "loss of": (["{table}", *TAKE, "--loss-of", "val_loss"], "[not-a-pair]"),
    "truth": (["{table}", *COLUMNS, "--decayed", "lr"], "allowed are true, false, yes, no, 1 a"),
    "label": (["{table}", *TAKE, "--run", "N"], "[duplicate-label]"),
    "remove": (["--remove", "big-9"], "no imported run 'big-9'. Imported: none"),
    "uri of a table": (["{table}", *TAKE, "--tracking-uri", "x"], "[contradicting-options]"),
    "no uri": (["mlflow:big", *TAKE], "give --tracking-uri, for example"),
    "no name": (["mlflow:", *TAKE], "[missing-name]"),
    "no database": (["mlflow:big", *TAKE, "--tracking-uri", "sqlite:///no.db"], "no such database"),
    "no server": (["mlflow:b", *TAKE, "--tracking-uri", "http://u:pw@127.0.0.1:9"],
                  "127.0.0.1:9: "),
    "empty folder": (["empty", *TAKE], "[too-few-rows]"),
}  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The working directory, where MLflow is not configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", BAD)
@pytest.mark.medium
def test_bad_input_exits_2_teaches_and_writes_nothing(
    study_file, windtunnel, table, elsewhere, name
):
    tmp_path = elsewhere
    (tmp_path / "empty").mkdir()
    (tmp_path / "ppl.csv").write_text(table.read_text().replace("val_loss", "valPPL"))
    (tmp_path / "large.pkl").write_bytes(b"\x80\x04.")
    arguments, message = BAD[name]
    study = study_file()
    there = set(tmp_path.rglob("*"))
    code, out, err = windtunnel(
        "import-runs", study, *(part.format(table=table) for part in arguments)
    )
    assert (code, out) == (2, "")
    assert message in err
    assert "pw@" not in err
    assert set(tmp_path.rglob("*")) == there
