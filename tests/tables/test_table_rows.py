"""Rows that should not count, and tables that are fitted as what they are not."""

import numpy as np
import pytest
from table_files import values

from windtunnel.cli.fit import FitOptions, fit_source, read_source
from windtunnel.errors import ConfigError
from windtunnel.laws import Chinchilla
from windtunnel.tables.read import read_table

NEEDS = ("params", "tokens", "loss")
LAW = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
SIZES, RATIOS = np.geomspace(1e7, 1e9, 5).round().tolist(), (5, 10, 20, 40, 80, 160)


@pytest.fixture
def write(tmp_path):
    """A table of a planted law: a name of each further column, and its cells by row."""

    def make(loss=lambda row, value: value, names=NEEDS, **more):
        rng = np.random.default_rng(3)
        lines = [",".join((*more, *names))]
        for row, (n, ratio) in enumerate((n, r) for n in SIZES for r in RATIOS):
            value = float(LAW(n, n * ratio) * np.exp(0.001 * rng.standard_normal()))
            cells = [str(cells(row) if callable(cells) else cells) for cells in more.values()]
            lines.append(",".join([*cells, repr(n), repr(n * ratio), repr(loss(row, value))]))
        path = tmp_path / "runs.csv"
        path.write_text("\n".join(lines))
        return path

    return make


def read(path, columns=None, **options):
    return read_table(path, columns=columns or {}, needs=NEEDS, decayed_only=True, **options)


def codes(found):
    return [diagnostic.code for diagnostic in found.diagnostics]


@pytest.mark.parametrize(
    ("column", "finished", "word"),
    [
        ("State", "finished", "crashed"), ("State", "finished", "killed"),
        ("state", "finished", "preempting"), ("status", "FINISHED", "RUNNING"),
        ("tags.status", "FINISHED", "SCHEDULED"), ("State", "COMPLETED", "CANCELLED by 1000"),
        ("State", "COMPLETED", "OUT_OF_MEMORY"), ("JobState", "COMPLETED", "NODE_FAIL"),
        ("State", "COMPLETED", "TIMEOUT"), ("state", "COMPLETE", "PRUNED"),
        ("status", "TERMINATED", "ERROR"), ("outcome", "finished", "diverged"),
        ("run_status", "ok", "failed (exit 1)"), ("crashed", "False", "True"),
        ("finished", "1", "0"), ("exit_code", "0", "1"), ("exit_code", "0", "-1"),
    ],
)  # fmt: skip
def test_runs_that_did_not_finish_are_left_out(write, column, finished, word):
    path = write(
        loss=lambda row, value: value + (row % 6 == 0),
        **{column: lambda row: finished if row % 6 else word},
    )
    found = read(path)
    assert found.table.rows == 25
    assert found.table.dropped == ((f"{column} is {word}", 5),)
    assert codes(found) == ["unfinished-runs"]
    told = found.diagnostics[0].values
    assert (told["column"], told["rows"], told["unfinished"]) == (column, 30, {word: 5})
    kept = read(path, where=[told["condition"]])
    assert (kept.table.rows, codes(kept)) == (30, [])


def test_a_fit_is_that_of_the_finished_runs(write):
    options = FitOptions(law="chinchilla", bootstrap=0)
    good, _ = fit_source(write(), options)
    path = write(loss=lambda row, value: value + 0.8 * (row % 6 == 0), status=lambda row: (
        "failed" if row % 6 == 0 else "finished"))  # fmt: skip
    mixed, _ = fit_source(path, options)
    assert mixed.rows == 25
    assert mixed.coefficients["alpha"] == pytest.approx(good.coefficients["alpha"], abs=0.01)
    assert "unfinished-runs" in [warning.code for warning in mixed.warnings]


