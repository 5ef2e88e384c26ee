"""The lower envelope of many loss curves: the lowest loss that each amount of compute has reached.

MiniCPM (arXiv 2404.06395) section 4.3, figure 16: two forms are fitted to the envelope, c + a C^b
and c + a exp(-b C), and compared; there the power law was better.

The envelope is taken on a grid of ln C; every run is interpolated inside its own range only. Some
run is lowest at any compute, even without competitors. A node therefore counts only if

- at least two runs cover it,
- it lies between the first and the last crossing, where one size overtakes another while both are
  running (before the first, a smaller size would have been lower, after the last, a larger one, but
  nobody trained it; the start or end of a curve is no crossing),
- no cheaper node is as low: where a curve ends, the next best takes over at a higher loss.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws.bootstrap import refit
from windtunnel.laws.forms import POSITIVE, Law
from windtunnel.laws.point_estimate import Point, best_point
from windtunnel.laws.powers import ExpOffset, PowerOffset
from windtunnel.laws.problem import Problem
from windtunnel.laws.schema import plain
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.two_step.base import (
    TwoStepLaw,
    TwoStepProblem,
    logs,
    numbered,
    span,
    sustained_rises,
)

# Nodes of the grid per decade of compute, and their least and largest number (assumed).
PER_DECADE = 25
NODES = (60, 300)
# Runs of fewer rows have ends and no curve (assumed).
CURVE_ROWS = 4
# Three coefficients, and as many nodes again to see whether they fit.
MIN_NODES = 6
# AIC differences below this do not tell two forms apart (Burnham and Anderson 2002).
CLEAR_AIC = 2.0


@dataclass(frozen=True)
class Envelope(TwoStepLaw):
    """The lowest loss that C FLOPs reach: an offset c plus a term that falls with compute."""

    c: float
    a: float
    b: float

    name: ClassVar[str] = "envelope"
    source: ClassVar[str] = "MiniCPM (arXiv 2404.06395) section 4.3, figure 16"
    reads: ClassVar[tuple[str, ...]] = ("flops", "loss")
    inputs: ClassVar[tuple[str, ...]] = ("flops",)
    output: ClassVar[str] = "loss"

    @classmethod
    def bounds(cls) -> Mapping[str, tuple[float, float]]:
        """As of the regression behind it."""
        (law,) = (law for law, form in FORMS.values() if form is cls)
        return law.bounds


@dataclass(frozen=True)
class PowerEnvelope(Envelope):
    """L = c + a C^b with b < 0."""

    formula: ClassVar[str] = "L = c + a C^b"
    scales: ClassVar[tuple[str, ...]] = ("a",)

    @staticmethod
    def equation(flops: Any, c: Any, a: Any, b: Any) -> Any:
        """The formula."""
        return c + a * flops**b


@dataclass(frozen=True)
class ExpEnvelope(Envelope):
    """L = c + a exp(-b C) with b > 0."""

    formula: ClassVar[str] = "L = c + a exp(-b C)"
    scales: ClassVar[tuple[str, ...]] = ("a", "b")

    @staticmethod
    def equation(flops: Any, c: Any, a: Any, b: Any) -> Any:
        """The formula."""
        return c + a * np.exp(-b * flops)


@dataclass(frozen=True)
class _Power(PowerOffset):
    """The power law of an envelope: falling towards a non-negative offset."""

    bounds: ClassVar = {"c": POSITIVE, "a": POSITIVE, "b": (-4.0, -0.005)}
    grids: ClassVar = {"b": -np.geomspace(0.0131, 2.37, 12)}


@dataclass(frozen=True)
class _Exp(ExpOffset):
    """The same for the exponential."""

    bounds: ClassVar = {"c": POSITIVE, "a": POSITIVE, "b": POSITIVE}


FormName = Literal["power-offset", "exp-offset"]
FORMS: dict[FormName, tuple[type[Law], type[Envelope]]] = {
    "power-offset": (_Power, PowerEnvelope),
    "exp-offset": (_Exp, ExpEnvelope),
}


def two_step_problem(table: Table) -> TwoStepProblem:
    """The envelope of a table of curves and the better of the two forms through it.

    Noise is shared along the stretch of envelope that one run holds. Which run holds which stretch
    is kept when other noise is drawn.

    Args:
        table: columns flops and loss, label `run`, many rows per run. Where `params` tells sizes
            apart, runs of one size are one competitor, so that seeds do not cross each other.

    Raises:
        FitError: no label `run`, or too few curves or crossings for an envelope.
    """
    if "run" not in table.labels:
        raise FitError(
            "missing-column",
            "envelope: the table has no text column 'run': say which curve a row is of (--run COL)",
            column="run",
        )
    run = numbered(table.labels["run"])
    log_flops, log_loss = logs(table, "flops"), logs(table, "loss")
    grid, curves = _curves(run, log_flops, log_loss)
    size = numbered(table.params) if "params" in table and np.ptp(table.params) else run
    size_of_run = np.zeros(run.max() + 1, np.intp)
    size_of_run[run] = size
    keep, winner, dropped = _envelope(curves, size_of_run)
    x, observed, holder = grid[keep], curves[winner, np.arange(grid.size)][keep], winner[keep]
    _require(keep, dropped, len(curves))
    points = {name: _fitted(law, x, observed) for name, (law, _) in FORMS.items()}
    forms = {
        name: _judged(FORMS[name][0], point, x, observed, numbered(holder))
        for name, point in points.items()
    }
    form = min(FORMS, key=lambda name: np.nan_to_num(forms[name]["rms"], nan=np.inf))
    point, law = points[form], FORMS[form][1]
    if point is None:
        raise FitError(
            "no-law",
            "envelope: neither form fits, the lowest loss does not fall towards an offset with "
            "compute. Check that `flops` counts from the start of each run",
            law="envelope",
        )

    def solve(other: Floats) -> Floats:
        raw = point.problem.raw(refit(point, np.exp(other)).theta)
        falls = raw[:, 1] > 0
        out = np.array(raw)
        places = [law.index(name) for name in law.scales]
        out[:, places] = np.log(np.where(falls[:, None], raw[:, places], np.nan))
        return np.where(falls[:, None], out, np.nan)

    trunk = np.empty(run.max() + 1, table.trunk.dtype)
    trunk[run] = table.trunk
    names = np.unique(table.labels["run"])
    rises = sustained_rises(run, log_flops, log_loss)
    details = {
        "form": form,
        "forms": forms,
        "envelope": {"flops": np.exp(x), "loss": np.exp(observed), "run": names[holder]},
        "runs": len(curves),
        "nodes": int(keep.sum()),
        "dropped_nodes": dropped,
    }
    return TwoStepProblem(
        observed=observed,
        expected=observed - point.residual,
        tangent=point.tangent,
        trunk=numbered(trunk[holder] if table.has_trunks else holder),
        solve=solve,
        law=law,
        points=(np.exp(x), np.exp(observed)),
        details=plain(details),
        diagnostics=(*_decayed(table, run), *_diagnostics(rises, names, forms, form)),
        domain={"flops": span(np.exp(x)), "loss": span(np.exp(observed))},
    )


def _curves(run: NDArray[np.intp], log_flops: Floats, log_loss: Floats) -> tuple[Floats, Floats]:
    """A grid of ln C (G,), and ln loss of every run on it (runs, G), infinite outside a run."""
    order = np.lexsort((log_flops, run))
    starts = np.searchsorted(run[order], np.arange(run.max() + 2))
    parts = [order[i:j] for i, j in itertools.pairwise(starts)]
    first = np.sort([log_flops[part[0]] for part in parts])
    last = np.sort([log_flops[part[-1]] for part in parts])
    if len(parts) < 3 or not last[-2] > first[1]:
        raise FitError(
            "too-few-curves",
            f"envelope: {len(parts)} runs that share no stretch of compute, need at least 3 that "
            "do. Give every logged row of every curve, and add runs of other sizes",
            curves=len(parts),
            needed=3,
        )
    nodes = int(np.clip((last[-2] - first[1]) / np.log(10) * PER_DECADE, *NODES))
    grid = np.linspace(first[1], last[-2], nodes)
    curves = np.full((len(parts), nodes), np.inf)
    for row, part in zip(curves, parts, strict=True):
        inside = slice(*np.searchsorted(grid, log_flops[part[[0, -1]]], side="left"))
        row[inside] = np.interp(grid[inside], log_flops[part], log_loss[part])
    return grid, curves


def _envelope(
    curves: Floats, size: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.intp], dict[str, int]]:
    """Which nodes count (G,), the lowest run at each (G,), and how many each rule left out."""
    covers = np.isfinite(curves)
    winner = np.argmin(curves, axis=0)
    contested = covers.sum(axis=0) >= 2
    before, after = winner[:-1], winner[1:]
    node = np.arange(before.size)
    crossing = (size[before] != size[after]) & covers[before, node + 1] & covers[after, node]
    at = np.flatnonzero(crossing)
    between = np.zeros_like(contested)
    if at.size:
        between[at[0] + 1 : at[-1] + 1] = True
    lowest = curves[winner, np.arange(winner.size)]
    cheaper = np.minimum.accumulate(np.concatenate([[np.inf], lowest[:-1]]))
    falls = lowest < cheaper
    dropped = {
        "uncontested": int(np.sum(~contested)),
        "outside the crossings": int(np.sum(contested & ~between)),
        "beaten by a cheaper node": int(np.sum(contested & between & ~falls)),
        "crossings": int(at.size),
    }
    return contested & between & falls, winner, dropped


def _require(keep: NDArray[np.bool_], dropped: Mapping[str, int], runs: int) -> None:
    if keep.sum() < MIN_NODES:
        raise FitError(
            "too-few-points",
            f"envelope: {keep.sum()} nodes between {dropped['crossings']} crossings of {runs} "
            f"runs, need {MIN_NODES}. The envelope is known only between the first and the last "
            "crossing: add runs of smaller and larger sizes over the same compute",
            points=int(keep.sum()),
            crossings=dropped["crossings"],
            runs=runs,
            needed=MIN_NODES,
        )


def _fitted(law: type[Law], x: Floats, observed: Floats) -> Point | None:
    """One form through the envelope; None where nothing of it falls."""
    table = Table(x=np.exp(x), y=np.exp(observed))
    problem = Problem.of(law, table)
    point = best_point(problem, table, "mse-log", None)
    return point if point.theta[1] > 0 and point.inside[2] else None


def _judged(
    law: type[Law], point: Point | None, x: Floats, observed: Floats, holder: NDArray[np.intp]
) -> dict[str, float]:
    """Coefficients, misfit of ln loss, AIC, and the error on the last third from the rest.

    AIC counts the runs that hold the envelope, not the nodes: those of one run err together.
    """
    if point is None:
        return dict.fromkeys((*law.names(), "rms", "aic", "last_third_rms"), np.nan)
    square = float(np.mean(point.residual**2))
    runs = int(holder.max()) + 1
    early, held = x < x[0] + 2 / 3 * np.ptp(x), np.nan
    if early.sum() >= MIN_NODES and not early.all():
        rest = _fitted(law, x[early], observed[early])
        if rest is not None:
            misfit = np.log(rest.form(np.exp(x[~early]))) - observed[~early]
            held = float(np.sqrt(np.mean(misfit**2)))
    return {
        **point.form.coefficients,
        "rms": float(np.sqrt(square)),
        "aic": runs * float(np.log(max(square, 1e-30))) + 2 * 4,
        "last_third_rms": held,
    }


def _decayed(table: Table, run: NDArray[np.intp]) -> Iterator[Diagnostic]:
    """The warning about curves that are no curves of training at a constant rate."""
    decayed = 0 if table.decayed is None else int(table.decayed.sum())
    longest = int(np.bincount(run).max())
    if longest < CURVE_ROWS:
        yield Diagnostic(
            "decayed-curves",
            f"no run has more than {longest} rows: these are ends of runs, and between them the "
            "envelope follows straight lines that no run has trained. Give every logged row of "
            "every curve, or fit --law auto to the ends",
            decayed=decayed,
            rows=table.rows,
            rows_per_run=longest,
        )
    elif decayed:
        which = "every row is" if decayed == table.rows else f"{decayed} of {table.rows} rows are"
        yield Diagnostic(
            "decayed-curves",
            f"{which} decayed: a decay is worth about .09 nats, so the envelope is of decayed ends "
            "and not of the curves. Keep the undecayed rows (--where 'decayed == false'), or fit "
            "--law auto to the ends",
            decayed=decayed,
            rows=table.rows,
            rows_per_run=longest,
        )


def _diagnostics(
    rises: Floats, names: NDArray[np.str_], forms: Mapping[FormName, Any], form: FormName
) -> Iterator[Diagnostic]:
    if (rising := np.flatnonzero(rises)).size:
        worst = int(np.argmax(rises))
        yield Diagnostic(
            "non-monotone",
            f"{rising.size} of {rises.size} curves rise for a stretch, {names[worst]!r} by "
            f"{rises[worst]:.1%}: look for instability or a change of data",
            rising=int(rising.size),
            curves=int(rises.size),
            run=str(names[worst]),
            rise=float(rises[worst]),
        )
    yield Diagnostic(
        "lucky-envelope",
        "the lowest of many curves is a lucky one: the envelope lies about half a run's noise too "
        "low, and intervals of it are too narrow (72 to 83% held the truth at a nominal 90%)",
    )
    power, exp = forms["power-offset"], forms["exp-offset"]
    if not (np.isfinite(power["rms"]) and np.isfinite(exp["rms"])):
        return
    difference = abs(power["aic"] - exp["aic"])
    forecast = np.array([forms[name]["last_third_rms"] for name in FORMS])
    other = np.isfinite(forecast).all() and list(FORMS)[int(np.argmin(forecast))] != form
    if difference < CLEAR_AIC or other:
        yield Diagnostic(
            "undecided-form",
            f"{form} fits the envelope better (rms {forms[form]['rms']:.2%}; power-offset "
            f"{power['rms']:.2%}, exp-offset {exp['rms']:.2%}), but the two are not told apart: "
            f"AIC differs by {difference:.1f}, and the last third of compute is predicted within "
            f"{power['last_third_rms']:.2%} and {exp['last_third_rms']:.2%}",
            form=form,
            aic_difference=float(difference),
            power_offset_rms=power["rms"],
            exp_offset_rms=exp["rms"],
        )
