"""The best learning rate of every size, its drift with size, and the cost of one shared rate.

Per size, a parabola of ln loss over ln lr gives the optimum; lr* = k N^b is fitted to the optima.
The loss is flat around an optimum, so the drift alone says little: the loss that a shared rate
gives up at each size is reported beside it (users.md, lesson 5). MiniCPM (arXiv 2404.06395) section
3.3 is such a study.

Only the neighbourhood of the lowest cell is close to a parabola. The fit uses the lowest cell, one
neighbour on each side unless it has blown up, and a second one while it is near the minimum.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws.interval import quantiles
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

MIN_RATES = 3
# Both measured on MiniCPM's figure 3 (methodology 1.4), in ln loss above the lowest cell: rates 3x
# off reach 0.06 and 10x off 0.28, and what has blown up starts at 0.65 (0.08 at its onset).
NEAR = 0.07
BLOWN_UP = 0.4
# Rates tried as the shared one, evenly in ln lr: steps of 1% over two decades.
SHARED_RATES = 461


@dataclass(frozen=True)
class LrCurve(TwoStepLaw):
    """lr* = k N^b: the best learning rate of a model of N parameters."""

    k: float
    b: float

    name: ClassVar[str] = "lr-valley"
    formula: ClassVar[str] = "lr* = k N^b"
    source: ClassVar[str] = "MiniCPM (arXiv 2404.06395) section 3.3, figure 3"
    reads: ClassVar[tuple[str, ...]] = ("params", "lr", "loss")
    inputs: ClassVar[tuple[str, ...]] = ("params",)
    output: ClassVar[str] = "lr"
    scales: ClassVar[tuple[str, ...]] = ("k",)

    @staticmethod
    def equation(params: Any, k: Any, b: Any) -> Any:
        """The best learning rate."""
        return k * params**b

    @property
    def per_doubling(self) -> float:
        """The factor of lr* when N doubles; 1 is perfect transfer."""
        return float(2**self.b)


@dataclass(frozen=True, eq=False)
class _SizeCurve:
    """One size: its cells (rates, C), the rows near the minimum (m,), and the parabola there.

    `optimum` is ln lr*, nan where there is none inside the rates tried; `why` says so.
    """

    params: float
    log_rates: Floats
    means: Floats
    rows: NDArray[np.intp]
    window: NDArray[np.bool_]
    quadratic: Quadratic | None
    fitted: Floats
    optimum: float
    why: str | None

    def read(self, log_loss: Floats) -> Floats:
        """Ln lr* (P,) for ln losses (P, m) of the rows near the minimum; within `around`."""
        assert self.quadratic is not None
        return self.quadratic.lowest(self.quadratic.fit(log_loss), *self.around, self.optimum)

    @property
    def around(self) -> tuple[float, float]:
        """Ln rates between which the minimum may lie; the parabola says nothing of others."""
        return _around(self.log_rates, self.means, self.window)

    def excess(self, log_rate: ArrayLike) -> Floats:
        """Ln loss above the minimum: the parabola near it, straight lines between cells beyond."""
        assert self.quadratic is not None
        x = np.asarray(log_rate, np.float64)
        low, high = span(self.log_rates[self.window])
        ends = self.quadratic.values(self.fitted, np.array([low, high]))
        knots = np.where(self.window, np.interp(self.log_rates, [low, high], ends), self.means)
        beyond = np.interp(x, self.log_rates, knots)
        inside = (x >= low) & (x <= high)
        loss = np.where(inside, self.quadratic.values(self.fitted, x), beyond)
        return np.asarray(loss - self.quadratic.values(self.fitted, self.optimum))


def two_step_problem(table: Table) -> TwoStepProblem:
    """The curves of all sizes and the line through their optima.

    Args:
        table: columns params, lr and loss; several rows of one size and rate are seeds.

    Raises:
        FitError: fewer than two sizes whose optimum lies inside the rates tried.
    """
    log_rate, log_loss = logs(table, "lr"), logs(table, "loss")
    curves = [
        _curve_of(float(n), np.flatnonzero(table.params == n), log_rate, log_loss)
        for n in np.unique(table.params)
    ]
    used = [curve for curve in curves if curve.why is None]
    if len(used) < 2:
        found = "; ".join(
            f"{v.params:.3g}: {v.log_rates.size} rates, {v.why or 'usable'}" for v in curves
        )
        raise FitError(
            "too-few-optima",
            f"lr-valley: {len(used)} sizes have their optimum inside the rates tried, need 2 "
            f"({found}). Add rates beyond the lowest loss, at least {MIN_RATES} per size",
            optima=len(used),
            sizes=len(curves),
            few_points=sum(v.why == "few-points" for v in curves),
            edge=sum(v.why == "edge-minimum" for v in curves),
            flat=sum(v.why == "flat-valley" for v in curves),
            needed=2,
        )
    x = np.log([curve.params for curve in used])
    rows = np.concatenate([curve.rows for curve in used])
    designs = [v.quadratic.design for v in used if v.quadratic is not None]
    ends = np.cumsum([curve.rows.size for curve in used])[:-1]

    def solve(observed: Floats) -> Floats:
        parts = zip(used, np.split(observed, ends, axis=1), strict=True)
        return line(x, np.stack([curve.read(y) for curve, y in parts], axis=1))

    def judge(drawn: Floats, level: float) -> tuple[Diagnostic, ...]:
        parts = zip(used, np.split(drawn, ends, axis=1), strict=True)
        return tuple(_undetermined([(curve, curve.read(y)) for curve, y in parts], level))

    optima = np.array([curve.optimum for curve in used])
    slope = float(line(x, optima[None])[0, 1])
    details = {
        "per_doubling": 2**slope,
        "sizes": [_size_details(curve) for curve in curves],
        "shared": _shared(used),
    }
    return TwoStepProblem(
        observed=log_loss[rows],
        expected=np.concatenate([v.fitted @ d for v, d in zip(used, designs, strict=True)]),
        tangent=block_diagonal(designs),
        trunk=numbered(table.trunk[rows]),
        solve=solve,
        law=LrCurve,
        points=(np.exp(x), np.exp(optima)),
        details=plain(details),
        diagnostics=(*_diagnostics(curves), *_mixed(table)),
        domain={"params": span(np.exp(x)), "lr": span(np.exp(optima))},
        judge=judge,
    )


def _curve_of(
    params: float, rows: NDArray[np.intp], log_rate: Floats, log_loss: Floats
) -> _SizeCurve:
    rates, cell = np.unique(log_rate[rows], return_inverse=True)
    means = np.bincount(cell, log_loss[rows]) / np.bincount(cell)
    window = _near_minimum(means)
    near = rows[window[cell]]
    quadratic, fitted, optimum, why = None, np.full(3, np.nan), np.nan, None
    if rates.size < MIN_RATES or window.sum() < MIN_RATES:
        why = "few-points"
    else:
        quadratic = Quadratic(log_rate[near])
        fitted = quadratic.fit(log_loss[near][None])[0]
        optimum = float(quadratic.minimum(fitted, *_around(rates, means, window)))
        if int(np.argmin(means)) in (0, rates.size - 1):
            why, optimum = "edge-minimum", np.nan
        elif not np.isfinite(optimum):
            why = "flat-valley"
    return _SizeCurve(params, rates, means, near, window, quadratic, fitted, optimum, why)


def _near_minimum(means: Floats) -> NDArray[np.bool_]:
    """Cells (C,) for the parabola: 3 to 5 around the lowest, none blown up; fewer if there are not.

    Where a neighbour has blown up, the next ones on the other side stand in for it.
    """
    lowest = int(np.argmin(means))
    excess = means - means[lowest]
    distance = np.abs(np.arange(means.size) - lowest)
    window = (distance <= 1) & (excess <= BLOWN_UP) | (distance == 2) & (excess <= NEAR)
    for cell in np.argsort(distance, kind="stable"):
        if window.sum() < MIN_RATES and excess[cell] <= BLOWN_UP:
            window[cell] = True
    return np.asarray(window)


def _around(rates: Floats, means: Floats, window: NDArray[np.bool_]) -> tuple[float, float]:
    """The window, with a cell beside it that is as near the minimum or has blown up."""
    excess = means - means.min()
    wide = (excess <= NEAR) | (excess > BLOWN_UP)
    first, last = np.flatnonzero(window)[[0, -1]]
    first -= bool(first > 0 and wide[first - 1])
    last += bool(last + 1 < rates.size and wide[last + 1])
    return float(rates[first]), float(rates[last])


def _shared(used: list[_SizeCurve]) -> Mapping[str, Any]:
    """The excess loss of every size at the best shared rate, and at the smallest size's optimum."""
    low = max(float(curve.log_rates[0]) for curve in used)
    high = min(float(curve.log_rates[-1]) for curve in used)
    out: dict[str, Any] = {"best": None, "smallest": None}
    if low < high:
        rates = np.linspace(low, high, SHARED_RATES)
        mean = np.mean([curve.excess(rates) for curve in used], axis=0)
        out["best"] = _given_up(used, float(rates[np.argmin(mean)]))
    smallest = used[0].optimum
    if low <= smallest <= high:
        out["smallest"] = _given_up(used, smallest)
    return out


