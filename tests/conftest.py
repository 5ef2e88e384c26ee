"""Shared fixtures: a small text on disk, small study files, quiet threads."""

import os
import random
import secrets
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from table_files import HEAD, ROWS
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from windtunnel.cli import main

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of the cluster that tests start
os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is imported, by whichever test


SHARED = ("cluster", "head", "builtins", "swept_study", "full", "gang", "score", "site")
"""Fixtures that cost seconds; a test that asks for one is `medium`."""

TOGETHER = {
    **{f"tests/data/test_{name}.py": "builtins" for name in ("account", "builtin", "doctests")},
    **{
        f"tests/report/test_{name}.py": "report"
        for name in ("facts", "fit_figures", "page", "variants_page", "write")
    },
    **{f"tests/train/test_{name}.py": "gang" for name in ("dynamics", "parallel")},
}
"""Files that share a fixture of `SHARED`, with the name of their process."""


def process_of(nodeid: str) -> str:
    """The name of what runs in one process: a file, or several files of `TOGETHER`."""
    file = nodeid.partition("::")[0]
    return TOGETHER.get(file, file)


class ByProcess(LoadScopeScheduling):
    """Tests that share fixtures share a process, in the order of the collection.

    `--dist loadgroup` puts every test anywhere: xdist 3.8 renames tests in a way that pytest 9.2
    does not see.
    """

    def _split_scope(self, nodeid: str) -> str:
        return process_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByProcess:
    """Share the tests out by file."""
    config.option.loadscopereorder = False
    return ByProcess(config, log)


@pytest.hookimpl(tryfirst=True)  # before `-m` reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of costly fixtures; in processes of xdist, begin with the longest files."""
    seconds = Counter()
    for item in items:
        if any(name in SHARED for name in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.medium)
        marks = [mark.name for mark in item.iter_markers() if mark.name in SECONDS]
        seconds[process_of(item.nodeid)] += max((SECONDS[name] for name in marks), default=0.05)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: -seconds[process_of(item.nodeid)])


SECONDS = {"slow": 15.0, "medium": 2.5}
"""Of a test with that marker, as a mean; of one with none a twentieth."""


@pytest.fixture(scope="session", autouse=True)
def _files_need_not_outlast_a_power_cut():
    """No test cuts the power of this process, and each wait for the disk takes milliseconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda file: None)
        yield


STUDY = """\
study: {name}
data:
  sources: [{{path: {text}, name: words}}]
  validation: {{fraction: 0.1, tokens: 2048, fork_tokens: 512}}
model:
  sizes: [16x1, 16x2, 32x1, 32x2]
  head_dim: 16
  context: 32
recipe:
  lr: 1e-2
  base_width: 16
  batch_tokens: 128
  warmup_steps: 10
experiments:
  - kind: scaling
    name: law
    sizes: {sizes}
    horizons: {horizons}
    seeds: {seeds}
    hold_out: {hold_out}
resources: {{concurrency: 2, checkpoint_seconds: 0.3}}
store: store
tracking: {{enabled: false}}
"""


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 200 kB of made-up text in 400 documents, the same at every run."""
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 7))) for _ in range(300)]
    folder = tmp_path_factory.mktemp("words")
    lines = []
    for number in range(400):
        text = " ".join(rng.choices(vocabulary, k=100))
        lines.append(f'{{"text": "document {number}: {text}"}}')
    path = folder / "words.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def study_file(tmp_path: Path, write_study: Callable[..., Path]) -> Callable[..., Path]:
    """Write a study file in a folder of its own; keyword arguments replace its parts."""
    return partial(write_study, tmp_path)


@pytest.fixture(scope="session")
def write_study(words: Path) -> Callable[..., Path]:
    """Write a study file in a folder; for fixtures that tests share."""

    def write(
        folder: Path,
        *,
        name: str = "small",
        sizes: str = "[16x1, 32x1]",
        horizons: str = "[110 steps, 140 steps]",
        seeds: str = "1",
        hold_out: str = "none",
        text: Path = words,
        replace: tuple[str, str] = ("", ""),
    ) -> Path:
        content = STUDY.format(
            name=name, text=text, sizes=sizes, horizons=horizons, seeds=seeds, hold_out=hold_out
        )
        path = folder / "hparams.yaml"
        path.write_text(content.replace(*replace) if replace[0] else content)
        return path

    return write


@pytest.fixture
def windtunnel(monkeypatch, capsys):
    """Run the command line in this process: exit code, output, errors; no traceback passes."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["windtunnel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture
def csv(tmp_path):
    """Write a table: its path."""

    def write(text, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def runs(csv):
    """A table of four runs."""
    return csv(HEAD + "\n".join(ROWS) + "\n")


@pytest.fixture
def undrawn(monkeypatch):
    """Pages with empty pictures, for tests of their words: drawing takes seconds."""
    from pictures import draw_nothing

    draw_nothing(monkeypatch)
