"""A full disk: said once, nothing else is begun; with space again the same command finishes."""

import shutil
import subprocess

import pytest
from sweeps import RunningSweep, assert_recorded_once, results, swept, undisturbed

from windtunnel.runs.study import open_study

SETTINGS = {"sizes": "[16x1, 16x2, 32x1, 32x2]", "horizons": "[400 steps, 600 steps]"}

LIMITED = """\
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (40000, resource.RLIM_INFINITY))
"""


@pytest.fixture
def study(study_file, known):
    path = study_file(**SETTINGS)
    if "disk" not in known:
        known["disk"] = undisturbed(path)
    return path, known["disk"]


def refused(path, reason, **more):
    """A sweep that the disk stops: what it said, which has the reason once.

    A report that does not fit on the disk either is said apart.
    """
    code, output = RunningSweep(path, "--engine", "local", **more).finish()
    assert code == 3, output
    assert "Traceback" not in output
    lines = [each for each in output.splitlines() if reason in each]
    (line,) = (each for each in lines if not each.startswith("results not written"))
    assert str(open_study(path).store.root) in line
    assert "free space, then run the same command again" in line
    assert "no space is left in the store" in output
    return output


def assert_finishes(path, expected):
    swept(path, "--engine", "local")
    assert results(path) == expected
    assert_recorded_once(path)


@pytest.mark.slow
def test_a_limit_of_file_size_as_a_quota(study, tmp_path):
    """Curves outgrow it in the midst of a segment."""
    path, expected = study
    open_study(path, prepared=True)
    (tmp_path / "limit").mkdir()
    (tmp_path / "limit" / "sitecustomize.py").write_text(LIMITED)
    refused(path, "File too large", python_path=[tmp_path / "limit"])
    store = open_study(path).store
    begun = [p for p in store.segments.iterdir() if (p / "curve.jsonl").exists()]
    assert len(begun) == 1  # the others have not been tried one after the other
    assert_finishes(path, expected)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("left", [200_000, pytest.param(60_000, marks=pytest.mark.chaos), 0])
@pytest.mark.slow
def test_a_disk_that_is_full(study, small_disk, left):
    """In a checkpoint, in a curve, or from the first byte on."""
    path, expected = study
    path.write_text(path.read_text().replace("store: store", f"store: {small_disk / 'store'}"))
    open_study(path, prepared=True)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
    if left:
        refused(path, "No space left on device")
    else:
        code, output = RunningSweep(path, "--engine", "local").finish()
        assert code == 2, output
        assert output.count("No space left on device") == 1, output
        assert "Traceback" not in output
    filler.unlink()
    assert_finishes(path, expected)
