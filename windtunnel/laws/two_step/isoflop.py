"""IsoFLOP laws, from runs that share budgets: N* = G C^a, D* = H C^b.

The first step finds the optimal N of every budget; the second fits a power law to the optima. Three
estimates of an optimum are always made. The usual one, a parabola, is biased where the sizes extend
further to one side of the optimum, even without noise:

- `parabola`: a quadratic of loss over ln N (Hoffmann et al. 2022, approach 2);
- `akima`: the lowest point of an Akima interpolation of ln loss over ln N, with runs of one size
  averaged (Porian et al. 2024, arXiv 2406.19146);
- `parametric`: the optimum of one E + A N^-alpha + B D^-beta through the rows of all usable
  budgets. One form per budget would have as many coefficients as many budgets have sizes.

An Akima interpolation has no bias but follows the noise: with 0.2% noise on nine sizes from 0.1 to
10 times the optimum, its exponent is ten times as uncertain as the parabola's (measured).
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import Diagnostic, FitError, did_you_mean
from windtunnel.laws.bootstrap import refit
from windtunnel.laws.chinchilla import Chinchilla
from windtunnel.laws.interval import quantiles
from windtunnel.laws.point_estimate import Point, best_point, require_identified
from windtunnel.laws.problem import Problem
from windtunnel.laws.schema import plain
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.two_step.base import (
    Quadratic,
    TwoStepLaw,
    TwoStepProblem,
    block_diagonal,
    line,
    logs,
    numbered,
    span,
)

# Sizes closer than this are one size (assumed): an interpolation between them would draw noise.
SAME_SIZE = 0.01
# Budgets of a study are further apart than this factor (assumed); rows between them are strays.
APART = 1.25
# A parabola through 3 sizes is exact and says nothing about its own error.
MIN_SIZES = 4
# From this many sizes the reference is a cubic, so that an asymmetric valley is no noise.
CUBIC_SIZES = 6


@dataclass(frozen=True, eq=False)
class Budget:
    """Rows of equal compute.

    Attributes:
        log_flops: ln of the budget, the mean over its rows.
        rows: their positions in the table, (m,).
        x: their ln N, (m,).
    """

    log_flops: float
    rows: NDArray[np.intp]
    x: Floats

    @cached_property
    def size(self) -> NDArray[np.intp]:
        """Number of every row's size, (m,), smallest first."""
        return _chained(self.x, SAME_SIZE)

    @property
    def sizes(self) -> int:
        """Different sizes."""
        return int(self.size.max()) + 1

    @property
    def usable(self) -> bool:
        """Whether there are sizes enough for a parabola that can err."""
        return self.sizes >= MIN_SIZES

    @cached_property
    def knots(self) -> Floats:
        """Mean ln N of every size, (S,)."""
        return np.bincount(self.size, self.x) / np.bincount(self.size)

    @property
    def smallest(self) -> float:
        """Ln N of the smallest size."""
        return float(self.knots[0])

    @property
    def largest(self) -> float:
        """Ln N of the largest size."""
        return float(self.knots[-1])

    def reference(self, log_loss: Floats) -> tuple[Floats, Floats]:
        """A smooth curve (m,) through ln loss (m,) over ln N, and its design (q, m)."""
        degree = 3 if self.sizes >= CUBIC_SIZES else 2
        z = (self.x - self.x.mean()) / np.ptp(self.x)
        design = np.vander(z, degree + 1, increasing=True)
        return design @ np.linalg.lstsq(design, log_loss)[0], design.T

    def parabola(self, log_loss: Floats) -> Floats:
        """Ln N (P,) at the minimum of a quadratic of loss over ln N; nan at or beyond an end."""
        quadratic = Quadratic(self.x)
        return quadratic.minimum(quadratic.fit(np.exp(log_loss)), self.smallest, self.largest)

    def akima(self, log_loss: Floats) -> Floats:
        """Ln N (P,) where the Akima interpolation of ln loss is lowest; nan at an end."""
        from scipy.interpolate import Akima1DInterpolator

        average = np.eye(self.sizes)[self.size] / np.bincount(self.size)
        means = np.ascontiguousarray((log_loss @ average).T)
        cubic, square, slope, start = Akima1DInterpolator(self.knots, means).c
        step = np.diff(self.knots)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(square**2 - 3 * cubic * slope)
            # The root with positive curvature, written so that a vanishing cubic does no harm.
            at = np.where(square > 0, -slope / (square + root), (root - square) / (3 * cubic))
        inner = np.isfinite(at) & (at > 0) & (at < step)
        at = np.where(inner, at, 0.0)
        lowest = np.where(inner, start + at * (slope + at * (square + at * cubic)), np.inf)
        values = np.concatenate([lowest, means])
        places = np.concatenate([self.knots[:-1, None] + at, np.tile(self.knots[:, None], _p(at))])
        best = np.argmin(values, axis=0)
        place = np.take_along_axis(places, best[None], axis=0)[0]
        return np.where((place > self.smallest) & (place < self.largest), place, np.nan)


