"""The command line.

Exit codes: 0 done, 2 bad input, 3 a segment failed or did not start, or a check failed, 130
interrupted. 1 is a bug of windtunnel: one line names the file that the traceback was written to.
"""

import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from windtunnel.errors import Coded

EXIT_FAULT = 1
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Every failure prints one message and no traceback."""
    _escape_unencodable()
    from windtunnel.errors import Coded, WindtunnelError

    try:
        from windtunnel.user_folders import provide_home

        provide_home()
        from windtunnel.cli.app import app  # libraries look for a home when imported

        app()
    except WindtunnelError as problem:
        _print_error(f"{problem} [{problem.code}]", problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except SystemExit:
        raise
    except OSError as refused:  # a full disk or a lost mount, anywhere
        where = f"{refused.filename}: " if refused.filename else ""
        message = (
            f"{where}{refused.strerror or refused}; fix it and run the same command again: "
            "what is finished is kept"
        )
        _print_error(message, Coded("os-error", message, path=refused.filename))
        sys.exit(2)
    except BaseException as fault:  # no boundary caught it; a panic of Rust is no Exception
        message = _fault_message(fault)
        _print_error(f"[internal-error] {message}", Coded("internal-error", message))
        sys.exit(EXIT_FAULT)


def _print_error(text: str, problem: "Coded") -> None:
    """One line for people; with `--json`, the error for machines as well."""
    from windtunnel.redact import redacted

    print(f"error: {redacted(text)}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"error": problem.document()}, indent=2))


def _escape_unencodable() -> None:
    """Escape characters that the terminal cannot encode, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _fault_message(fault: BaseException) -> str:
    """One line: the exception, and the file with its traceback."""
    from windtunnel.errors import cause_of

    message = f"{type(fault).__name__}: {cause_of(fault)}"
    try:
        trace = _write_trace(fault)
    except OSError as refused:
        return f"{message}; a fault of windtunnel, whose trace could not be written ({refused})"
    return f"{message}; a fault of windtunnel: please report it with {trace}"


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
