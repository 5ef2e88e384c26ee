"""The command line. Exits 0 done, 2 bad input, 3 segments failed or unstarted, 130 interrupted."""

import sys

EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; a user's error is one message and no traceback."""
    from windtunnel.cli.app import app
    from windtunnel.errors import WindtunnelError

    try:
        app()
    except WindtunnelError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as refused:  # a full disk or a lost mount, wherever it was met
        where = f"{refused.filename}: " if refused.filename else ""
        print(
            f"error: {where}{refused.strerror or refused}; mend it and run the same command again: "
            "what is finished is kept",
            file=sys.stderr,
        )
        sys.exit(2)


__all__ = ["main"]
