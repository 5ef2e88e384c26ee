"""What a mixture law takes and refuses, and the same numbers after a file."""

import json

import numpy as np
import pytest
from law_errors import refuses
from mixtures import SOURCES, codes, linear, rows_of

from windtunnel.laws import Table, fit
from windtunnel.laws.mixture import MixtureFit, fit_mixture
from windtunnel.laws.mixture.fitting import target_weights
from windtunnel.laws.mixture.runs import points_of, runs_of_rows, runs_of_table

pytestmark = pytest.mark.usefixtures("without_trees")


def test_beyond_the_mixtures_tried_a_forecast_is_extrapolated():
    rows = [row for row in rows_of(linear, mixtures=20) if row["weight_math"] < 0.5]
    fitted = fit_mixture(rows, bootstrap=0, default={"math": 1.0})
    assert "extrapolates" in codes(fitted)
    assert fitted.predict({"math": 0.9, "docs": 0.1})["docs"].loss.warnings
    assert not fitted.predict({"code": 0.5, "docs": 0.5})["docs"].loss.warnings


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"params": 2e5}, "varying-column", {"column": "params"}),
        ({"tokens": 2e7}, "varying-column", {"column": "tokens", "values": [1e7, 2e7]}),
        ({"fork_tokens": 5e6}, "varying-column", {"column": "fork_tokens"}),
        ({"weight_docs": 0.7}, "wrong-sum", {"row": 0}),
        ({"loss_docs": 0.0}, "out-of-range", {"column": "loss_docs", "row": 0, "value": 0.0}),
        ({"variant": "longer", "weight_docs": 0, "weight_code": 1},
         "same-mixture", {"variants": ["longer", "mix01"], "trunk": "t0"}),
    ],
)  # fmt: skip
def test_runs_that_differ_in_more_than_their_mixture_are_refused(change, code, values):
    rows = [{**row, "fork_tokens": 4e6} for row in rows_of(linear)]
    rows[0] = {**rows[0], **change}
    with refuses(code, **values):
        fit_mixture(rows)


def test_other_refusals():
    rows = rows_of(linear)
    with refuses("too-few-mixtures", mixtures=5, needed=6):
        fit_mixture(rows_of(linear, mixtures=5))
    with refuses("unknown-set", set="doc"):
        fit_mixture(rows, target=["doc"])
    with refuses("unknown-set", set="mean", known=["docs", "code"]):
        fit_mixture(rows, target=["mean"])
    with refuses("wrong-sum", sum=100.0):
        fit_mixture(rows, default={"docs": 60, "code": 40})
    with refuses("unknown-source", source="cod"):
        fit_mixture(rows, default={"cod": 1.0})
    with refuses("too-few-rows", rows=len(rows)):
        fit_mixture([{**row, "decayed": False} for row in rows])
    with refuses("missing-column", known=["weight_docs", "loss_docs"]):
        runs_of_table(Table(weight_docs=[1.0], loss_docs=[2.0]))
    with refuses("wrong-law", law="mixture"):
        fit(Table(params=[1.0], loss=[2.0]), "mixture")


def test_a_candidate_that_lacks_mixtures_is_said_to():
    choice = fit_mixture(rows_of(linear, mixtures=8), bootstrap=0).choices["docs"]
    refused = {each.kind: each.refused for each in choice.candidates}
    # Of 3, 4 and 6 coefficients: 6, 7 and 9 mixtures.
    assert refused == {"linear": False, "exponential": False, "quadratic": True}


def test_what_the_design_cannot_say():
    one = fit_mixture(rows_of(linear, trunks=1, mixtures=8), bootstrap=20)
    assert {"one-trunk", "few-mixtures", "few-resamples"} <= codes(one)
    assert np.isnan(one.best.target.another_trunk).all()
    assert np.isnan(one.laws.sigma_trunk).all()
    rows = rows_of(linear)
    alone = fit_mixture([{**row, "trunk": f"own {k}"} for k, row in enumerate(rows)], bootstrap=0)
    assert "trunks-apart" in codes(alone)
    assert np.isnan(alone.best.target.loss.low)


def test_a_source_that_is_never_read_is_left_out():
    rows = [{**row, "weight_web": 0.0} for row in rows_of(linear)]
    runs = runs_of_rows(rows)
    assert runs.sources == SOURCES
    assert "web: no run reads any" in runs.filters[0]


def test_shares_are_normalised_and_repeats_are_one_mixture():
    rows = rows_of(linear)
    rows += [{**rows[3], "loss_docs": rows[3]["loss_docs"] * 1.01}]
    rows[0]["weight_docs"] = 1.001
    runs = runs_of_rows(rows)
    assert runs.weights.sum(axis=1) == pytest.approx(np.ones(runs.rows))
    points = points_of(runs)
    assert points.names[3] == "mix03"
    assert points.runs.tolist() == [2.0, 2.0, 2.0, 3.0, *[2.0] * 12]


@pytest.mark.usefixtures("trees")
@pytest.mark.medium
def test_the_same_numbers_after_a_file_trees_too(monkeypatch):
    def steps(shares):
        return 1 + 0.2 * np.stack([shares[..., 0] > 0.35, shares[..., 1] > 0.3], axis=-1)

    monkeypatch.setattr("windtunnel.laws.mixture.selection.MOST_BOOSTED", 10)
    monkeypatch.setattr("windtunnel.laws.mixture.models.TREES", 20)
    fitted = fit_mixture(rows_of(steps, mixtures=24, noise=0.001), target=["docs"], bootstrap=20)
    assert "boosting" in {choice.chosen for choice in fitted.choices.values()}
    assert "flat-best" in codes(fitted)
    text = fitted.to_json()
    again = MixtureFit.from_json(text)
    assert again.to_json() == text
    mixture = {"docs": 0.5, "code": 0.25, "math": 0.25}
    assert again.predict(mixture) == fitted.predict(mixture)
    assert np.all(fitted.best.draws[:, 0] <= 0.4)


def test_a_file_that_does_not_come_out_again_is_refused():
    content = json.loads(fit_mixture(rows_of(linear), bootstrap=10).to_json())
    content["table"]["losses"][0][0] *= 1.1
    with refuses("not-reproduced"):
        MixtureFit.from_json(json.dumps(content))
    content["schema"] = 9
    with refuses("later-version", schema="9", reads=2):
        MixtureFit.from_json(json.dumps(content))
    with refuses("not-json"):
        MixtureFit.from_json("{")
    del content["sets"]
    content["schema"] = 2
    with refuses("missing-key", key="sets"):
        MixtureFit.from_json(json.dumps(content))


def test_an_edited_file_is_told_and_one_of_before_is_not():
    content = json.loads(fit_mixture(rows_of(linear), bootstrap=10).to_json())
    assert "edited-fit" not in codes(MixtureFit.from_json(json.dumps(content, indent=4)))
    content["score"]["rms"] *= 1 - 1e-9
    assert "edited-fit" in codes(MixtureFit.from_json(json.dumps(content)))
    del content["digest"]
    assert "edited-fit" not in codes(MixtureFit.from_json(json.dumps(content)))


def test_completions_are_no_part_of_the_default_target():
    sets = ("code", "pairs", "pairs_conditional")
    assert target_weights({}, sets) == pytest.approx([0.5, 0.5, 0.0])
    assert target_weights(["pairs_conditional"], sets) == pytest.approx([0.0, 0.0, 1.0])
