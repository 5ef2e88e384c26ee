"""Upcycling through the command line: a sweep, its runs, records, law rows, and refused studies."""

import json
import shutil

import pytest

from windtunnel.config import load_study
from windtunnel.errors import ConfigError
from windtunnel.findings.records import read_records, records_of, write_records
from windtunnel.runs.law_rows import law_rows
from windtunnel.runs.study import open_study

BRANCH = """
  - kind: branch
    name: upcycling
    sizes: [16x1]
    forks: [40 steps]
    seeds: 1
    variants:
      dense: [{stable: 24 steps}, {decay: 8 steps}]
      four: [{stable: 24 steps, upcycle: {experts: 4}}, {decay: 8 steps}]
"""


@pytest.fixture
def study(study_file):
    """A study with one scaling experiment and one that upcycles."""
    path = study_file(sizes="[16x1]", horizons="[110 steps]")
    text = path.read_text().replace("\nresources:", BRANCH.rstrip() + "\nresources:")
    path.write_text(text)
    return path


@pytest.mark.slow
def test_a_dense_trunk_is_upcycled_and_goes_on_exactly(study, windtunnel, tmp_path):
    code, out, err = windtunnel("sweep", study, "--engine", "local")
    assert code == 0, out + err
    rows = json.loads(windtunnel("runs", study, "--json")[1])
    four = [row for row in rows if row["variant"] in {"four", "four/1"}]
    dense = next(row for row in rows if row["variant"] == "dense")
    assert {row["experts"] for row in four} == {4}
    assert "experts" not in dense
    assert all(row["params"] < row["params_total"] for row in four)
    batch = dense["batch_tokens"]
    assert {row["sunk_tokens"] for row in four} == {40 * batch}
    assert max(row["tokens"] for row in four) == dense["tokens"]

    opened = open_study(study, prepared=True)
    records = records_of(opened)
    (run,) = law_rows(records.runs, "upcycling", ())
    assert run.tokens == 32 * batch
    assert {(each.layer, each.step % 16) for each in records.routing} == {(1, 0)}
    assert all(each.similarity > 0.9 for each in records.routing)
    write_records(records, tmp_path / "records")
    again = read_records(tmp_path / "records")
    assert len(again.routing) == len(records.routing)
    assert {each.experts for each in again.runs} == {None, 4}

    # Its end is lost, and made again from the fork, to the same bits.
    end = next(row for row in four if row["variant"] == "four")
    before = end["loss"]
    shutil.rmtree(opened.store.segment(end["segment"]).root)
    code, out, err = windtunnel("sweep", study, "--engine", "local")
    assert code == 0, out + err
    after = json.loads(windtunnel("runs", study, "--json")[1])
    assert next(row for row in after if row["variant"] == "four")["loss"] == before


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("{experts: 4}", "{experts: 4, top_k: 5}", "out-of-range"),
        ("{experts: 4}", "{experts: 4, balance: none, balance_weight: 1}", "contradicting-keys"),
        ("{decay: 8 steps}]\n", "{decay: 8 steps, upcycle: {experts: 2}}]\n", None),
        ("model:\n", "model:\n  family: minicpm-moe\n", "cannot-upcycle"),
        ("four: [", "four: [{stable: 8 steps, upcycle: {experts: 2}}, ", "cannot-upcycle"),
    ],
)
def test_upcycling_that_is_refused(study, old, new, code):
    first, _, rest = study.read_text().partition(old)
    study.write_text(first + new + rest)
    if code is None:  # a later stage may be the one that upcycles
        load_study(study)
        return
    with pytest.raises(ConfigError) as refused:
        load_study(study)
    assert refused.value.code == code


def test_experts_are_not_compiled(study_file, windtunnel):
    path = study_file(replace=("model:\n", "model:\n  family: minicpm-moe\n"))
    path.write_text(path.read_text().replace("resources: {", "resources: {compile: always, "))
    code, out, err = windtunnel("sweep", path, "--engine", "local")
    assert code == 2
    assert "cannot-compile" in out + err
