"""Coordinate checks: kept beside a study, in its records, and as a finding."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from unrun import planted_records

from windtunnel.cli.app import app
from windtunnel.findings import (
    Records,
    findings_of,
    read_records,
    records_of,
    write_records,
)
from windtunnel.findings.coordcheck import CoordinateFinding
from windtunnel.report.figures.registry import finding_drawings
from windtunnel.runs.study import open_study
from windtunnel.runs.study_files import keep_check, read_checks

GRID = "  - {kind: grid, axes: {recipe.lr: [1e-3]}, horizons: [200 steps]}"


def check(parametrization, slopes):
    sites = [
        {
            "name": name,
            "changes": [[1.0, 2.0**slope, 4.0**slope]],
            "slope": slope,
            "judged": True,
        }
        for name, slope in slopes.items()
    ]
    return {
        "widths": [32, 64, 128],
        "parametrization": parametrization,
        "sites": sites,
        "decays": [],
        "tolerance": 0.2,
        "passed": parametrization == "mup",
    }


def test_the_steepest_slope_of_each_parametrization(tmp_path):
    checks = (
        check("mup", {"logits": -0.3, "residual stream": 0.1}),
        check("standard", {"logits": 0.5, "residual stream": 0.9}),
    )
    records = planted_records(tmp_path, GRID, lambda run: 2.0)
    with_checks = Records(**{**vars(records), "coordinate_checks": checks})
    (found,) = (f for f in findings_of(with_checks) if f.title == "Coordinate check")
    values = {each.name: each.value for each in found.quantities}
    assert values["steepest slope, muP"] == -0.3
    assert values["steepest slope, standard"] == 0.9
    assert "muP passes" in found.lead
    assert "standard fails" in found.lead
    (drawing,) = finding_drawings(found)
    assert drawing.save(tmp_path, np.array([])).stat().st_size > 1000


def layers(slopes, *, lowest=-0.2, highest=0.2):
    """Results of one layer a kind, by their slopes."""
    return [
        {
            "name": f"{kind}, layer 1",
            "kind": kind,
            "layer": 1,
            "changes": [[1.0, 2.0**slope, 4.0**slope]],
            "slope": slope,
            "judged": True,
            "lowest": lowest,
            "highest": highest,
        }
        for kind, slope in slopes.items()
    ]


def test_layers_and_depths_have_their_quantities_and_figures(tmp_path):
    full = check("completep", {"logits": -0.3}) | {
        "effective": layers({"keys": -0.3, "values": -0.7}, lowest=-0.6),
        "propagated": layers({"keys": 0.15, "values": -0.1}),
        "depth": {
            "width": 32,
            "depths": [2, 4, 16],
            "passed": False,
            "sites": layers({"residual stream": 0.05}, lowest=-0.15, highest=0.15),
            "effective": layers({"keys": -0.2}, lowest=-0.15, highest=0.15),
            "propagated": layers({"keys": 0.1}, lowest=-0.15, highest=0.15),
        },
    }
    before = check("mup", {"logits": -0.2})
    finding = CoordinateFinding(experiment="check mup", checks=(full, before))
    values = {str(each.id).partition("/")[2]: each.value for each in finding.quantities}
    of = "coordinate-check/worst-{}-slope[parametrization=CompleteP]"
    expected = {"effective": -0.7, "propagated": 0.15, "depth": -0.2}
    assert {part: values[of.format(part)] for part in expected} == expected
    assert not [name for name in values if "worst" in name and "muP" in name]
    drawings = finding_drawings(finding)
    assert [each.name for each in drawings] == [
        "coordinate-check",
        "coordinate-check-layers",
        "coordinate-check-depth",
    ]
    for drawing in drawings:
        assert drawing.save(tmp_path, np.array([])).stat().st_size > 1000
    keep_check(tmp_path, full)
    assert read_checks(tmp_path) == [full]


@pytest.mark.medium
def test_a_check_is_kept_beside_the_study_and_goes_into_its_records(study_file, tmp_path):
    path = study_file(sizes="[16x1]")
    arguments = ["check", "mup", str(path), "--widths", "16,32,64,128", "--steps", "1", "--json"]
    done = CliRunner().invoke(app, arguments)
    printed = json.loads(done.output)
    study = open_study(path)
    assert read_checks(study.folder) == [printed]
    write_records(records_of(study), tmp_path / "records")
    assert read_records(tmp_path / "records").coordinate_checks == (printed,)


def test_an_equal_check_is_not_written_again(tmp_path: Path):
    kept = keep_check(tmp_path, check("mup", {"logits": 0.0}))
    before = kept.stat().st_mtime_ns
    assert keep_check(tmp_path, check("mup", {"logits": 0.0})) == kept
    assert kept.stat().st_mtime_ns == before
