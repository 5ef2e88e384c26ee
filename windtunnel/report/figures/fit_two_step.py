"""Laws found in two steps: the points, curve and minimum of each first step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.laws import Fit, Table
from windtunnel.laws.table import Floats
from windtunnel.report.figures import fit_curve
from windtunnel.report.figures.drawing import Drawing
from windtunnel.report.figures.style import Style, is_log, log_ticks
from windtunnel.report.formatting import scientific

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LEVELS = 9
"""Equal-loss curves that are drawn; a law goes through some thirty of them per size."""
FINE = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class _Series:
    """Points, the curve that was laid through them, and its minimum; none where it has none."""

    label: str
    x: Floats
    y: Floats
    curve: tuple[Floats, Floats]
    best: tuple[float, float] | None
    share: float = 0.0
    params: float | None = None

    def colour(self, style: Style) -> str:
        """Of its size where it is one size's, else along the ramp."""
        if self.params is not None:
            return style.colour(self.params)
        return style.along(self.share)


def isoflop(fitted: Fit) -> list[Drawing]:
    """Loss over params at every budget with its optimum, and the optima against compute."""
    reading, budgets = fitted.details["interpolate"], fitted.details["budgets"]
    drawn = [_budget(fitted, budget, reading, i / max(len(budgets) - 1, 1))
               for i, budget in enumerate(budgets)]  # fmt: skip
    used = [budget for budget in budgets if budget["used"]]
    return [
        _drawing(fitted, drawn, name="budgets", x="params", y="loss",
                 best=f"optimum by {reading}", names="FLOPs"),
        fit_curve.law(
            fitted,
            _numbers([budget["flops"] for budget in used]),
            _numbers([budget["params"][reading] for budget in used]),
            what="optimum of a budget",
        ),
    ]  # fmt: skip


def lr_valley(fitted: Fit) -> list[Drawing]:
    """Loss over learning rate of every size with its optimum, and the optima against size."""
    sizes = fitted.details["sizes"]
    used = [size for size in sizes if size["used"]]
    params = _numbers([size["params"] for size in used])
    return [
        _drawing(fitted, [_rates(size) for size in sizes], name="lr-curves", x="lr", y="loss",
                 best="optimum of a size", names="params"),
        fit_curve.law(fitted, params, _numbers([size["optimum"] for size in used]),
                      what="optimum of a size", groups=params),
    ]  # fmt: skip


def batch(fitted: Fit) -> list[Drawing]:
    """Tokens to a loss over batch, with the cheapest batch, and the cheapest batch against loss."""
    used = sorted((each for each in fitted.details["levels"] if each["used"]),
                  key=lambda each: float(each["loss"]))  # fmt: skip
    chosen = np.unique(np.linspace(0, len(used) - 1, MOST_LEVELS).round().astype(int))
    drawn = [_level(used[i], 1 - k / max(chosen.size - 1, 1)) for k, i in enumerate(chosen)]
    minima = fitted.details["minima"]
    return [
        _drawing(fitted, drawn, name="levels", x="batch_tokens", y="tokens",
                 best="fewest tokens", names="loss"),
        fit_curve.law(fitted, _numbers(minima["loss"]), _numbers(minima["batch_tokens"]),
                      what="best batch at a loss", groups=_numbers(minima["params"])),
    ]  # fmt: skip


def envelope(fitted: Fit, table: Table) -> list[Drawing]:
    """The curves of all runs, the lower envelope of them, and the law through that."""
    nodes = fitted.details["envelope"]

    def runs(axes: "Axes", style: Style) -> "list[tuple[Artist, str]]":
        labels = table.labels.get("run", table.trunk)
        key = []
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            mine = mine[np.argsort(table["flops"][mine])]
            colour = style.paint.muted
            if "params" in table:
                colour = style.colour(float(table.params[mine[0]]))
            key = axes.plot(table["flops"][mine], table.loss[mine], color=colour, lw=0.9, alpha=0.5)
        return [(line, "run") for line in key]

    flops, loss = _numbers(nodes["flops"]), _numbers(nodes["loss"])
    return [fit_curve.law(fitted, flops, loss, what="lowest loss at a compute", behind=runs)]


def _numbers(values: Sequence[Any]) -> Floats:
    """None, which stands for what is not finite in the details, becomes nan."""
    return np.array(values, dtype=np.float64)


def _budget(fitted: Fit, budget: Mapping[str, Any], reading: str, share: float) -> _Series:
    """One budget with the curve that its optimum was read from."""
    points = budget["points"]
    order = np.argsort(points["params"])
    params, loss = _numbers(points["params"])[order], _numbers(points["loss"])[order]
    fine, curve = _read(fitted, params, loss, budget["flops"], reading)
    best = None
    if budget["used"]:
        at = float(budget["params"][reading])
        best = (at, float(np.interp(np.log(at), np.log(fine), curve)))
    return _Series(label=scientific(budget["flops"]), x=params, y=loss,
                   curve=(fine, curve), best=best, share=share)  # fmt: skip


