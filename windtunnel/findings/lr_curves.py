"""LR curves of a grid: loss over learning rate by size, length or batch, and where it is lowest.

Weight decay has curves of the same kind: `lr`, `rates` and `best` are then weight decays.
The runs of a grid are split into variants by the values of its other axes. In each, the law
`lr-valley` is fitted to the rates at which no seed diverged. Noise between seeds is measured near
the minima.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.config.study import GridExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import LEVEL, coefficient, doubled
from windtunnel.findings.records import Records
from windtunnel.laws import Fit, Interval, Table, fit
from windtunnel.laws.interval import NO_INTERVAL, quantiles
from windtunnel.laws.noise import seed_sigma
from windtunnel.laws.table import Floats
from windtunnel.mup import Role, role_scale
from windtunnel.runs.forecast import law_runs
from windtunnel.runs.run import Run

RATE, BATCH, SIZE = "recipe.lr", "recipe.batch_tokens", "size"
WEIGHT_DECAY = "recipe.weight_decay"
WORDS = {
    ("recipe.parametrization", "mup"): "muP",
    ("recipe.parametrization", "completep"): "CompleteP",
    ("recipe.parametrization", "standard"): "standard",
    ("recipe.weight_decay_rule", "scaled"): "scaled weight decay",
    ("recipe.weight_decay_rule", "constant"): "constant weight decay",
    ("model.qk_norm", True): "QK-norm",
    ("model.qk_norm", False): "no QK-norm",
}


@dataclass(frozen=True, kw_only=True)
class GridVariant:
    """One combination of values; `name` is empty where a grid has only one."""

    name: str
    runs: tuple[Run, ...]


def rate_grids(records: Records, setting: str = RATE) -> Iterator[GridExperiment]:
    """The grids of a study that vary the learning rate, or another setting."""
    for experiment in records.config.experiments:
        if isinstance(experiment, GridExperiment) and len(experiment.listed(setting)) > 1:
            yield experiment


def value_of(run: Run, setting: str) -> float:
    """The learning rate of a run, or its value on another axis of its grid."""
    return run.lr if setting == RATE else float(run.axes[setting])


def variants(
    grid: GridExperiment, runs: Sequence[Run], axes: Sequence[str]
) -> tuple[GridVariant, ...]:
    """The runs by their values on these axes, in the order of the study file.

    The axes of a schedule are None for a trunk, which then belongs to every variant.
    """
    found = dict.fromkeys(
        values for run in runs if None not in (values := tuple(_on(run, axis) for axis in axes))
    )
    named = [place for place in range(len(axes)) if len({values[place] for values in found}) > 1]

    def order(values: tuple[Any, ...]) -> list[int]:
        written = [[str(value) for value in grid.listed(axis)] for axis in axes]
        return [
            known.index(str(value)) if str(value) in known else len(known)
            for known, value in zip(written, values, strict=True)
        ]

    return tuple(
        GridVariant(
            name=", ".join(_said(axes[place], values[place]) for place in named),
            runs=tuple(
                run
                for run in runs
                if all(
                    _on(run, axis) in (value, None)
                    for axis, value in zip(axes, values, strict=True)
                )
            ),
        )
        for values in sorted(found, key=order)
    )


def _on(run: Run, axis: str) -> Any:
    """What a run has on an axis of its grid; None of a trunk on an axis of the schedule."""
    return run.size if axis == SIZE else run.axes[axis]


def _said(axis: str, value: Any) -> str:
    if axis == SIZE:
        return str(value)
    if axis == "schedule.decay_fraction":
        return f"a decay of {100 * value:g}%"
    return WORDS.get((axis, value)) or f"{axis.partition('.')[2]} {value}"


Along = Literal["width", "depth", "params", "tokens", "batch_tokens"]
SHOWN = ("edge-minimum", "few-points", "noise-unidentified")
"""Diagnostics of a fit that concern a reader of a grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LRCurve:
    """One size, length or batch: loss at every rate, and where it is lowest.

    Attributes:
        at: width, depth, params, tokens or batch_tokens.
        label: the same in words, such as `width 64`.
        params: of the model.
        tokens: of its runs.
        hidden_scale: the role table's factor from a value to that of hidden matrices.
        width_ratio: width over base width.
        lr: of every finished run, (R,).
        loss: of the same, nats per token.
        runs: the same runs, (R,).
        rates: the rates at which no run diverged, ascending, (C,).
        means: mean loss at each of them.
        diverged: rates at which some run diverged.
        near: the rates that the parabola went through; none without an optimum.
        best: the optimum with its interval; None where it is not inside the rates tried.
        bound: `at most` or `at least` where the lowest rate is the first or the last one.
        lowest: loss at the optimum; of the lowest rate where there is none.
        curvature: ln loss above the optimum per ln(lr / lr*)^2.
        flat: the loss changes too little to tell the optimum: there is none, or its interval ends
            only where the flat part does.
    """

    at: float
    label: str
    params: float
    tokens: float
    hidden_scale: float
    width_ratio: float
    lr: Floats
    loss: Floats
    runs: tuple[Run, ...]
    rates: Floats
    means: Floats
    diverged: tuple[float, ...]
    near: Floats
    best: Interval | None
    bound: str | None
    lowest: float
    curvature: float
    flat: bool

    @property
    def best_tried(self) -> float:
        """The rate of the lowest mean loss."""
        return float(self.rates[np.argmin(self.means)])

    @property
    def seeds(self) -> int:
        """Runs at that rate."""
        return int(np.sum(self.lr == self.best_tried))

    def above_best(self, lr: ArrayLike) -> Floats:
        """Loss above the lowest at these rates, nats per token.

        The parabola near the optimum, straight lines in ln lr beyond; nan outside the rates that
        were tried and next to one that diverged.
        """
        x = np.log(np.asarray(lr, np.float64))
        knots = np.log(np.concatenate([self.rates, self.diverged]))
        means = np.concatenate([self.means, np.full(len(self.diverged), np.nan)])
        order = np.argsort(knots)
        losses = np.interp(x, knots[order], means[order], left=np.nan, right=np.nan)
        if self.best is not None:
            parabola = self.lowest * np.exp(self.curvature * (x - np.log(self.best.value)) ** 2)
            low, high = np.log(self.near[[0, -1]])
            losses = np.where((x >= low) & (x <= high), parabola, losses)
        return np.asarray(losses - self.lowest)


