import json

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.errors import FitError
from windtunnel.laws import fit
from windtunnel.laws.table import Table
from windtunnel.laws.two_step.lr import LrCurve, two_step_problem

# MiniCPM (arXiv 2404.06395) figure 3, read from pixels (methodology 1.4); None: no point.
RATES = (1e-3, 3e-3, 6e-3, 1e-2, 3e-2, 6e-2, 1e-1)
MINICPM = {
    4e7: (4.16, 3.33, 3.15, 3.19, 3.35, 6.62, 6.68),
    1e8: (3.21, 2.78, 2.74, 2.70, 2.80, None, 8.03),
    3e8: (2.76, 2.49, 2.41, 2.42, 2.49, 5.78, 5.95),
    5e8: (2.54, 2.29, 2.24, 2.22, 2.27, 2.41, 6.04),
}
LARGEST = [(2.1e9, 1e-2, 2.06), (2.1e9, 1.25e-2, 2.07), (2.1e9, 2e-2, 2.11)]


def table_of(rows):
    params, rates, losses = zip(*rows, strict=True)
    return Table(params=params, lr=rates, loss=losses)


def minicpm():
    rows = [
        (size, rate, loss)
        for size, losses in MINICPM.items()
        for rate, loss in zip(RATES, losses, strict=True)
        if loss is not None
    ]
    return table_of(rows + LARGEST)


def planted(
    seed=0, *, sizes=(4e7, 1e8, 3e8, 5e8), rates=None, k=0.5, b=-0.2, bend=0.03, sigma=0.0, seeds=1
):
    """lr* = k N^b and ln loss above the minimum = bend ln(lr / lr*)^2."""
    rng = np.random.default_rng(seed)
    rates = np.geomspace(1e-3, 6.4e-2, 7) if rates is None else np.asarray(rates)
    rows = [
        (n, lr, 3 * (n / 4e7) ** -0.1 * np.exp(bend * np.log(lr / (k * n**b)) ** 2 + noise))
        for n in sizes
        for lr in rates
        for noise in sigma * rng.standard_normal(seeds)
    ]
    return table_of(rows)


def solved(made):
    return made.solved


def codes(made):
    return {diagnostic.code for diagnostic in made.diagnostics}


def test_recovers_the_planted_drift():
    made = two_step_problem(planted())
    law = solved(made)
    assert law.k == pytest.approx(0.5, rel=1e-6)
    assert law.b == pytest.approx(-0.2, abs=1e-9)
    assert law.per_doubling == made.details["per_doubling"] == pytest.approx(2**-0.2)
    assert not made.diagnostics


def test_minicpm_optimum_does_not_move():
    made = two_step_problem(minicpm())
    sizes = made.details["sizes"]
    assert all(6e-3 <= s["optimum"] <= 1.1e-2 for s in sizes[:-1])
    law = solved(made)
    assert 0.9 < law.per_doubling < 1.1
    assert 6e-3 <= made.details["shared"]["best"]["lr"] <= 1.1e-2
    # Sharing one rate costs at most a tenth of a per cent, far below what a factor of 3 costs.
    assert made.details["shared"]["best"]["worst_percent"] < 0.1
    assert made.details["shared"]["smallest"]["worst_percent"] < 0.1


def test_minicpm_largest_size_gives_a_bound_only():
    made = two_step_problem(minicpm())
    largest = made.details["sizes"][-1]
    assert (largest["used"], largest["bound"], largest["optimum"]) == (False, "at most", None)
    assert codes(made) == {"edge-minimum"}
    assert "2.1e+09 (lowest at 0.01 of 0.01 to 0.02)" in str(made.diagnostics[0])


def test_what_has_blown_up_does_not_bend_the_parabola():
    made = two_step_problem(minicpm())
    for size in made.details["sizes"][:-1]:
        loss = np.array(size["loss"])[size["near_minimum"]]
        assert 3 <= loss.size <= 5
        assert loss.max() < 1.08 * loss.min()


