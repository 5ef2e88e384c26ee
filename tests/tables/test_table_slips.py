"""What people's tables get wrong without looking wrong, and what each is told."""

import json

import numpy as np
import pytest
from table_files import values

from windtunnel.cli.fit import FitOptions, fit_source
from windtunnel.errors import ConfigError, FitError
from windtunnel.laws import Chinchilla
from windtunnel.tables.check import is_perplexity
from windtunnel.tables.columns import is_active
from windtunnel.tables.read import read_table
from windtunnel.tables.warnings import loss_unit

NEEDS = ("params", "tokens", "loss")
LAW = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
SIZES, RATIOS = np.geomspace(1e7, 1e9, 5).round().tolist(), (5, 10, 20, 40, 80, 160)
ROWS = [(n, n * r, float(LAW(n, n * r))) for n in SIZES for r in RATIOS]


@pytest.fixture
def write(tmp_path):
    """A table of a law without noise, its cells by column from the row's number and values."""

    def make(**columns):
        cells = {
            "params": lambda k, n, d, x: n, "tokens": lambda k, n, d, x: d,
            "loss": lambda k, n, d, x: x, **columns,
        }  # fmt: skip
        cells = {name: of for name, of in cells.items() if of is not None}
        lines = [",".join(name for name in cells)]
        for k, row in enumerate(ROWS):
            values = [of(k, *row) if callable(of) else of for of in cells.values()]
            lines.append(",".join(map(str, values)))
        path = tmp_path / "runs.csv"
        path.write_text("\n".join(lines))
        return path

    return make


def read(path, columns=None, needs=NEEDS, **options):
    return read_table(path, columns=columns or {}, needs=needs, decayed_only=True, **options)


def codes(found):
    return [diagnostic.code for diagnostic in found.diagnostics]


def refused(path, **options):
    with pytest.raises(ConfigError) as told:
        read(path, **options)
    return told.value


# Logarithms


@pytest.mark.parametrize(("log", "base"), [(np.log10, 10), (np.log, np.e)], ids=["log10", "ln"])
@pytest.mark.parametrize("which", ["params", "tokens", "both", "flops"])
def test_logarithms_are_told_to_be_raised_and_not_to_be_scaled(write, log, base, which):
    columns = {}
    if which in {"params", "both"}:
        columns["params"] = lambda k, n, d, x: log(n)
    if which in {"tokens", "both"}:
        columns["tokens"] = lambda k, n, d, x: log(d)
    if which == "flops":
        columns = {"tokens": None, "flops": lambda k, n, d, x: log(6 * n * d)}
    error = refused(write(**columns))
    assert values(error, "base") == ("logarithm-column", base)
    assert "scale" not in error.values


def test_logarithms_of_one_size_are_known_by_those_of_tokens(write):
    path = write(params=7.5, tokens=lambda k, n, d, x: np.log10(d))
    assert values(refused(path), "base") == ("logarithm-column", 10)


@pytest.mark.parametrize("sizes", [(7, 8, 13), (7, 13, 70), (7, 9, 12)])
def test_billions_close_to_each_other_are_no_logarithms(tmp_path, sizes):
    path = tmp_path / "runs.csv"
    lines = [f"{n},{d},2.{n}" for n in sizes for d in (140, 300, 1000, 2000)]
    path.write_text("params,tokens,loss\n" + "\n".join(lines))
    error = refused(path)
    assert error.code == "wrong-unit"
    assert "params" in error.values["scale"]


# Units


@pytest.mark.parametrize(
    "name",
    ["valPPL", "pplx", "ppl_val", "perplexity/val", "PPL", "evalPplx", "val.ppl", "testppl",
     "ppl1", "Perplexity (val)", "wikitext_ppl", "pplVal", "PPLval"],
)  # fmt: skip
def test_a_perplexity_is_refused_by_its_name(write, name):
    path = write(loss=None, **{name: 9.5})
    error = refused(path, columns={"loss": name})
    assert values(error, "column") == ("perplexity-column", name)


@pytest.mark.parametrize("name", ["log_ppl", "log_perplexity", "loss", "supply", "applied_loss"])
def test_other_names_are_no_perplexities(name):
    assert not is_perplexity(name)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("bits_per_token", "bits per token"), ("bitsPerToken/val", "bits per token"),
        ("val_bpt", "bits per token"), ("bpb/val", "bits per byte"), ("val_bpb", "bits per byte"),
        ("loss", None), ("nats_per_token", None),
    ],
)  # fmt: skip
def test_units_are_known_by_name(name, unit):
    assert loss_unit(name) == unit


