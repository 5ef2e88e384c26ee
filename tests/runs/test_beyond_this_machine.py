"""`plan` warns where a trial asks for more than this machine has."""

import json
import os

import pytest

from windtunnel.cli.plan import print_plan
from windtunnel.config.study import Resources
from windtunnel.runs.preflight import beyond_this_machine
from windtunnel.runs.study import open_study

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("resources", "cards", "named"),
    [
        ({}, 0, []),
        ({"cpus_per_trial": CORES}, 0, []),
        ({"cpus_per_trial": CORES + 1}, 0, ["resources.cpus_per_trial"]),
        ({"gpus_per_trial": 0.5}, 0, ["resources.gpus_per_trial"]),
        ({"gpus_per_trial": 0.5}, 1, []),
        ({"gpus_per_trial": 2, "devices_per_trial": 2, "kernels": "torch"}, 1, []),
        ({"device": "cuda"}, 0, ["resources.device"]),
        ({"device": "cuda"}, 1, []),
    ],
)
def test_what_one_device_asks_for_is_compared(tmp_path, resources, cards, named):
    for number in range(cards):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    found = beyond_this_machine(Resources.model_validate(resources), cards=tmp_path)
    assert [each.values["option"] for each in found] == named
    assert {each.code for each in found} <= {"more-than-here"}


def test_plan_says_so(study_file, capsys):
    file = study_file(replace=("concurrency: 2", f"concurrency: 2, cpus_per_trial: {CORES + 1}"))
    print_plan(open_study(file), calibrates=False, as_json=False)
    assert "warning (more-than-here): resources.cpus_per_trial" in capsys.readouterr().out
    print_plan(open_study(file), calibrates=False, as_json=True)
    assert any(
        "this machine has" in each for each in json.loads(capsys.readouterr().out)["warnings"]
    )
