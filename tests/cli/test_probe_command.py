"""`windtunnel probe`: what it fills in, and what it says of the rest."""

import json

from windtunnel.engine.sweep import Sweep
from windtunnel.runs.files import write_json
from windtunnel.runs.study import open_study
from windtunnel.train.copying import CHUNKS


def test_the_command_fills_in_and_lists_what_is_gone(study_file, windtunnel):
    study = open_study(study_file(sizes="[16x1]", horizons="[110 steps]"), prepared=True)
    Sweep(study, engine="local").run()
    (branch,), (trunk,) = study.plan.branches, study.plan.trunks
    code, out, _ = windtunnel("probe", study.file, "--json")
    assert code == 0
    nothing = {"measured": [], "freed": [], "damaged": [], "in_use": [], "impossible": []}
    assert json.loads(out) == nothing | {"known": [trunk.id, branch.id]}

    for planned in (branch, trunk):
        folder = study.store.segment(planned.id)
        plain = {str(step): sets for step, sets in folder.measurements.items()}
        gain = plain[str(planned.end)]["words"].pop("copy_gain")
        write_json(folder.root / "measurements.json", plain)
    study.store.segment(trunk.id).release(trunk.end, why="gc")
    code, out, _ = windtunnel("probe", study.file, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["freed"], found["known"]) == ([trunk.id], [])
    (measured,) = found["measured"]
    assert measured["segment"] == branch.id
    assert measured["copy_gain_se"] > 0

    code, out, _ = windtunnel("probe", study.file)
    assert code == 0
    assert trunk.id in out
    rows = json.loads(windtunnel("runs", study.file, "--json")[1])
    gains = {row["segment"]: row.get("copy_gain") for row in rows}
    assert gains == {trunk.id: None, branch.id: measured["copy_gain"]}
    assert gain["chunks"] == CHUNKS