# Runs that did not finish


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("Slurm State", "COMPLETED", "FAILED"), ("final_status", "finished", "crashed"),
        ("train_status", "finished", "crashed"), ("end_state", "finished", "crashed"),
        ("job", "finished", "crashed"), ("phase", "Succeeded", "Failed"),
        ("ExitCode", "0:0", "1:0"), ("ExitCode", "0:0", "0:9"), ("exit_code", "0", "1"),
        ("exitStatus", "0.0", "137.0"), ("return code", "0", "-9"), ("Success", "True", "False"),
        ("is_crashed", "False", "True"), ("run_failed", "0.0", "1.0"),
        ("State", "TrialState.COMPLETE", "TrialState.PRUNED"), ("sys/state", "Inactive", "Active"),
        ("sys/failed", "False", "True"),
        ("State", "COMPLETED", "OUT_OF_ME+"), ("State", "COMPLETED", "CANCELLED+"),
        ("state", "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"), ("how it went", "done", "died? lost"),
    ],
)  # fmt: skip
def test_runs_that_did_not_finish_are_left_out(write, column, good, bad):
    if bad == "died? lost":
        bad = "lost"
    found = read(write(**{column: lambda k, *_: good if k % 6 else bad}))
    assert found.table.rows == 25
    assert found.table.dropped == ((f"{column} is {bad}", 5),)
    told = next(each for each in found.diagnostics if each.code == "unfinished-runs")
    kept = read(
        write(**{column: lambda k, *_: good if k % 6 else bad}),
        where=[told.values["condition"]],
    )
    assert kept.table.rows == 30


@pytest.mark.parametrize("word", ["COMPLET+", "OU+", "baseline"])
def test_words_of_a_state_that_say_nothing_are_kept_and_said(write, word):
    found = read(write(State=word))
    assert (found.table.rows, codes(found)) == (30, ["unknown-state"])


@pytest.mark.parametrize(
    "columns",
    [
        {"job": lambda k, *_: 1000 + k}, {"phase": "decay"}, {"notes": lambda k, *_: f"note {k}"},
        {"exit_code": 0}, {"success": "True"}, {"variant": "lost"},
    ],
)  # fmt: skip
def test_other_columns_say_nothing_of_how_runs_ended(write, columns):
    found = read(write(**columns))
    assert (found.table.rows, codes(found)) == (30, [])


# Repeated data, experts, curves


@pytest.mark.parametrize(
    ("columns", "most"),
    [
        ({"num_train_epochs": 4}, "4"), ({"repeats": 3}, "3"), ({"data_repetitions": 2}, "2"),
        ({"D_unique": 1e10}, "16"), ({"D_unique": "10B"}, "16"), ({"epochs": "4x"}, "4"),
        ({"epochs": "4 epochs"}, "4"), ({"Epochs": "x4"}, "4"),
    ],
)  # fmt: skip
def test_repeated_data_is_said(write, columns, most):
    found = read(write(**columns))
    assert "repeated-data" in codes(found)
    said = next(each.message for each in found.diagnostics if each.code == "repeated-data")
    assert f"up to {most} times" in said


def test_passes_that_are_no_numbers_are_said(write):
    assert codes(read(write(epochs="four"))) == ["column-left-out"]
    assert codes(read(write(epochs="1x"))) == []


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("Params (act.)", True), ("n_act", True), ("activated_params", True), ("N_active", True),
        ("active_params", True), ("paramsActive", True), ("Params (total)", False),
        ("activation", False), ("n_active_experts", False), ("act_fn", False), ("action", False),
        ("params", False),
    ],
)  # fmt: skip
def test_active_parameters_by_name(name, active):
    assert is_active(name) is active


def test_mixtures_of_experts_are_said(write):
    path = write(**{"params": None, "Params (total)": 1e9, "Params (act.)": 1e8})
    assert values(refused(path), "suggested") == ("unknown-column", "Params (act.)")
    assert codes(read(write(n_act=1e6))) == ["total-params"]
    assert codes(read(write(num_experts=8, top_k=2))) == ["total-params"]
    assert codes(read(write(num_experts=1))) == []
    path = write(params=None, active_params=lambda k, n, d, x: n, num_experts=8)
    assert codes(read(path, {"params": "active_params"})) == []
    path = write(active_params=lambda k, n, d, x: n, num_experts=8)  # as many: dense, or counted
    assert codes(read(path)) == []


@pytest.mark.parametrize(
    ("head", "trunks"),
    [("wandb_run,", 5), ("name,", 5), ("config,", 5), ("mlflow_run_id,", 5), ("", 100)],
)
def test_points_of_curves_are_said(tmp_path, head, trunks):
    path = tmp_path / "runs.csv"
    lines = [
        f"{f'r{n:g},' if head else ''}{n},{2 * n * k},{float(LAW(n, 2 * n * k))}"
        for n in SIZES
        for k in range(1, 21)
    ]
    path.write_text("\n".join([f"{head}params,tokens,loss", *lines]))
    found = read(path)
    assert codes(found) == ["curve-rows"]
    assert found.table.trunk_labels.size == trunks


