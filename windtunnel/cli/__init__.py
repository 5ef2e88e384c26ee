"""The command line. Exits 0 done, 2 bad input, 3 segments failed or unstarted, 130 interrupted.

A fault of our own exits 1: one line says where its trace was written, and never shows it.
"""

import json
import sys
import time
import traceback
from pathlib import Path

EXIT_FAULT = 1
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130

FAULT = "internal-error"
"""Code of an exception that no boundary has turned into an error for the user."""


def main() -> None:
    """Run the command line; whatever goes wrong is one message and no traceback."""
    _say_all_characters()
    from windtunnel.errors import UNSPECIFIED, WindtunnelError
    from windtunnel.redact import redacted

    try:
        from windtunnel.user_folders import provide_home

        provide_home()
        from windtunnel.cli.app import app  # after there is a home, where libraries look for theirs

        app()
    except WindtunnelError as problem:
        code = "" if problem.code == UNSPECIFIED else f" [{problem.code}]"
        print(f"error: {redacted(str(problem))}{code}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps({"error": problem.document()}, indent=2))
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except SystemExit:
        raise
    except OSError as refused:  # a full disk or a lost mount, wherever it was met
        where = f"{refused.filename}: " if refused.filename else ""
        said = redacted(
            f"{where}{refused.strerror or refused}; mend it and run the same command again: "
            "what is finished is kept"
        )
        print(f"error: {said}", file=sys.stderr)
        sys.exit(2)
    except BaseException as fault:  # Rust's panics are no Exception
        print(f"error: {_said_of_fault(fault)}", file=sys.stderr)
        sys.exit(EXIT_FAULT)


def _say_all_characters() -> None:
    """A terminal that knows ASCII alone shows other characters escaped, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _said_of_fault(fault: BaseException) -> str:
    """One line: the code, what was raised, and where its whole trace was written."""
    from windtunnel.errors import cause_of

    said = f"[{FAULT}] {type(fault).__name__}: {cause_of(fault)}"
    try:
        trace = _write_trace(fault)
    except OSError as refused:
        return f"{said}; a fault of windtunnel, whose trace could not be written ({refused})"
    return f"{said}; a fault of windtunnel: please report it with {trace}"


def _write_trace(fault: BaseException) -> Path:
    from windtunnel.redact import redacted
    from windtunnel.user_folders import state_home
    from windtunnel.version import __version__

    folder = state_home() / "windtunnel" / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}.txt"
    trace = "".join(traceback.format_exception(fault))
    head = f"windtunnel {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n"
    path.write_text(redacted(head + trace), encoding="utf-8", errors="backslashreplace")
    path.chmod(0o600)
    return path


__all__ = ["main"]