def test_a_blown_up_neighbour_is_replaced_from_the_other_side():
    rates = [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]
    rows = [
        (n, lr, np.exp(1 + 0.03 * np.log(lr / 7e-3) ** 2 + (lr > 1e-2)))
        for n in (1e7, 1e8)
        for lr in rates
    ]
    made = two_step_problem(table_of(rows))
    assert made.details["sizes"][0]["near_minimum"] == [False, True, True, True, False]
    assert made.details["sizes"][0]["optimum"] == pytest.approx(7e-3)


def test_shared_rate_by_hand():
    # Optima a factor of 4 apart, equal valleys: the best shared rate is halfway, a factor of 2 off.
    made = two_step_problem(planted(sizes=(1e7, 1e8), k=0.01 * 1e7**0.60206, b=-0.60206, bend=0.02))
    shared = made.details["shared"]
    assert shared["best"]["lr"] == pytest.approx(5e-3, rel=0.02)
    off = 100 * np.expm1(0.02 * np.log(2) ** 2)
    assert shared["best"]["excess_percent"] == pytest.approx([off, off], rel=0.05)
    assert shared["smallest"]["lr"] == pytest.approx(1e-2)
    # Beyond the parabola's window straight lines join the cells: a little above the valley.
    far = np.expm1(0.02 * np.log(4) ** 2)
    assert shared["smallest"]["excess_percent"] == pytest.approx([0, 100 * far], rel=0.06)
    lowest = 3 * (1e8 / 4e7) ** -0.1
    assert shared["smallest"]["excess_loss"][1] == pytest.approx(far * lowest, rel=0.06)


def test_seeds_are_averaged_within_a_cell():
    made = two_step_problem(planted(seeds=3, sigma=1e-4))
    assert len(made.details["sizes"][0]["lr"]) == 7
    assert made.observed.size == 3 * sum(sum(s["near_minimum"]) for s in made.details["sizes"])
    assert solved(made).b == pytest.approx(-0.2, abs=0.01)


def test_a_size_with_two_rates_is_dropped_with_a_warning():
    extra = planted(sizes=(2e9,), rates=(3e-3, 6e-3))
    base = planted()
    names = ("params", "lr", "loss")
    both = Table({n: np.concatenate([base[n], extra[n]]) for n in names})
    made = two_step_problem(both)
    assert codes(made) == {"few-points"}
    assert "2e+09 (2 rates)" in str(made.diagnostics[0])
    assert solved(made) == solved(two_step_problem(base))


def test_many_tables_at_once_are_each_solved_as_one():
    made = two_step_problem(planted(sigma=0.002, seeds=2))
    rng = np.random.default_rng(1)
    other = made.expected + 0.003 * rng.standard_normal((20, made.observed.size))
    one_by_one = np.concatenate([made.solve(row[None]) for row in other])
    assert made.solve(other) == pytest.approx(one_by_one, rel=1e-9, nan_ok=True)
    # The reference is the least-squares fit, so nothing is left along its tangent.
    assert made.tangent @ (made.observed - made.expected) == pytest.approx(0, abs=1e-9)


def test_a_table_drawn_without_a_minimum_has_its_optimum_at_an_end():
    made = two_step_problem(planted(sizes=(1e8, 3e8)))
    ends = {float(rate) for size in made.details["sizes"] for rate in size["lr"]}
    law = LrCurve.of(made.law.raw(made.solve(-made.observed[None])[0]))
    assert all(min(abs(law(n) / end - 1) for end in ends) < 1e-9 for n in (1e8, 3e8))