def _given_up(used: list[_SizeCurve], log_rate: float) -> dict[str, Any]:
    """Loss above each size's own optimum at one rate, in the unit of the loss and in per cent."""
    relative = np.array([float(np.expm1(curve.excess(log_rate))) for curve in used])
    lowest = np.array([float(np.exp(_lowest(curve))) for curve in used])
    return {
        "lr": float(np.exp(log_rate)),
        "params": [curve.params for curve in used],
        "excess_loss": relative * lowest,
        "excess_percent": 100 * relative,
        "mean_percent": 100 * float(np.mean(relative)),
        "worst_percent": 100 * float(np.max(relative)),
    }


def _lowest(curve: _SizeCurve) -> float:
    assert curve.quadratic is not None
    return float(curve.quadratic.values(curve.fitted, curve.optimum))


def _size_details(curve: _SizeCurve) -> dict[str, Any]:
    lowest = int(np.argmin(curve.means))
    bound = None
    if curve.why == "edge-minimum":
        bound = "at most" if lowest == 0 else "at least"
    return {
        "params": curve.params,
        "lr": np.exp(curve.log_rates),
        "loss": np.exp(curve.means),
        "near_minimum": curve.window,
        "used": curve.why is None,
        "why_not": curve.why,
        "optimum": None if curve.why else np.exp(curve.optimum),
        "lowest_loss": None if curve.why else np.exp(_lowest(curve)),
        "bound": bound,
        "lowest_cell": np.exp(curve.log_rates[lowest]),
        # Half the second derivative of ln loss by ln lr: excess = curvature * ln(lr / lr*)^2.
        "curvature": None
        if curve.quadratic is None
        else float(curve.quadratic.curvature(curve.fitted)),
    }


