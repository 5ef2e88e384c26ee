"""What a newcomer types, and what comes back: output, exit code, never a traceback."""

import csv
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from windtunnel.cli.app import CHECKS, COMMANDS, FORECASTS

COMMAND = [sys.executable, "-c", "from windtunnel.cli import main; main()"]
HEAVY = ("torch", "ray", "mlflow", "pandas", "scipy", "matplotlib", "optuna", "transformers")


def process(*arguments):
    """The command line as a process of its own: exit code, output, errors."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def loaded_by(code):
    script = f"import sys\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def test_import_and_help_load_nothing_heavy():
    assert loaded_by("import windtunnel") == "[]"
    run_help = (
        "from typer.testing import CliRunner\nfrom windtunnel.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert loaded_by(run_help) == "[]"


LIGHT = """
from typer.testing import CliRunner
from windtunnel.cli.app import CHECKS, COMMANDS, FORECASTS, app
ran = CliRunner().invoke(app, [*{command!r}, "--help"])
assert ran.exit_code == 0, ran.output
every = {{e.module for e in (*COMMANDS.values(), *CHECKS.values(), *FORECASTS.values())}}
others = {{f"windtunnel.cli.{{module}}" for module in every - {{{own!r}}}}}
print(sorted(sys.modules.keys() & {{"numpy", "windtunnel.config", *{heavy!r}, *others}}))
"""


@pytest.mark.parametrize(
    "command",
    ["", *COMMANDS, *(f"check {name}" for name in CHECKS), *(f"forecast {n}" for n in FORECASTS)],
)
@pytest.mark.medium
def test_help_imports_no_other_command(command):
    words = command.split()
    group = {"check": CHECKS, "forecast": FORECASTS}.get(command.split(" ")[0], COMMANDS)
    own = group[words[-1]].module if words else ""
    script = LIGHT.format(command=words, heavy=HEAVY, own=own)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{script}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("entries", [COMMANDS, CHECKS, FORECASTS])
def test_a_summary_is_the_first_line_of_the_help(entries):
    for entry in entries.values():
        function = getattr(import_module(f"windtunnel.cli.{entry.module}"), entry.function)
        assert function.__doc__.splitlines()[0] == entry.summary


@pytest.mark.medium
def test_plan_loads_no_torch(study_file):
    path = study_file()
    run_plan = (
        "from typer.testing import CliRunner\nfrom windtunnel.cli.app import app\n"
        f"assert CliRunner().invoke(app, ['plan', {str(path)!r}]).exit_code == 0"
    )
    assert loaded_by(run_plan) == "[]"


@pytest.mark.medium
def test_help_is_fast():
    """CPU seconds: 0.2 to 0.4 on the machines seen, and 2 more with any of the large packages."""
    times = []
    for _ in range(5):
        before = os.times()
        process("--help")
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))  # of children: user, system
    assert min(times) < 1


def test_the_commands_are_these(windtunnel):
    _, output, _ = windtunnel("--help")
    commands = ["init", "plan", "sweep", "status", "gc", "runs", "records", "winner", "report"]
    commands += [
        "sync",
        "ui",
        "check",
        "fit",
        "predict",
        "optimum",
        "break-even",
        "export",
        "forecast",
        "import-runs",
    ]
    assert [word for word in commands if f" {word} " in output] == commands


def test_init_then_plan(windtunnel, tmp_path):
    code, output, _ = windtunnel("init", tmp_path / "hparams.yaml")
    assert code == 0
    assert "windtunnel plan" in output
    first_line = (tmp_path / "hparams.yaml").read_text().splitlines()[0]
    assert first_line.startswith("# yaml-language-server: $schema=")
    schema = json.loads(Path(first_line.split("=", 1)[1]).read_text())
    assert "experiments" in schema["properties"]
    code, output, _ = windtunnel("plan", tmp_path / "hparams.yaml")
    assert code == 0
    assert "55 trunks + 117 branches" in output
    assert "epochs are known once" in output
    # The experiments that it shows commented out are right as well, with their sources.
    shown = (tmp_path / "hparams.yaml").read_text().replace("  # - ", "  - ")
    (tmp_path / "all.yaml").write_text(re.sub(r"(?m)^  #   ", "    ", shown))
    code, output, error = windtunnel("plan", tmp_path / "all.yaml")
    assert code == 0, error
    assert "search tune  12 trials of 32x3 to 400000 tokens, 0 suggested" in output
    assert "forks 20N of 32x3, 3 variants x 2 seeds: plain, code, tuned" in output
    code, _, error = windtunnel("init", tmp_path / "hparams.yaml")
    assert code == 2
    assert "is there already" in error


def test_plan_in_numbers(windtunnel, study_file):
    path = study_file(sizes="[16x1]", horizons="[110 steps, 140 steps]")
    code, output, _ = windtunnel("plan", path, "--json")
    assert code == 0
    plan = json.loads(output)
    # Trunk to 126; branches of 11 and 14 updates.
    assert plan["cost"]["updates"] == 126 + 11 + 14
    assert plan["cost"]["tokens"] == (126 + 11 + 14) * 128
    assert plan["cost"]["saving"] == pytest.approx((110 + 140) / (126 + 11 + 14))
    assert [segment["kind"] for segment in plan["segments"]] == ["trunk", "branch", "branch"]
    code, resolved, _ = windtunnel("plan", path, "--resolved")
    assert "weight_decay_rule: scaled" in resolved


@pytest.mark.slow
def test_the_whole_chain_on_a_small_study(windtunnel, study_file, tmp_path):
    path = study_file(
        sizes="[16x1, 16x2, 32x1, 32x2]",
        horizons="[110 steps, 140 steps, 180 steps]",
        hold_out="largest",
    )
    code, output, error = windtunnel("status", path)
    assert (code, error) == (0, "")
    assert "16 waiting" in output
    code, output, error = windtunnel("sweep", path, "--engine", "local")
    assert code == 0, error
    assert "16 finished" in output
    assert "forecast of the held-out size: " in output
    assert (tmp_path / "store" / "studies" / "small" / "report.html").exists()
    _, output, _ = windtunnel("status", path)
    assert re.search(
        r"in finished segments, summed over trials: training [\d.]+%, evaluation [\d.]+%, "
        r"checkpoints [\d.]+%",
        output,
    )
    code, output, _ = windtunnel("status", path, "--json")
    assert json.loads(output)["counts"]["finished"] == 16

    code, output, _ = windtunnel("runs", path, "--out", tmp_path / "runs.csv")
    assert code == 0
    with (tmp_path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    expected = [
        "segment",
        "kind",
        "parent",
        "trunk",
        "decayed",
        "width",
        "depth",
        "params",
        "params_embedding",
        "params_active",
        "tokens",
        "flops_6nd",
        "flops_exact",
        "flops",
        "flops_spent",
        "batch_tokens",
        "lr",
        "init_seed",
        "data_seed",
        "horizon",
        "epochs",
        "outcome",
        "loss",
        "loss_words",
        "bits_per_byte",
        "tokens_per_second",
        "seconds",
    ]
    assert set(expected) <= set(rows[0])
    for row in rows:
        assert row["flops"] == row["flops_6nd"]
        assert float(row["flops"]) == 6 * int(row["params"]) * int(row["tokens"])

    code, from_study, _ = windtunnel("fit", path, "--bootstrap", "50", "--json")
    assert code == 0, from_study
    code, from_csv, _ = windtunnel("fit", tmp_path / "runs.csv", "--bootstrap", "50", "--json")
    assert code == 0
    assert json.loads(from_csv)["coefficients"] == json.loads(from_study)["coefficients"]
    code, output, _ = windtunnel("records", path, "--out", tmp_path / "records")
    assert code == 0
    assert output.split() == [
        str(tmp_path / "records" / name)
        for name in ("study.yaml", "runs.csv", "curves.csv", "forecasts.json", "provenance.json")
    ]
    code, output, _ = windtunnel("report", path, "--out", tmp_path / "page.html")
    assert code == 0
    assert (tmp_path / "page.html").read_text().startswith("<!")


BAD = {
    "no file": (["plan", "none.yaml"], "none.yaml: no such file; `windtunnel init"),
    "no data": (["sweep", "{study}"], "words.txt"),
    "engine": (["sweep", "{study}", "--engine", "spark"], "[unknown-value]"),
    "law": (["fit", "table.csv", "--law", "chinchila"], "[unknown-value]"),
    "table": (["fit", "table.csv"], "table.csv: no such file"),
    "no such table": (["fit", "table.csv"], "table.csv: no such file"),
    "widths": (["check", "mup", "--widths", "32,64"], "three or more, over a factor of 8"),
    "width of no model": (["check", "mup", "--widths", "20,32,256"], "[invalid-value]"),
    "no cluster": (["sweep", "{good}", "--address", "127.0.0.1:1"], "--address 127.0.0.1:1: "),
    "width words": (["check", "mup", "--widths", "a,b"], "[not-a-number]"),
    "too early": (["fit", "{good}"], "[too-few-rows]"),
}


NO_CLUSTER = pytest.param("no cluster", marks=pytest.mark.medium)


@pytest.mark.parametrize("name", [*(name for name in BAD if name != "no cluster"), NO_CLUSTER])
def test_bad_input_exits_2_and_teaches(request, monkeypatch, study_file, tmp_path, name):
    arguments, message = BAD[name]
    has_data = name in {"too early", "no cluster"}
    path = study_file(**{} if has_data else {"text": tmp_path / "words.txt"})
    filled = [part.format(study=path, good=path) for part in arguments]
    monkeypatch.chdir(tmp_path)
    # Ray keeps for its process what it has learnt of a cluster.
    run = process if name == "no cluster" else request.getfixturevalue("windtunnel")
    code, _, error = run(*filled)
    assert code == 2
    assert message in error


def test_empty_data(windtunnel, study_file, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    code, _, error = windtunnel("sweep", study_file(text=tmp_path / "empty.txt"))
    assert code == 2
    assert "empty" in error


def test_a_store_that_cannot_be_written(windtunnel, study_file, tmp_path):
    (tmp_path / "store").write_text("a file where the store should be")
    code, _, error = windtunnel("sweep", study_file())
    assert code == 2
    assert "the store cannot be written" in error


def test_a_full_disk_wherever_it_is_met():
    script = (
        "import windtunnel.cli.app as a\n"
        "def full(): raise OSError(28, 'No space left on device', 'tokens.bin')\n"
        "a.app = full\nfrom windtunnel.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: tokens.bin: No space left on device; fix it")
    assert "Traceback" not in done.stderr


def test_other_data_under_the_same_study_is_refused(windtunnel, study_file):
    path = study_file(sizes="[16x1]", horizons="[110 steps]")
    assert windtunnel("sweep", path, "--engine", "local")[0] == 0
    path.write_text(path.read_text().replace("fraction: 0.1", "fraction: 0.2"))
    code, _, error = windtunnel("plan", path)
    assert code == 2
    assert "were trained on other data" in error
    assert "give the changed study a new `study:` name" in error


@pytest.mark.medium
def test_a_file_of_another_kind_is_no_table(windtunnel, tmp_path, monkeypatch):
    (tmp_path / "table.txt").write_text("params 1\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    code, _, error = windtunnel("fit", "table.txt")
    assert code == 2
    assert "table.txt: not a table that can be read; allowed are .csv" in error


@pytest.mark.medium
def test_a_fit_without_its_column_names_the_columns(windtunnel, tmp_path):
    (tmp_path / "t.csv").write_text("n,tokens,loss\n1,2,3\n")
    code, _, error = windtunnel("fit", tmp_path / "t.csv")
    assert code == 2
    assert (
        "name the column of params with --params COL. There are: n, tokens, loss; did you mean"
        in error
    )