def budgets_of(
    log_params: Floats, log_flops: Floats, *, tolerance: float
) -> tuple[list[Budget], int]:
    """Budgets, smallest first, and how many rows lie between them.

    Repeatedly the fullest window of `tolerance` to either side; rows that are left within a factor
    of 1.25 of it belong to no budget. Linking neighbours instead would chain the scattered rows of
    real tables into one budget of decades.
    """
    left = np.argsort(log_flops, kind="stable")
    found, strays = [], 0
    while left.size:
        x = log_flops[left]
        count = np.searchsorted(x, x + 2 * np.log1p(tolerance), side="right") - np.arange(x.size)
        first = int(np.argmax(count))
        rows = left[first : first + count[first]]
        centre = float(np.mean(log_flops[rows]))
        near = np.abs(x - centre) < np.log(APART)
        strays += int(near.sum()) - rows.size
        left = left[~near]
        found.append(Budget(centre, np.sort(rows), log_params[np.sort(rows)]))
    return sorted(found, key=lambda budget: budget.log_flops), strays


def _chained(values: Floats, gap: float) -> NDArray[np.intp]:
    """Group numbers; neighbours within `gap` of each other are one group."""
    order = np.argsort(values, kind="stable")
    group = np.empty(values.size, np.intp)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > gap)])
    return numbered(group)


def _p(array: Floats) -> tuple[int, int]:
    return 1, array.shape[1]


def shared_form(table: Table, rows: NDArray[np.intp], tokens: Floats) -> Point | None:
    """L(N, D) through these rows, its outliers weighed down; None where it shows no trade-off."""
    columns = {"params": table.params[rows], "tokens": tokens[rows], "loss": table.loss[rows]}
    try:
        part = Table(columns, trunk=table.trunk[rows])
        problem = Problem.of(Chinchilla, part)
        require_identified(problem.law, part, len(problem.coordinates.free))
        point = best_point(problem, part, "huber-log", "auto")
    except FitError:
        return None
    return point if np.all(point.theta[1:3] > 0) else None


def correction(
    budgets: list[Budget], form: Point | None, log_params: Floats, log_cells: Floats
) -> Floats:
    """What each row's ln loss would gain had it spent its budget exactly, by the shared form.

    Two per cent more compute is worth 0.2% of loss or so: as much as seeds differ.

    Args:
        budgets: of the rows; a row in none of them gains nothing.
        form: of the table.
        log_params: ln N, (R,).
        log_cells: ln of C/k = N D, (R,).
    """
    if form is None:
        return np.zeros(log_params.size)
    exact = log_cells.copy()
    for budget in budgets:
        exact[budget.rows] = np.mean(log_cells[budget.rows])
    wanted, was = (
        form.form(np.exp(log_params), np.exp(cells - log_params)) for cells in (exact, log_cells)
    )
    return np.asarray(np.log(wanted / was))


Reading = Literal["akima", "parabola", "parametric"]
READINGS: tuple[Reading, ...] = get_args(Reading)
# Rows of one nominal budget scatter by a per cent or so (measured on published tables).
TOLERANCE = 0.05
# Relative difference in optimal tokens from which a parabola misleads (users.md, lesson 2).
BIASED = 0.05


