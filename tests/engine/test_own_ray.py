"""A Ray of our own: a folder for its sockets, and workers that run the driver's code."""

import gc
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import pytest
import ray

from windtunnel.engine.ray import settings
from windtunnel.engine.ray.cluster import connected
from windtunnel.engine.ray.data_parallel import make_worker
from windtunnel.engine.ray.preflight import Preflight, code_fingerprint, preflight_of
from windtunnel.errors import ConfigError
from windtunnel.runs.child_python import child_environment, code_folder, package


@pytest.fixture
def temporary(monkeypatch):
    """Sets the temporary folder of this process."""

    def put(path):
        monkeypatch.setattr(tempfile, "tempdir", str(path))

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return put


def socket_below(path):
    return len(os.fsencode(path)) + len("/session_2026-01-01_00-00-00_000000_/sockets/plasma_store")


def test_a_short_temporary_folder_is_used_as_ray_does(temporary):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        temporary(short)
        with settings.ray_folder() as found:
            assert found == Path(short) / "ray"


def test_instead_of_a_long_one_a_short_one_of_our_own(temporary, tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    temporary(long)
    with settings.ray_folder() as found:
        assert found.parent.stat().st_mode & 0o777 == 0o700
        assert socket_below(found) + len(str(os.getpid())) <= 107
    assert not found.parent.exists()


def test_the_longest_folder_that_ray_takes(temporary, monkeypatch):
    """Ray itself checks the path that it makes of it."""
    from ray._private.utils import validate_socket_filepath

    room = 107 - socket_below("/ray") - len(str(os.getpid()))
    for length, taken in ((room, True), (room + 1, False)):
        with tempfile.TemporaryDirectory(dir="/tmp") as place:
            path = Path(place) / ("y" * (length - len(place) - 1))
            monkeypatch.setenv("RAY_TMPDIR", str(path))
            if not taken:
                with pytest.raises(ConfigError) as refused:
                    settings.ray_folder().__enter__()
                assert refused.value.code == "path-too-long"
                assert refused.value.values == {"path": path, "bytes": length, "limit": room}
                continue
            with settings.ray_folder() as found:
                session = f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
                validate_socket_filepath(f"{found}/{session}/sockets/plasma_store")


def test_where_nothing_can_be_written_the_setting_is_named(temporary, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    temporary(long)
    monkeypatch.setattr(settings, "SHORT", (str(tmp_path / "none"),))
    with pytest.raises(ConfigError, match="set RAY_TMPDIR to a folder") as refused:
        settings.ray_folder().__enter__()
    assert refused.value.code == "no-short-folder"
    assert refused.value.values["folder"] == long


def test_a_worker_with_other_code_stops_the_sweep(tmp_path):
    with preflight_of(tmp_path, joined=False) as preflight:
        assert preflight.problem_here() is None
        assert not list(tmp_path.iterdir())
    other = Preflight(version="0.0.9", code="0" * 12, probe=None)
    assert other.problem_here().code == "other-code"
    assert other.problem_here().values["driver_version"] == "0.0.9"
    report = make_worker(tmp_path / "orders.json", other).run(None, trunk_tokens=0)
    assert report["outcome"] == "failed"
    assert code_fingerprint() in report["halt"]
    assert "0.0.9" in report["halt"]


def test_the_folder_of_our_code_holds_this_package_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        found = code_folder()
        assert [each.name for each in found.iterdir()] == ["windtunnel"]
        assert (found / "windtunnel").resolve() == package().resolve()
    (found / "windtunnel").unlink()
    (found / "windtunnel").symlink_to(tmp_path / "gone")
    assert (code_folder() / "windtunnel" / "__init__.py").is_file()


def test_a_child_finds_our_package_and_nothing_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("windtunnel", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('another one')\n")
    script = "import sys, windtunnel.redact, numpy, json; print(windtunnel.redact.__file__)"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "asked.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "lib")  # a relative entry stays what it was
    said = subprocess.run(
        [sys.executable, "-m", "asked"],
        env=child_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(said.stdout.strip()).resolve() == package().resolve() / "redact.py"


@pytest.mark.ray
def test_ray_shuts_down_with_no_garbage_left(monkeypatch):
    """Ray ends a process in which another thread frees a reference of its own meanwhile."""

    class Cycle:
        def __init__(self):
            self.itself = self
            self.reference = ray.put(0)

    shutdown, seen = ray.shutdown, []

    def looked_at():
        seen.append((garbage(), gc.isenabled()))
        shutdown()

    monkeypatch.setattr(ray, "shutdown", looked_at)
    gc.disable()
    with connected(None, lambda problem: None):
        garbage = weakref.ref(Cycle())
        gc.enable()
    assert seen == [(None, False)]
    assert gc.isenabled()