def _read(
    fitted: Fit, params: Floats, loss: Floats, flops: float, reading: str
) -> tuple[Floats, Floats]:
    """Params and loss along the reading's curve; straight lines where it has none."""
    knots, index = np.unique(params, return_inverse=True)
    means = np.exp(np.bincount(index, np.log(loss)) / np.bincount(index))
    fine = np.unique(np.append(np.geomspace(knots[0], knots[-1], FINE), knots))
    form = fitted.details["form"]
    if reading == "parametric" and form is not None:
        tokens = flops / fitted.flop_factor / fine
        return fine, (
            form["E"] + form["A"] * fine ** -form["alpha"] + form["B"] * tokens ** -form["beta"]
        )
    if knots.size < 4:
        return knots, means
    if reading == "parabola":
        x = np.log(params)
        square = np.polynomial.Polynomial.fit(x, loss, 2)
        return fine, square(np.log(fine))
    from scipy.interpolate import Akima1DInterpolator

    return fine, np.exp(Akima1DInterpolator(np.log(knots), np.log(means))(np.log(fine)))


def _rates(size: Mapping[str, Any]) -> _Series:
    """One size with the parabola near its minimum; straight lines where it has none."""
    rates, loss = _numbers(size["lr"]), _numbers(size["loss"])
    curve, best = (rates, loss), None
    if size["used"]:
        near = rates[np.asarray(size["near_minimum"], bool)]
        fine = np.geomspace(near.min(), near.max(), FINE)
        best = (float(size["optimum"]), float(size["lowest_loss"]))
        curve = (fine, best[1] * np.exp(size["curvature"] * np.log(fine / best[0]) ** 2))
    return _Series(label="", x=rates, y=loss, curve=curve, best=best, params=float(size["params"]))


def _level(level: Mapping[str, Any], share: float) -> _Series:
    """One equal-loss curve with its parabola."""
    order = np.argsort(level["batch_tokens"])
    sizes, tokens = _numbers(level["batch_tokens"])[order], _numbers(level["tokens"])[order]
    best = (float(level["best_batch_tokens"]), float(level["fewest_tokens"]))
    fine = np.geomspace(sizes[0], sizes[-1], FINE)
    curve = best[1] * np.exp(level["curvature"] * np.log(fine / best[0]) ** 2)
    return _Series(label=f"{level['loss']:.2f}", x=sizes, y=tokens, curve=(fine, curve),
                   best=best, share=share)  # fmt: skip


def _drawing(
    fitted: Fit, drawn: list[_Series], *, name: str, x: str, y: str, best: str, names: str,
) -> Drawing:  # fmt: skip
    """All of them in one picture; a run far above the curves is a wedge at the upper edge."""

    def draw(style: Style) -> "Figure":
        figure = style.blank(490 if style.wide else 380)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        log_y = is_log(np.concatenate([series.y for series in drawn])) and y != "loss"
        if log_y:
            axes.set_yscale("log")
        low, top = _range(drawn, log=log_y)
        axes.set_ylim(low, top)
        key: dict[str, Artist] = {}
        for series in drawn:
            colour, clear = series.colour(style), 1.0 if series.best else 0.4
            if series.params is not None:  # rates beyond the neighbourhood of the lowest one
                axes.plot(series.x, series.y, color=colour, lw=0.8, alpha=0.4, zorder=1)
            if series.best is not None:
                axes.plot(*series.curve, color=colour, lw=1.6, zorder=2)
            above = series.y > top
            (key["run"],) = axes.plot(series.x[~above], series.y[~above], "o", ms=5.5, mfc=colour,
                                      mec=style.paint.card, mew=0.6, alpha=clear,
                                      zorder=3)  # fmt: skip
            if above.any():
                (key["off the top"],) = axes.plot(
                    series.x[above], np.full(int(above.sum()), 0.975), "^", ms=6, color=colour,
                    alpha=clear, transform=axes.get_xaxis_transform(), zorder=3,
                )  # fmt: skip
            if series.best is not None:
                (key[best],) = axes.plot(*series.best, "D", ms=8.5, mfc=style.paint.card,
                                         mec=colour, mew=2.2, zorder=5)  # fmt: skip
        style.dress(axes, x=fit_curve.spell(fitted, x), y=fit_curve.spell(fitted, y))
        log_ticks(axes.xaxis, counted=fit_curve.counted(fitted, x), most=9 if style.wide else 5)
        if log_y:
            log_ticks(axes.yaxis, counted=fit_curve.counted(fitted, y), most=8)
        named = [series for series in drawn if series.best or series.params is not None]
        lowest = [series.best[1] if series.best else float(series.y.min()) for series in named]
        style.names(
            axes,
            [series.label or style.name(series.params or 0.0) for series in named],
            np.array(lowest),
            [series.colour(style) for series in named],
            title=names,
        )
        style.key(figure, [(mark, words) for words, mark in key.items()])
        return figure

    outside = sum(series.best is None for series in drawn)
    alt = f"{len(drawn)} curves over {fit_curve.spell(fitted, x)}, each with its {best}"
    alt += f"; {outside} have none." if outside else "."
    return Drawing(name=name, alt=alt, draw=draw)


def _range(drawn: list[_Series], *, log: bool) -> tuple[float, float]:
    """Range of y: the curves, and the points unless they lie far above."""
    curves = np.concatenate([series.curve[1] for series in drawn if series.best is not None])
    points = np.concatenate([series.y for series in drawn])
    if log:
        low, high = np.log([min(curves.min(), points.min()), max(curves.max(), points.max())])
        margin = 0.05 * (high - low)
        return float(np.exp(low - margin)), float(np.exp(high + margin))
    low, high = min(curves.min(), points.min()), float(curves.max())
    top = min(float(points.max()), high + 0.5 * (high - low))
    margin = 0.06 * (top - low)
    return float(low - margin), float(top + margin)