@dataclass(frozen=True)
class Isoflop(TwoStepLaw):
    """N* = G C^a and D* = H C^b; C in FLOPs. G H = 1/k and a + b = 1 where C = k N D."""

    G: float
    a: float
    H: float
    b: float

    name: ClassVar[str] = "isoflop"
    formula: ClassVar[str] = "N* = G C^a, D* = H C^b"
    source: ClassVar[str] = (
        "Hoffmann et al. 2022 (arXiv 2203.15556) approach 2; Porian et al. 2024 (arXiv 2406.19146)"
    )
    reads: ClassVar[tuple[str, ...]] = ("params", "loss", "flops")
    inputs: ClassVar[tuple[str, ...]] = ("flops",)
    output: ClassVar[str] = "params"
    scales: ClassVar[tuple[str, ...]] = ("G", "H")
    allocates: ClassVar[bool] = True

    @staticmethod
    def equation(flops: Any, G: Any, a: Any, H: Any, b: Any) -> Any:
        """Compute-optimal params; H and b give the tokens."""
        return G * flops**a

    @classmethod
    def log_optimum(
        cls, coefficients: Floats, flops: ArrayLike, *, flop_factor: float = 6.0
    ) -> tuple[Floats, Floats]:
        """Ln N* and ln D*; `flop_factor` is in G and H already."""
        g, a, h, b = np.moveaxis(np.asarray(coefficients, np.float64), -1, 0)
        log_flops = np.log(flops)
        return np.asarray(np.log(g) + a * log_flops), np.asarray(np.log(h) + b * log_flops)

    @classmethod
    def split(cls, coefficients: Floats) -> tuple[Floats, Floats]:
        """The exponents themselves."""
        return coefficients[..., 1], coefficients[..., 3]

    def tokens(self, flops: ArrayLike) -> Floats:
        """Compute-optimal tokens at `flops`."""
        return self.H * np.asarray(flops, np.float64) ** self.b


def two_step_problem(
    table: Table, *, interpolate: Reading = "akima", tolerance: float = TOLERANCE
) -> TwoStepProblem:
    """The optima of every budget and the line through them.

    Args:
        table: columns params, loss and flops, the budget of each row (nominal or actual).
        interpolate: which of the three readings the line goes through.
        tolerance: rows within this relative distance of a budget belong to it.

    Raises:
        FitError: fewer than two usable budgets, or an option that is not one.
    """
    if interpolate not in READINGS:
        raise FitError(
            "unknown-value",
            f"interpolate = {interpolate!r}: choose {', '.join(READINGS)}"
            f"{did_you_mean(str(interpolate), READINGS)}",
            option="interpolate",
            value=interpolate,
            known=list(READINGS),
        )
    log_params, measured = logs(table, "params"), logs(table, "loss")
    log_flops = logs(table, "flops")
    budgets, strays = budgets_of(log_params, log_flops, tolerance=tolerance)
    usable = np.array([b.usable for b in budgets])
    shared = _rows([b for b in budgets if b.usable])
    log_k = float(np.log(table.flop_factor))
    log_tokens = log_flops - log_k - log_params
    form = shared_form(table, shared, np.exp(log_tokens))
    log_loss = measured + correction(budgets, form, log_params, log_flops - log_k)
    optima = _optima(budgets, form, log_loss, table.flop_factor)
    chosen = optima[interpolate]
    inside = np.array([b.smallest < n < b.largest for b, n in zip(budgets, chosen, strict=True)])
    used = [b for b, good in zip(budgets, usable & inside, strict=True) if good]
    _require(budgets, usable, usable & inside, interpolate)
    x = np.array([b.log_flops for b in used])
    if interpolate == "parametric" and form is not None:
        rows, tangent = shared, form.tangent
        expected = np.log(form.problem.predict(form.theta))
        log_loss = measured
    else:
        rows = _rows(used)
        references = [b.reference(log_loss[b.rows]) for b in used]
        expected = np.concatenate([reference for reference, _ in references])
        tangent = block_diagonal([design for _, design in references])

    def solve(observed: Floats) -> Floats:
        if interpolate == "parametric" and form is not None:
            raw = form.problem.raw(refit(form, np.exp(observed)).theta)
            params = form.problem.law.log_optimum(raw[:, None], np.exp(x - log_k), flop_factor=1)[0]
        else:
            ends = np.cumsum([b.rows.size for b in used])[:-1]
            parts = zip(used, np.split(observed, ends, axis=1), strict=True)
            params = np.stack([_read(b, y, interpolate) for b, y in parts], axis=1)
        offset, slope = line(x, params).T
        return np.stack([offset, slope, -log_k - offset, 1 - slope], axis=1)

    gaps = _gaps(optima, usable)
    details = {
        "interpolate": interpolate,
        "budgets": [
            _budget_details(b, {m: float(optima[m][i]) for m in READINGS}, table, bool(inside[i]))
            for i, b in enumerate(budgets)
        ],
        "parabola_gap_tokens": gaps,
        "form": None if form is None else form.form.coefficients,
        "strays": strays,
    }
    return TwoStepProblem(
        observed=log_loss[rows],
        expected=expected,
        tangent=tangent,
        trunk=numbered(table.trunk[rows]),
        solve=solve,
        law=Isoflop,
        points=(np.exp(x), np.exp(chosen[usable & inside])),
        details=plain(details),
        diagnostics=tuple(
            _diagnostics(budgets, usable, inside, strays, gaps=gaps, interpolate=interpolate)
        ),
        domain={"flops": span(np.exp(x)), "params": span(np.exp(chosen[usable & inside]))},
    )


