"""Mixture laws from columns, and of several mixtures at once."""

import numpy as np
import pandas as pd
import pytest
from law_errors import refuses
from mixtures import linear, rows_of

from windtunnel.laws.mixture import fit_mixture

pytestmark = pytest.mark.usefixtures("without_trees")
MIXTURES = [{"docs": 0.6, "code": 0.4}, {"docs": 0.2, "code": 0.3, "math": 0.5}, {"math": 1.0}]


@pytest.fixture(scope="module")
def rows():
    return rows_of(linear)


def test_a_data_frame_and_columns_are_rows(rows):
    wanted = fit_mixture(rows, bootstrap=0)
    frame = pd.DataFrame(rows)
    assert fit_mixture(frame, bootstrap=0).best.mixture == wanted.best.mixture
    columns = {name: frame[name].to_numpy() for name in frame}
    assert fit_mixture(columns, bootstrap=0).coefficients == wanted.coefficients
    # A share that is missing is 0, and an undecayed row is left out.
    frame["weight_math"] = frame["weight_math"].where(frame["weight_math"] > 0)
    more = pd.concat([frame, frame.iloc[:1].assign(decayed=False)])
    again = fit_mixture(more, bootstrap=0)
    assert (again.runs.rows, again.coefficients) == (len(rows), wanted.coefficients)


def test_several_mixtures_are_each_predicted_as_one(rows):
    fitted = fit_mixture(rows, bootstrap=20)
    one_by_one = [fitted.predict(each) for each in MIXTURES]
    assert fitted.predict(MIXTURES) == one_by_one
    targets = [fitted.predict_target(each) for each in MIXTURES]
    assert fitted.predict_target(MIXTURES) == targets
    frame = pd.DataFrame(MIXTURES)
    assert fitted.predict(frame) == one_by_one
    assert fitted.predict_target(frame.add_prefix("weight_")) == targets


def test_which_mixture_is_wrong_is_told(rows):
    fitted = fit_mixture(rows, bootstrap=0)
    with refuses("wrong-sum", row=1, sum=0.5):
        fitted.predict([{"docs": 1.0}, {"docs": 0.5}])
    with refuses("unknown-source", row=0, source="cods"):
        fitted.predict(pd.DataFrame({"cods": [1.0]}))
    with refuses("wrong-type"):
        fitted.predict("docs")
    with refuses("wrong-length", lengths=[1, 2]):
        fit_mixture({"weight_docs": np.ones(2), "loss_docs": np.ones(1)})
