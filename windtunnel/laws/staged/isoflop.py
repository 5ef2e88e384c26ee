"""Optimal size and tokens against compute, from runs that share budgets: N* = G C^a, D* = H C^b.

Per budget the optimum over N is read off the runs, then a power law goes through the optima. Three
readings are always made, because the usual one, a parabola, is biased where the sizes reach
further to one side of the optimum, noise or not:

- `parabola`: a quadratic of loss over ln N (Hoffmann et al. 2022, approach 2);
- `akima`: the lowest point of an Akima interpolation of ln loss over ln N, runs of one size
  averaged (Porian et al. 2024, arXiv 2406.19146);
- `parametric`: the optimum of one E + A N^-alpha + B D^-beta through the rows of all usable
  budgets. A separate form per budget would have as many coefficients as many budgets have sizes.

An Akima interpolation has no bias but follows the noise: with 0.2% of it on nine sizes from 0.1 to
10 times the optimum its exponent is ten times as uncertain as the parabola's (measured).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.caution import Caution
from windtunnel.laws.plain import plain
from windtunnel.laws.solver.point import Point
from windtunnel.laws.staged.isoflop_budget import Budget, budgets_of
from windtunnel.laws.staged.isoflop_form import correction, shared_form
from windtunnel.laws.staged.stages import (
    StagedLaw,
    Stages,
    block_diagonal,
    line,
    logs,
    numbered,
    span,
)
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.uncertainty import refit

Reading = Literal["akima", "parabola", "parametric"]
READINGS: tuple[Reading, ...] = get_args(Reading)
# Rows of one nominal budget scatter by a per cent or so (measured on published tables).
TOLERANCE = 0.05
# Relative difference in optimal tokens from which a parabola misleads (users.md, lesson 2).
BIASED = 0.05


@dataclass(frozen=True)
class Isoflop(StagedLaw):
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


def stages(table: Table, *, interpolate: Reading = "akima", tolerance: float = TOLERANCE) -> Stages:
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
            f"interpolate = {interpolate!r}: choose {', '.join(READINGS)}"
            f"{did_you_mean(str(interpolate), READINGS)}"
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
    return Stages(
        observed=log_loss[rows],
        expected=expected,
        tangent=tangent,
        trunk=numbered(table.trunk[rows]),
        solve=solve,
        law=Isoflop,
        points=(np.exp(x), np.exp(chosen[usable & inside])),
        details=plain(details),
        cautions=tuple(
            _cautions(budgets, usable, inside, strays, gaps=gaps, interpolate=interpolate)
        ),
        domain={"flops": span(np.exp(x)), "params": span(np.exp(chosen[usable & inside]))},
    )


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
            f"isoflop: {usable.sum()} budgets with 4 sizes or more, need 2. Budgets found: "
            f"{found}. Add sizes per budget, or give `flops` as the nominal budget of each run"
        )
    raise FitError(
        f"isoflop: only {used.sum()} of {usable.sum()} budgets have their {interpolate} optimum "
        f"between their smallest and largest size, need 2. Budgets found: {found}. Add sizes "
        "beyond the lowest loss of each budget"
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


def _cautions(
    budgets: list[Budget],
    usable: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    strays: int,
    *,
    gaps: dict[str, dict[str, float]],
    interpolate: Reading,
) -> Iterator[Caution]:
    biased = [
        f"{gap['mean']:+.0%} from {other}"
        for other, gap in gaps.items()
        if abs(gap["mean"]) > max(BIASED, 2 * gap["standard_error"])
    ]
    if biased:
        yield Caution(
            "biased-parabola",
            f"a parabola puts the optimal tokens {' and '.join(biased)} (mean over budgets); "
            f"this law goes through the {interpolate} optima",
        )
    if edge := int(np.sum(usable & ~inside)):
        yield Caution(
            "edge-minimum",
            f"{edge} of {usable.sum()} budgets have no {interpolate} optimum between their "
            "smallest and largest size and are left out: add sizes there",
        )
    few = sum(b.rows.size for b in budgets if not b.usable)
    if few + strays:
        yield Caution(
            "few-points",
            f"{few + strays} rows decide no optimum: {few} in {int(np.sum(~usable))} budgets of "
            f"fewer than 4 sizes, {strays} between budgets",
        )
    if np.sum(usable & inside) == 2:
        yield Caution(
            "few-budgets",
            "the line goes through 2 budgets only, so nothing shows whether it is straight: add a "
            "third budget",
        )