def reading_document(law: Isoflop, raw: Floats, flops: float) -> dict[str, Any]:
    """The law of one reading about a budget: ln D* = ln `tokens` + b ln(C / `flops`).

    Args:
        law: through the optima of the reading.
        raw: coefficients of its resamples, (S, 4).
        flops: the budget, in FLOPs.
    """
    tokens = np.log(raw[:, 2]) + raw[:, 3] * np.log(flops)
    return {
        "flops": flops,
        "tokens": float(law.tokens(flops)),
        "b": law.b,
        "draws": [[round(t, 6), round(b, 6)] for t, b in zip(tokens, raw[:, 3], strict=True)],
    }


def readings_disagree(readings: Mapping[str, Any], flops: float, level: float) -> Diagnostic | None:
    """The warning where the laws of two readings put the optimal tokens apart at `flops`.

    Each then lies outside the interval of the other, and they are a factor of 1.05 or more apart.
    """
    told = {name: _tokens_at(each, flops, level) for name, each in readings.items()}
    apart = [
        (abs(float(np.log(told[one][0] / told[other][0]))), one, other)
        for one, other in itertools.combinations(told, 2)
        if not (_inside(told[one], told[other]) or _inside(told[other], told[one]))
    ]
    if not apart or max(apart)[0] < np.log1p(BIASED):
        return None
    gap, one, other = max(apart)
    parabola = "parabola" in (one, other)
    shown = ", ".join(
        f"{name} {value:.3g} ({low:.3g} to {high:.3g})" for name, (value, low, high) in told.items()
    )
    return Diagnostic(
        "readings-disagree",
        f"at {flops:.3g} FLOPs the laws of the readings put the optimal tokens apart by a factor "
        f"of {np.exp(gap):.3g} ({one} and {other}), beyond their {level:.0%} intervals: {shown}; "
        + ("a parabola is biased where sizes reach further to one side; " if parabola else "")
        + "--interpolate chooses",
        flops=flops,
        apart=[one, other],
        factor=float(np.exp(gap)),
        tokens={name: list(each) for name, each in told.items()},
        level=level,
    )


def _tokens_at(reading: Mapping[str, Any], flops: float, level: float) -> tuple[float, ...]:
    """Optimal tokens by one reading, and the ends of their interval."""
    beyond = float(np.log(flops / reading["flops"]))
    at, slope = np.array(reading["draws"]).T
    ends = quantiles(at + slope * beyond, level)
    log_tokens = (np.log(reading["tokens"]) + reading["b"] * beyond, *ends)
    with np.errstate(over="ignore"):
        return tuple(np.exp(log_tokens).tolist())


