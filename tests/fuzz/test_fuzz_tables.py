"""Odd tables through `fit`: a fit without numbers that do not exist, or what is wrong and where."""

import csv
import gzip
import io
import json
from typing import Any

import numpy as np
import pytest

CELLS: tuple[Any, ...] = (
    "", "nan", "NaN", "inf", "-inf", "None", "null", "NA", "0", "-1", "1e-320", "1e400", "abc",
    "1,234", "1.234,5", "125M", "1.3B", "1_000", "0x10", "true", "  3  ", "größe", "=1+1", '"', "'",
    "\0", "1;2", "#", "--", "1e", "٣", "𝟙", "crashed", "failed", "running",
)  # fmt: skip
NAMES = (
    "params", "tokens", "loss", "flops", "run", "trunk", "decayed", "outcome", "state", "State",
    "step", "epochs", "unique_tokens", "total_params", "active_params", "variant", "", " ", "x",
    "loss=ce", "größe", "a,b", 'q"uote', "lr", "batch_tokens", "N", "D", "Model Size",
)  # fmt: skip
LAWS = (
    "chinchilla", "power", "power-offset", "isoflop", "envelope", "lr-valley", "batch", "sigmoid",
    "data-constrained", "power2", "exp-offset", "mixture",
)  # fmt: skip


def _rows(draw: Any) -> tuple[list[str], list[list[Any]]]:
    """A planted table of runs, with some of its cells, columns or rows spoilt."""
    rng = np.random.default_rng(draw.randrange(2**32))
    count = draw.choice((0, 1, 2, 5, 12, 30, 30, 30))
    params = 10 ** rng.uniform(5, 9, count)
    tokens = params * 10 ** rng.uniform(0.5, 2, count)
    loss = 1.7 + 400 / params**0.34 + 400 / tokens**0.28 + rng.normal(0, 0.003, count)
    columns: dict[str, Any] = {
        "params": params.round() / draw.choice((1, 1, 1, 1, 1, 1, 1e6, 1e9)),
        "tokens": tokens.round() / draw.choice((1, 1, 1, 1, 1, 1, 1e9)),
        "loss": loss * draw.choice((1, 1, 1, 1, 1, 1, 1, 100, -1)),
    }
    for name in draw.sample(NAMES, draw.choice((0, 0, 1, 4))):
        columns[name] = [draw.choice((draw.random(), draw.choice(CELLS), 7)) for _ in range(count)]
    rows = [list(each) for each in zip(*columns.values(), strict=True)]
    spoilt = draw.choice((0, 0, 0.05, 0.3))
    for row in rows:
        if draw.random() < spoilt:
            row[draw.randrange(len(row))] = draw.choice(CELLS)
    if rows and draw.random() < 0.3:
        rows += draw.choices(rows, k=draw.randint(1, 3))
    return list(columns), rows


def _csv(draw: Any, names: list[str], rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=draw.choice(",,,,,,;\t|"),
        lineterminator=draw.choice(("\n", "\n", "\r\n", "\r")),
    )
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue().encode(draw.choice((*["utf-8"] * 8, "utf-8-sig", "utf-16")))


def _jsonl(draw: Any, names: list[str], rows: list[list[Any]]) -> bytes:
    objects: list[Any] = [dict(zip(names, map(_plain, row), strict=True)) for row in rows]
    for each in objects:
        if draw.random() < 0.1:
            each["config"] = {"model": {"params": 1e6}}
    if draw.random() < 0.1:
        objects.append(draw.choice(([], 3, None, "text")))
    return "\n".join(map(json.dumps, objects)).encode()


def _parquet(draw: Any, names: list[str], rows: list[list[Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    arrays = {
        name: cells if len({type(cell) for cell in cells}) < 2 else [str(cell) for cell in cells]
        for name, cells in columns.items()
    }
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    return sink.getvalue()


def _plain(cell: Any) -> Any:
    return float(cell) if isinstance(cell, np.floating) else cell


def _damaged(draw: Any, content: bytes) -> bytes:
    if not content or draw.random() < 0.7:
        return content
    place = draw.randrange(len(content))
    if draw.random() < 0.5:
        return content[:place]
    return content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]


@pytest.mark.medium
def test_odd_tables_fit_or_say_what_is_wrong(cases, command, tmp_path):
    kinds = {"csv": _csv, "csv.gz": _csv, "jsonl": _jsonl, "parquet": _parquet, "tsv": _csv}
    refused = fitted = 0
    for number, draw in enumerate(cases("tables")):
        suffix = draw.choice(list(kinds))
        path = tmp_path / f"runs{number}.{suffix}"
        content = kinds[suffix](draw, *_rows(draw))
        if suffix.endswith(".gz") is (draw.random() < 0.95):  # the suffix is seldom a lie
            content = gzip.compress(content, mtime=0)
        path.write_bytes(_damaged(draw, content))
        law = draw.choice(("chinchilla",) * 12 + LAWS)
        count = "60" if law == "auto" else draw.choice(("0", "20"))
        options = ["--bootstrap", count, "--law", law]
        if law.startswith(("power", "exp")):
            options += ["--x", "params", "--y", "loss"]
        if draw.random() < 0.2:
            options += ["--where", draw.choice(("params>1e6", "loss<9", "x in a,b", "size==1"))]
        if draw.random() < 0.2:
            options += ["--scale", draw.choice(("params=1e6", "tokens=1e9", "loss=0", "x=1"))]
        case = f"case {number} {path}"
        code, output, error = command(case, "fit", path, *options)
        refused += code != 0
        fitted += code == 0
        assert code in {0, 2}, (case, error)
        assert "nan" not in output.lower().split(), (case, output)
    assert refused
    assert fitted
