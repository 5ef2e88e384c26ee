import json
import time

import numpy as np
import pytest
from law_errors import refuses

from windtunnel.laws.table import Table
from windtunnel.laws.two_step.batch import BatchLaw, two_step_problem

K, P = 1.21e9, 6.24
# params, lowest and highest loss: as in MiniCPM's figure 1 (methodology 1.3).
SIZES = ((9e6, 4.3, 5.3), (3e7, 3.7, 4.7), (1.7e8, 3.3, 4.3))
BEND = 0.08


def rows_of(seed=0, *, rows=40, batches=6, sigma_curve=0.0, sigma=0.0, shift=0.0, sizes=SIZES):
    """Curves on which ln tokens to a loss is least at K / L^P, by BEND ln(batch / best)^2."""
    rng = np.random.default_rng(seed)
    columns = {name: [] for name in ("params", "batch_tokens", "tokens", "loss", "run")}
    for params, low, high in sizes:
        middle = K / np.sqrt(low * high) ** P * 2.0**shift
        for batch in middle * 2.0 ** (np.arange(batches) - (batches - 1) / 2):
            loss = np.geomspace(high * 1.05, low * 0.95, rows)
            off = np.log(batch * loss**P / K)
            tokens = 1e9 * (params / 1e8) ** 0.3 * (loss - 1.7) ** -3.0 * np.exp(BEND * off**2)
            noise = sigma_curve * rng.standard_normal() + sigma * rng.standard_normal(rows)
            run = len(columns["run"])
            for name, value in zip(
                columns, (params, batch, tokens, loss * np.exp(noise), run), strict=True
            ):
                columns[name].append(np.broadcast_to(value, rows))
    out = {name: np.concatenate(parts) for name, parts in columns.items()}
    out["labels"] = {"run": out.pop("run")}
    return out


def solved(made):
    return made.solved


def codes(made):
    return {diagnostic.code for diagnostic in made.diagnostics}


def test_recovers_minicpms_law():
    made = two_step_problem(Table(**rows_of(rows=400)))
    law = solved(made)
    assert law.p == pytest.approx(P, abs=0.01)
    assert law.k == pytest.approx(K, rel=0.02)
    assert law([3.0, 3.5, 4.5]) == pytest.approx([1.28e6, 487e3, 102e3], rel=0.01)
    assert made.details["rejected"] == {"edge-minimum": 0, "negative-curvature": 0}


def test_regret_is_that_of_the_planted_parabola():
    regret = two_step_problem(Table(**rows_of(rows=400))).details["regret"]
    assert regret["2x"] == pytest.approx(np.expm1(BEND * np.log(2) ** 2), rel=0.05)
    assert regret["4x"] == pytest.approx(np.expm1(BEND * np.log(4) ** 2), rel=0.05)


def test_one_group_without_params():
    rows = rows_of(sizes=SIZES[1:2])
    del rows["params"]
    made = two_step_problem(Table(**rows))
    assert solved(made).p == pytest.approx(P, abs=0.05)
    assert len(made.details["levels"]) == 30
    assert set(made.details["minima"]["params"]) == {None}


@pytest.mark.medium
def test_noise_moves_the_law_by_what_solve_says():
    exponents, spreads = [], []
    for seed in range(20):
        made = two_step_problem(Table(**rows_of(seed, sigma_curve=0.003, sigma=0.0005)))
        exponents.append(solved(made).p)
        rng = np.random.default_rng(seed)
        # 0.3% of loss is about this much of ln tokens, d ln loss / d ln tokens being about 0.2.
        shared = 0.015 * rng.standard_normal((300, made.trunk.max() + 1))[:, made.trunk]
        spreads.append(np.std(made.solve(made.expected + shared)[:, 1]))
    assert np.mean(exponents) == pytest.approx(P, abs=0.15)
    assert 0.5 < np.std(exponents) / np.mean(spreads) < 2


