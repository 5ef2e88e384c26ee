"""What a reader must know before trusting a fit: plain sentences, each with its figure."""

from collections.abc import Iterator

import numpy as np

from windtunnel.laws.chinchilla import COEFFICIENTS
from windtunnel.laws.interval import HoldOut, Influence, beyond
from windtunnel.laws.noise import Noise
from windtunnel.laws.point import Point
from windtunnel.laws.runs import Runs, correlation
from windtunnel.laws.uncertainty import MIN_TRUNK_DF, Resamples

MAX_RATIO_WIDTH = 3.0
COLLINEAR = 0.8
LACK_OF_FIT_P = 0.01
FEW_TRUNK_DF = 3.0
# Normal residuals have rms = 1.48 times their median size; rows where that doubles are not normal.
HEAVY_TAIL = 2.0
HEAVY_TAIL_ROWS = 20


def of_table(runs: Runs) -> Iterator[str]:
    """Cautions that the design alone earns."""
    if abs(r := correlation(runs)) > COLLINEAR:
        yield (
            f"ln N and ln D are collinear (r = {r:.2f}): the two exponents trade off. Let the "
            "smallest sizes run much longer"
        )
    if runs.seeds.max() < 2:
        yield (
            "no cell has two seeds: trunk noise cannot be told from lack of fit, and the intervals "
            "count both as noise. Add a second seed"
        )
    elif (single := int(np.sum(runs.seeds < 2))) > 0:
        yield f"{single} of {runs.seeds.size} cells have one seed only"
    if np.bincount(runs.trunk_index).max() < 2:
        yield "every trunk has one row: trunk and branch noise cannot be told apart"
    if runs.decayed is not None and runs.decayed.any() and not runs.decayed.all():
        yield (
            f"{int(np.sum(~runs.decayed))} of {runs.rows} rows are not decayed: a decay is worth "
            "more than most effects fitted here. Keep one kind"
        )
    if runs.flops is not None:
        off = runs.flops / runs.budget
        if np.max(np.abs(off - 1)) > 0.02:
            yield (
                f"the flops column is {off.min():.2f} to {off.max():.2f} times {runs.flop_rule}: "
                f"budgets here are in {runs.flop_rule}"
            )


def of_search(point: Point) -> Iterator[str]:
    """Cautions about the optimum itself."""
    if not point.converged:
        yield f"the optimiser did not converge (scaled gradient {point.gradient:.1e}, not 0)"
    if point.starts_agreeing < point.starts / 2:
        yield f"only {point.starts_agreeing} of {point.starts} starts reached this optimum"
    for name, free, value in zip(COEFFICIENTS, point.free, point.theta, strict=True):
        if not free:
            yield f"{name} is at its bound ({value:.3g}): the table does not determine it"


def of_noise(
    runs: Runs, point: Point, noise: Noise, p: float | None, sigma: float | None
) -> Iterator[str]:
    """Cautions about what is noise and what is misfit."""
    if p is not None and p < LACK_OF_FIT_P and sigma is not None:
        spread = float(np.sqrt(point.residual @ point.residual / max(runs.rows - 5, 1)))
        yield (
            f"lack of fit (p = {p:.1g}): residuals of {spread:.2%} against seed noise of "
            f"{sigma:.2%}. The law bends away from this table"
        )
    rms = float(np.sqrt(np.mean(point.residual**2)))
    usual = 1.4826 * float(np.median(np.abs(point.residual)))
    if runs.rows >= HEAVY_TAIL_ROWS and rms > HEAVY_TAIL * usual and not point.exact:
        yield (
            f"residuals have outliers (rms {rms:.2%}, most within {usual:.2%}): the intervals "
            "assume normal noise of one size. Look at the worst rows"
        )
    if noise.trunk_df < MIN_TRUNK_DF:
        yield (
            f"{runs.trunk_labels.size} trunks leave no degree of freedom for trunk noise, so no "
            "interval is given: add seeds or sizes"
        )
    elif noise.trunk_df < FEW_TRUNK_DF:
        yield (
            f"trunk noise rests on {noise.trunk_df:.1f} degrees of freedom: intervals are wide "
            "because little is known. Add seeds"
        )


def of_intervals(
    ratio: tuple[float, float] | None, resamples: Resamples, influence: Influence | None
) -> Iterator[str]:
    """Cautions about how well the compute-optimal ratio is known."""
    if resamples.unconverged > 0.01:
        yield f"{resamples.unconverged:.0%} of the resamples did not converge"
    if ratio is None:
        return
    low, high = ratio
    width = high / low if low > 0 else np.inf
    if not width <= MAX_RATIO_WIDTH:
        yield (
            f"the interval of the optimal D/N at the largest budget is {low:.3g} to {high:.3g} "
            f"(x{width:.1f}): the ratio is barely known"
        )
    if influence and np.isfinite(width) and abs(influence.shift) > np.log(width) / 2:
        yield (
            f"without trunk {influence.trunk} the optimal D/N is {influence.ratio_without:.3g} "
            f"instead of {influence.ratio:.3g}: one trunk decides more than half of the interval"
        )


def of_use(runs: Runs, point: Point, held: HoldOut | None) -> Iterator[str]:
    """Cautions about where the law is about to be used."""
    if point.form.A > 0 and point.form.B > 0:
        ratio = point.form.ratio(float(runs.budget.max()), flop_factor=runs.flop_factor)
        sampled = runs.tokens / runs.params
        if sentence := beyond("optimal D/N", ratio, (float(sampled.min()), float(sampled.max()))):
            yield sentence
    if held is not None and held.inside is False:
        yield (
            f"held-out {held.what} missed: the forecast was {held.error:+.2%} off, expected "
            f"{held.low:+.2%} to {held.high:+.2%}"
        )
