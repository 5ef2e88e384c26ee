from windtunnel.engine.sweep import Sweep
from windtunnel.runs.progress import Watch, study_progress
from windtunnel.runs.study import open_study


def test_a_watch_sees_what_happens_and_reads_the_finished_once(study_file):
    study = open_study(study_file(sizes="[16x1]"), prepared=True)
    watch = Watch(study)
    before = watch.read()
    assert before.flops_done == 0.0
    assert before.count("waiting") == len(study.plan.segments) == 3
    Sweep(study, engine="local").run()
    after = watch.read()
    assert after == study_progress(study)
    assert after.count("finished") == 3
    assert after.flops_done == after.flops_planned

    for planned in study.plan.segments:
        (study.store.segment(planned.id).root / "record.json").unlink()
    assert watch.read() == after
    assert study_progress(study).count("finished") == 0
