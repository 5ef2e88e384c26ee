"""The fuzz suite: random input through the real commands; none may end in a fault of ours.

`make test` runs a bounded part, always the same; `make fuzz` many more, from a new seed. FUZZ_SEED
and FUZZ_CASES say which and how many; a failure prints the seed of its case.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from windtunnel.cli import EXIT_FAULT, main

SEED = int(os.environ.get("FUZZ_SEED", "0"))
CASES = int(os.environ.get("FUZZ_CASES", "60"))
MOST_SECONDS = 30.0
"""Of one command on one case; some fit laws, which takes 3 s on an idle core."""


def pytest_report_header() -> str:
    return f"fuzz: FUZZ_SEED={SEED} FUZZ_CASES={CASES}"


@pytest.fixture
def cases() -> Callable[[str], Iterator[random.Random]]:
    """One random source a case, each known by the seed, the suite's name and its number."""

    def numbered(name: str, share: float = 1.0) -> Iterator[random.Random]:
        for number in range(max(1, int(CASES * share))):
            yield random.Random(f"{SEED} {name} {number}")

    return numbered


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process; a fault of ours, a hang or silence fails the test."""

    def run(case: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["windtunnel", *map(str, arguments)])
        began = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
        seconds, said = time.monotonic() - began, capsys.readouterr()
        code = ended.value.code or 0
        where = f"seed {SEED}: {case}\n{' '.join(map(str, arguments))}\n{said.err}"
        assert code != EXIT_FAULT, where
        assert "Traceback" not in said.out + said.err, where
        assert seconds < MOST_SECONDS, f"{seconds:.1f} s, {where}"
        assert code == 0 or said.err.strip(), where
        return code, said.out, said.err

    return run
