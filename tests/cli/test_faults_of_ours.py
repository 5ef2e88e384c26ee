"""What no boundary has caught: one line, a code, where the trace lies; and small terminals."""

import os
import subprocess
import sys

import pytest

FAULTS = {
    "ValueError('http://alice:s3cret@h: odd')": "ValueError",
    "RecursionError('too deep')": "RecursionError",
    "type('PanicException', (BaseException,), {})('of Rust')": "PanicException",
}


def run(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", f"{script}\nfrom windtunnel.cli import main; main()"],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_a_code_and_a_trace_that_holds_no_secret(tmp_path, fault):
    script = f"import windtunnel.cli.app as a\ndef app(): raise {fault}\na.app = app"
    done = run(script, XDG_STATE_HOME=str(tmp_path))
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.count("\n") == 1
    assert said.startswith(f"error: [internal-error] {FAULTS[fault]}")
    (trace,) = (tmp_path / "windtunnel" / "faults").iterdir()
    assert str(trace) in said
    assert trace.stat().st_mode & 0o777 == 0o600
    text = trace.read_text()
    assert "Traceback (most recent call last)" in text
    assert "s3cret" not in text + said


def test_a_trace_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    script = "import windtunnel.cli.app as a\ndef app(): raise ValueError('odd')\na.app = app"
    done = run(script, XDG_STATE_HOME=str(tmp_path / "file"))
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.startswith("error: [internal-error] ValueError: odd")
    assert said.count("\n") == 1


def test_an_ascii_terminal_shows_other_characters_escaped(tmp_path):
    path = tmp_path / "größe.yaml"
    script = f"import sys; sys.argv = ['windtunnel', 'plan', {str(path)!r}]"
    done = run(script, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2
    assert b"gr\\xf6\\xdfe.yaml: no such file" in done.stderr