@pytest.mark.parametrize("bend", [2e-5, 5e-4, 5e-3, 0.03])
def test_a_best_value_lies_inside_its_interval_however_flat_the_valley(bend):
    flat = 0
    for seed in range(12):
        table = planted(seed, k=8e-3, b=0.0, bend=bend, sigma=0.007, seeds=3)
        try:
            fitted = fit(table, "lr-valley", holdout=None, bootstrap=400)
        except FitError as refused:
            assert refused.code == "too-few-optima"  # noqa: PT017
            flat += 1
            continue
        low, high = fitted.intervals["b"]
        assert low <= fitted.coefficients["b"] <= high
        assert fitted.resamples_failed == 0
        flat += "flat-valley" in {each.code for each in fitted.warnings}
    assert flat == 12 if bend < 1e-3 else flat == 0 if bend > 0.01 else True


def test_a_parabola_says_nothing_of_rates_beyond_its_cells():
    # Lowest in its middle by a hair; the parabola of the flat cells would be lowest far beyond.
    losses = (1.9630, 1.9608, 1.9633, 1.9606, 1.9916, 2.1897)
    rates = (8e-4, 3.2e-3, 1.25e-2, 5e-2, 0.2, 0.8)
    rows = [(1e6, lr, loss) for lr, loss in zip(rates, losses, strict=True)]
    rows[3] = (1e6, 5e-2, 1.9612)
    steep = [(n, lr, 2 * np.exp(0.05 * np.log(lr / 1e-2) ** 2)) for n in (2e6, 4e6) for lr in rates]
    made = two_step_problem(table_of(rows + steep))
    first = made.details["sizes"][0]
    assert (first["used"], first["why_not"], first["bound"]) == (False, "flat-valley", None)
    (told,) = made.diagnostics
    assert (told.code, told.values["params"]) == ("flat-valley", [1e6])


def test_rates_next_to_the_parabola_count_only_where_they_are_as_low():
    steep = planted(bend=0.05, rates=np.geomspace(1e-3, 6.4e-2, 7))
    size = two_step_problem(steep).details["sizes"][0]
    near = np.array(size["lr"])[size["near_minimum"]]
    made = two_step_problem(steep)
    law = LrCurve.of(made.law.raw(made.solve(-made.observed[None])[0]))
    assert near[0] * (1 - 1e-9) <= law(4e7) <= near[-1] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("table", "code", "values"),
    [
        (planted(sizes=(1e8,)), "too-few-optima", {"optima": 1, "sizes": 1, "needed": 2}),
        (planted(rates=(3e-3, 1e-2)), "too-few-optima", {"optima": 0, "few_points": 4, "edge": 0}),
        (
            planted(rates=(2e-2, 4e-2, 8e-2)),
            "too-few-optima",
            {"few_points": 0, "edge": 4, "flat": 0},
        ),
        (Table(params=[1.0], loss=[1.0]), "unknown-column", {"column": "lr"}),
    ],
)
def test_what_it_refuses(table, code, values):
    with refuses(code, **values):
        two_step_problem(table)


def test_details_are_json_and_the_vector_goes_back():
    json.dumps(two_step_problem(minicpm()).details, allow_nan=False)
    law = LrCurve(k=0.3, b=-0.1)
    assert law.log_vector == pytest.approx([np.log(0.3), -0.1])
    assert LrCurve.of(law.raw(law.log_vector)).coefficients == pytest.approx(law.coefficients)


def test_a_size_with_several_token_counts_is_told():
    rates = np.geomspace(1e-3, 1e-1, 7)
    params, lr = (each.ravel() for each in np.meshgrid([1e6, 1e7, 1e8], rates))
    loss = 3 + 0.05 * np.log(lr / 1e-2) ** 2
    same = Table(params=params, lr=lr, loss=loss, tokens=20 * params)
    assert "mixed-horizons" not in codes(two_step_problem(same))
    mixed = same.with_columns(tokens=20 * params * np.where(lr > 1e-2, 2, 1))
    assert "mixed-horizons" in codes(two_step_problem(mixed))


def test_the_law_is_fitted_by_its_name():
    fitted = fit(planted(sigma=0.002, seeds=2), "lr-valley", bootstrap=5)
    assert isinstance(fitted.form, LrCurve)
    assert fitted.details["sizes"]
