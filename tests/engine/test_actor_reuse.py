"""Segments shorter than the start of a process: every slot has its worker all the same."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"


@pytest.mark.ray
def test_every_slot_keeps_its_worker_and_a_segment_costs_little(monkeypatch):
    """Processor time, not the clock: other work may share the cores."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import engine

    found = engine.measure(seeds=1)
    assert found["segments"] == 200
    assert found["workers"] == engine.SLOTS
    assert found["whole"]["driver_seconds"] < engine.MOST_SECONDS
    assert found["whole"]["kib"] < engine.MOST_KIB
    assert f"in {engine.SLOTS} worker processes" in engine.page(found)
