"""How often nominal 90% intervals hold the truth, on made-up tables whose law and noise are known.

    python analysis/coverage.py --repetitions 1000 --cells "A 2"

A cell is a design, seeds per size, total noise of ln loss, the ratio trunk sd : branch sd, and what
the noise is like. Every repetition plants a law, fits it, and asks whether
alpha, beta, the compute-optimal D/N at the largest budget, and one new run at 4x the largest size
and D/N = 20 lie in their intervals. Beside it the two case bootstraps: rows, trunks within a size.
One line of a markdown table per cell; a share near .90 of 1000 has a standard error of .0095.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws import Chinchilla, Fit, Table, fit
from windtunnel.laws.interval import quantiles
from windtunnel.laws.problem import Problem
from windtunnel.laws.solver import Objective

Floats = NDArray[np.float64]

LEVEL = 0.9
TRUTHS = ("alpha", "beta", "ratio", "forecast")
# Trunk sd changes fourfold from the smallest to the largest size, as a power of N, and goes on so.
STEEP = {"falling": 0.25, "rising": 4.0}
BAD_LEAST, BAD_MOST = 0.01, 0.03


@dataclass(frozen=True)
class Design:
    """A planted law, the sizes, and the horizons (tokens per parameter) of every size."""

    law: Chinchilla
    sizes: Floats
    horizons: tuple[Floats, ...]


_STRETCHED = np.geomspace(10, 320, 6)
DESIGNS = {
    # The two smallest sizes run to 320 tokens per parameter, so N and D are told apart.
    "A": Design(
        Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
        np.geomspace(1e5, 3.2e6, 6),
        (_STRETCHED,) * 2 + (np.array([10.0, 15, 20, 30, 40, 60]),) * 4,
    ),
    # MiniCPM (arXiv 2404.06395): the optimal D/N of its average law lies above all that it sampled.
    "B": Design(
        Chinchilla.from_units(
            E=0.31, A=7.15e-2, B=0.3, alpha=0.29, beta=0.23, params_unit=1e9, tokens_unit=1e9
        ),
        np.array([0.031, 0.11, 0.25, 0.49, 0.85, 2.0]) * 1e9,
        (np.array([11, 16.5, 22, 33, 44, 66]),) * 6,
    ),
}


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    design: str
    seeds: int
    sigma: float
    split: float
    noise: str

    def __str__(self) -> str:
        return f"{self.design} {self.seeds} {self.sigma:.1%} {self.split:g}:1 {self.noise}"


CELLS = (
    *(
        Cell(design, 2, sigma, 3.0, noise)
        for design, noise, sigma in itertools.product(
            "AB", ("normal", "t3", "falling", "rising", "bad"), (0.001, 0.003, 0.01)
        )
    ),
    *(
        Cell(design, seeds, 0.003, 3.0, noise)
        for design, seeds, noise in itertools.product("AB", (3, 4), ("normal", "rising", "bad"))
    ),
    *(
        Cell(design, 2, sigma, 1.0, noise)
        for design, noise, sigma in itertools.product(
            "AB", ("normal", "rising", "bad"), (0.003, 0.01)
        )
    ),
)


@dataclass(frozen=True)
class Planted:
    """A made-up table and what its intervals should hold."""

    table: Table
    params: float
    tokens: float
    truth: dict[str, float]


def plant(cell: Cell, rng: np.random.Generator) -> Planted:
    """A table of `cell`, and a new run at 4x the largest size."""
    design = DESIGNS[cell.design]
    size = np.repeat(np.arange(design.sizes.size), cell.seeds)
    horizons = np.concatenate([design.horizons[number] for number in size])
    trunk = np.repeat(np.arange(size.size), horizons.size // size.size)
    params = design.sizes[size][trunk]
    largest = 4 * float(design.sizes.max())
    sigma_branch = cell.sigma / np.hypot(cell.split, 1.0)
    of_size, of_new = _trunk_sigma(cell, design, largest)
    noise = (of_size[size] * _standard(cell, rng, size.size))[trunk]
    noise = noise + sigma_branch * _standard(cell, rng, trunk.size)
    if cell.noise == "bad":
        off = size[trunk] == rng.integers(design.sizes.size)
        noise = noise + off * np.log1p(rng.uniform(BAD_LEAST, BAD_MOST))
    loss = design.law(params, params * horizons) * np.exp(noise)
    table = Table(params=params, tokens=params * horizons, loss=loss, trunk=trunk.astype(np.str_))
    own = np.array([of_new, sigma_branch]) @ _standard(cell, rng, 2)
    truth = {
        "alpha": design.law.alpha,
        "beta": design.law.beta,
        "ratio": design.law.ratio(float(table.budget.max())),
        "forecast": float(design.law(largest, 20 * largest) * np.exp(own)),
    }
    return Planted(table, largest, 20 * largest, truth)


def _trunk_sigma(cell: Cell, design: Design, largest: float) -> tuple[Floats, float]:
    """Trunk sd of every size and of a size `largest`; its mean square over sizes is the cell's."""
    spread = np.log(np.append(design.sizes, largest) / design.sizes.min())
    sd = STEEP.get(cell.noise, 1.0) ** (spread / spread[-2])
    sd *= cell.sigma * cell.split / np.hypot(cell.split, 1.0) / np.sqrt(np.mean(sd[:-1] ** 2))
    return sd[:-1], float(sd[-1])


