"""Imported runs: a fold over appended lines, rows like gather's, ids by content."""

import dataclasses
import json

import pytest

from windtunnel.errors import ConfigError
from windtunnel.laws import fit
from windtunnel.report.figures.style import size_colour
from windtunnel.runs.files import DamagedFile
from windtunnel.runs.forecast import as_table, law_runs
from windtunnel.runs.imported import (
    Imported,
    Measured,
    add_runs,
    arrivals,
    imported_diagnostics,
    imported_file,
    imported_runs,
    read_imported,
    remove_run,
    study_runs,
)
from windtunnel.runs.study import open_study
from windtunnel.runs.table import COLUMNS, as_row


def run(label="big", *, loss=2.5, source="runs.csv", **changes):
    measured = Measured(
        experiment="law", params=1_200_000_000, tokens=24_000_000_000, loss=loss,
        losses={"words": loss}, decayed=True,
    )  # fmt: skip
    return Imported(
        label=label,
        measured=dataclasses.replace(measured, **changes),
        origin={"tool": "csv", "source": source, "sha256": "0" * 64},
        time=1.8e9,
    )


def test_a_row_has_the_shape_of_gathers(tmp_path):
    add_runs(tmp_path, [run(lr=3e-4)])
    (imported,) = imported_runs(tmp_path)
    row = as_row(imported)
    assert list(row)[: len(COLUMNS)] == list(COLUMNS)
    known = {name: value for name, value in row.items() if value is not None}
    segment = known.pop("segment")
    assert segment == run(lr=3e-4).segment
    assert segment.startswith("imported-")
    assert len(segment) == len("imported-") + 16
    assert known == {
        "kind": "imported", "trunk": segment, "decayed": True, "experiment": "law",
        "held_out": False, "params": 1_200_000_000, "tokens": 24_000_000_000,
        "flops_6nd": 6 * 1.2e9 * 2.4e10, "flops": 6 * 1.2e9 * 2.4e10, "lr": 3e-4,
        "outcome": "finished", "loss": 2.5, "loss_words": 2.5, "label": "big",
        "source": "csv runs.csv",
    }  # fmt: skip


def test_flops_of_another_tool_and_a_shared_trunk_are_kept(tmp_path):
    add_runs(tmp_path, [run("a", trunk="t", flops=2e20), run("b", trunk="t", flops=3e20)])
    runs = imported_runs(tmp_path)
    assert [each.trunk for each in runs] == ["imported-t", "imported-t"]
    assert [each.flops for each in runs] == [2e20, 3e20]
    assert {each.flops_6nd for each in runs} == {6 * 1.2e9 * 2.4e10}


@pytest.mark.parametrize(
    "change",
    [{"loss": 2.6}, {"decayed": False}, {"tokens": 1}, {"experiment": "b"}, {"losses": {}}],
)
def test_the_id_is_that_of_label_and_numbers(change):
    assert run(source="elsewhere.csv").segment == run().segment
    assert run(**change).segment != run().segment
    assert run("other").segment != run().segment


def test_the_last_line_of_a_label_counts_and_none_is_rewritten(tmp_path):
    add_runs(tmp_path, [run("a"), run("b")])
    first = imported_file(tmp_path).read_bytes()
    assert remove_run(tmp_path, "a") == run("a")
    assert list(read_imported(tmp_path)) == ["b"]
    add_runs(tmp_path, [run("b", loss=2.4), run("a", loss=2.3)])
    found = read_imported(tmp_path)
    assert {label: each.measured.loss for label, each in found.items()} == {"a": 2.3, "b": 2.4}
    assert imported_file(tmp_path).read_bytes().startswith(first)
    assert len(imported_file(tmp_path).read_text().splitlines()) == 5


def test_what_arrives_is_new_known_or_changed(tmp_path):
    add_runs(tmp_path, [run("a"), run("b")])
    found = arrivals(tmp_path, [run("a", source="moved.csv"), run("b", loss=9.0), run("c")])
    assert [each.label for each in found.new] == ["c"]
    assert [each.label for each in found.known] == ["a"]
    assert [(old.measured.loss, new.measured.loss) for old, new in found.changed] == [(2.5, 9.0)]


def test_removing_what_is_not_there_names_what_is(tmp_path):
    add_runs(tmp_path, [run("big-1")])
    with pytest.raises(ConfigError, match=r"did you mean 'big-1'\?") as refused:
        remove_run(tmp_path, "big1")
    assert refused.value.code == "unknown-run"
    assert refused.value.values == {"label": "big1", "known": ["big-1"]}


def test_a_torn_last_line_is_left_out_and_healed(tmp_path):
    add_runs(tmp_path, [run("a"), run("b")])
    path = imported_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    assert list(read_imported(tmp_path)) == ["a"]
    add_runs(tmp_path, [run("c")])
    assert list(read_imported(tmp_path)) == ["a", "c"]
    assert len(path.read_text().splitlines()) == 2


