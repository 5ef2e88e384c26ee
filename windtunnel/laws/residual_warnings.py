"""Warnings of what a law leaves of its table: noise, misfit of sizes, runs trained otherwise.

Each function compares numbers with a threshold; docs/fit.md lists the codes.
"""

from collections.abc import Iterator

import numpy as np

from windtunnel.errors import Diagnostic
from windtunnel.laws.known_noise import KnownNoise
from windtunnel.laws.noise import MIN_TRUNK_DF, Noise, replicates
from windtunnel.laws.point_estimate import Point
from windtunnel.laws.posterior import NONE_OFF, Layout, Posterior
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.table_warnings import FEW_SIZES

LACK_OF_FIT_P = 0.01
# Seeds that agree to this are copies, or a made-up table: there is no noise to judge a fit by.
ROUNDOFF = 1e-9
FEW_TRUNK_DF = 3.0
# Normal residuals have rms = 1.48 times their median size; rows where that doubles are not normal.
HEAVY_TAIL = 2.0
HEAVY_TAIL_ROWS = 20
# A group this many of its own standard errors above the law was not trained like the others.
UNDER_TUNED_SIGMAS = 4.0
UNDER_TUNED_LEAST = 0.003
# A rise of this many sigmas between neighbouring horizons is not noise.
RISE_SIGMAS = 4.0


def of_noise(
    point: Point,
    table: Table,
    noise: Noise,
    *,
    lack_of_fit_p: float | None,
    sigma_seed: float | None,
    known: KnownNoise | None = None,
) -> Iterator[Diagnostic]:
    """Warnings about noise and lack of fit."""
    rms = float(np.sqrt(np.mean(point.residual**2)))
    tested = lack_of_fit_p is not None and sigma_seed is not None and sigma_seed > ROUNDOFF
    if tested and lack_of_fit_p is not None and lack_of_fit_p < LACK_OF_FIT_P:
        yield Diagnostic(
            "lack-of-fit",
            f"lack of fit (p = {lack_of_fit_p:.1g}): residuals of {rms:.2%} against seed noise of "
            f"{sigma_seed:.2%}. The law bends away from this table",
            p=lack_of_fit_p,
            rms=rms,
            sigma_seed=sigma_seed,
        )
    usual = 1.4826 * float(np.median(np.abs(point.residual)))
    row = int(np.argmax(np.abs(point.residual)))
    worst = table.describe(row, point.problem.law.columns())
    if table.rows >= HEAVY_TAIL_ROWS and rms > HEAVY_TAIL * usual and not point.exact:
        yield Diagnostic(
            "heavy-tails",
            f"residuals have outliers (rms {rms:.2%}, most within {usual:.2%}), the worst "
            f"{worst} ({point.residual[row]:+.1%}): a diverged run? Intervals are wide because of "
            "them; decide whether they belong (--where, --drop-highest)",
            rms=rms,
            usual=usual,
            row=row,
            residual=float(point.residual[row]),
        )
    if known is None or not known.holds:
        yield from _identified(point, table, noise)
    if "tokens" in point.problem.law.inputs and not point.exact:
        yield from non_monotone(point.residual, table)


def of_known_noise(
    given: float | None, known: KnownNoise | None, measured: float | None
) -> Iterator[Diagnostic]:
    """The warning about a known noise that the seeds of the table measure themselves."""
    if given is not None and known is None and measured is not None:
        yield Diagnostic(
            "noise-measured",
            f"the seeds of this table measure their noise, {measured:.2%}: the given "
            f"{given:.2%} is not used",
            given=given,
            measured=measured,
        )