def _standard(cell: Cell, rng: np.random.Generator, count: int) -> Floats:
    """Noise of variance 1."""
    if cell.noise == "t3":
        return np.asarray(rng.standard_t(3, count) / np.sqrt(3))
    return rng.standard_normal(count)


Spans = dict[str, tuple[float, float]]


def spans_of_fit(found: Fit, planted: Planted) -> Spans:
    """The intervals that a user sees."""
    forecast = found.predict(planted.params, planted.tokens)
    spans = {name: found.intervals[name] for name in TRUTHS[:3]}
    return {**spans, "forecast": (forecast.low, forecast.high)}


def spans_of_cases(found: Fit, planted: Planted, counts: Floats, rng: np.random.Generator) -> Spans:
    """Percentile intervals of refits with every row counted as often as `counts` (P, R) says."""
    table, law = planted.table, Chinchilla
    problem = Problem.of(law, table)
    theta = np.array([found.scaled[name] for name in law.names()])
    refits = problem.solve(
        Objective("huber-log", found.delta or np.inf),
        np.broadcast_to(table.loss, counts.shape),
        np.broadcast_to(theta, (len(counts), 5)),
        weight=counts,
    )
    draws = problem.raw(refits.theta)
    _, _, _, alpha, beta = draws.T
    log_params, log_tokens = law.log_optimum(draws, float(table.budget.max()))
    sigma = np.hypot(found.sigma_trunk, found.sigma_branch)
    loss = law.values(draws, np.array([[planted.params], [planted.tokens]]))[:, 0]
    loss = loss * np.exp(sigma * rng.standard_normal(len(loss)))
    with np.errstate(over="ignore"):
        columns = (alpha, beta, np.exp(log_tokens - log_params), loss)
    return {name: quantiles(c, LEVEL) for name, c in zip(TRUTHS, columns, strict=True)}


def row_counts(table: Table, count: int, rng: np.random.Generator) -> Floats:
    """How often every row is drawn, shape (count, R)."""
    return rng.multinomial(table.rows, np.full(table.rows, 1 / table.rows), count).astype(float)


def trunk_counts(table: Table, count: int, rng: np.random.Generator) -> Floats:
    """How often every row's trunk is drawn among those of its size, shape (count, R)."""
    drawn = np.empty((count, table.trunk_labels.size))
    size_of_trunk = np.zeros(drawn.shape[1])
    size_of_trunk[table.trunk_index] = table.params
    for size in np.unique(size_of_trunk):
        own = np.flatnonzero(size_of_trunk == size)
        drawn[:, own] = rng.multinomial(own.size, np.full(own.size, 1 / own.size), count)
    return drawn[:, table.trunk_index]


@dataclass(frozen=True)
class Outcome:
    """One repetition: which truths every method held, and how well the fit was determined."""

    held: NDArray[np.bool_]
    width: float
    flagged: bool


def repeat(cell: Cell, resamples: int, rng: np.random.Generator) -> Outcome:
    """Plant a table, fit it, and score the three methods on it."""
    planted = plant(cell, rng)
    seed = int(rng.integers(2**31))
    found = fit(
        planted.table, "chinchilla", level=LEVEL, bootstrap=resamples, seed=seed, holdout=None
    )
    spans = [spans_of_fit(found, planted)]
    for draw in (row_counts, trunk_counts):
        counts = draw(planted.table, resamples, rng)
        spans.append(spans_of_cases(found, planted, counts, rng))
    held = [[_holds(span[name], planted.truth[name]) for name in TRUTHS] for span in spans]
    low, high = found.intervals["ratio"]
    flagged = any(warning.code in {"at-bound", "flat-direction"} for warning in found.warnings)
    return Outcome(np.array(held), high / low if low > 0 else np.inf, flagged)


def _holds(span: tuple[float, float], value: float) -> bool:
    return span[0] <= value <= span[1]


def lines(cells: list[Cell], repetitions: int, resamples: int, seed: int) -> Iterator[str]:
    """The markdown table, a line as soon as it is known."""
    names = " / ".join(TRUTHS)
    yield f"| cell | two-level: {names} | rows | trunks in size | ratio width | flagged |"
    yield "|---|---|---|---|---|---|"
    for cell in cells:
        # A cell's tables depend on its name and the seed, not on which other cells were asked for.
        stream = np.random.default_rng([seed, *str(cell).encode()])
        found = [repeat(cell, resamples, stream) for _ in range(repetitions)]
        held = np.mean([outcome.held for outcome in found], axis=0)
        width = float(np.median([outcome.width for outcome in found]))
        flagged = float(np.mean([outcome.flagged for outcome in found]))
        shares = " | ".join(" ".join(f"{share:.3f}" for share in method) for method in held)
        yield f"| {cell} | {shares} | x{width:.2f} | {flagged:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--cells", default="", help="part of a cell's name, such as 'A 2 0.3%%'")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    cells = [cell for cell in CELLS if asked.cells in str(cell)]
    for line in lines(cells, asked.repetitions, asked.resamples, asked.seed):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
