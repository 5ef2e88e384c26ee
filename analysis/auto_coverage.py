"""How often the 90% intervals of `--law auto` hold the truth, on made-up tables of several forms.

    python analysis/auto_coverage.py --repetitions 100 --cells drifting

A cell is a form of the law and a design. Every repetition plants a table with noise between trunks
and between runs, fits it, and asks whether new runs at 2 and 8 times the largest size with D/N = 20
lie in their prediction intervals, and the compute-optimal D/N in its own, in the middle and at the
end of the budgets. Two forms are in the list that `auto` weighs, two are not: `bent` has a smooth
misfit, and in `drifting` the exponent in D grows with size (as in Farseer, arXiv 2506.10972).
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws import Chinchilla, Fit, Table, fit
from windtunnel.laws.chinchilla import Coupled

Floats = NDArray[np.float64]
Form = Callable[[Floats, Floats], Floats]

LEVEL = 0.9
CHINCHILLA = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
COUPLED = Coupled(E=1.6, A=9.0e4, B=9.0e4, alpha=0.62, beta=0.53, k=0.55)
MIDDLE = (1.0e8, 3.0e9)
"""N and D of the middle of the designs."""
BEND = 3e-3
DRIFT = 0.03
TRUNK_SIGMA, RUN_SIGMA = 0.002, 0.001


def bent(params: Floats, tokens: Floats) -> Floats:
    """Chinchilla's law with a smooth misfit of about 1% at the corners."""
    bend = BEND * np.log(params / MIDDLE[0]) * np.log(tokens / MIDDLE[1])
    return np.asarray(CHINCHILLA(params, tokens) * np.exp(bend))


def drifting(params: Floats, tokens: Floats) -> Floats:
    """A law whose exponent in D is larger by `DRIFT` of itself for every e-fold of N."""
    law = CHINCHILLA
    beta = law.beta * (1 + DRIFT * np.log(params / MIDDLE[0]))
    scale = law.B * MIDDLE[1] ** (beta - law.beta)
    return np.asarray(law.E + law.A * params**-law.alpha + scale * tokens**-beta)


FORMS: Mapping[str, Form] = {
    "chinchilla": CHINCHILLA,
    "coupled": COUPLED,
    "bent": bent,
    "drifting": drifting,
}


@dataclass(frozen=True)
class Design:
    """Sizes, tokens per parameter of each, and seeds; without trunks every run stands alone."""

    sizes: Floats
    ratios: Floats
    seeds: int
    has_trunks: bool


DESIGNS = {
    "trunks": Design(np.geomspace(1e7, 1e9, 6), np.geomspace(5, 160, 6), 2, has_trunks=True),
    "runs": Design(np.geomspace(1e7, 1e9, 8), np.geomspace(2, 300, 6), 1, has_trunks=False),
}


def plant(form: Form, design: Design, rng: np.random.Generator) -> Table:
    """A table of a form with noise between trunks and runs."""
    cells = design.sizes.size * design.seeds
    params = np.repeat(np.tile(design.sizes, design.seeds), design.ratios.size)
    tokens = params * np.tile(design.ratios, cells)
    trunk = np.repeat(np.arange(cells), design.ratios.size)
    noise = RUN_SIGMA * rng.standard_normal(params.size)
    noise = noise + _trunk_sigma(design) * rng.standard_normal(cells)[trunk]
    loss = form(params, tokens) * np.exp(noise)
    columns = {"params": params, "tokens": tokens, "loss": loss}
    return Table(columns, trunk=trunk.astype(np.str_) if design.has_trunks else None)


def _trunk_sigma(design: Design) -> float:
    return TRUNK_SIGMA if design.has_trunks else 0.0


def optimum(form: Form, flops: float) -> float:
    """The D/N of lowest loss at C = 6 N D, on a fine grid."""
    ratio = np.geomspace(0.01, 1e5, 20_001)
    params = np.sqrt(flops / 6 / ratio)
    return float(ratio[np.argmin(form(params, params * ratio))])


TRUTHS = ("2x size", "8x size", "ratio, middle", "ratio, end")


def repeat(form: Form, design: Design, rng: np.random.Generator) -> tuple[list[bool], list[float]]:
    """Whether each truth lies in its interval, and the half-width of each, of ln."""
    table = plant(form, design, rng)
    found = fit(table, "auto", level=LEVEL, seed=int(rng.integers(2**31)), holdout=None)
    spans = [*_forecasts(found, form, design, rng), *_ratios(found, form)]
    inside = [low <= truth <= high for truth, low, high in spans]
    with np.errstate(divide="ignore"):
        return inside, [float(np.log(high) - np.log(low)) / 2 for _, low, high in spans]


def _forecasts(
    found: Fit, form: Form, design: Design, rng: np.random.Generator
) -> Iterator[tuple[float, float, float]]:
    for times in (2, 8):
        params = times * float(design.sizes.max())
        own = np.hypot(_trunk_sigma(design), RUN_SIGMA) * rng.standard_normal()
        truth = float(form(np.float64(params), np.float64(20 * params)) * np.exp(own))
        forecast = found.predict(params, 20 * params)
        yield truth, forecast.low, forecast.high


def _ratios(found: Fit, form: Form) -> Iterator[tuple[float, float, float]]:
    low, high = found.domain["flops"]
    for flops in (float(np.sqrt(low * high)), high):
        ratio = found.optimum(flops).ratio
        yield optimum(form, flops), ratio.low, ratio.high


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--cells", default="", help="part of a cell's name, such as 'bent trunks'")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    names = " | ".join(f"{truth}: inside, half-width" for truth in TRUTHS)
    sys.stdout.write(f"| cell | {names} |\n|---|{'---|' * len(TRUTHS)}\n")
    for name, form in FORMS.items():
        for kind, design in DESIGNS.items():
            if asked.cells not in (cell := f"{name} {kind}"):
                continue
            # A cell's tables depend on its name and the seed, not on which cells were asked for.
            rng = np.random.default_rng([asked.seed, *cell.encode()])
            done = [repeat(form, design, rng) for _ in range(asked.repetitions)]
            inside = np.mean([held for held, _ in done], axis=0)
            width = np.median([widths for _, widths in done], axis=0)
            shown = " | ".join(f"{i:.0%}, {w:.1%}" for i, w in zip(inside, width, strict=True))
            sys.stdout.write(f"| {cell} | {shown} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
