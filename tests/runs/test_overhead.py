import json
import time

import pytest

from windtunnel.engine.sweep import Sweep
from windtunnel.runs.budget.throughput import PARTS, Timers
from windtunnel.runs.files import write_json
from windtunnel.runs.progress import study_progress
from windtunnel.runs.study import open_study
from windtunnel.train import checkpoint


def sweep(path):
    study = open_study(path, prepared=True)
    assert not Sweep(study, engine="local").run().failed
    return study


def records(study):
    return {p.id: study.store.segment(p.id).record for p in study.plan.segments}


def test_time_is_added_to_what_was_written_before():
    overhead = Timers()
    overhead.go_on_from({"evaluation_seconds": 3.0}, {"checkpoint_seconds": 2.0})
    with overhead.timing("evaluation_seconds"):
        time.sleep(0.02)
    with overhead.timing("checkpoint_seconds"):
        time.sleep(0.02)
    assert overhead.seconds["evaluation_seconds"] == pytest.approx(3.02, abs=0.019)
    assert overhead.seconds["checkpoint_seconds"] == pytest.approx(2.02, abs=0.019)


def test_a_record_tells_where_the_seconds_went(study_file):
    began = time.perf_counter()
    study = sweep(study_file(sizes="[16x1]"))
    wall = time.perf_counter() - began
    found = records(study).values()
    for record in found:
        assert all(record[part] > 0 for part in PARTS)
    progress = study_progress(study)
    assert progress.seconds["training"] == sum(r["seconds"] for r in found)
    assert progress.seconds["checkpoints"] == sum(r["checkpoint_seconds"] for r in found)
    assert sum(progress.seconds.values()) < wall


def test_an_extension_and_a_resume_go_on_counting(study_file):
    study = sweep(study_file(sizes="[16x1]", horizons="[110 steps]"))
    (trunk,) = study.plan.trunks
    folder = study.store.segment(trunk.id)
    write_json(folder.root / "record.json", folder.record | {"evaluation_seconds": 1000.0})
    sweep(study_file(sizes="[16x1]", horizons="[110 steps, 200 steps]"))
    assert folder.record["reached"] == 180
    assert 1000.0 < folder.record["evaluation_seconds"] < 1100.0

    (folder.root / "record.json").unlink()  # as a crash before the record would have left it
    saved = folder.checkpoint(180)
    meta = json.loads((saved / checkpoint.META).read_text())
    meta["overhead"]["checkpoint_seconds"] = 2000.0
    del meta["checksum"]
    meta["format"] = 1  # which has none of the metadata
    (saved / checkpoint.META).write_text(json.dumps(meta))
    sweep(study_file(sizes="[16x1]", horizons="[110 steps, 200 steps]"))
    assert folder.record["checkpoint_seconds"] == 2000.0
    assert folder.record["evaluation_seconds"] == 1000.0  # what came after the save is lost


def test_records_and_checkpoints_from_before_are_read(study_file):
    path = study_file(sizes="[16x1]", horizons="[110 steps]")
    study = sweep(path)
    old = {}
    for planned in study.plan.segments:
        folder = study.store.segment(planned.id)
        old[planned.id] = {k: v for k, v in folder.record.items() if k not in PARTS}
        write_json(folder.root / "record.json", old[planned.id])
        for meta_file in folder.checkpoints.glob(f"*/{checkpoint.META}"):
            meta = json.loads(meta_file.read_text())
            del meta["overhead"]
            meta_file.write_text(json.dumps(meta))
    assert study_progress(study).seconds == {}
    sweep(path)
    assert records(study) == old
    longer = sweep(study_file(sizes="[16x1]", horizons="[110 steps, 150 steps]"))
    assert records(longer)[study.plan.trunks[0].id]["evaluation_seconds"] > 0
