"""Seconds of a fit, of its resamples and of the laws of curves, beside the usual procedure.

The usual procedure is that of Hoffmann et al. 2022 and of those who re-computed them: scipy's BFGS
on Huber of log-sum-exp residuals, one start and one resample at a time. Both sides minimise the
same objective on the same made-up table, interleaved in one process; medians over rounds. The
usual procedure runs a part of its starts and resamples, and is scaled up to all of them.

    python experiments/benchmarks/fits.py
"""

import itertools
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
import tables
from scipy.optimize import minimize

from windtunnel.laws import Chinchilla, DataConstrained, Table, fit
from windtunnel.laws.bootstrap import refit
from windtunnel.laws.chinchilla import Chinchilla as Form
from windtunnel.laws.mixture import fit_mixture
from windtunnel.laws.point_estimate import search
from windtunnel.laws.problem import Problem
from windtunnel.laws.solver import Objective

ROWS, RESAMPLES, DELTA, ROUNDS = 240, 4000, 1e-3, 5
MIXTURES, SETS, MIXTURE_RESAMPLES = 512, 13, 100
# Hoffmann et al.: 6 x 6 x 5 x 5 x 5 starts; every 90th is run here. And 40 of 4,000 resamples.
STARTS = list(
    itertools.product(
        range(0, 30, 5), range(0, 30, 5), np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
    )
)  # fmt: skip
RUN_STARTS, RUN_RESAMPLES = STARTS[::90], 40
SETTLED = 1e-7  # gradient norm of a resample
LAW = Chinchilla(1.82, 480.0, 2100.0, 0.348, 0.366)
REPEATED_LAW = DataConstrained(1.87, 521.0, 1488.0, 0.353, 0.353, 5.31, 15.39)


def runs() -> Table:
    """240 runs of a planted law, half a per cent of noise with outliers, D/N from 1 to 300."""
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(5e7), np.log(1.5e10), ROWS))
    tokens = params * np.exp(rng.uniform(0, np.log(300), ROWS))
    loss = LAW(params, tokens) * np.exp(0.005 * rng.standard_t(3, ROWS))
    return Table(params=params, tokens=tokens, loss=loss)


def repeated() -> Table:
    """180 runs of a planted data-constrained law, up to 60 passes, 1% of noise."""
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(5e7), np.log(9e9), 180))
    unique = np.exp(rng.uniform(np.log(1e8), np.log(2e11), 180))
    tokens = unique * np.exp(rng.uniform(-0.5, np.log(60), 180))
    loss = REPEATED_LAW(params, tokens, unique) * np.exp(0.01 * rng.standard_normal(180))
    return Table(params=params, tokens=tokens, unique_tokens=unique, loss=loss)


def curves() -> Table:
    """100,000 rows: 5 sizes x 10 batch sizes x 2,000 points of a curve."""
    rows = []
    for params, batch in itertools.product(np.geomspace(1e7, 1e9, 5), np.geomspace(2e4, 2e6, 10)):
        tokens = np.geomspace(2e8, 5e10, 2000)
        base = LAW(params, tokens)
        off = np.log(batch / (1.21e9 / base**6.24))
        rows.append((np.full(2000, params), np.full(2000, batch), tokens, base + 0.01 * off**2))
    params, batch, tokens, loss = np.concatenate(rows, axis=1)
    noise = np.repeat(0.002 * np.random.default_rng(0).standard_normal(50), 2000)
    return Table(
        params=params,
        batch_tokens=batch,
        tokens=tokens,
        flops=6 * params * tokens,
        loss=loss * np.exp(noise),
        labels={"run": np.repeat(np.arange(50), 2000)},
    )


def usual(table: Table, start: np.ndarray, weight: np.ndarray) -> float:
    """One BFGS on (ln A, ln B, ln E, alpha, beta), gradients written out."""
    x, y, target = np.log(table.params), np.log(table.tokens), np.log(table.loss)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * x, b - beta * y, np.full(x.size, e)])
        top = terms.max(axis=0)
        parts = np.exp(terms - top)
        total = parts.sum(axis=0)
        residual = top + np.log(total) - target
        bent = np.clip(residual, -DELTA, DELTA)
        share = weight * bent * parts / total
        slope = [share[0].sum(), share[1].sum(), share[2].sum(), -share[0] @ x, -share[1] @ y]
        cost = weight * (bent * (residual - bent / 2))
        return float(cost.sum()), np.array(slope)

    return float(minimize(objective, start, jac=True, method="BFGS").fun)


def many_mixtures(*, quick: bool) -> Table:
    """Losses on `SETS` sets of mixtures of six sources: exponential laws, with steps and noise."""
    count = 40 if quick else MIXTURES
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.ones(6), count)
    loss = 1.5 + np.exp(weights @ rng.normal(0, 0.5, (6, SETS))) / 2
    loss = (loss + 0.3 * (weights[:, :1] > 0.3)) * np.exp(rng.normal(0, 0.002, loss.shape))
    sources = {f"weight_{k}": column for k, column in enumerate(weights.T)}
    return Table(sources | {f"loss_{k}": column for k, column in enumerate(loss.T)})


