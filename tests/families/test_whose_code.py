"""Only installed modules are imported, or those on the user's own PYTHONPATH."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "experiments" / "families"
EVIL = """\
from pathlib import Path

Path("it-ran").touch()
"""


def run(arguments, *, cwd, **environment):
    """A command in a process and a folder of its own, with only these variables changed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("environment", [{}, {"PYTHONPATH": ""}])
@pytest.mark.medium
def test_nothing_of_the_current_folder_is_imported(environment, study_file, tmp_path):
    path = study_file(replace=("model:\n", "model:\n  family: evil:Family\n"))
    (path.parent / "evil.py").write_text(EVIL)
    done = run(["-m", "windtunnel", "plan", path], cwd=path.parent, **environment)
    assert done.returncode == 2
    assert "family-not-importable" in done.stderr
    assert not (path.parent / "it-ran").exists()


@pytest.mark.slow
def test_a_wheel_loads_the_example_from_another_folder(tmp_path):
    """Our wheel, unpacked beside the tree, and the example's folder on PYTHONPATH."""
    built = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    done = run(built, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    unpacked = ["-m", "pip", "install", "--no-deps", "--target", site, wheel]
    assert run(unpacked, cwd=tmp_path).returncode == 0
    study = tmp_path / "own.yaml"
    study.write_text((EXAMPLE / "own.yaml").read_text())
    path = os.pathsep.join(map(str, (site, EXAMPLE)))
    where = run(["-c", "import windtunnel; print(windtunnel.__file__)"], cwd="/", PYTHONPATH=path)
    assert Path(where.stdout.strip()).is_relative_to(site)
    checked = run(["-m", "windtunnel", "check", "family", study], cwd="/", PYTHONPATH=path)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    assert "family small_gpt:Gpt" in checked.stdout
