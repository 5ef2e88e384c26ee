"""kill -9 of workers between two segments: no attempt is used up, nothing is measured otherwise."""

import json

import psutil
import pytest
from sweeps import RunningSweep, assert_recorded_once, results, undisturbed, until

from windtunnel.runs.study import open_study

KILLS = 4


@pytest.mark.ray
@pytest.mark.chaos
def test_workers_killed_between_two_segments(chaos_study):
    """Without retries: a segment that such a death fails would send the search another way."""
    chaos_study.write_text(chaos_study.read_text().replace("retries: 9", "retries: 0"))
    expected = undisturbed(chaos_study)
    sweep = RunningSweep(chaos_study)
    until(lambda: sweep.workers() or sweep.over, "the first worker", seconds=120)
    killed = 0
    while killed < KILLS:
        victim = until(lambda: sweep.over or idle(sweep), "an idle worker", seconds=60)
        assert victim is not True, sweep.output
        victim.suspend()
        if holds_a_lease(victim.pid, open_study(chaos_study)):
            victim.resume()
            continue
        victim.kill()
        killed += 1
        psutil.wait_procs([victim], timeout=10)
    code, output = sweep.finish()
    assert code == 0, output
    assert results(chaos_study) == expected
    assert_recorded_once(chaos_study)


def idle(sweep):
    """A worker that has had a segment, as a rule, and holds none now."""
    study = open_study(sweep.file)
    if not any(study.store.segment(i).record for i in study.store.segment_ids()):
        return None
    free = [w for w in sweep.workers() if not holds_a_lease(w.pid, study)]
    return free[0] if free else None


def holds_a_lease(pid, study):
    for path in (study.store.root / "segments").glob("*/lease.json"):
        try:
            if json.loads(path.read_text())["pid"] == pid:
                return True
        except (OSError, ValueError):
            continue
    return False