def test_decayed_branches_are_preferred_and_never_mixed():
    rows = rows_of(rows=12)
    # Decayed branches at every token count, and trunks 3% worse, worse still for small batches.
    small = rows["batch_tokens"] < 3e5
    columns = {n: np.tile(rows[n], 2) for n in ("params", "batch_tokens", "tokens")}
    columns["loss"] = np.concatenate([rows["loss"], rows["loss"] * np.where(small, 1.05, 1.03)])
    size = rows["loss"].size
    run = np.concatenate([np.arange(size), np.repeat(size + np.arange(size // 12), 12)])
    decayed = np.repeat([True, False], size)
    made = two_step_problem(Table(**columns, labels={"run": run}, decayed=decayed))
    assert made.details["curves"] == "decayed"
    assert codes(made) == set()
    assert solved(made) == solved(
        two_step_problem(Table(**{**rows, "labels": {}}, decayed=np.ones(size, bool)))
    )
    trunks = two_step_problem(Table(**columns, labels={"run": run}, decayed=~decayed & False))
    assert trunks.details["curves"] == "undecayed"


def test_undecayed_curves_say_what_that_means():
    unknown = two_step_problem(Table(**rows_of()))
    assert codes(unknown) == {"undecayed-curves"}
    assert "read along the runs" in str(unknown.diagnostics[0])
    size = rows_of()["loss"].size
    known = two_step_problem(Table(**rows_of(), decayed=np.zeros(size, bool)))
    assert "are not decayed" in str(known.diagnostics[0])
    ends = rows_of()
    ends["labels"] = {"run": np.arange(size)}
    assert codes(two_step_problem(Table(**ends))) == set()


def test_minima_at_the_edge_are_rejected_and_counted():
    made = two_step_problem(Table(**rows_of(shift=2.5)))
    assert {"edge-minimum"} < codes(made)
    rejected = made.details["rejected"]["edge-minimum"]
    assert (
        0 < rejected == sum(level["why_not"] == "edge-minimum" for level in made.details["levels"])
    )
    assert solved(made).p == pytest.approx(P, abs=0.1)


def test_a_maximum_is_rejected_and_counted():
    rows = rows_of()
    flipped = rows["params"] == 9e6
    off = np.log(rows["batch_tokens"] * rows["loss"] ** P / K)
    rows["tokens"] = rows["tokens"] * np.exp(np.where(flipped, -2 * BEND * off**2, 0))
    made = two_step_problem(Table(**rows))
    assert made.details["rejected"]["negative-curvature"] > 10
    assert "negative-curvature" in codes(made)
    assert set(made.details["minima"]["params"]) == {3e7, 1.7e8}


def test_a_curve_that_rises_is_counted():
    rows = rows_of(rows=100, sigma=0.0005)
    assert "non-monotone" not in codes(two_step_problem(Table(**rows)))
    rows["loss"][250:280] *= 1.08
    made = two_step_problem(Table(**rows))
    assert "1 of 18 curves rise" in str(
        next(c for c in made.diagnostics if c.code == "non-monotone")
    )


def test_levels_that_fewer_than_four_batches_reach_are_not_used():
    rows = rows_of()
    # Three batches of each size stop at 60% of their course: low losses are reached by three only.
    number = np.arange(rows["loss"].size)
    keep = (number // 40 % 6 < 3) | (number % 40 < 24)
    cut = {n: rows[n][keep] for n in ("params", "batch_tokens", "tokens", "loss")}
    made = two_step_problem(Table(**cut, labels={"run": rows["labels"]["run"][keep]}))
    assert all(len(level["batch_tokens"]) >= 4 for level in made.details["levels"])
    low = min(level["loss"] for level in made.details["levels"] if level["params"] == 9e6)
    assert low > 4.5


def test_many_tables_at_once_are_each_solved_as_one():
    made = two_step_problem(Table(**rows_of(sigma=0.001)))
    rng = np.random.default_rng(1)
    other = made.expected + 0.02 * rng.standard_normal((20, made.observed.size))
    one_by_one = np.concatenate([made.solve(row[None]) for row in other])
    assert made.solve(other) == pytest.approx(one_by_one, rel=1e-9)
    assert made.trunk.max() + 1 == 18
    assert made.tangent @ (made.observed - made.expected) == pytest.approx(0, abs=1e-9)


def test_hundred_thousand_rows_and_a_thousand_resamples_take_seconds():
    table = Table(**rows_of(rows=5600, sigma_curve=0.002, sigma=0.001))
    start = time.perf_counter()
    made = two_step_problem(table)
    rng = np.random.default_rng(1)
    draws = made.solve(made.expected + 0.01 * rng.standard_normal((1000, made.observed.size)))
    assert time.perf_counter() - start < 30
    assert np.isfinite(draws).all()


@pytest.mark.parametrize(
    ("table", "code", "values"),
    [
        (Table(**rows_of(batches=3)), "too-few-batches", {"batches": [3, 3, 3], "needed": 4}),
        (Table(**rows_of(shift=8)), "too-few-optima", {"optima": 0, "levels": 90, "needed": 2}),
        (
            Table(batch_tokens=[1e4, 2e4], tokens=[1e7, 1e7], loss=[3, 3]),
            "too-few-curves",
            {"curves": 0},
        ),
        (Table(tokens=[1.0], loss=[1.0]), "unknown-column", {"column": "batch_tokens"}),
    ],
)
def test_what_it_refuses(table, code, values):
    with refuses(code, **values):
        two_step_problem(table)


def test_levels_below_two_are_refused():
    with refuses("out-of-range", levels=1, least=2):
        two_step_problem(Table(**rows_of()), levels=1)


def test_details_are_json_and_the_vector_goes_back():
    json.dumps(two_step_problem(Table(**rows_of())).details, allow_nan=False)
    law = BatchLaw(k=K, p=P)
    assert law.log_vector == pytest.approx([np.log(K), P])
    assert BatchLaw.of(law.raw(law.log_vector)).coefficients == pytest.approx(law.coefficients)
    assert law(2.505) == pytest.approx(3.93e6, rel=0.01)