def test_words_that_are_not_known_are_kept_and_said(write):
    found = read(write(status=lambda row: ("finished", "failed", "evicted", "")[row % 4]))
    assert codes(found) == ["unfinished-runs", "unknown-state"]
    assert found.table.rows == 30 - 8
    assert found.diagnostics[1].values["states"] == {"evicted": 7, "empty": 7}
    assert codes(read(write(status="baseline"))) == ["unknown-state"]
    found = read(write(status=lambda row: f"word{row}"))
    assert codes(found) == ["unknown-state"]
    assert found.diagnostics[0].message.count("word") == 10
    assert codes(read(write(phase="baseline"))) == []  # no name of a state, and no known word


def test_no_finished_run_is_an_error_with_the_way_out(write):
    with pytest.raises(ConfigError) as refused:
        read(write(state="crashed"))
    assert values(refused.value, "unfinished", "condition") == (
        "no-rows-left", {"crashed": 30}, "state != none",
    )  # fmt: skip


def test_losses_that_are_infinite_and_rows_before_the_first_update(write):
    path = write(loss={3: float("nan"), 4: float("inf")}.get)
    path.write_text(path.read_text() + "\n1e7,0,10.8\n")
    found = read(path)
    assert found.table.rows == 28
    assert found.table.dropped == (
        ("tokens is 0, before the first update", 1),
        ("loss is missing", 1),
        ("loss is infinite", 1),
    )
    assert codes(found) == ["incomplete-rows"]


@pytest.mark.parametrize(
    ("more", "most"),
    [
        ({"epochs": lambda row: 1 + row % 6}, "6"),
        ({"num_epochs": lambda row: 4 if row == 2 else 1}, "4"),
        ({"config.epochs": 2}, "2"),
        ({"unique_tokens": 1e10}, "16"),
        ({"uniqueTokens": 1e10, "epochs": 20}, "20"),
    ],
)
def test_repeated_data_names_the_law_of_it(write, more, most):
    found = read(write(**more))
    assert codes(found) == ["repeated-data"]
    assert f"up to {most} times" in found.diagnostics[0].message
    assert "--law data-constrained" in found.diagnostics[0].message


def test_data_that_is_fresh_earns_nothing(write):
    assert codes(read(write(epochs=1))) == []
    assert codes(read(write(epochs=0.2, unique_tokens=2e11))) == []
    found = read_table(write(unique_tokens=1e10), columns={}, needs=(*NEEDS, "unique_tokens"))
    assert codes(found) == []


def curve(path, head, line):
    rows = [
        line(n, k, f"{n},{2 * n * k},{float(LAW(n, 2 * n * k))}")
        for n in SIZES
        for k in range(1, 11)
    ]
    path.write_text("\n".join([head, *rows]))
    return path


def test_points_of_a_curve_share_the_noise_of_their_run(tmp_path):
    path = tmp_path / "runs.csv"
    for head, line in (
        ("run_id,params,tokens,loss", lambda n, k, rest: f"r{n},{rest}"),
        ("Name,_step,params,tokens,loss", lambda n, k, rest: f"r{n},{k},{rest}"),
        ("run,params,tokens,loss", lambda n, k, rest: f"r{n},{rest}"),
    ):
        found = read(curve(path, head, line))
        assert codes(found) == ["curve-rows"], head
        assert found.table.trunk_labels.size == 5
    found = read(curve(path, "step,params,tokens,loss", lambda n, k, rest: f"{k},{rest}"))
    assert codes(found) == ["curve-rows"]  # nothing tells the runs apart
    assert found.table.trunk_labels.size == 50


def test_rows_that_are_runs_of_their_own_are_no_curve(write, tmp_path):
    assert codes(read(write(run=lambda row: row, step=lambda row: row))) == []
    assert codes(read(write(name=lambda row: f"size-{row // 6}"))) == []  # a name of a family
    path = tmp_path / "ends.csv"
    curve(path, "run,decayed,params,tokens,loss", lambda n, k, rest: f"r{n},true,{rest}")
    assert codes(read(path)) == []
    found = read(curve(path, "trunk,params,tokens,loss", lambda n, k, rest: f"r{n},{rest}"))
    assert codes(found) == []