def _identified(point: Point, table: Table, noise: Noise) -> Iterator[Diagnostic]:
    """Warnings about trunk noise that the table hardly shows."""
    cells = table.cells(*point.problem.law.inputs)
    if not replicates(cells, table.trunk_index):
        yield Diagnostic(
            "noise-unidentified",
            "no cell has two seeds: trunk noise cannot be told from lack of fit, and the intervals "
            "count both as noise. Add a second seed",
            trunks=int(table.trunk_labels.size),
        )
    if noise.trunk_df < MIN_TRUNK_DF:
        yield Diagnostic(
            "noise-unidentified",
            f"{table.trunk_labels.size} trunks leave no degree of freedom for trunk noise, so no "
            "interval is given: add seeds or sizes",
            trunks=int(table.trunk_labels.size),
            trunk_df=float(noise.trunk_df),
        )
    elif noise.trunk_df < FEW_TRUNK_DF:
        yield Diagnostic(
            "few-trunks",
            f"trunk noise rests on {noise.trunk_df:.1f} degrees of freedom: intervals are wide "
            "because little is known. Add seeds",
            trunk_df=float(noise.trunk_df),
        )


def of_sizes(
    point: Point, base: Point, table: Table, layout: Layout, posterior: Posterior
) -> Iterator[Diagnostic]:
    """Warnings about a size whose rows all lie far above the law of the other sizes.

    With a second seed the posterior of the noise weighs it; without, the means of the sizes do.
    """
    law = point.problem.law
    if not law.allocates or point.exact:
        return
    off = posterior.likeliest
    if off != NONE_OFF:
        rows = layout.size == off
        chance = float(posterior.chance[posterior.off == off].sum())
        names = law.grids.keys()
        raw = base.problem.raw(base.theta)
        numbers = ", ".join(f"{name} {raw[law.index(name)]:.3g}" for name in names)
        yield Diagnostic(
            "under-tuned",
            f"the runs of params = {table.params[rows][0]:.4g} lie "
            f"{base.residual[rows].mean():.2%} above the law of the other sizes (probability "
            f"{chance:.2f}): a poor learning rate or batch there? The intervals leave that size "
            f"out where it is off; the coefficients do not, and are {numbers} without it. Tune "
            "it, or leave it out with --where",
            params=float(table.params[rows][0]),
            excess=float(base.residual[rows].mean()),
            probability=chance,
        )
    elif not layout.spare.size:
        yield from under_tuned(point.residual, table)


def under_tuned(residual: Floats, table: Table) -> Iterator[Diagnostic]:
    """The warning about a size far above the law; `residual` (R,) is of ln loss."""
    sizes = np.unique(table.params)
    if not FEW_SIZES - 1 <= sizes.size <= table.rows / 2:
        return
    means = np.array([residual[table.params == size].mean() for size in sizes])
    worst = int(np.argmax(means))
    # Sizes share a law, so their mean residuals scatter by the noise between trunks and no more.
    spread = 1.4826 * float(np.median(np.abs(np.delete(means, worst))))
    if means[worst] > UNDER_TUNED_SIGMAS * max(spread, UNDER_TUNED_LEAST / 4):
        yield Diagnostic(
            "under-tuned",
            f"the runs of params = {sizes[worst]:.4g} lie {means[worst]:.2%} above the law on "
            f"average, the other sizes within {spread:.2%}: a poor learning rate or batch there? "
            "Tune that size, or leave it out with --where",
            params=float(sizes[worst]),
            excess=float(means[worst]),
            spread=spread,
        )


def non_monotone(residual: Floats, table: Table) -> Iterator[Diagnostic]:
    """Loss that rises along a trunk (or a size) by more than steps usually miss the law."""
    keys = table.trunk if table.has_trunks else table.params
    order = np.lexsort((table.tokens, np.unique(keys, return_inverse=True)[1]))
    along = keys[order][1:] == keys[order][:-1]
    rise = np.diff(np.log(table.loss[order]))[along]
    miss = np.diff(residual[order])[along]
    if not miss.size:
        return
    usual = 1.4826 * float(np.median(np.abs(miss)))
    if rises := int(np.sum((rise > 0) & (miss > RISE_SIGMAS * usual))):
        yield Diagnostic(
            "non-monotone",
            f"loss rises with more tokens in {rises} places, by more than noise explains: look "
            "for diverged, undecayed or repeated-data runs",
            rises=rises,
        )