def test_a_whole_last_line_without_an_end_counts(tmp_path):
    add_runs(tmp_path, [run("a"), run("b")])
    path = imported_file(tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert list(read_imported(tmp_path)) == ["a", "b"]
    remove_run(tmp_path, "a")
    assert list(read_imported(tmp_path)) == ["b"]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda line: line[:-60], "not-json"),
        (lambda line: line[:-1] + b', "time": 0}', None),
        (lambda line: b"<<<<<<< HEAD\n" + line, "not-json"),
        (lambda line: line.replace(b"big", b"gro\xdf"), "not-utf8"),
    ],
)
def test_a_damaged_line_before_the_last_is_refused_and_not_skipped(tmp_path, damage, code):
    add_runs(tmp_path, [run("a"), run("big"), run("c")])
    path = imported_file(tmp_path)
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, damage(second), third, b""]))
    with pytest.raises(DamagedFile) as refused:
        read_imported(tmp_path)
    assert code in {None, refused.value.code}
    assert (refused.value.values["file"], refused.value.values["line"]) == (path, 2)
    path.write_bytes(b"\n".join([first, b"", b"  ", third, b""]))  # taken out by hand
    assert list(read_imported(tmp_path)) == ["a", "c"]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_line_that_is_no_utf8_was_not_torn_by_a_crash(tmp_path, end):
    add_runs(tmp_path, [run("a")])
    path = imported_file(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"action": "\xff' + end)
    for use in (read_imported, lambda folder: add_runs(folder, [run("b")])):
        with pytest.raises(DamagedFile) as refused:
            use(tmp_path)
        assert (refused.value.code, refused.value.values["line"]) == ("not-utf8", 2)


def test_half_a_line_with_an_end_is_damage(tmp_path):
    add_runs(tmp_path, [run("a"), run("b")])
    path = imported_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-40] + b"\n")
    with pytest.raises(DamagedFile) as refused:
        read_imported(tmp_path)
    assert (refused.value.code, refused.value.values["line"]) == ("not-json", 2)


@pytest.mark.parametrize(
    ("broken", "code"),
    [("edited", "wrong-checksum"), ("unknown", "wrong-checksum"), ("number", "wrong-type")],
)
def test_a_line_changed_by_hand_is_refused(tmp_path, broken, code):
    add_runs(tmp_path, [run()])
    path = imported_file(tmp_path)
    line = json.loads(path.read_text())
    if broken == "edited":
        line["measured"]["loss"] = 1.0
    elif broken == "unknown":
        line["measured"]["width"] = 64
    else:
        line = 3
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DamagedFile) as refused:
        imported_runs(tmp_path)
    assert (refused.value.code, refused.value.values["line"]) == (code, 1)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"loss": 1.0}, "edited"), ({"width": 64}, "unknown-key")],
)
def test_a_line_without_checksum_that_was_changed_is_refused(tmp_path, change, code):
    add_runs(tmp_path, [run()])
    path = imported_file(tmp_path)
    line = json.loads(path.read_text())
    del line["checksum"]
    line["measured"] |= change
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DamagedFile) as refused:
        imported_runs(tmp_path)
    assert (refused.value.code, refused.value.values["file"]) == (code, path)


def test_a_study_has_its_own_runs_and_those(study_file):
    study = open_study(study_file())
    assert study_runs(study) == []
    study.store.open_for_writing()
    add_runs(study.folder, [run()])
    assert [each.segment for each in study_runs(study)] == [run().segment]


def test_a_fit_without_exact_flops_has_no_exact_ratio(tmp_path):
    law = {(n, d): 1.7 + 400 * n**-0.34 + 410 * d**-0.28
           for n in (1e7, 3e7, 1e8, 3e8) for d in (1e9, 3e9, 1e10)}  # fmt: skip
    add_runs(
        tmp_path,
        [
            run(f"{n:g} {d:g}", params=int(n), tokens=int(d), loss=loss)
            for (n, d), loss in law.items()
        ],
    )
    runs = law_runs(imported_runs(tmp_path))
    assert len(runs) == 12
    table = as_table(runs)
    assert sorted(table.columns) == ["flops", "loss", "params", "tokens"]
    fitted = fit(table, intervals="none")
    assert fitted.coefficients["alpha"] == pytest.approx(0.34, rel=1e-3)
    assert fitted.optimum(1e19).ratio_exact is None


def test_the_caution_counts_and_names_the_sources(tmp_path):
    add_runs(tmp_path, [run("a"), run("b"), run("c", source="other.csv")])
    own = [None] * 3
    (diagnostic,) = imported_diagnostics([*own, *(each.source for each in imported_runs(tmp_path))])
    assert diagnostic.code == "imported-runs"
    sources = {"csv runs.csv": 2, "csv other.csv": 1}
    assert diagnostic.values == {"rows": 6, "imported": 3, "sources": sources}
    assert imported_diagnostics(own) == ()


def test_a_page_has_a_colour_for_each_of_many_imported_sizes():
    assert size_colour(5) == "#010205"
    assert size_colour(300) == "#01032c"  # six digits still: matplotlib takes no more