def test_active_parameters_are_what_c_is_of(write):
    path = write(names=("total_params", "tokens", "loss"), active_params=1e6)
    found = read(path, {"params": "total_params"})
    assert codes(found) == ["total-params"]
    assert values(found.diagnostics[0], "column", "active") == (
        "total-params", "total_params", "active_params",
    )  # fmt: skip
    assert codes(read(path, {"params": "active_params"})) == []
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert values(refused.value, "suggested") == ("unknown-column", "active_params")


@pytest.mark.parametrize(
    ("own", "name", "meant"),
    [
        (["total_params", "activated_params"], "params", "activated_params"),
        (["params_embedding", "non_embedding_params"], "params", "non_embedding_params"),
        (["params_per_layer", "model.params"], "params", "model.params"),
        (["batch_tokens", "unique_tokens", "tokens_trained"], "tokens", "tokens_trained"),
        (["train/loss", "val/loss"], "loss", "val/loss"),
        (["train.loss", "metrics.val.loss"], "loss", "metrics.val.loss"),
        (["val_bpb"], "loss", "val_bpb"),
    ],
)
def test_hints_name_the_column_that_is_meant(tmp_path, own, name, meant):
    path = tmp_path / "runs.csv"
    path.write_text(f"{','.join(own)}\n{','.join('1' * len(own))}\n")
    with pytest.raises(ConfigError) as refused:
        read_table(path, columns={}, needs=(name,))
    assert values(refused.value, "name", "suggested") == ("unknown-column", name, meant)


def test_hints_do_not_name_what_is_another_quantity(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("params,batch_tokens,unique_tokens,ppl\n1e9,1,1,9\n")
    with pytest.raises(ConfigError) as refused:
        read_table(path, columns={}, needs=("tokens",))
    assert values(refused.value, "suggested") == ("unknown-column", None)
    with pytest.raises(ConfigError, match="'ppl' is a perplexity: give its natural logarithm"):
        read_table(path, columns={}, needs=("loss",))
    with pytest.raises(ConfigError) as refused:
        read_table(path, columns={"loss": "ppl"}, needs=("params", "loss"))
    assert values(refused.value, "column") == ("perplexity-column", "ppl")
    path.write_text("Step,a - val/loss,a - val/loss__MIN\n1,2,2\n")
    with pytest.raises(ConfigError, match="W&B's export of a chart"):
        read(path)


@pytest.mark.parametrize(
    ("factors", "given", "advised"),
    [
        ((1e-9, 1e-9), {}, {"params": 1e9, "tokens": 1e9}),
        ((1e-6, 1e-6), {}, {"params": 1e6, "tokens": 1e6}),
        ((7e-8, 200), {}, {"params": 1e9}),  # 0.7 to 70 billions, beside tokens
        ((1e-6, 1), {}, {"params": 1e6}),
        ((1e-9, 1), {"params": 1e3}, {"params": 1e9}),  # what was given counts
        ((1, 1e-9), {}, {"tokens": 1e9}),
    ],
)
def test_the_scale_that_is_advised_makes_the_two_plausible(
    write, tmp_path, factors, given, advised
):
    params, tokens = factors
    lines = write().read_text().splitlines()
    rows = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    path = tmp_path / "scaled.csv"
    path.write_text("\n".join([lines[0], *(f"{n * params},{d * tokens},{x}" for n, d, x in rows)]))
    with pytest.raises(ConfigError) as refused:
        read(path, scale=given)
    assert refused.value.code == "wrong-unit"
    assert refused.value.values["scale"] == pytest.approx(advised)
    found = read(path, scale=advised)
    ratio = np.median(found.table.tokens / found.table.params)
    assert 1 < ratio < 1e4


def test_losses_per_byte_are_called_that(write):
    path = write(names=("params", "tokens", "val_bpb"))
    options = FitOptions(law="chinchilla", columns={"loss": "val_bpb"}, bootstrap=0)
    found = read_source(path, options)
    assert "loss-unit" in codes(found)
    assert found.table.loss_unit == "bits per byte, by its name"
    plain = read_source(write(), FitOptions(law="chinchilla"))
    assert (codes(plain), plain.table.loss_unit) == ([], "nats per token, assumed")
