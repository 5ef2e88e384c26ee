"""A sweep as its user runs it, in processes of its own; waits with a limit; what it left behind."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from windtunnel.engine.sweep import Sweep
from windtunnel.runs.completion import stops_of
from windtunnel.runs.measured import gather
from windtunnel.runs.study import open_study

COMMAND = [sys.executable, "-c", "from windtunnel.cli import main; main()", "sweep"]

SLOW_DISK = """\
import os, time
fsync = os.fsync
def slow(file):
    time.sleep(0.02)
    fsync(file)
os.fsync = slow
"""
"""Twenty milliseconds for every file that is made to last, as on a disk that turns."""


def until(condition, what, *, seconds):
    """The first true value of `condition()`, which is asked every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.005)
    return found


class RunningSweep:
    """`windtunnel sweep FILE` in a session of its own; its output goes to a file beside it."""

    started: ClassVar[list["RunningSweep"]] = []

    def __init__(self, file, *options, python_path=(), env=None):
        self.file, self.log = Path(file), Path(file).with_suffix(".log")
        paths = [*map(str, python_path), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | (env or {}) | {"PYTHONPATH": os.pathsep.join(paths)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, str(file), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.started.append(self)

    @property
    def output(self):
        return self.log.read_text()

    @property
    def over(self):
        return self.process.poll() is not None

    def tree(self):
        """Every process below it that lives."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self):
        return [p for p in self.tree() if _name(p).startswith("ray::") and "Trainable" in _name(p)]

    def server(self, name):
        return next((p for p in self.tree() if _name(p) == name), None)

    def signal(self, number):
        os.kill(self.pid, number)

    def finish(self, *, seconds=180):
        """(exit code, output), once it has ended by itself."""
        try:
            until(lambda: self.over, "the end of the sweep", seconds=seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; so far it said:\n{self.output}") from None
        return self.process.returncode, self.output

    @classmethod
    def end_all(cls):
        """Kill what a test that failed has left running."""
        while cls.started:
            sweep = cls.started.pop()
            for process in sweep.tree():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if not sweep.over:
                sweep.process.kill()
                sweep.process.wait()


def _name(process):
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def swept(file, *options, **more):
    """Run a sweep to its end, which must be a good one; what it said."""
    code, output = RunningSweep(file, *options, **more).finish()
    assert code == 0, output
    return output


def undisturbed(file):
    """Results of a run in this process, which nothing disturbs; of it only the data stay."""
    study = open_study(file, prepared=True)
    assert not Sweep(study, engine="local").run().failed
    found = results(file)
    assert_recorded_once(file)
    wipe(file)
    return found


def wipe(file):
    """Let the next sweep begin anew, on the same data."""
    study = open_study(file)
    shutil.rmtree(study.store.segments)
    shutil.rmtree(study.folder)
    open_study(file, prepared=True)


def results(file):
    """All that was measured and every curve, by segment, without the times of day."""
    study = open_study(file)
    rows = {run.segment: run.loss for run in gather(study.store, study.plan)}
    found = {}
    for planned in study.plan.segments:
        folder = study.store.segment(planned.id)
        curve = [
            (row["step"], row["tokens"], row["loss"], row["lr"], row["grad_norm"])
            for row in folder.curve_rows()
        ]
        found[planned.id] = (rows.get(planned.id), folder.measurements, curve)
    return found


def assert_recorded_once(file):
    """Each segment has one record, one row an update, its measurements, and nothing beside them."""
    study = open_study(file)
    rows = gather(study.store, study.plan)
    assert sorted(run.segment for run in rows) == sorted(study.plan.by_id())
    for planned in study.plan.segments:
        folder, begin = study.store.segment(planned.id), planned.segment.fork_step
        assert folder.record["outcome"] == "finished", folder.record
        assert [row["step"] for row in folder.curve_rows()] == [*range(begin + 1, planned.end + 1)]
        assert sorted(folder.measurements) == sorted(stops_of(planned))
        assert inside(folder.checkpoints) == {f"{step:09d}" for step in stops_of(planned)}
        assert inside(folder.resume) == set()
        known = {"spec.json", "record.json", "curve.jsonl", "measurements.json", "checkpoints"}
        also = {"resume", "notes.jsonl", "execution.json"}
        assert known <= inside(folder.root) <= known | also
    assert not {name for name in inside(study.folder) if "lease" in name or "stop" in name}
    whole = {"data", "segments", "store.json", "studies"}
    assert whole <= inside(study.store.root) <= whole | {"tracking"}
    assert inside(study.store.root / "tracking") <= {"last"}


def inside(folder):
    """Names of what lies in a folder; none where there is none."""
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()
