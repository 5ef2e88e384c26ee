import os
import stat
import subprocess
import sys

import pytest

from windtunnel.user_folders import cache_home, state_home

# The other user may not be able to read this user's Python, so all is imported before.
SCRIPT = """\
import os, random, shutil
from windtunnel.user_folders import cache_home
os.setuid(12345)
print(cache_home())
"""


def test_what_is_stated_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_home() == tmp_path / "state"
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache"


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user id")
@pytest.mark.parametrize("home", [None, "/", "/nowhere"])
@pytest.mark.medium
def test_a_user_id_without_a_home_has_a_private_folder(tmp_path, home):
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    known = {k: v for k, v in os.environ.items() if not k.startswith("XDG_") and k != "HOME"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env=known | {"TMPDIR": str(tmp_path)} | ({"HOME": home} if home else {}),
    )
    assert done.returncode == 0, done.stderr
    found = tmp_path / "windtunnel-12345"
    assert done.stdout.strip() == str(found / ".cache")
    assert found.stat().st_uid == 12345
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    monkeypatch.setattr("windtunnel.user_folders.is_writable", lambda folder: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"windtunnel-{os.getuid()}"
    planted.mkdir(mode=0o777)
    planted.chmod(0o777)
    found = cache_home()
    assert planted not in found.parents
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
