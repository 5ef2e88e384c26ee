"""Attempts have a limit; what fails on all of them is recorded, and the rest goes on."""

from typing import ClassVar

import pytest
from sweeps import results, undisturbed

from windtunnel.engine import worker
from windtunnel.engine.graph import Status
from windtunnel.engine.sweep import Sweep
from windtunnel.runs.files import read_lines
from windtunnel.runs.segment_run import SegmentRun, fail
from windtunnel.runs.study import open_study


class Unlucky(SegmentRun):
    """Every attempt at one segment fails, for a reason that nobody has foreseen."""

    bad: ClassVar[str]

    def advance(self):
        if self.planned.id == self.bad:
            raise RuntimeError("no luck")
        return super().advance()


@pytest.mark.medium
def test_a_segment_that_keeps_failing_blocks_only_its_branches(study_file, monkeypatch):
    path = study_file(
        sizes="[16x1, 32x1]", replace=("checkpoint_seconds", "retries: 3, checkpoint_seconds")
    )
    expected = undisturbed(path)
    study = open_study(path, prepared=True)
    bad = study.store.segment(study.plan.trunks[0].id)
    monkeypatch.setattr(Unlucky, "bad", bad.root.name, raising=False)
    monkeypatch.setattr(worker, "SegmentRun", Unlucky)
    result = Sweep(study, engine="local").run()
    assert result.counts[Status.FAILED] == 1
    assert result.counts[Status.BLOCKED] == 2
    assert result.counts[Status.FINISHED] == 3
    assert bad.record["outcome"] == "failed"
    assert bad.record["error"] == "RuntimeError: no luck"
    attempts = read_lines(bad.root / "notes.jsonl")
    assert len(attempts) == 1 + 3
    assert all("RuntimeError: no luck" in attempt["note"] for attempt in attempts)

    monkeypatch.undo()
    result = Sweep(open_study(path, prepared=True), engine="local").run()
    assert result.counts[Status.FINISHED] == 6
    assert results(path) == expected


@pytest.mark.medium
def test_a_failure_forgets_nothing_that_was_reached(study_file):
    path = study_file(sizes="[16x1]")
    study = open_study(path, prepared=True)
    Sweep(study, engine="local").run()
    trunk = study.store.segment(study.plan.trunks[0].id)
    before = trunk.record
    fail(trunk, "no luck")
    after = trunk.record
    assert (after.pop("outcome"), after.pop("error")) == ("failed", "no luck")
    assert after == {key: before[key] for key in before if key != "outcome"} | {
        "written": after["written"]
    }
