"""`power2` where other axes are swept beside y: the best over them; seeds are averaged."""

import itertools

import numpy as np
import pandas as pd
import pytest
from law_errors import refuses

from windtunnel.laws import Power2
from windtunnel.laws import fit as fit_law

BATCH = Power2(0.58, 0.0, 0.571)
RATE = Power2(1.79, -0.713, 0.307)
SIZES, TOKENS = (1e8, 2e8, 4e8, 8e8), (1e9, 4e9, 1.6e10)
BATCHES = np.geomspace(2e4, 2e6, 9)
RATES, DECAYS = np.geomspace(2e-4, 3.2e-2, 8), (0.03, 0.1, 0.3)
FAST = {"bootstrap": 50}


def grid(*, noise=0.0, seeds=1, decays=DECAYS):
    """Trials over (x, z, y) and a learning rate, a weight decay and seeds; y is the batch.

    The best rate grows with the batch, so at a fixed rate another batch looks best.
    """
    axes = itertools.product(SIZES, TOKENS, BATCHES, RATES, decays, range(seeds))
    x, z, y, lr, decay, seed = np.array(list(axes)).T
    best_rate = np.sqrt(y / BATCH(x, z)) * 10 * RATE(x, z)
    loss = 2.5 + 0.02 * np.log(y / BATCH(x, z)) ** 2
    loss = loss + 0.03 * np.log(lr / best_rate) ** 2 + 0.01 * np.log(decay / 0.1) ** 2
    rng = np.random.default_rng(0)
    loss = loss * np.exp(noise * rng.standard_normal(loss.size))
    return {"x": x, "z": z, "y": y, "lr": lr, "weight_decay": decay, "seed": seed, "loss": loss}


def codes(fit):
    return [warning.code for warning in fit.warnings]


def without(table, *names):
    return {name: column for name, column in table.items() if name not in names}


def test_the_best_is_over_every_swept_axis():
    fit = fit_law(grid(), "power2", **FAST)
    assert fit.coefficients["b"] == pytest.approx(0.0, abs=0.03)
    assert fit.coefficients["c"] == pytest.approx(0.571, abs=0.02)
    (warning,) = [warning for warning in fit.warnings if warning.code == "best-over"]
    assert warning.values == {"columns": ["lr", "weight_decay"], "option": "--over"}


def test_the_best_survives_noise_of_seeds():
    fit = fit_law(pd.DataFrame(grid(noise=2e-4, seeds=3)), "power2", **FAST)
    assert fit.coefficients["c"] == pytest.approx(0.571, abs=0.03)
    assert codes(fit).count("best-over") == 1
    assert fit.dropped[-1] == ("not the best of its cell", 4 * 3 * 9 * 8 * 3 * 3 - 12)


def test_the_mean_over_rates_is_another_law():
    averaged = fit_law(grid(), "power2", over=[], **FAST)
    assert abs(averaged.coefficients["c"] - 0.571) > 0.1
    assert "best-over" not in codes(averaged)


def test_named_axes_need_no_guess():
    named = fit_law(grid(), "power2", over=["lr", "weight_decay"], **FAST)
    guessed = fit_law(grid(), "power2", **FAST)
    assert named.coefficients == guessed.coefficients
    assert "best-over" not in codes(named)
    one = grid(decays=(0.1,))
    assert fit_law(one, "power2", over="lr", **FAST).filters[0] == "lowest loss over lr"


def test_an_axis_of_text_is_named():
    table = grid(decays=(0.1,))
    table["loss"] = table["loss"] + 0.1 * (table["lr"] > 3e-3) * (table["y"] < 1e5)
    named = np.array(["muon", "adamw"])[(table["lr"] > 3e-3).astype(int)]
    table = {**without(table, "weight_decay"), "optimizer": named}
    over = ["lr", "optimizer"]
    assert fit_law(table, "power2", over=over, **FAST).coefficients == pytest.approx(
        fit_law(table, "power2", over=["lr"], **FAST).coefficients
    )


@pytest.mark.parametrize("name", ["seed", "rngSeed", "run_id", "replicate"])
def test_a_column_of_seeds_is_averaged(name):
    table = grid(noise=1e-3, seeds=4, decays=(0.1,))
    best = table["lr"] == RATES[4]
    table = {key: column[best] for key, column in without(table, "lr", "weight_decay").items()}
    table[name] = table.pop("seed")
    frame = pd.DataFrame(table)
    mean = frame.groupby(["x", "z", "y"], as_index=False)["loss"].mean()
    fit = fit_law(frame, "power2", **FAST)
    assert fit.coefficients == pytest.approx(fit_law(mean, "power2", **FAST).coefficients)
    assert "best-over" not in codes(fit)


def test_measurements_and_times_are_no_axes():
    table = grid(seeds=3, noise=1e-3, decays=(0.1,))
    table = {k: v[table["lr"] == RATES[4]] for k, v in without(table, "seed").items()}
    rng = np.random.default_rng(1)
    table |= {
        "started": np.arange(table["x"].size),
        "grad_norm": rng.lognormal(size=table["x"].size),
        "docs_loss": np.round(table["loss"], 2),
        "restarts": rng.integers(0, 2, table["x"].size),
        "flops": 6 * table["x"] * table["z"],
    }
    assert "best-over" not in codes(fit_law(table, "power2", **FAST))


def test_a_size_that_varies_in_a_cell_is_refused():
    table = grid(decays=(0.1,))
    table = {"x": table["x"], "z": table["y"], "y": table["lr"], "loss": table["loss"]} | {
        "tokens": table["z"]
    }
    with refuses("mixed-sizes", column="tokens"):
        fit_law(table, "power2", **FAST)
    rounded = grid(decays=(0.1,))
    rounded["tokens"] = np.round(rounded["z"] / (1 + rounded["lr"] / 10))
    assert "best-over" in codes(fit_law(without(rounded, "seed"), "power2", **FAST))


@pytest.mark.parametrize(
    ("law", "over", "code", "values"),
    [
        ("power2", ["lrr"], "unknown-column", {"known": ["lr", "seed", "weight_decay"]}),
        ("power2", ["y"], "contradicting-options", {"column": "y"}),
        ("power", ["lr"], "contradicting-options", {"law": "power"}),
    ],
)
def test_wrong_axes_are_refused(law, over, code, values):
    with refuses(code, **values):
        fit_law(grid(), law, over=over, **FAST)


def test_axes_need_a_loss():
    table = without(grid(), "loss")
    with refuses("contradicting-options", law="power2"):
        fit_law(table, "power2", over=["lr"])


def test_regret_is_also_in_per_cent_of_the_lowest_loss():
    details = fit_law(grid(), "power2", over=["lr", "weight_decay"], **FAST).details
    regrets = [100 * cell["regret"] / cell["lowest_loss"] for cell in details["cells"]]
    assert details["regret_mean_percent"] == pytest.approx(np.mean(regrets))
    assert details["regret_worst_percent"] == pytest.approx(np.max(regrets))
