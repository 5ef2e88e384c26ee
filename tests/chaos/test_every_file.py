"""Each file of a store damaged in turn: the same results, or a refusal that names file and mend."""

import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from sweeps import results

from windtunnel.engine.sweep import Sweep
from windtunnel.errors import WindtunnelError
from windtunnel.report import write_report
from windtunnel.runs.study import open_study

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


@dataclass
class Swept:
    """A study that has run, what it gave, and a copy of its store."""

    file: Path
    expected: dict
    store: Path
    whole: Path

    def cases(self):
        """Every file that has a byte, under every damage."""
        files = [p for p in sorted(self.whole.rglob("*")) if p.is_file() and p.stat().st_size]
        return [(path.relative_to(self.whole), damage) for path in files for damage in DAMAGE]

    def go_on(self):
        """What the command does: open, run what is left, write the report; the refusal, if any."""
        try:
            study = open_study(self.file, prepared=True)
            result = Sweep(study, engine="local").run()
            write_report(open_study(self.file))
        except WindtunnelError as refused:
            return str(refused)
        assert not result.failed, result.errors
        return None

    def damage(self, name, damage, rng):
        """Damage one file and run again, and once more where that was refused: the outcome."""
        file = self.store / name
        file.write_bytes(damage(file.read_bytes(), rng))
        refused = self.go_on()
        if refused is not None:
            assert str(file) in refused or str(file.parent) in refused, refused
            shutil.copy2(self.whole / name, file)
            assert self.go_on() is None
        assert results(self.file) == self.expected
        shutil.rmtree(self.store)
        shutil.copytree(self.whole, self.store)
        return "same" if refused is None else "refused"

    def damage_each(self, cases):
        """How often each outcome was; a case that is neither stops it, by name."""
        rng, counts = random.Random(0), Counter()
        for name, damage in cases:
            try:
                counts[self.damage(name, damage, rng)] += 1
            except Exception as problem:
                raise AssertionError(f"{name}, {damage.__name__}: {problem!r}") from problem
        return counts


@pytest.fixture
def swept(study_file, tmp_path):
    """A search, and trunks with branches."""
    file = study_file(
        sizes="[16x1, 16x2]",
        horizons="[100 steps, 120 steps]",
        replace=("experiments:\n", SEARCH),
    )
    store = open_study(file, prepared=True).store.root
    done = Swept(file=file, expected={}, store=store, whole=tmp_path / "whole")
    assert done.go_on() is None
    done.expected = results(file)
    shutil.copytree(store, done.whole)
    return done


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow
def test_a_sample_of_files_damaged_in_turn(swept):
    counts = swept.damage_each(random.Random(1).sample(swept.cases(), SAMPLE))
    assert counts.total() == SAMPLE


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_each_file_damaged_in_turn(swept, chaos_log):
    counts = swept.damage_each(swept.cases())
    assert counts["same"] > 200
    assert counts["refused"] > 100
    with chaos_log.open("a") as log:
        log.write(f"files of the store damaged in turn: {dict(counts)}\n")
