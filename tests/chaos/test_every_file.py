"""Each file of a store damaged in turn: the same results, or a refusal that names file and mend."""

import random
import shutil

import pytest
from sweeps import results

from windtunnel.engine.sweep import Sweep
from windtunnel.errors import WindtunnelError
from windtunnel.report import write_report
from windtunnel.trials.study import open_study

SEARCH = """\
experiments:
  - kind: search
    name: rates
    size: 16x1
    space: {recipe.lr: {low: 3e-3, high: 3e-2, log: true}}
    trials: 3
    batch: 2
    sampler: tpe
    horizon: 100 steps
    top: 1
    repeats: 1
"""
SAMPLE = 12


def truncated(data, rng):
    return data[: len(data) // 2]


def emptied(data, rng):
    return b""


def zeroed(data, rng):
    return bytes(len(data))


def bit_flipped(data, rng):
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


DAMAGE = (truncated, emptied, zeroed, bit_flipped)


@pytest.fixture
def swept(study_file, tmp_path):
    """A search and trunks with branches, its results, and a copy of its store."""
    path = study_file(
        sizes="[16x1, 16x2]",
        horizons="[100 steps, 120 steps]",
        replace=("experiments:\n", SEARCH),
    )
    study = sweep(path)
    shutil.copytree(study.store.root, tmp_path / "whole")
    return path, study, results(path), tmp_path / "whole"


def sweep(path):
    """What the command does: open, run what is left, write the report."""
    study = open_study(path, prepared=True)
    result = Sweep(study, engine="local").run()
    assert not result.failed, result.errors
    write_report(open_study(path))
    return study


def cases(whole):
    """Every file that has a byte, under every damage."""
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    return [(name, damage) for name in files for damage in DAMAGE if (whole / name).stat().st_size]


def outcome_of(path, study, whole, name, damage, rng):
    """`same` or `refused`; anything else is an error."""
    file = study.store.root / name
    data = damage(file.read_bytes(), rng)
    file.write_bytes(data)
    try:
        sweep(path)
    except WindtunnelError as refused:
        assert str(file) in str(refused) or str(file.parent) in str(refused), (name, refused)
        assert ";" in str(refused) or ":" in str(refused)
        shutil.copy2(whole / name, file)
        sweep(path)
        return "refused"
    return "same"


def run(swept, chosen, log=None):
    path, study, expected, whole = swept
    rng = random.Random(0)
    counts = {}
    for name, damage in chosen:
        try:
            outcome = outcome_of(path, study, whole, name, damage, rng)
            assert results(path) == expected
        except Exception as problem:
            raise AssertionError(f"{name}, {damage.__name__}: {problem!r}") from problem
        counts[outcome] = counts.get(outcome, 0) + 1
        shutil.rmtree(study.store.root)
        shutil.copytree(whole, study.store.root)
    return counts


def test_a_sample_of_files_damaged_in_turn(swept):
    chosen = random.Random(1).sample(cases(swept[3]), SAMPLE)
    counts = run(swept, chosen)
    assert sum(counts.values()) == SAMPLE


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_each_file_damaged_in_turn(swept, chaos_log):
    chosen = cases(swept[3])
    counts = run(swept, chosen)
    with chaos_log.open("a") as log:
        log.write(f"files of the store damaged in turn: {len(chosen)} times, {counts}\n")
