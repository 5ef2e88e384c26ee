"""A run as a row and back: every column of the committed records, and what a row does not tell."""

import csv
from pathlib import Path

import pytest
from unrun import made_run

from windtunnel.findings import read_records
from windtunnel.findings.files import csv_text, read_rows
from windtunnel.findings.records import OF_RUNS, rounded
from windtunnel.runs.imported import Imported, Measured
from windtunnel.runs.table import COLUMNS, as_row, as_run

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
RECORDS = sorted(EXPERIMENTS.glob("[0-9]*/records"))


def whole(run):
    return as_row(run) | {"size": run.size} | dict(run.axes)


@pytest.mark.parametrize("folder", RECORDS, ids=[each.parent.name for each in RECORDS])
def test_rows_of_committed_records_survive(folder):
    rows = list(read_rows(folder / "runs.csv", OF_RUNS))
    assert rows
    for row in rows:
        made = whole(as_run(row))
        told = {name: value for name, value in row.items() if value is not None}
        assert {name: made[name] for name in told} == told
        assert all(value is None for name, value in made.items() if name not in told)
        assert whole(as_run(made)) == made


@pytest.mark.parametrize("folder", RECORDS, ids=[each.parent.name for each in RECORDS])
def test_records_of_earlier_versions_open_and_lose_no_column(folder):
    records = read_records(folder)
    text = (folder / "runs.csv").read_text()
    assert csv_text([rounded(row) for row in records.rows()]) == text
    assert set(records.lacking) == set(COLUMNS) - set(next(csv.reader(text.splitlines())))
    frame = records.frame()
    assert frame.shape[0] == len(records.runs)
    assert frame["segment"].tolist() == [run.segment for run in records.runs]
    for experiment in records.config.experiments:
        assert len(records.frame(experiment.name)) == len(records.of(experiment.name))


def test_sets_mixtures_and_axes_have_columns_of_their_own():
    run = made_run(
        losses={"docs": 2.0, "code.v2": 1.5},
        bits_per_byte_by_set={"docs": None, "code.v2": 0.7},
        mixture={"docs": 0.25, "code": 0.75},
        axes={"recipe.lr": 8e-3, "schedule.shape": "linear"},
    )
    row = as_row(run)
    assert list(row)[: len(COLUMNS)] == list(COLUMNS)
    assert {name: row[name] for name in list(row)[len(COLUMNS) :]} == {
        "loss_code.v2": 1.5, "bits_per_byte_code.v2": 0.7,
        "loss_docs": 2.0, "bits_per_byte_docs": None,
        "weight_docs": 0.25, "weight_code": 0.75,
    }  # fmt: skip
    assert as_run(whole(run)) == run


def test_a_set_without_a_finite_loss_keeps_its_columns():
    row = as_row(made_run(bits_per_byte_by_set={"docs": None}))
    assert row["loss_docs"] is row["bits_per_byte_docs"] is None


@pytest.mark.parametrize(
    ("variants", "text"),
    [
        ({}, None),
        ({"one": "plain"}, "plain"),
        ({"one": "plain", "two": "plain"}, "plain"),
        ({"one": "plain", "two": "tuned/1"}, "one:plain+two:tuned/1"),
    ],
)
def test_variants_are_joined_where_experiments_differ(variants, text):
    run = made_run(experiments=("one", "two"), variants=variants)
    row = as_row(run)
    assert (row["experiment"], row["variant"]) == ("one+two", text)
    again = as_run(row)
    assert again.experiments == ("one", "two")
    assert as_row(again)["variant"] == text
    assert variants.items() <= again.variants.items()
    assert run.is_of("two", "three")
    assert not run.is_of("three")


def test_an_imported_run_says_no_more_than_it_knows():
    measured = Measured(experiment="law", params=10**9, tokens=2 * 10**10, loss=2.5,
                        losses={"words": 2.5}, decayed=True)  # fmt: skip
    run = Imported(label="big", measured=measured, origin={"tool": "csv", "source": "a.csv"},
                   time=1.8e9).run  # fmt: skip
    assert run.imported
    assert not run.size
    row = as_row(run)
    assert list(row)[len(COLUMNS) :] == ["loss_words", "label", "source"]
    assert as_run(row) == run
