import csv
import dataclasses
import os

import numpy as np
import pytest
from unrun import planted_records

from windtunnel.errors import ConfigError, FitError
from windtunnel.findings import read_records, write_records
from windtunnel.runs.curves import Curve

POINT = {"segment": "a", "params": 1e5, "tokens": 1e7, "loss": 3.0, "low": None, "high": 3.1}
FORECAST = {
    "written": 1.5, "inputs": "0" * 16, "rows": 6, "held_out_trained_before": False,
    "sigma": 0.01, "level": 0.9, "points": [POINT | {"naive": {"line": 3.2}}],
}  # fmt: skip
STUDY = """
  - kind: scaling
    name: law
    horizons: [10N, 20N]
    seeds: 1
  - kind: grid
    name: rates
    axes: {size: [32x3], recipe.lr: [4e-3, 8e-3], schedule.shape: [linear, one_minus_sqrt]}
    horizons: [10N]
"""


@pytest.fixture
def records(tmp_path):
    """One diverged run, a curve of every other, and one of a segment that has no row yet."""
    made = planted_records(
        tmp_path, STUDY, lambda run: None if run.width == 128 else 2 + 1e4 / run.params
    )
    curves = tuple(
        Curve(segment=run.segment, trunk=run.trunk, kind=run.kind, params=run.params,
              seed=run.init_seed, tokens=np.array([512.0, 1024.0]), loss=np.array([5.5, 4.25]))
        for run in made.runs[1:]
    )  # fmt: skip
    unfinished = dataclasses.replace(curves[0], segment="not-there-yet")
    forecasts = (FORECAST | {"fit": {"large": 1}},)
    return dataclasses.replace(
        made,
        curves=(*curves, unfinished),
        forecasts=forecasts,
        searches=({"name": "s", "trials": [1, 2]},),
        provenance={"windtunnel": "0.1.0", "segments": 9},
    )


def test_what_is_written_is_read_again(records, tmp_path):
    folder = tmp_path / "records"
    written = write_records(records, folder)
    assert sorted(path.name for path in written) == sorted(p.name for p in folder.iterdir())
    found = read_records(folder)
    assert (found.study, found.config) == (records.study, records.config)
    assert found.provenance == records.provenance
    assert found.searches == records.searches
    assert found.forecasts == (FORECAST,)
    for got, want in zip(found.rows(), records.rows(), strict=True):
        assert got.keys() == want.keys()
        for name, value in want.items():
            if isinstance(value, float):
                assert got[name] == pytest.approx(value, rel=1e-6)
            else:
                assert got[name] == value, name
    # A curve without a row says nothing of its size, and is left out.
    assert [c.segment for c in found.curves] == [c.segment for c in records.curves[:-1]]
    assert found.curves[0].loss.tolist() == [5.5, 4.25]
    assert found.curves[0].params == records.curves[0].params


def test_experiments_are_told_apart_and_diverged_runs_feed_no_law(records, tmp_path):
    write_records(records, tmp_path / "records")
    found = read_records(tmp_path / "records")
    assert {run.width for run in found.of("law")} == {32, 64}
    everything = found.of("law", decayed=False)
    diverged = [run for run in everything if run.outcome == "diverged"]
    assert [run.loss for run in diverged] == [None, None]
    assert any(run.kind == "trunk" for run in everything)
    assert {run.axes["schedule.shape"] for run in found.of("rates")} == {"linear", "one_minus_sqrt"}
    assert found.table("law").rows == 4
    none = dataclasses.replace(found, runs=())
    with pytest.raises(FitError, match="no finished, decayed segment yet"):
        none.table("law")


def test_ids_of_digits_alone_stay_text(records, tmp_path):
    digits = [
        dataclasses.replace(run, segment=f"{place:016d}", trunk="12e4")
        for place, run in enumerate(records.runs)
    ]
    write_records(dataclasses.replace(records, runs=tuple(digits), curves=()), tmp_path / "r")
    run = read_records(tmp_path / "r").runs[1]
    assert (run.segment, run.trunk) == ("0000000000000001", "12e4")


def test_equal_files_are_left_alone(records, tmp_path):
    folder = tmp_path / "records"
    for path in write_records(records, folder):
        os.utime(path, (1000, 1000))
    changed = dataclasses.replace(records, provenance={"windtunnel": "0.2.0"})
    write_records(changed, folder)
    touched = [path.name for path in folder.iterdir() if path.stat().st_mtime != 1000]
    assert touched == ["provenance.json"]


