"""Tables as other programs write them: the same numbers out of each, and what differs is said."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_files import refused, values
from typer.testing import CliRunner

from windtunnel.cli.app import app
from windtunnel.tables.read import read_table

NEEDS = ("params", "tokens", "loss")
ROWS = [(1e7, 2e8, 3.125), (1e7, 4e8, 2.875), (1.25e9, 5e9, 2.5), (1.25e9, 1e10, 2.25)]
PLAIN = "params,tokens,loss\n" + "".join(f"{n:.0f},{d:.0f},{x}\n" for n, d, x in ROWS)
RUNS = [dict(zip(NEEDS, row, strict=True)) for row in ROWS]


@pytest.fixture
def file(tmp_path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, columns=None, **options):
    return read_table(path, columns=columns or {}, needs=NEEDS, **options)


def wrong_cell(path):
    return values(refused(path), "place", "column", "cell")


def rows(table):
    return list(zip(*(table[name].tolist() for name in NEEDS), strict=True))


def spelled(head, line, end="\n"):
    return head + end + "".join(line(*row) + end for row in ROWS)


def euro(value, digits):
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))


SAID = {
    "UTF-16": ("a.csv", PLAIN.encode("utf-16"), ["table-format"]),
    "UTF-32": ("a.csv", PLAIN.encode("utf-32"), ["table-format"]),
    "a mark": ("a.csv", PLAIN.encode("utf-8-sig"), []),
    "CRLF": ("a.csv", PLAIN.replace("\n", "\r\n"), []),
    "CR alone": ("a.csv", PLAIN.replace("\n", "\r"), []),
    "capitals": ("A.CSV", PLAIN, []),
    "tabs": ("a.csv", PLAIN.replace(",", "\t"), ["table-format"]),
    "tabs in a TSV": ("a.tsv", PLAIN.replace(",", "\t"), []),
    "commas in a TSV": ("a.tsv", PLAIN, ["table-format"]),
    "semicolons": ("a.csv", PLAIN.replace(",", ";"), ["table-format"]),
    "Excel's line": ("a.csv", "sep=;\r\n" + PLAIN.replace(",", ";"), ["table-format"]),
    "comments": ("a.csv", "# a, b\n#\n" + PLAIN + "# the end\n", ["table-format"]),
    "a row commented out": ("a.csv", PLAIN + "#1e7,2e8,9.9\n", ["table-format"]),
    "numpy's header": ("a.csv", "# " + PLAIN, ["table-format"]),
    "packed": ("a.csv", gzip.compress(PLAIN.encode()), ["table-format"]),
    "not packed": ("a.csv.gz", PLAIN, ["table-format"]),
    "German": (
        "a.csv",
        spelled("params;tokens;loss", lambda n, d, x: f"{euro(n, 0)};{euro(d, 0)};{euro(x, 3)}"),
        ["table-format", "number-format"],
    ),
    "decimal commas": (
        "a.csv",
        spelled("params;tokens;loss", lambda n, d, x: f"{n:.1f};{d:.0f};{x}".replace(".", ",")),
        ["table-format", "number-format"],
    ),
    "thousands": (
        "a.csv",
        spelled("params,tokens,loss", lambda n, d, x: f'"{n:,.0f}","{d:,.1f}",{x}'),
        ["number-format"],
    ),
    "underscores": (
        "a.csv", spelled("params,tokens,loss", lambda n, d, x: f"{n:_.0f},{d:.0f},{x}"),
        ["number-format"],
    ),
    "thin spaces": (
        "a.csv",
        spelled("params,tokens,loss", lambda n, d, x: f"{n:_.0f},{d:.0f},{x}").replace(
            "_", "\u202f"
        ),
        ["number-format"],
    ),
    "suffixes": (
        "a.csv", spelled("params,tokens,loss", lambda n, d, x: f"{n / 1e9}B,{d / 1e6:.0f} m,{x}"),
        ["number-format"],
    ),
    "an array": ("a.json", json.dumps(RUNS, indent=2), []),
    "an array in a line": ("a.jsonl", json.dumps(RUNS), []),
    "lines in .json": ("a.json", "\n".join(map(json.dumps, RUNS)), []),
    "lines of CR": ("a.ndjson", "\r".join(map(json.dumps, RUNS)), []),
    "columns": (
        "a.json", json.dumps({k: [run[k] for run in RUNS] for k in NEEDS}, indent=1), [],
    ),
    "numbers as text": (
        "a.jsonl", "\n".join(json.dumps({k: str(v) for k, v in run.items()}) for run in RUNS), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_the_same_numbers_out_of_every_spelling(file, name):
    path, content, codes = SAID[name]
    found = read(file(path, content))
    assert rows(found.table) == ROWS
    assert [diagnostic.code for diagnostic in found.diagnostics] == codes


def test_nested_names_are_joined_by_dots(file, tmp_path):
    nested = [
        {"config": {"model": {"params": n}, "tokens": d}, "loss": {"val": x}, "note": None}
        for n, d, x in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(nested), tmp_path / "a.parquet")
    columns = {"params": "config.model.params", "tokens": "config.tokens", "loss": "loss.val"}
    for path in (
        file("a.jsonl", "\n".join(map(json.dumps, nested))),
        file("a.json", json.dumps(nested)),
        tmp_path / "a.parquet",
    ):
        found = read(path, columns, where=["config.model.params > 1e8"])
        assert rows(found.table) == ROWS[2:], path
        assert values(refused(path), "suggested") == ("unknown-column", "config.model.params")


@pytest.mark.parametrize("folder", ["params=1", "loss=ce", "seed=3"])
def test_a_folder_of_a_parquet_file_is_no_column(tmp_path, folder):
    path = tmp_path / folder / "runs.parquet"
    path.parent.mkdir()
    columns = {
        "params": pa.array([int(n) for n, _, _ in ROWS], pa.uint64()),
        "tokens": [d for _, d, _ in ROWS],
        "loss": pa.array([Decimal(str(x)) for *_, x in ROWS], pa.decimal128(9, 5)),
        "run": pa.array([b"a", b"b", b"c", b"d"]),
        "state": pa.array(["finished", "finished", "crashed", "finished"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), path)
    found = read(path)
    assert rows(found.table) == [ROWS[0], ROWS[1], ROWS[3]]
    assert found.table.labels["run"].tolist() == ["a", "b", "d"]
    assert "seed" not in found.table


def test_a_parquet_file_that_is_damaged_or_holds_a_name_twice(tmp_path):
    path = tmp_path / "runs.parquet"
    names = ["params", "params", "tokens", "loss"]
    arrays = [pa.array([row[k] for row in ROWS]) for k in (0, 0, 1, 2)]
    pq.write_table(pa.Table.from_arrays(arrays, names=names), path)
    assert values(refused(path), "column") == ("duplicate-column", "params")
    whole = path.read_bytes()
    for cut in range(8, len(whole), 97):
        path.write_bytes(whole[:cut] + whole[-8:])
        assert values(refused(path), "where") == ("unreadable", path)


def test_signs_that_contradict_each_other_are_refused_by_their_line(file):
    """`2,5` beside `2.345`: one of the two is a slip, and neither reading is taken for both."""
    path = file("a.csv", 'params,tokens,loss\n1e7,2e8,2.345\n1e7,4e8,"2,5"\n')
    assert wrong_cell(path) == ("not-a-number", "line 3", "loss", "2,5")
    path = file("a.csv", 'params,tokens,loss\n"1,234",2e8,"2,345"\n')
    assert wrong_cell(path) == ("not-a-number", "line 2", "params", "1,234")


def test_a_suffix_is_for_counts_alone(file):
    path = file("a.csv", "params,tokens,loss\n10M,0.2B,3.1k\n")
    assert wrong_cell(path) == ("not-a-number", "line 2", "loss", "3.1k")


def test_a_column_without_a_name_is_told_unless_it_is_an_index(file):
    lines = PLAIN.splitlines()
    index = "\n".join(f"{k if k else ''},{line}" for k, line in enumerate(lines))
    assert read(file("a.csv", index)).diagnostics == ()
    last = "\n".join(f"{line},{k if k else ''}" for k, line in enumerate(lines))
    assert [each.code for each in read(file("a.csv", last)).diagnostics] == ["table-format"]


def test_long_cells_are_cells(file):
    lines = PLAIN.splitlines()
    text = "\n".join([lines[0] + ",cfg", *(f"{line},{'x' * 200_000}" for line in lines[1:])])
    assert rows(read(file("a.csv", text)).table) == ROWS


@pytest.mark.medium
def test_other_alphabets_on_an_ascii_terminal(file, monkeypatch, tmp_path):
    """Every path that prints: text with tables, warnings and file names, and errors."""
    import subprocess
    import sys

    rng = np.random.default_rng(0)
    sizes, ratios = np.geomspace(1e7, 1e9, 5), (5, 10, 20, 40, 80)
    lines = [
        f"Läufe,{n},{n * r},{1.7 + 400 / n**0.34 + 410 / (n * r) ** 0.28 + 1e-3 * rng.normal()}"
        for n in sizes for r in ratios
    ]  # fmt: skip
    path = file("größe-トークン.csv", "\n".join(["État,Größe α,トークン,Verlust", *lines]))
    columns = ["--params", "Größe α", "--tokens", "トークン", "--loss", "Verlust"]
    commands = (
        [*columns, "--where", "État == Läufe", "--bootstrap", "60"],
        [*columns, "--bootstrap", "60", "--json"],
        [*columns, "--out", str(tmp_path / "ö.json"), "--bootstrap", "60"],
        columns[:4],
        [*columns, "--where", "État == Ü"],
    )
    arguments = [each for options in commands for each in ("fit", path, *options, "END")]
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, *map(str, arguments)],
        capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    parts = done.stdout.decode().split("ended ")
    assert [int(part.split("\n")[0]) for part in parts[1:]] == [0, 0, 0, 2, 2]
    assert json.loads(parts[1].split("\n", 1)[1])["n"] == len(lines)


ONE_BY_ONE = """
import sys
from windtunnel.cli import main

arguments = sys.argv[1:]
while arguments:
    end = arguments.index("END")
    sys.argv, arguments = ["windtunnel", *arguments[:end]], arguments[end + 1:]
    try:
        main()
    except SystemExit as ended:
        print("ended", ended.code or 0, flush=True)
"""


@pytest.mark.medium
def test_json_has_no_number_that_does_not_exist(file):
    """Four points, two of them far: draws that no float holds are no forecast."""
    path = file("two.csv", "x,y\n1e18,416320605\n2e18,560239841\n5e18,741495903\n1e19,988644331\n")
    done = CliRunner().invoke(app, ["fit", str(path), "--law", "power"])
    assert done.exit_code == 0
    assert "nan" not in done.stdout
    assert "inside its 90% interval" in done.stdout
