"""The benchmarks compare like with like, and their page says what was measured."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "experiments" / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_the_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-5), ("bf16", 5e-3)])
@pytest.mark.parametrize("kernels", ["ours", "eager"])
def test_granite_trains_the_curve_of_ours(kernels, precision, allowed):
    from contenders import contender
    from shapes import Shape
    from training_step import difference

    shape = Shape(width=64, depth=2, rows=2, context=32)  # width ratio 2: muP's factors are not 1
    ours = contender(kernels, shape, precision)(20)[1]
    theirs = contender("loop", shape, precision)(20)[1]
    assert ours[-1] < ours[0] - 1
    assert difference(theirs, ours) < allowed


def test_other_work_does_not_count():
    from training_step import counts, difference

    assert difference([2.0, 1.01], [2.0, 1.0]) == pytest.approx(0.01)
    found = {"loop": {"difference": 0.01}}
    assert counts({"precision": "bf16", "contenders": found}, "loop")
    assert not counts({"precision": "fp32", "contenders": found}, "loop")


def step_row(precision):
    fast = {"tokens_per_second": 20480.0, "of_peak": 0.5, "times_faster": 1.0, "difference": 0.0}
    slow = {"tokens_per_second": 10240.0, "of_peak": 0.25, "times_faster": 2.0, "difference": 0.01}
    return {
        "shape": "32x3",
        "precision": precision,
        "params": 1024,
        "way": "native",
        "peak": 2e11,
        "contenders": {"ours": fast, "loop": slow},
    }


@pytest.fixture
def results():
    facts = {"date": "2026-01-02", "machine": "two cores", "system": "-", "versions": "torch 9"}
    missing = {"trainer": "no accelerate"}
    started = {"imports": 1.0, "first": 2.0, "again": 0.1, "other": 0.2, "warm": 0.5}
    steps = {"rows": [step_row("fp32"), step_row("bf16")], "missing": missing, "rounds": 7}
    startup = {
        "precision": "fp32",
        "shown": "32x3",
        "other": "32x3",
        "starts": {"ours": {"32x3": started}, "loop": {"32x3": started | {"first": 1.0}}},
        "segments": [{"contender": "loop", "size": "32x3", "tokens": 61440, "seconds": 7.5}],
        "ends": [
            {
                "size": "32x3",
                "length": "60N",
                "chosen": "native",
                "seconds": {"native": 5.0, "eager": 8.0},
                "startup": {"native": 2.0, "eager": 1.0},
            }
        ],
        "missing": missing,
    }
    return {
        "training_step": {"facts": facts, "found": steps},
        "startup": {"facts": facts | {"machine": "four cores"}, "found": startup},
        "sweep": {"facts": facts, "found": {"wall": 12.5}},
    }


def test_the_page_is_rendered_from_what_was_saved(results):
    from page import render

    page = render(json.loads(json.dumps(results)))
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["## Training step", "## Start-up", "## Sweep"]  # fits was never measured
    assert "- machine: two cores" in page
    assert "four cores" in page.partition("## Start-up")[2]  # measured elsewhere
    fp32 = page.partition("### fp32")[2].partition("### bf16")[0]
    assert "| 20,480 (50%) | 10,240 (25%), does not count |" in fp32
    assert "10,240 (25%) |" in page.partition("### bf16")[2]
    assert "Left out: Trainer (no accelerate)." in page
    # 61,440 tokens: 2 s + 3 s for ours, 1 s + 6 s for the loop
    assert "| 32x3 | 61,440 | 5.0 (2.00) | 3.5 (0.50) | 7.0 (1.00) |  |  |  |" in page
    assert "| plain loop | 32x3 | 61,440 | 7.5 | 7.0 |" in page
    assert "| 60N of 32x3 | 5.0 (2.00) | 8.0 (1.00) | native | native |" in page


@pytest.mark.medium
@pytest.mark.parametrize(("part", "ratio"), [("watched", "every update"), ("experts", "native")])
def test_a_part_measures_what_its_page_says(part, ratio):
    from importlib import import_module

    module = import_module(part)
    found = json.loads(json.dumps(module.measure(quick=True)))
    (row,) = found["rows"]
    assert row["ratios"][ratio] > 0
    assert f"| {row['shape']} | " in module.page(found)


def test_parts_are_checked():
    import argparse

    from page import parts

    assert parts("fits,training_step") == ["training_step", "fits"]
    with pytest.raises(argparse.ArgumentTypeError, match="speed: no part"):
        parts("speed")


@pytest.fixture(autouse=True, scope="module")
def _forget_the_modules():
    yield
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)
