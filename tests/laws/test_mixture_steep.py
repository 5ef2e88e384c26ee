"""A mixture law where one source alone is far worse than all else, as a trunk's first text is."""

import numpy as np
import pytest
from mixtures import SOURCES, codes

from windtunnel.laws.mixture import fit_mixture
from windtunnel.laws.mixture.runs import emphasis

pytestmark = pytest.mark.usefixtures("without_trees")

# Of 32x3 on docs, code and a source of dates, 100 updates, two trunks: shares, and what one source
# alone does to the losses on docs and code.
STEEP = np.array(
    [
        [1.000, 0.000, 0.000, 2.0098, 2.1953],
        [0.000, 1.000, 0.000, 2.2234, 1.9817],
        [0.000, 0.000, 1.000, 5.0264, 5.0260],
        [0.334, 0.333, 0.333, 2.1311, 2.1018],
        [0.486, 0.371, 0.143, 2.0698, 2.0666],
        [0.195, 0.467, 0.338, 2.1786, 2.0841],
        [0.603, 0.142, 0.255, 2.0734, 2.1422],
        [0.221, 0.602, 0.177, 2.1413, 2.0434],
        [0.123, 0.521, 0.356, 2.2109, 2.0809],
        [0.043, 0.356, 0.601, 2.3685, 2.1537],
        [0.381, 0.534, 0.085, 2.0779, 2.0290],
        [0.275, 0.482, 0.243, 2.1346, 2.0630],
    ]
)


def steep_rows():
    rng = np.random.default_rng(0)
    return [
        {
            **{f"weight_{name}": w for name, w in zip(SOURCES, row[:3], strict=True)},
            **{
                f"loss_{name}": loss * np.exp(0.01 * trunk + 0.003 * rng.standard_normal())
                for name, loss in zip(("docs", "code"), row[3:], strict=True)
            },
            "trunk": f"t{trunk}",
            "variant": f"mix{number:02}",
        }
        for trunk in range(2)
        for number, row in enumerate(STEEP)
    ]


def test_where_most_losses_are_the_same_all_count():
    losses = np.full((12, 1), np.log(2.0))
    losses[:4, 0] += 0.05
    assert np.all(emphasis(losses) == 1.0)


@pytest.mark.parametrize(("name", "best"), [("docs", "docs"), ("code", "code")])
def test_one_steep_corner_does_not_hide_which_of_the_others_is_better(name, best):
    """A loss of 5 at one source alone, which no formula follows, outweighs nothing."""
    fitted = fit_mixture(steep_rows(), target=[name], bootstrap=0)
    assert fitted.best.mixture[best] == 1.0
    assert fitted.best.gains[0].none
    assert fitted.choices[name].taken.rank.value > 0.7
    assert "measured-worse" not in codes(fitted)


def test_where_the_law_lets_a_measured_loss_go_a_forecast_says_so():
    fitted = fit_mixture(steep_rows(), bootstrap=0)
    warned = {each.code for each in fitted.predict({"math": 1.0})["docs"].loss.warnings}
    assert warned == {"law-misses"}
    assert not fitted.predict(dict.fromkeys(SOURCES, 1 / 3))["docs"].loss.warnings


def test_how_much_a_mixture_counts_by_hand():
    """By 0, 1, 2, 6 and 8 above the lowest: twice the median is 4, so the last two count less."""
    log_loss = np.array([[0.0], [1.0], [2.0], [6.0], [8.0]]) + 0.7
    assert emphasis(log_loss)[:, 0] == pytest.approx([1, 1, 1, (4 / 6) ** 2, 0.25])
    assert emphasis(np.ones((3, 1)))[:, 0].tolist() == [1, 1, 1]


def test_what_is_found_depends_on_no_seed_and_ends_on_an_edge_exactly():
    rows = steep_rows()
    found = [fit_mixture(rows, target={"docs": 1, "code": 2}, bootstrap=20, seed=s) for s in (0, 7)]
    one, other = (each.best for each in found)
    assert one.mixture == other.mixture
    assert one.mixture["math"] == 0.0
    assert 0.1 < one.mixture["docs"] < 0.9
    assert one.target.loss.value == other.target.loss.value
    assert [c.chosen for c in found[0].choices.values()] == [
        c.chosen for c in found[1].choices.values()
    ]


@pytest.mark.usefixtures("trees")
@pytest.mark.medium
def test_rows_with_the_digits_of_records_give_the_same_law():
    rows = steep_rows()
    short = [
        {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
        for row in rows
    ]
    one, other = (fit_mixture(each, bootstrap=0) for each in (rows, short))
    assert one.to_json() == other.to_json()


def test_a_source_left_out_as_in_no_mixture_tried_is_extrapolated():
    """Docs alone and code alone say nothing of how a mix of them does without the third."""
    fitted = fit_mixture(steep_rows(), bootstrap=0, target={"docs": 1, "code": 2})
    (warning,) = fitted.predict({"docs": 0.5, "code": 0.5})["docs"].loss.warnings
    assert warning.code == "extrapolates"
    assert warning.values["least"] == {"math": pytest.approx(0.09, abs=0.005)}
    assert "extrapolates" in codes(fitted)  # its best mixture too
    for tried in ({"docs": 1.0}, {"docs": 0.5, "code": 0.42, "math": 0.08}):
        assert not fitted.predict(tried)["docs"].loss.warnings
    mixed = [{**row, "weight_docs": 0.7, "weight_code": 0.3, "weight_math": 0.0, "variant": "two"}
             for row in steep_rows() if row["variant"] == "mix04"]  # fmt: skip
    again = fit_mixture([*steep_rows(), *mixed], bootstrap=0)
    assert not again.predict({"docs": 0.5, "code": 0.5})["docs"].loss.warnings