def _inside(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return other[1] <= one[0] <= other[2]


def _rows(budgets: list[Budget]) -> NDArray[np.intp]:
    return np.concatenate([b.rows for b in budgets] or [np.empty(0, np.intp)])


def _read(budget: Budget, log_loss: Floats, reading: Reading) -> Floats:
    return budget.akima(log_loss) if reading == "akima" else budget.parabola(log_loss)


def _optima(
    budgets: list[Budget], form: Point | None, log_loss: Floats, flop_factor: float
) -> dict[str, Floats]:
    """Ln N* of every budget by every reading, nan where there is none."""
    missing = np.full(len(budgets), np.nan)
    out = {"akima": missing, "parabola": missing.copy(), "parametric": missing.copy()}
    for i, budget in enumerate(budgets):
        if budget.usable:
            out["akima"][i] = budget.akima(log_loss[budget.rows][None])[0]
            out["parabola"][i] = budget.parabola(log_loss[budget.rows][None])[0]
    if form is not None:
        flops = np.exp([b.log_flops for b in budgets])
        law = form.form
        out["parametric"] = law.log_optimum(law.vector, flops, flop_factor=flop_factor)[0]
    return out


def _gaps(optima: dict[str, Floats], usable: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Parabola / other - 1 in optimal tokens: mean over budgets, and its standard error.

    D* goes as 1/N*. An Akima optimum follows the noise, so one gap says little; their scatter over
    the budgets tells bias from noise.
    """
    out = {}
    for other in ("akima", "parametric"):
        gap = (optima[other] - optima["parabola"])[usable]
        gap = gap[np.isfinite(gap)]
        if gap.size >= 2:
            error = float(np.std(gap, ddof=1) / np.sqrt(gap.size))
            mean = float(np.expm1(np.mean(gap)))
            out[other] = {"mean": mean, "standard_error": error, "budgets": gap.size}
    return out


def _require(
    budgets: list[Budget],
    usable: NDArray[np.bool_],
    used: NDArray[np.bool_],
    interpolate: Reading,
) -> None:
    if used.sum() >= 2:
        return
    found = ", ".join(f"{np.exp(b.log_flops):.2e} ({b.sizes} sizes)" for b in budgets[:8])
    if usable.sum() < 2:
        raise FitError(
            "too-few-budgets",
            f"isoflop: {usable.sum()} budgets with 4 sizes or more, need 2. Budgets found: "
            f"{found}. Add sizes per budget, or give `flops` as the nominal budget of each run",
            budgets=int(usable.sum()),
            needed=2,
        )
    raise FitError(
        "too-few-optima",
        f"isoflop: only {used.sum()} of {usable.sum()} budgets have their {interpolate} optimum "
        f"between their smallest and largest size, need 2. Budgets found: {found}. Add sizes "
        "beyond the lowest loss of each budget",
        optima=int(used.sum()),
        budgets=int(usable.sum()),
        needed=2,
    )


def _budget_details(
    budget: Budget, optimum: dict[str, float], table: Table, inside: bool
) -> dict[str, Any]:
    flops = float(np.exp(budget.log_flops))
    params = {method: float(np.exp(value)) for method, value in optimum.items()}
    tokens = {method: flops / table.flop_factor / n for method, n in params.items()}
    return {
        "flops": flops,
        "sizes": budget.sizes,
        "used": bool(budget.usable and inside),
        "why_not": "few-points" if not budget.usable else None if inside else "edge-minimum",
        "params": params,
        "tokens": tokens,
        "parabola_gap_tokens": {m: tokens["parabola"] / tokens[m] - 1 for m in READINGS[::2]},
        "points": {
            "params": table.params[budget.rows],
            "loss": table.loss[budget.rows],
            "flops": table["flops"][budget.rows],
        },
    }


def _diagnostics(
    budgets: list[Budget],
    usable: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    strays: int,
    *,
    gaps: dict[str, dict[str, float]],
    interpolate: Reading,
) -> Iterator[Diagnostic]:
    biased = [
        f"{gap['mean']:+.0%} from {other}"
        for other, gap in gaps.items()
        if abs(gap["mean"]) > max(BIASED, 2 * gap["standard_error"])
    ]
    if biased:
        yield Diagnostic(
            "biased-parabola",
            f"a parabola puts the optimal tokens {' and '.join(biased)} (mean over budgets); "
            f"this law goes through the {interpolate} optima",
            gaps={other: gap["mean"] for other, gap in gaps.items()},
            interpolate=interpolate,
        )
    if edge := int(np.sum(usable & ~inside)):
        yield Diagnostic(
            "edge-minimum",
            f"{edge} of {usable.sum()} budgets have no {interpolate} optimum between their "
            "smallest and largest size and are left out: add sizes there",
            edge=edge,
            budgets=int(usable.sum()),
        )
    few = sum(b.rows.size for b in budgets if not b.usable)
    if few + strays:
        yield Diagnostic(
            "few-points",
            f"{few + strays} rows decide no optimum: {few} in {int(np.sum(~usable))} budgets of "
            f"fewer than 4 sizes, {strays} between budgets",
            rows=int(few + strays),
            few=int(few),
            between=int(strays),
        )
    if np.sum(usable & inside) == 2:
        yield Diagnostic(
            "few-budgets",
            "the line goes through 2 budgets only, so nothing shows whether it is straight: add a "
            "third budget",
            budgets=2,
        )