def _mixed(table: Table) -> Iterator[Diagnostic]:
    """Warnings about sizes whose runs have several token counts."""
    if "tokens" not in table:
        return
    sizes = [n for n in np.unique(table.params) if np.ptp(table.tokens[table.params == n])]
    if sizes:
        yield Diagnostic(
            "mixed-horizons",
            f"{len(sizes)} sizes hold runs of several token counts, and more data changes both the "
            "loss and the best rate: compare at equal tokens, --where 'tokens == ...'",
            params=[float(n) for n in sizes],
        )


def _diagnostics(curves: list[_SizeCurve]) -> Iterator[Diagnostic]:
    edge = [v for v in curves if v.why == "edge-minimum"]
    few = [v for v in curves if v.why == "few-points"]
    flat = [v for v in curves if v.why == "flat-valley"]
    if edge:
        ends = _places(edge)
        yield Diagnostic(
            "edge-minimum",
            f"{len(edge)} of {len(curves)} sizes give only a bound on their best rate and are "
            f"left out of the drift: {ends}. Add rates beyond",
            params=[v.params for v in edge],
            sizes=len(curves),
        )
    if few:
        sizes = ", ".join(f"{v.params:.3g} ({v.log_rates.size} rates)" for v in few)
        yield Diagnostic(
            "few-points",
            f"{len(few)} of {len(curves)} sizes have fewer than {MIN_RATES} rates that did not "
            f"blow up and are left out: {sizes}",
            params=[v.params for v in few],
            sizes=len(curves),
            needed=MIN_RATES,
        )
    if flat:
        lowest = _places(flat)
        yield Diagnostic(
            "flat-valley",
            f"{len(flat)} of {len(curves)} sizes have no best rate, since their loss hardly "
            f"changes near the lowest, and are left out of the drift: {lowest}. Add seeds",
            params=[v.params for v in flat],
            sizes=len(curves),
        )


def _undetermined(drawn: list[tuple[_SizeCurve, Floats]], level: float) -> Iterator[Diagnostic]:
    """The warning of optima (P,) whose interval reaches an end of where they may lie."""
    flat = [
        curve
        for curve, optima in drawn
        if not set(quantiles(optima, level)).isdisjoint(curve.around)
    ]
    if flat:
        lowest = _places(flat)
        yield Diagnostic(
            "flat-valley",
            f"{len(flat)} of {len(drawn)} sizes have a loss too flat to tell their best rate, "
            f"whose interval ends only where the flat part does: {lowest}. Add seeds",
            params=[v.params for v in flat],
            sizes=len(drawn),
        )


def _places(curves: list[_SizeCurve]) -> str:
    return ", ".join(
        f"{v.params:.3g} (lowest at {np.exp(v.log_rates[np.argmin(v.means)]):.3g} of "
        f"{np.exp(v.log_rates[0]):.3g} to {np.exp(v.log_rates[-1]):.3g})"
        for v in curves
    )