def test_names_of_families_are_no_runs(write):
    for columns in (("name",), ("config",), ("model_id",), ("config", "step"), ("config.dim",)):
        found = read(write(**dict.fromkeys(columns, lambda k, n, *_: f"size {n:g}")))
        assert (codes(found), found.table.trunk_labels.size) == ([], 30)


# Hints


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<p>a b c</p>", "<html>\n<body>\n", "<?xml?>"])
def test_a_web_page_is_told_to_be_one(tmp_path, text):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    assert values(refused(path), "path") == ("wrong-format", path)
    assert "web page" in str(refused(path))


@pytest.mark.parametrize("head", ['"params,tokens,loss"', "params,tokens,loss"])
def test_lines_in_quotes_are_told_to_be(tmp_path, head):
    path = tmp_path / "runs.csv"
    path.write_text(f'{head}\n"1e7,2e8,3.1"\n"1e7,4e8,3.0"\n')
    assert values(refused(path), "path", "line") == ("quoted-lines", path, 2)


def test_a_header_in_quotes_is_told_to_be(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text('"params,tokens,loss"\n1e7,2e8,3.1\n1e7,4e8,3.0\n')
    error = refused(path)
    assert (error.code, error.values) == ("quoted-lines", {"path": path})


@pytest.mark.parametrize(
    ("row", "right"),
    [("1.000.000;20.000.000;2.345", "2,345"), ('"1,000,000";"20,000,000";"2,345"', "2.345")],
)
def test_groups_beside_a_loss_of_three_decimals_are_refused_by_its_cell(tmp_path, row, right):
    path = tmp_path / "runs.csv"
    path.write_text(f"params;tokens;loss\n{row}\n")
    error = refused(path)
    assert values(error, "place", "column") == ("ambiguous-number", "line 2", "loss")
    assert f"write {right!r}" in str(error)


def test_what_is_not_there_is_told_so_whatever_its_name(tmp_path):
    assert refused(tmp_path / "nope").code == "missing-file"
    (tmp_path / "there").write_text("x")
    assert refused(tmp_path / "there").code == "unknown-format"


# Errors of the law


@pytest.mark.parametrize(
    ("law", "text", "said"),
    [
        ("power", "a,b\n1,2\n2,-3\n3,4\n4,5\n5,6\n6,7\n", "line 3, column 'b' is -3"),
        ("power", "a,b\n1,2\n2,3\n3,4\n4,5\n5,6\n\n0,7\n", "line 8, column 'a' is 0"),
        ("power", "a,b\n1,2\n2,2\n3,2\n4,2\n5,2\n6,2\n", "column 'b' is 2 in every row"),
        ("power-offset", "a,b\n1,2\n2,3\n", "needs at least"),
    ],
)
def test_errors_of_a_law_name_the_file_and_its_lines(tmp_path, law, text, said):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    options = FitOptions(law=law, columns={"x": "a", "y": "b"}, bootstrap=0, holdout="none")
    with pytest.raises(FitError) as told:
        fit_source(path, options)
    assert str(told.value).startswith(f"{path}: ")
    assert said in str(told.value)


# Options


@pytest.mark.parametrize(
    "options",
    [
        ["--fix", "E=1", "--fix", "E=2"], ["--scale", "loss=1", "--scale", "loss=1"],
        ["--tie", "alpha=beta", "--tie", "alpha=A"], ["--scale", "loss=1", "--scale", "x=2"],
    ],
)  # fmt: skip
def test_a_name_given_twice_is_refused(write, options):
    path = write(loss=None, x=lambda k, n, d, x: x)
    given = {name: tuple(v for k, v in zip(options[::2], options[1::2], strict=True)
                         if k == f"--{name}") for name in ("fix", "scale", "tie")}  # fmt: skip
    with pytest.raises(ConfigError, match="given twice"):
        fit_source(path, FitOptions(law="chinchilla", columns={"loss": "x"}, **given))


@pytest.mark.parametrize(("factor", "to"), [(1e3, "1000"), (1e6, "1e6"), (1e9, "1e9")])
def test_tokens_in_another_unit_are_told_with_the_scale(write, factor, to):
    path = write(tokens=lambda k, n, d, x: d / factor)
    options = FitOptions(law="chinchilla", bootstrap=0, holdout="none")
    try:
        fitted, _ = fit_source(path, options)
    except ConfigError as problem:
        said = str(problem)
    else:
        said = next(w.message for w in fitted.warnings if w.code == "odd-units")
    assert f"--scale tokens={to}" in said
    scaled = FitOptions(law="chinchilla", scale=(f"tokens={to}",), bootstrap=0, holdout="none")
    fitted, table = fit_source(path, scaled)
    assert "odd-units" not in [warning.code for warning in fitted.warnings]
    assert 5 <= np.median(table.tokens / table.params) <= 160
    assert json.loads(fitted.to_json())["law"] == "chinchilla"
