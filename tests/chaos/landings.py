"""Kills that land where they are meant to: what lies on the disk tells where a process is.

A victim is stopped, and killed only if what was seen is still so; else it goes on. What a killed
worker was at is on the disk after its death; a driver or a raylet dies while a worker is at it.
"""

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from windtunnel.runs.study import open_study

AIM_SECONDS = 150.0
"""For a moment to come, the start of Ray included, on a machine that does much else."""


@dataclass(frozen=True)
class Landing:
    """One kill: where, whom, and what it left."""

    where: str
    victim: str
    pid: int
    segment: str
    step: int
    left: str

    def line(self, number, *, seconds):
        return (
            f"{number:3} {seconds:4.0f} s  {self.where:<24} {self.victim:<7} pid {self.pid:<8} "
            f"{self.segment} at update {self.step:<5} {self.left}"
        )


class Aim:
    """Looks at the store of one running sweep until its moment has come.

    What lies there already, as other kills have left it, is no moment.
    """

    def __init__(self, sweep, where, victim):
        self.sweep, self.where, self.victim = sweep, where, victim
        self.study = open_study(sweep.file)
        self.segments = self.study.store.root / "segments"
        self.tree = []
        self._look = {
            "in a checkpoint's write": lambda: self._scratch("*/[cr]*/.0*"),
            "in a record's rename": lambda: self._scratch("*/.record.json.*"),
            "between fork and branch": self._forks,
            "anywhere": self._work,
        }[where]
        self._old = {trace for trace, _ in self._look()} if where != "anywhere" else set()
        self._later = random.uniform(0.0, 3.0) if where == "anywhere" else 0.0

    def kill(self):
        """The landing; None when the sweep was over before its moment came."""
        deadline = time.monotonic() + AIM_SECONDS
        while not self.sweep.over and time.monotonic() < deadline:
            seen = next((each for each in self._look() if each[0] not in self._old), None)
            if seen is None:
                time.sleep(0.0005)
            elif self._later:
                time.sleep(self._later)
                self._later = 0.0
            else:
                process = self._victim(seen)
                if process is not None and (landing := self._shoot(process, seen)):
                    return landing
        assert self.sweep.over, f"no moment {self.where} in {AIM_SECONDS:g} s"
        return None

    def _shoot(self, process, seen):
        trace, segment = seen
        self.tree = self.sweep.tree()
        try:
            process.suspend()
            left = self._said(trace)
            if left is None:
                process.resume()
                return None
            process.kill()
        except psutil.NoSuchProcess:
            return None
        if self.victim == "driver":
            self.sweep.process.wait()
        else:
            psutil.wait_procs([process], timeout=30)
        # A branch that was ready may be begun by another worker.
        alone = self.victim == "worker" and not isinstance(trace, tuple)
        assert not alone or self._said(trace) == left, "a dead process has gone on"
        return Landing(
            where=self.where,
            victim=self.victim,
            pid=process.pid,
            segment=segment.name,
            step=_step(segment),
            left=left,
        )

    def _said(self, trace):
        """What lies on the disk; None where what was seen is so no more."""
        if isinstance(trace, tuple):
            fork, branch = trace
            if not fork.is_dir() or branch.exists():
                return None
            return f"checkpoint {fork.name} is there, branch {branch.name} has no folder"
        try:
            if trace.is_dir():
                files = ", ".join(sorted(entry.name for entry in trace.iterdir())) or "nothing"
                return f"{Path(*trace.relative_to(self.segments).parts[1:])} holds {files}"
            return f"{trace.name} ({trace.stat().st_size} bytes)"
        except FileNotFoundError:
            return None

    def _victim(self, seen):
        if self.victim == "driver":
            return psutil.Process(self.sweep.pid)
        if self.victim in {"raylet", "gcs_server"}:
            return self.sweep.server(self.victim)
        lease = _owner(seen[1] / "lease.json")
        try:
            return psutil.Process(lease["pid"]) if lease else None
        except psutil.NoSuchProcess:
            return None

    def _scratch(self, pattern):
        for trace in self.segments.glob(pattern):
            yield trace, self.segments / trace.relative_to(self.segments).parts[0]

    def _forks(self):
        for planned in self.study.plan.branches:
            trunk = self.study.store.segment(planned.segment.parent.id)
            fork, branch = trunk.checkpoint(planned.segment.fork_step), self.segments / planned.id
            if fork.is_dir() and not branch.exists():
                yield (fork, branch), trunk.root

    def _work(self):
        """Leases of this sweep's own workers."""
        held = list(self.segments.glob("*/lease.json"))
        workers = {process.pid for process in self.sweep.workers()} if held else set()
        random.shuffle(held)
        for lease in held:
            if (_owner(lease) or {}).get("pid") in workers:
                yield lease, lease.parent


def _owner(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _step(segment):
    """Updates in the segment's curve."""
    try:
        return sum(1 for line in (segment / "curve.jsonl").open("rb") if line.endswith(b"\n"))
    except FileNotFoundError:
        return 0
