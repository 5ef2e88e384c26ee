"""Copy gains in MLflow: with the losses, or later where they were filled in later."""

import pytest
from test_tracking import everything, state_home  # noqa: F401

from windtunnel.engine.sweep import Sweep
from windtunnel.runs.files import write_json
from windtunnel.runs.probe import fill_copy_gains
from windtunnel.runs.study import open_study
from windtunnel.tracking import Mirror, locate


@pytest.mark.medium
def test_gains_that_are_filled_in_follow_their_losses(study_file, state_home):  # noqa: F811
    study = open_study(study_file(sizes="[16x1]", horizons="[110 steps]"), prepared=True)
    Sweep(study, engine="local").run()
    (branch,) = study.plan.branches
    folder = study.store.segment(branch.id)
    of_set = folder.measurements[branch.end]["words"]
    plain = {"words": {key: value for key, value in of_set.items() if key != "copy_gain"}}
    write_json(folder.root / "measurements.json", {str(branch.end): plain})
    location = locate(study.store, study.config.tracking)
    Mirror(study, location).sync()
    names = {"val/copy_gain_words": "gain", "val/copy_gain_se_words": "standard_error"}
    points, _ = everything(location)
    assert not [p for p in points if p[0] == branch.id and p[1] in names]

    fill_copy_gains(study)
    assert Mirror(study, location).sync().metrics == 2
    assert Mirror(study, location).sync().metrics == 0
    points, _ = everything(location)
    tokens = branch.tokens_at_end
    assert {p[1:] for p in points if p[0] == branch.id and p[1] in names} == {
        (name, tokens, of_set["copy_gain"][key]) for name, key in names.items()
    }