def test_records_of_a_sweep_that_has_not_begun(records, tmp_path):
    nothing = dataclasses.replace(records, runs=(), curves=(), searches=(), forecasts=())
    names = {path.name for path in write_records(nothing, tmp_path / "records")}
    assert "searches.json" not in names
    found = read_records(tmp_path / "records")
    assert (found.runs, found.curves, found.searches, found.forecasts) == ((), (), (), ())


def _without_a_column(folder):
    rows = list(csv.DictReader((folder / "runs.csv").open()))
    with (folder / "runs.csv").open("w") as file:
        writer = csv.DictWriter(file, [n for n in rows[0] if n != "segment"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _without(name):
    return lambda folder: (folder / name).unlink()


def _torn(name, text):
    return lambda folder: (folder / name).write_text(text)


def _cell(name, column, text, *, row=1):
    """Another text in one cell."""

    def change(folder):
        with (folder / name).open() as file:
            rows = list(csv.reader(file))
        rows[row][rows[0].index(column)] = text
        with (folder / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    return change


def _row_twice(folder):
    text = (folder / "runs.csv").read_text()
    (folder / "runs.csv").write_text(text + text.splitlines()[1] + "\n")


def _utf_16(folder):
    text = (folder / "runs.csv").read_text()
    (folder / "runs.csv").write_bytes(text.encode("utf-16"))


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (_without("runs.csv"), "runs.csv: No such file"),
        (_without("curves.csv"), "curves.csv: No such file"),
        (_without_a_column, "runs.csv, line 2: the table has no column 'segment'"),
        (_torn("forecasts.json", '[{"written": 1'), "forecasts.json: damaged"),
        (_torn("forecasts.json", "{}"), "forecasts.json: damaged: expected a list"),
        (_torn("forecasts.json", '[{"written": 1}]'), "forecasts.json: damaged: 0.inputs"),
        (_torn("provenance.json", "[]"), "provenance.json: damaged"),
        (_torn("curves.csv", "segment,tokens,loss\n00,512"), "curves.csv, line 2"),
        (
            _torn("curves.csv", "segment,tokens,loss\n00,512,x\n"),
            "curves.csv, line 2: column 'loss'",
        ),
        (_torn("runs.csv", "\x00\n\x00\n"), "runs.csv"),
        (_utf_16, "runs.csv"),
        (_row_twice, "runs.csv: segment"),
        (_cell("runs.csv", "params", "many"), "runs.csv, line 2: column 'params'"),
        (_cell("runs.csv", "params", ""), "runs.csv, line 2: column 'params' is empty"),
        (_cell("runs.csv", "loss", "nan", row=3), "runs.csv, line 4: column 'loss'"),
        (_cell("runs.csv", "loss", "1e999", row=3), "runs.csv, line 4: column 'loss'"),
        (_cell("runs.csv", "decayed", "yes"), "runs.csv, line 2: column 'decayed'"),
        (_cell("runs.csv", "kind", "twig"), "runs.csv, line 2: column 'kind'"),
        (_cell("runs.csv", "size", "params", row=0), "runs.csv, line 2: the table has no column"),
        (_cell("runs.csv", "horizon", "params", row=0), "runs.csv, line 2"),
    ],
)
def test_a_damaged_folder_is_refused_with_file_and_line(records, tmp_path, damage, place):
    folder = tmp_path / "records"
    write_records(records, folder)
    damage(folder)
    with pytest.raises(ConfigError, match="put back a copy, or write it again") as refused:
        read_records(folder)
    assert f"{folder}/{place}" in str(refused.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_records(tmp_path / "gone")
    assert caught.value.code == "missing-records"
    assert caught.value.values == {"path": tmp_path / "gone"}


def test_a_folder_that_cannot_be_written(records, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        write_records(records, tmp_path / "file")
    assert (caught.value.code, caught.value.values["path"]) == ("cannot-write", tmp_path / "file")


def test_an_experiment_that_is_not_there_is_named(records, tmp_path):
    names = [each.name for each in records.config.experiments]
    with pytest.raises(ConfigError) as caught:
        records.of("nope")
    assert (caught.value.code, caught.value.values["known"]) == ("unknown-experiment", names)
    with pytest.raises(ConfigError, match="did you mean"):
        records.of(names[0] + "x")
    write_records(records, tmp_path / "as-text")
    assert read_records(str(tmp_path / "as-text")).study == records.study
