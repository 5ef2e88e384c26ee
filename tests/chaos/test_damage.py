"""A damaged checkpoint is noticed, said, and made again: the same results, each row once."""

import os
import random
import shutil
import subprocess
import sys

import pytest
from sweeps import assert_recorded_once, results, undisturbed

from windtunnel.engine.sweep import Sweep
from windtunnel.engine.worker import Worker
from windtunnel.runs.files import write_json
from windtunnel.runs.study import open_study
from windtunnel.train import checkpoint


def truncate(folder):
    weights = folder / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def flip_a_bit_of_the_moments(folder):
    moments = folder / checkpoint.MOMENTS
    data = bytearray(moments.read_bytes())
    data[len(data) // 2] ^= 1
    moments.write_bytes(data)


def change_a_digit_of_the_metadata(folder):
    meta = folder / checkpoint.META
    text = meta.read_text()
    at = text.index('"smoothed": "') + len('"smoothed": "')
    meta.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def remove_a_file(folder):
    (folder / checkpoint.MOMENTS).unlink()


def empty_the_metadata(folder):
    (folder / checkpoint.META).write_bytes(b"")


DAMAGE = [
    truncate,
    flip_a_bit_of_the_moments,
    change_a_digit_of_the_metadata,
    remove_a_file,
    empty_the_metadata,
]
SETTINGS = {"sizes": "[16x1]", "horizons": "[300 steps, 600 steps]"}
OFTEN = ("checkpoint_seconds: 0.3", "checkpoint_seconds: 0.0001")


@pytest.fixture
def study(study_file, known):
    """A study that saves after every few updates, and what it gives undisturbed."""
    path = study_file(**SETTINGS, replace=OFTEN)
    if "damage" not in known:
        known["damage"] = undisturbed(path)
    return path, known["damage"]


def begin(path, stops):
    """Run the trunk for some stops, then leave it as Ctrl-C would; its folder."""
    opened = open_study(path, prepared=True)
    config_path = opened.folder / "orders.json"
    write_json(config_path, Sweep(opened, engine="local").worker_config.model_dump(mode="json"))
    worker, trunk = Worker(config_path), opened.plan.trunks[0]
    for _ in range(stops):
        worker.run(trunk, trunk_tokens=trunk.tokens)
    worker.close()
    return opened.store.segment(trunk.id)


def go_on(path):
    result = Sweep(open_study(path, prepared=True), engine="local").run()
    assert not result.failed
    assert result.errors == {}
    assert_recorded_once(path)
    return results(path)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.medium
def test_the_last_checkpoint_of_an_interrupted_trunk(study, damage):
    path, expected = study
    trunk = begin(path, stops=25)
    fork, last = trunk.resumable(10**9)[-1], trunk.resumable(10**9)[0]
    assert fork.parent == trunk.checkpoints
    assert last.parent == trunk.resume
    damage(last)
    assert go_on(path) == expected
    assert trunk.last_note().startswith(f"{last}: damaged checkpoint: ")
    assert trunk.last_note().endswith("; removed, going on from the one before")


@pytest.mark.medium
def test_every_checkpoint_of_an_interrupted_trunk(study):
    path, expected = study
    trunk = begin(path, stops=25)
    for folder in trunk.resumable(10**9):
        truncate(folder)
    assert go_on(path) == expected


@pytest.mark.medium
def test_a_checkpoint_that_is_gone(study):
    path, expected = study
    trunk = begin(path, stops=25)
    shutil.rmtree(trunk.resumable(10**9)[0])
    assert go_on(path) == expected


@pytest.mark.parametrize("damage", [*DAMAGE, shutil.rmtree])
@pytest.mark.medium
def test_the_fork_checkpoint_of_a_branch(study, damage):
    path, expected = study
    go_on(path)
    opened = open_study(path)
    trunk, branch = (opened.store.segment(p.id) for p in opened.plan.segments[:2])
    fork = trunk.checkpoint(opened.plan.segments[1].segment.fork_step)
    shutil.rmtree(branch.root)
    damage(fork)
    assert go_on(path) == expected
    if damage is not shutil.rmtree:
        assert branch.last_note().startswith(f"{fork}: damaged checkpoint: ")
        assert branch.last_note().endswith("; removed, its parent makes it again")


@pytest.mark.parametrize("kind", ["trunk", "branch"])
@pytest.mark.parametrize("damage", [truncate, change_a_digit_of_the_metadata])
@pytest.mark.medium
def test_the_last_checkpoint_before_it_was_measured(study, kind, damage):
    """Killed between the last checkpoint and its measurement; then the disk damages it."""
    path, expected = study
    go_on(path)
    opened = open_study(path)
    planned = next(p for p in opened.plan.segments if p.segment.kind == kind)
    folder = opened.store.segment(planned.id)
    for name in ("record.json", "measurements.json"):
        (folder.root / name).unlink()
    damage(folder.checkpoint(planned.end if kind == "branch" else planned.forks[-1]))
    assert go_on(path) == expected


@pytest.mark.parametrize("where", ["torn", "damaged", "gone"])
@pytest.mark.medium
def test_a_curve_that_lost_rows(study, where):
    """A power cut, or a bad block: the updates whose rows are lost are done again."""
    path, expected = study
    trunk = begin(path, stops=25)
    lines = trunk.curve.read_bytes().splitlines(keepends=True)
    kept = {"torn": lines[:150], "damaged": [*lines[:150], b"{\x00\n", *lines[151:]], "gone": []}
    trunk.curve.write_bytes(b"".join(kept[where]))
    assert go_on(path) == expected


@pytest.mark.medium
def test_what_killed_processes_left_in_finished_segments_is_cleared_away(study):
    """Killed between record and release: no later run has to do with the segment."""
    path, expected = study
    go_on(path)
    opened = open_study(path)
    dead = subprocess.run([sys.executable, "-c", HOLD], capture_output=True, text=True, check=True)
    for planned in opened.plan.segments:
        folder = opened.store.segment(planned.id)
        (folder.root / "lease.json").write_text(dead.stdout)
        (folder.root / ".record.json.0123abcd").write_text('{"outcome": "fin')
        (folder.root / ".lease.json.0123456789abcdef").write_text("")
        (folder.checkpoints / ".000000300.0123abcd").mkdir()
        (folder.resume / "000000016").mkdir(parents=True)
    old = opened.folder / ".plan.json.0123abcd"
    old.write_text("{")
    os.utime(old, (0, 0))
    assert go_on(path) == expected
    assert not old.exists()


HOLD = """\
import tempfile
from pathlib import Path
from windtunnel.runs.lease import Lease
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "lease.json"
    with Lease(path, what="x"):
        print(path.read_text())
"""


@pytest.mark.medium
def test_no_bit_of_a_checkpoint_flips_unnoticed(study):
    path, _ = study
    last = begin(path, stops=3).resumable(10**9)[0]
    whole, rng, tried = checkpoint.verify(last), random.Random(0), 0
    for name in (checkpoint.META, checkpoint.WEIGHTS, checkpoint.MOMENTS):
        file, data = last / name, (last / name).read_bytes()
        bits = range(8 * len(data))
        for bit in bits if name == checkpoint.META else rng.sample(bits, 200):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            tried += 1
            try:
                found = checkpoint.verify(last)
            except checkpoint.Damaged:
                continue
            assert found == whole  # as 1e-3 and 1E-3
        file.write_bytes(data)
    assert tried > 4000
    assert checkpoint.verify(last) == whole