def seconds(task: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    begun = time.perf_counter()
    task()
    return time.perf_counter() - begun


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Seconds of every task, both objectives and the resamples that did not settle."""
    rounds = 1 if quick else ROUNDS
    starts = RUN_STARTS[:2] if quick else RUN_STARTS
    resamples = 2 if quick else RUN_RESAMPLES
    table = runs()
    problem = Problem.of(Form, table)
    objective = Objective("huber-log", DELTA)
    point = search(problem, objective)
    rng = np.random.default_rng(1)
    weights = rng.multinomial(ROWS, np.full(ROWS, 1 / ROWS), RESAMPLES).astype(float)
    outputs = np.broadcast_to(table.loss, weights.shape)
    one = np.ones(ROWS)
    e, a, b, alpha, beta = point.form.vector
    best = np.array([np.log(a), np.log(b), np.log(e), alpha, beta])
    long, passes, mixtures = curves(), repeated(), many_mixtures(quick=quick)

    tasks: dict[str, Callable[[], object]] = {
        "one fit, ours": lambda: search(problem, objective),
        "one fit, usual": lambda: min(usual(table, np.array(s), one) for s in starts),
        "resamples, ours": lambda: refit(point, outputs, weight=weights),
        "resamples, usual": lambda: [usual(table, best, weights[k]) for k in range(resamples)],
        "whole fit": lambda: fit(table, delta=DELTA),
        "auto": lambda: fit(table, "auto"),
        "data-constrained": lambda: fit(passes, "data-constrained", delta=DELTA),
        "batch": lambda: fit(long, "batch", holdout=None),
        "envelope": lambda: fit(long, "envelope", holdout=None),
    }
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            found[name].append(seconds(task))
    took = {name: median(values) for name, values in found.items()}
    took["mixture"] = seconds(lambda: fit_mixture(mixtures, bootstrap=MIXTURE_RESAMPLES))
    took["one fit, usual"] *= len(STARTS) / len(starts)
    took["resamples, usual"] *= RESAMPLES / resamples
    refits = refit(point, outputs, weight=weights)
    unsettled = int(np.sum((refits.gradient_norm > SETTLED) & (refits.cosine > 1e-6)))
    theirs = min(usual(table, best, one), *(usual(table, np.array(s), one) for s in starts))
    return {
        "seconds": took,
        "rounds": rounds,
        "starts": len(starts),
        "resamples": resamples,
        "rows_of_curves": long.rows,
        "objective": {"ours": float(point.cost), "usual": theirs},
        "unsettled": unsettled,
    }


def page(results: Mapping[str, Any]) -> str:
    """The section of the page."""
    took, objective = results["seconds"], results["objective"]
    text = (
        "The usual way is that of Hoffmann et al. 2022 and of those who re-computed them: scipy's "
        "BFGS with exact gradients, one start and one resample at a time. It ran "
        f"{results['starts']} of {len(STARTS):,} starts and {results['resamples']} of "
        f"{RESAMPLES:,} resamples, and is scaled up; medians of {results['rounds']} rounds. "
        f"Objective reached: ours {objective['ours']:.12g}, usual {objective['usual']:.12g}; "
        f"{results['unsettled']} of our {RESAMPLES:,} resamples stayed above a gradient norm of "
        f"{SETTLED:g}."
    )
    pairs = (
        (f"one chinchilla fit of {ROWS} rows (64 starts; usual {len(STARTS):,})", "one fit"),
        (f"{RESAMPLES:,} bootstrap refits of it", "resamples"),
    )
    alone = (
        ("whole fit: 1,000 resamples, hold-out, influence", "whole fit"),
        (f"auto of {ROWS} rows: 1,000 draws, rolling extrapolation, two hold-outs", "auto"),
        ("chinchilla's whole fit of 180 rows of data-constrained", "data-constrained"),
        (
            f"mixture law of {MIXTURES} mixtures and {SETS} sets, {MIXTURE_RESAMPLES} resamples",
            "mixture",
        ),
        *(
            (f"{results['rows_of_curves']:,} rows of curves through {name}", name)
            for name in ("batch", "envelope")
        ),
    )
    rows = [
        [label, f"{ours:.3f}", f"{other:.1f}", f"{other / ours:.0f}x"]
        for label, name in pairs
        for ours, other in [(took[f"{name}, ours"], took[f"{name}, usual"])]
    ] + [[label, f"{took[name]:.3f}", "", ""] for label, name in alone]
    return text + "\n\n" + tables.table(["task", "ours, s", "usual, s", "ratio"], rows)


if __name__ == "__main__":
    print(page(measure()))