@dataclass(frozen=True, kw_only=True)
class TransferredLR:
    """The best rate of one curve, used at another.

    `lost` is the loss above the lowest there, nats per token: nan where that rate was not tried or
    diverged; without an interval where `to` has no optimum (then it is a lower bound), or where the
    interval leaves the rates tried.
    """

    source: LRCurve
    to: LRCurve
    lost: Interval

    @property
    def known(self) -> bool:
        """Whether the rate was tried there, and trained."""
        return bool(np.isfinite(self.lost.value))


@dataclass(frozen=True, kw_only=True, eq=False)
class LRCurves:
    """The LR curves of one variant of a grid, ascending, and the law through their optima.

    Attributes:
        name: of the variant, such as `muP`; empty where the grid has one.
        along: what the curves differ in.
        table: the runs, with that as `params`.
        curves: those with three rates or more.
        fitted: lr* = k at^b; None where fewer than two optima lie inside the rates tried.
        problem: why there is none.
        runs_diverged: how many.
        left_out: places with fewer than three rates that trained.
    """

    name: str
    along: Along
    table: Table
    curves: tuple[LRCurve, ...]
    fitted: Fit | None
    problem: FitError | None
    runs_diverged: int
    left_out: tuple[str, ...] = ()

    @property
    def largest(self) -> LRCurve:
        """The last curve."""
        return self.curves[-1]

    @cached_property
    def source(self) -> LRCurve | None:
        """The smallest one with an optimum, whose rate is transferred to the others."""
        return next((curve for curve in self.curves if curve.best is not None), None)

    @cached_property
    def exponent(self) -> Interval | None:
        """Exponent of the best rate in `at`."""
        return None if self.fitted is None else coefficient(self.fitted, "b")

    @property
    def exponents(self) -> Floats:
        """`exponent` resampled; empty where the runs leave no degree of freedom for noise."""
        if self.fitted is None:
            return np.empty(0)
        return np.asarray(self.fitted.draws[:, self.fitted.form.index("b")])

    @property
    def drift(self) -> Interval | None:
        """Factor of the best rate when `at` doubles; 1 is perfect transfer."""
        return None if self.exponent is None else doubled(self.exponent)

    @cached_property
    def transferred(self) -> tuple["TransferredLR", ...]:
        """Loss given up by the rate of `source` at every place beyond it, the farthest first."""
        source = self.source
        if source is None or source.best is None:
            return ()
        beyond = [curve for curve in self.curves if curve.at > source.at]
        return tuple(
            TransferredLR(
                source=source, to=curve, lost=self._lost(source, source.best.value, curve)
            )
            for curve in reversed(beyond)
        )

    def _lost(self, source: LRCurve, rate: float, curve: LRCurve) -> Interval:
        value = float(curve.above_best(rate))
        if curve.best is None or not np.isfinite(value):
            return Interval(value, *NO_INTERVAL)
        pair = fit_pair(self.table, source.at, curve.at)
        exponents = pair.draws[:, pair.form.index("b")]
        rates = curve.best.value * (source.at / curve.at) ** exponents
        above = np.nan_to_num(curve.above_best(rates), nan=np.inf)
        low, high = quantiles(above, LEVEL)
        if not np.isfinite(high):
            return Interval(value, *NO_INTERVAL)
        # Where the two optima may coincide nothing need be lost, though a draw seldom says just 0.
        same = 0.0 in Interval(0.0, *quantiles(exponents, LEVEL))
        # Parabola and lines do not quite join, so a rate at a join may cost more than its draws.
        return Interval(value, 0.0 if same else min(low, value), max(high, value))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Warnings of the law, places without a curve, and divergence."""
        found = tuple(self._warnings())
        return (
            tuple(each.at(self.name, variant=self.name) for each in found) if self.name else found
        )

    def _warnings(self) -> Iterator[Diagnostic]:
        if self.problem is not None:
            message = f"no drift of the best rate: {self.problem}"
            yield Diagnostic("no-drift", message, cause=self.problem.code)
        elif self.fitted is not None:
            yield from (each for each in self.fitted.warnings if each.code in SHOWN)
        if flat := [curve for curve in self.curves if curve.flat]:
            places = ", ".join(f"{curve.label} ({_flat_part(curve)})" for curve in flat)
            yield Diagnostic(
                "flat-valley",
                f"the loss changes too little to tell the best value at {places}: use any of the "
                "flat part, or add seeds",
                places=tuple(curve.label for curve in flat),
            )
        if self.left_out:
            yield Diagnostic(
                "few-rates",
                "fewer than three rates trained, and no LR curve, at " + ", ".join(self.left_out),
                places=self.left_out,
            )
        if self.runs_diverged:
            places = "; ".join(
                f"{curve.label} at {', '.join(f'{rate:.3g}' for rate in curve.diverged)}"
                for curve in self.curves
                if curve.diverged
            )
            yield Diagnostic(
                "diverged-runs",
                f"{self.runs_diverged} runs diverged" + (f" ({places})" if places else ""),
                runs=self.runs_diverged,
            )


def _flat_part(curve: LRCurve) -> str:
    """The interval of the optimum, or the value of the lowest loss where there is no optimum."""
    if curve.best is None:
        return f"lowest at {curve.best_tried:.3g}"
    return f"{curve.best.low:.3g} to {curve.best.high:.3g}"


def fit_pair(table: Table, first: float, second: float) -> Fit:
    """The law of two curves alone.

    Its line passes through both optima, in every resample too: so it gives each of them an interval
    that assumes no power law between the others.
    """
    mine = (table.params == first) | (table.params == second)
    return fit(table.subset(mine), "lr-valley", holdout=None)


def mean_exponent(variants: Sequence[LRCurves]) -> Interval:
    """Mean exponent of the variants that have one; their runs are independent."""
    values = [each.exponent.value for each in variants if each.exponent is not None]
    return Interval(float(np.mean(values)), *_ends([each.exponents for each in variants], np.mean))


def exponent_between(first: LRCurves, second: LRCurves) -> Interval | None:
    """Exponent of the first less that of the second; None where either has none."""
    if first.exponent is None or second.exponent is None:
        return None
    difference = first.exponent.value - second.exponent.value
    return Interval(difference, *_ends([second.exponents, first.exponents], np.diff))


def _ends(resampled: list[Floats], combine: Callable[..., Any]) -> tuple[float, float]:
    """Interval of what independent resamples combine to."""
    count = min(draws.size for draws in resampled)
    stacked = np.stack([draws[:count] for draws in resampled])
    return quantiles(np.ravel(combine(stacked, axis=0)), LEVEL)


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """Standard deviation of the loss between seeds near the minima, nats per token."""

    sigma: Interval
    dof: int


def mean_of(noise: SeedNoise | None, value: float, seeds: float) -> Interval:
    """A mean over so many seeds with its interval at `LEVEL`, where the noise is known."""
    from scipy.special import stdtrit

    if noise is None:
        return Interval(value, *NO_INTERVAL)
    half = stdtrit(noise.dof, (1 + LEVEL) / 2) * noise.sigma.value / np.sqrt(seeds)
    return Interval(value, value - float(half), value + float(half))


def noise_between_seeds(curves: Sequence[LRCurve]) -> SeedNoise | None:
    """Noise pooled over the rates near every minimum; None where no rate has two seeds."""
    from scipy.stats import chi2

    groups = [curve.loss[curve.lr == rate] for curve in curves for rate in curve.near]
    sizes = [group.size for group in groups]
    if not groups or max(sizes) < 2:
        return None
    cells = np.repeat(np.arange(len(groups)), sizes)
    sigma = seed_sigma(np.concatenate(groups), cells, np.arange(cells.size))
    if not sigma:
        return None
    dof = cells.size - len(groups)
    tail = (1 - LEVEL) / 2
    low, high = (sigma * np.sqrt(dof / chi2.ppf(share, dof)) for share in (1 - tail, tail))
    return SeedNoise(sigma=Interval(sigma, float(low), float(high)), dof=dof)


MIN_RATES = 3
"""Of an LR curve: the lowest one needs a neighbour to each side."""


def lr_curves_of(
    records: Records, runs: Sequence[Run], *, name: str, along: Along, setting: str = RATE
) -> LRCurves:
    """The LR curves of one variant.

    A rate at which some seed diverged is no rate to use: it counts as diverged, and the seeds that
    survived do not enter the fit.

    Raises:
        FitError: fewer than two places have three rates that trained.
    """
    blown = [run for run in runs if run.diverged]
    runs = law_runs(runs)
    by_place = _by_place(runs, along)
    places = sorted(by_place)
    gone = {at: _diverged(runs, blown, along=along, at=at, setting=setting) for at in places}
    trained = {at: {value_of(run, setting) for run in by_place[at]} - gone[at] for at in places}
    kept = [at for at in places if len(trained[at]) >= MIN_RATES]
    diverged = len({run.trunk for run in blown})
    if len(kept) < 2:
        raise FitError(
            "too-few-places",
            f"{name or 'no LR curve'}: fewer than two places along {along} have {MIN_RATES} rates "
            f"that trained; {diverged} runs diverged",
            along=along,
            places=len(kept),
            needed=2,
            rates=MIN_RATES,
            diverged=diverged,
        )
    sound = [
        run
        for run in runs
        if (at := getattr(run, along)) in kept and value_of(run, setting) in trained[at]
    ]
    table = Table(
        params=[getattr(run, along) for run in sound],
        lr=[value_of(run, setting) for run in sound],
        loss=[run.loss for run in sound if run.loss is not None],
        trunk=[run.trunk for run in sound],
    )
    fitted, problem = None, None
    try:
        fitted = fit(table, "lr-valley", holdout=None)
    except FitError as refused:
        problem = refused
    best, flat = ({}, set()) if fitted is None else _optima(table, fitted)
    details = {} if fitted is None else {float(s["params"]): s for s in fitted.details["sizes"]}
    return LRCurves(
        name=name,
        along=along,
        table=table,
        curves=tuple(
            _curve(
                records,
                by_place[at],
                along=along,
                setting=setting,
                diverged=gone[at],
                best=best.get(at),
                flat=at in flat,
                details=details.get(at, {}),
            )
            for at in kept
        ),
        fitted=fitted,
        problem=problem,
        runs_diverged=diverged,
        left_out=tuple(_label(by_place[at][0], along) for at in places if at not in kept),
    )


def read_variants(
    records: Records, variants: Sequence[GridVariant], *, along: Along, setting: str = RATE
) -> tuple[tuple[LRCurves, ...], tuple[FitError, ...]]:
    """The LR curves of those that have any, and why the others have none."""
    found, problems = [], []
    for each in variants:
        try:
            found.append(
                lr_curves_of(records, each.runs, name=each.name, along=along, setting=setting)
            )
        except FitError as refused:
            problems.append(refused)
    return tuple(found), tuple(problems)


def count_missing_runs(records: Records, experiment: GridExperiment) -> int:
    """Number of planned runs that have not ended: neither a loss nor a divergence."""
    sizes = experiment.sizes_named or records.config.model.sizes
    axes = [experiment.listed(axis) for axis in experiment.axes if axis != "size"]
    cells = int(np.prod([len(sizes), *map(len, axes)]))
    planned = cells * len(experiment.seeds) * len(experiment.horizons)
    runs = records.of(experiment.name, decayed=False)
    diverged = {run.trunk for run in runs if run.diverged}
    done = [run for run in law_runs(runs) if run.trunk not in diverged]
    return max(planned - len(done) - len(diverged) * len(experiment.horizons), 0)


def _diverged(
    runs: Sequence[Run], blown: Sequence[Run], *, along: Along, at: float, setting: str
) -> frozenset[float]:
    """Rates at which some run of this curve diverged.

    Along tokens a trunk that diverged takes with it every length that it had not finished.
    """
    if along != "tokens":
        return frozenset(value_of(run, setting) for run in blown if getattr(run, along) == at)
    done = {run.trunk for run in runs if run.tokens == at}
    return frozenset(
        value_of(run, setting) for run in blown if run.trunk not in done and run.tokens <= at
    )


def _optima(table: Table, fitted: Fit) -> tuple[dict[float, Interval], set[float]]:
    """The optimum of every curve that has one, with an interval of its own; and the flat curves."""
    flat = {float(s["params"]) for s in fitted.details["sizes"] if s["why_not"] == "flat-valley"}
    used = [size for size in fitted.details["sizes"] if size["used"]]
    places = [float(size["params"]) for size in used]
    found = {}
    for k, at in enumerate(places):
        pair = fit_pair(table, at, places[k + 1 if k + 1 < len(places) else k - 1])
        drawn = pair.form.values(pair.draws, np.array([[at]]))[:, 0]
        found[at] = Interval(float(used[k]["optimum"]), *quantiles(drawn, fitted.level))
        flat |= {at} & {
            float(params)
            for warning in pair.warnings
            if warning.code == "flat-valley"
            for params in cast("list[float]", warning.values["params"])
        }
    return found, flat


def _curve(
    records: Records,
    runs: Sequence[Run],
    *,
    along: Along,
    setting: str,
    diverged: frozenset[float],
    best: Interval | None,
    flat: bool,
    details: Mapping[str, Any],
) -> LRCurve:
    lr, loss = np.array([[value_of(run, setting), run.loss] for run in runs], np.float64).T
    rates = np.unique([rate for rate in lr if rate not in diverged])
    means = np.array([loss[lr == rate].mean() for rate in rates])
    place = int(np.argmin(means))
    edges = {0: "at most", rates.size - 1: "at least"}
    first, base = runs[0], records.config.recipe
    ratio = first.width / first.axes.get("recipe.base_width", base.base_width)
    hidden = role_scale(
        Role.HIDDEN,
        width_ratio=ratio,
        depth_ratio=1.0,  # no rate depends on it
        parametrization=first.axes.get("recipe.parametrization", base.parametrization),
        weight_decay_rule=base.weight_decay_rule,
    )
    used = best is not None
    return LRCurve(
        at=float(getattr(first, along)),
        label=_label(first, along),
        params=float(first.params),
        tokens=float(first.tokens),
        hidden_scale=hidden.lr if setting == RATE else hidden.weight_decay,
        width_ratio=ratio,
        lr=lr,
        loss=loss,
        runs=tuple(runs),
        rates=rates,
        means=means,
        diverged=tuple(sorted(diverged)),
        # The law's cells are these rates: both leave out where a run diverged.
        near=rates[np.array(details["near_minimum"], bool)] if used else np.empty(0),
        best=best,
        bound=None if used else edges.get(place),
        lowest=float(details["lowest_loss"]) if used else float(means[place]),
        curvature=float(details["curvature"]) if used else np.nan,
        flat=flat,
    )


def _label(run: Run, along: Along) -> str:
    match along:
        case "params":
            return run.size
        case "tokens":
            return str(run.horizon)
        case "batch_tokens":
            return f"batch {run.batch_tokens}"
    return f"{along} {getattr(run, along)}"


def _by_place(runs: Iterable[Run], along: Along) -> dict[float, list[Run]]:
    """The runs of each size, length or batch."""
    found: dict[float, list[Run]] = {}
    for run in runs:
        found.setdefault(getattr(run, along), []).append(run)
    return found
