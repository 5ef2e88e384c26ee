"""kill -9 of workers, drivers and the raylet: the same command again, the same bits, once each."""

import os
import random
import time
from collections import Counter

import psutil
import pytest
from landings import Aim
from sweeps import SLOW_DISK, RunningSweep, assert_recorded_once, results, swept, undisturbed, wipe

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CHECKPOINT, RECORD = "in a checkpoint's write", "in a record's rename"
FORK, ANYWHERE = "between fork and branch", "anywhere"

FEW = [(CHECKPOINT, "worker"), (RECORD, "worker"), (FORK, "driver")]

MANY = [
    *[(CHECKPOINT, "worker")] * 4,
    *[(RECORD, "worker")] * 4,
    *[(CHECKPOINT, "driver"), (RECORD, "driver")],
    *[(FORK, "worker"), (FORK, "driver"), (FORK, "driver"), (FORK, "raylet")],
    *[(ANYWHERE, "worker")] * 4,
    *[(ANYWHERE, "driver")] * 4,
    *[(ANYWHERE, "raylet")] * 2,
    *[(ANYWHERE, "gcs_server")] * 2,
]

VICTIMS = {"worker": 16, "driver": 3, "raylet": 1, "gcs_server": 1}
"""Of kills at random: how often each."""

ATTEMPTS = 4
"""So many sweeps may be over before one kill has landed."""

SERVERS = ("raylet", "gcs_server")

END_SECONDS = 30
"""Within which everything of a killed driver must have ended."""


def test_a_kill_in_each_tender_place_leaves_no_trace(chaos_study, chaos_log):
    expected = undisturbed(chaos_study)
    disturb(chaos_study, FEW, expected, chaos_log)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_many_kills_leave_no_trace(chaos_study, chaos_log):
    expected = undisturbed(chaos_study)
    landed = disturb(chaos_study, MANY, expected, chaos_log)
    by_place = Counter(landing.where for landing in landed)
    assert len(landed) >= 20
    assert min(by_place[place] for place in (CHECKPOINT, RECORD, FORK)) >= 3
    assert {landing.victim for landing in landed} == {"worker", "driver", "raylet", "gcs_server"}


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_kills_at_random_leave_no_trace(chaos_study, chaos_log):
    """`CHAOS_KILLS=200` for a campaign."""
    expected = undisturbed(chaos_study)
    victims = random.choices(
        list(VICTIMS), VICTIMS.values(), k=int(os.environ.get("CHAOS_KILLS", "10"))
    )
    places = {"worker": (CHECKPOINT, RECORD, FORK, ANYWHERE)}
    aims = [(random.choice(places.get(victim, (ANYWHERE,))), victim) for victim in victims]
    assert len(disturb(chaos_study, aims, expected, chaos_log)) == len(aims)


def disturb(file, aims, expected, log):
    """Land every kill, over as many sweeps as it takes; then finish, and compare."""
    slow = file.parent / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(SLOW_DISK)
    landed, sweep, began = [], None, time.monotonic()
    with log.open("a") as lines:
        for where, victim in aims:
            for _ in range(ATTEMPTS):
                if sweep is None:
                    sweep = RunningSweep(file, python_path=[] if where == ANYWHERE else [slow])
                aim = Aim(sweep, where, victim)
                landing = aim.kill()
                if landing is not None:
                    break
                assert sweep.process.returncode == 0, sweep.output
                assert results(file) == expected
                wipe(file)
                sweep = None
            assert landing is not None, f"{ATTEMPTS} sweeps were over without a moment {where}"
            landed.append(landing)
            print(
                landing.line(len(landed), seconds=time.monotonic() - began), file=lines, flush=True
            )
            if victim == "worker":
                continue  # the same sweep goes on
            if victim in SERVERS:
                sweep.finish()  # with what still lives, or with an error
            _, left = psutil.wait_procs(aim.tree, timeout=END_SECONDS)
            assert not left, f"{left} live on {END_SECONDS} s after the {victim} was killed"
            sweep = None
    if sweep is not None:
        assert sweep.finish()[0] == 0, sweep.output
    swept(file)
    assert results(file) == expected
    assert_recorded_once(file)
    return landed
