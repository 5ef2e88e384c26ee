"""The Python API as a notebook uses it: a study, tables, fits over arrays, figures, reprs."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import windtunnel as wt
from windtunnel.errors import ConfigError, FitError
from windtunnel.laws import Chinchilla
from windtunnel.laws import fit as fit_arrays

RECORDS = Path(__file__).resolve().parents[2] / "experiments"
LAW = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
FAST = {"law": "chinchilla", "bootstrap": 60}


@pytest.fixture(scope="module")
def runs():
    """Rows as trackers export them: an empty column, gaps, text, an undecayed and a failed run."""
    rng = np.random.default_rng(3)
    rows = [
        {"run": f"r{n:.0f}-{seed}-{ratio}", "trunk": f"{n:.0f}-{seed}", "params": n,
         "tokens": ratio * n, "loss": float(LAW(n, ratio * n)) * np.exp(0.002 * rng.normal()),
         "decayed": True, "lr": 0.01 if seed else np.nan, "note": None, "outcome": "finished"}
        for n in np.geomspace(1e5, 3.2e6, 6).round() for seed in range(2)
        for ratio in (5, 10, 20, 40)
    ]  # fmt: skip
    rows.append(rows[0] | {"run": "stable", "decayed": False, "loss": 9.0})
    rows.append(rows[0] | {"run": "gone", "outcome": "diverged", "loss": np.nan})
    return pd.DataFrame(rows)


def numbers(text):
    """What the documents of two fits of the same rows share: all but where the rows stood."""
    document = json.loads(text)
    for key in ("digest", "influence", "residuals", "columns", "warnings", "objective"):
        document.pop(key, None)
    return document


def test_a_frame_a_file_and_the_command_line_give_the_same_fit(runs, tmp_path, windtunnel):
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    out = tmp_path / "fit.json"
    code, _, error = windtunnel(
        "fit", path, "--law", "chinchilla", "--bootstrap", 60, "--where", "params<3M", "--out", out
    )
    assert code == 0, error
    frames = {
        "frame": runs,
        "read back": pd.read_csv(path),
        "file": path,
        "text": str(path),
        "dict": {name: list(runs[name]) for name in runs},
        "pandas types": runs.convert_dtypes(),
    }
    fits = {name: wt.fit(table, where="params<3M", **FAST) for name, table in frames.items()}
    wanted = numbers(out.read_text())
    for name, fitted in fits.items():
        assert numbers(fitted.to_json()) == wanted, name
        assert fitted.rows == 40, name
        assert {"mixed-decay", "unfinished-runs"} <= {each.code for each in fitted.warnings}


def test_an_empty_column_leaves_no_row_out(runs):
    finished = runs[runs.decayed & (runs.outcome == "finished")].drop(columns="outcome")
    for table in (finished, finished.assign(note=np.nan)):
        fitted = fit_arrays(table, **FAST)
        assert fitted.rows == 48
        assert "incomplete-rows" not in {each.code for each in fitted.warnings}
        (left_out,) = (each for each in fitted.warnings if each.code == "column-left-out")
        assert left_out.values["name"] == "lr"
    gaps = finished.assign(loss=finished.loss.where(finished.index != 0))
    assert fit_arrays(gaps, **FAST).rows == 47


def test_options_of_reading(runs):
    renamed = runs.rename(columns={"params": "Model Size"}).assign(tokens=runs.tokens / 1e6)
    fitted = wt.fit(
        renamed, columns={"params": "Model Size"}, scale={"tokens": 1e6}, drop_highest=1, **FAST
    )
    assert fitted.rows == 47
    assert fitted.domain["tokens"] == pytest.approx((5e5, 1.28e8))
    mask = (runs.params > 3e6).to_numpy()
    held = wt.fit(runs, holdout=mask, **FAST).holdout
    assert held.rows == 8
    assert wt.fit(runs, holdout="params>3M", **FAST).holdout.error == held.error
    assert wt.fit(runs, holdout=None, **FAST).holdout is None


@pytest.mark.parametrize(
    ("table", "options", "kind", "code"),
    [
        (3.0, {}, FitError, "wrong-type"),
        ("study.yaml", {}, ConfigError, "wrong-type"),
        ("none.csv", {}, ConfigError, "missing-file"),
        (wt.Table(params=[1.0]), {"where": "params>1"}, FitError, "contradicting-options"),
        (pd.DataFrame({"params": [1e6], "loss": [2.0]}), {}, ConfigError, "unknown-column"),
        (pd.DataFrame({"params": ["x"], "tokens": [1e9], "loss": [2.0]}), {}, ConfigError,
         "not-a-number"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted(table, options, kind, code):
    with pytest.raises(kind) as refused:
        wt.fit(table, **options)
    assert refused.value.code == code


@pytest.fixture(scope="module")
def fitted(runs):
    return wt.fit(runs, **FAST)


def test_predictions_of_arrays(fitted):
    params, tokens = np.array([1e6, 2e6, 1e9]), 2e8
    found = fitted.predict(params=params, tokens=tokens)
    alone = [fitted.predict(params=each, tokens=tokens) for each in params]
    for name in ("value", "low", "high"):
        assert getattr(found, name).tolist() == [getattr(each, name) for each in alone]
    assert {each.code for each in found.warnings} == {"extrapolates", "ratio-outside"} & {
        warning.code for each in alone for warning in each.warnings
    } or found.warnings
    assert found.frame().shape == (3, 3)
    grid = wt.predict(fitted, params[:, None], np.array([[1e7, 1e8]]))
    assert grid.value.shape == (3, 2)
    assert isinstance(fitted.predict(params=np.float64(1e6), tokens=2e7), wt.Interval)


def test_optima_of_arrays(fitted):
    flops = np.array([1e13, 1e14])
    for found in (fitted.optimum(flops=flops), wt.optimum(fitted, flops=flops)):
        assert found.ratio.value.tolist() == [fitted.optimum(each).ratio.value for each in flops]
        assert found.loss.low.shape == (2,)
        assert list(found.frame().columns[:3]) == ["flops", "params", "params_low"]
    with pytest.raises(FitError) as refused:
        fitted.optimum(flops=[1e13, -1.0])
    assert refused.value.code == "out-of-range"


def test_reprs_are_short_and_hold_the_numbers(fitted):
    best, loss = fitted.optimum(1e15), fitted.predict(1e6, 2e7)
    text = repr(fitted)
    assert len(text.splitlines()) <= 14
    assert all(name in text for name in ("chinchilla", "48 rows", "alpha", "90%", "mixed-decay"))
    assert f"{loss.value:.4g} ({loss.low:.4g} to {loss.high:.4g})" in repr(loss)
    assert len(repr(best).splitlines()) <= 8
    assert "extrapolates" in repr(best)
    assert len(repr(fitted.predict(np.full(30, 1e6), 2e7)).splitlines()) == 11


def test_figures_of_a_fit(fitted, tmp_path):
    figures = fitted.plot()
    assert [path.name for path in figures.save(tmp_path)] == [f"{e.name}.png" for e in figures]
    assert len(figures) >= 3
    assert len(figures[:2]) == 2
    read = wt.Fit.from_json(fitted.to_json())
    with pytest.raises(FitError) as refused:
        read.plot()
    assert refused.value.code == "no-rows"
    assert [each.name for each in read.plot(fitted.table)] == [each.name for each in figures]


def test_a_study_from_its_records():
    study = wt.open_study(RECORDS / "008-data-model-law" / "records")
    assert study.study is None
    assert len(study.runs) == len(study.records.runs)
    assert {"segment", "params", "tokens", "loss", "size"} <= set(study.runs)
    assert set(study.curves) >= {"segment", "tokens", "loss"}
    assert len(study.forecasts) > 0
    assert (study.forecasts.low < study.forecasts.forecast).all()
    assert study.winners.empty
    fitted = study.fit("chinchilla", bootstrap=0, intervals="none")
    again = wt.fit(study.runs, "chinchilla", bootstrap=0, intervals="none")
    assert fitted.coefficients == again.coefficients
    assert fitted.inputs["study"] == study.name
    assert len(repr(study).splitlines()) <= 10
    figures = wt.plots.loss_against_compute(study, "scaling")
    figures[0].plain(figures.sizes).savefig(io.BytesIO())
    with pytest.raises(ConfigError) as refused:
        study.fit(experiment="scalling")
    assert refused.value.code == "unknown-experiment"


def test_the_winners_of_a_study():
    study = wt.open_study(RECORDS / "002-hyperparameter-search" / "records")
    assert len(study.winners) == len(study.records.searches)
    first = study.winners.iloc[0]
    assert first.low < first.loss < first.high
    assert any(name.startswith("recipe.") for name in study.winners)


@pytest.mark.medium
def test_a_study_over_its_store(finished, windtunnel, tmp_path):
    out = tmp_path / "fit.json"
    options = ("--law", "chinchilla", "--bootstrap", 60, "--out", out)
    code, _, error = windtunnel("fit", finished, *options)
    assert code == 0, error
    study = wt.open_study(finished)
    fitted = study.fit(**FAST)
    mine, theirs = (json.loads(each) for each in (fitted.to_json(), out.read_text()))
    assert mine == theirs
    assert study.study.config == study.config
    assert str(study.study.store.root) in repr(study)
    assert wt.open_study(study.records).runs.equals(study.runs)
