"""The Fit: a law with its intervals, its domain and its provenance."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from windtunnel.errors import Diagnostic, FitError, did_you_mean
from windtunnel.laws import frontier
from windtunnel.laws.chinchilla import Chinchilla, Coupled
from windtunnel.laws.codec import (
    WRITE_ONE,
)
from windtunnel.laws.exact import ExactRule, exact_ratio, exact_ratio_with_misfit
from windtunnel.laws.forms import Formula
from windtunnel.laws.interval import (
    NO_INTERVAL,
    HoldOut,
    Influence,
    Interval,
    Intervals,
    Optima,
    Optimum,
    Span,
    beyond,
    codes_text,
    decades_beyond,
    quantiles,
    span_text,
)
from windtunnel.laws.misfit import MisfitDraws, decades_by_axis
from windtunnel.laws.posterior import trunk_sigma
from windtunnel.laws.schema import (
    text_of,
)
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.transition import CopyTrend, widened
from windtunnel.laws.two_step.isoflop import readings_disagree


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fit:
    """A fitted law. Raw units; sigmas are of ln output, or of the output where noise is additive.

    Attributes:
        form: the law with its coefficients.
        intervals: (low, high) at `level` of every coefficient, of the allocation exponents `a` and
            `b` and of `ratio`, the compute-optimal D/N at the largest fitted budget
            `domain["flops"][1]`, where the law has them; empty if none.
        method: how they were made.
        scaled: coefficients for inputs divided by `scales`.
        objective: what was minimised, with `delta` in the residual's unit (None: least squares).
        objective_value: its sum at the optimum; `gradient_norm` is 0 there.
        starts_agreeing: how many of the `starts` reached it.
        seeds_per_cell: fewest and most trunks over the cells of equal inputs.
        sigma_trunk: between trunks, from the fit's residuals; lack of fit counts as trunk noise.
        sigma_branch: between branches of one trunk.
        sigma_seed: both together, from cells with several trunks alone; None without any.
        lack_of_fit_p: chance of misfits this large by seed noise alone; None without seeds.
        correlation: Pearson r of the logs of the first two inputs; None with one.
        dropped: (reason, rows) of what the table left out.
        worst: the rows farthest off the law: label and residual.
        holdout_by_compute: of a law of size and data, that of the top of compute; `holdout` is
            then of the largest size.
        inputs: of a study's fit, the `study`, its `experiments`, and `runs`, a fingerprint of their
            rows; empty for a table.
        details: the points of both steps of a two-step law (per budget, size or loss level); of a
            law of size and tokens `copy_gain`, the trend of its rows' (see `transition`).
        draws: coefficients of the resamples, shape (resamples, K), in the order of `form.names()`.
        sigma_draws: their noise, shape (resamples, 3): sigma_trunk in the middle (on a log scale)
            of the fitted sizes, sigma_branch, and the power of size with which sigma_trunk changes.
        misfit: of law `auto`, whose forecasts hold it: as many draws.
        table: the rows that it was fitted to, for figures; None of a fit that was read from JSON.
    """

    form: Formula
    intervals: Mapping[str, Span]
    level: float
    method: str
    resamples_failed: int
    scaled: Mapping[str, float]
    scales: Mapping[str, float]
    objective: str
    delta: float | None
    objective_value: float
    gradient_norm: float
    starts: int
    starts_agreeing: int
    converged: bool
    rows: int
    trunks: int
    seeds_per_cell: tuple[int, int]
    sigma_trunk: float
    sigma_branch: float
    sigma_seed: float | None
    lack_of_fit_p: float | None
    correlation: float | None
    residual_rms: float
    worst: tuple[tuple[str, float], ...]
    domain: Mapping[str, Span]
    columns: Mapping[str, str]
    loss_unit: str
    params_convention: str
    flop_factor: float
    filters: tuple[str, ...]
    dropped: tuple[tuple[str, int], ...]
    holdout: HoldOut | None
    influence: Influence | None
    warnings: tuple[Diagnostic, ...]
    seed: int
    exact: ExactRule | None
    draws: Floats
    sigma_draws: Floats
    misfit: MisfitDraws | None = None
    holdout_by_compute: HoldOut | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    table: Table | None = None

    def __repr__(self) -> str:
        numbers = self.coefficients
        lines = [
            f"Fit of law {self.law}: {self.form.formula}",
            f"{self.rows} rows of {self.trunks} trunks, {self.level:.0%} intervals ({self.method})",
        ]
        lines += [
            f"  {name:10}{span_text(value, *self.intervals.get(name, NO_INTERVAL))}"
            for name, value in numbers.items()
        ]
        if self.has_optimum:
            flops = self.domain["flops"][1]
            lines.append(f"  tokens per param at {flops:.3g} FLOPs: {self.optimum(flops).ratio}")
        lines += [
            f"held out, {held.what}: off by {held.mean_relative_error:.2%}"
            for held in self.holdouts[:1]
        ]
        return "\n".join([*lines, *codes_text(self.warnings)])

    @property
    def law(self) -> str:
        """The law's name."""
        return self.form.name

    @property
    def coefficients(self) -> dict[str, float]:
        """By name, raw units."""
        return self.form.coefficients

    @property
    def holdouts(self) -> tuple[HoldOut, ...]:
        """Every hold-out that was possible."""
        return tuple(each for each in (self.holdout, self.holdout_by_compute) if each is not None)

    @property
    def flop_rule(self) -> str:
        """The compute convention of every budget here, such as `6ND`."""
        return f"{self.flop_factor:g}ND"

    @property
    def has_optimum(self) -> bool:
        """Whether the law splits budgets and the fit gives weight to both terms."""
        if not self.form.allocates:
            return False
        return bool(np.isfinite(self.splits(self.domain["flops"][1])[0][0]))

    def splits(self, flops: ArrayLike) -> tuple[Floats, Floats]:
        """Ln N and ln D of lowest loss at budgets (...), shapes (1 + S, ...).

        First that of the law, or with a misfit the median, then those of the S draws.

        Raises:
            FitError: the law splits no budget.
        """
        budgets = np.asarray(flops, np.float64)
        if self.misfit is None or not len(self.draws):
            found = frontier.splits(
                self.form, self.draws, budgets.ravel(), flop_factor=self.flop_factor
            )
        else:
            found = frontier.splits_with_misfit(
                self.form,
                self.draws,
                self.misfit,
                budgets.ravel(),
                flop_factor=self.flop_factor,
                domain=self.domain,
            )
        first, second = (each.reshape(-1, *budgets.shape) for each in found)
        return first, second

    @property
    def exponents(self) -> tuple[Interval, Interval]:
        """A and b of N* ~ C^a and D* ~ C^b.

        With a misfit, of the frontier between the middle and the largest fitted budget.

        Raises:
            FitError: the law splits no budget.
        """
        spans = (self.intervals.get(name, NO_INTERVAL) for name in ("a", "b"))
        if self.misfit is None:
            values = [float(each) for each in self.form.split(self.form.vector)]
        else:
            values = [float(each[0]) for each in frontier_exponents(self)]
        first, second = (Interval(value, *ends) for value, ends in zip(values, spans, strict=True))
        return first, second

    def __call__(self, *inputs: ArrayLike) -> Floats:
        """Output at inputs that broadcast, by the law; with a misfit, the median of both."""
        if self.misfit is None or not len(self.draws):
            return self.form(*inputs)
        return np.asarray(np.median(self.curves(*inputs), axis=0))

    def curves(self, *inputs: ArrayLike) -> Floats:
        """Outputs (S, ...) of every draw of the law and its misfit, without the noise of runs."""
        arrays = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in inputs))
        flat = np.stack([each.ravel() for each in arrays])
        with np.errstate(all="ignore"):
            found = self.form.values(self.draws, flat)
            if self.misfit is not None:
                found = found * np.exp(self.misfit.along(np.log(flat[0]), np.log(flat[1])))
        return np.asarray(found).reshape(-1, *arrays[0].shape)

    @overload
    def predict(self, *inputs: float, trunks: float = 1, **named: float) -> Interval: ...

    @overload
    def predict(
        self, *inputs: ArrayLike, trunks: float = 1, **named: ArrayLike
    ) -> Interval | Intervals: ...

    def predict(self, *inputs: Any, trunks: float = 1, **named: Any) -> Interval | Intervals:
        """Output of a new run at `inputs` (in the order of `form.inputs`, or by name).

        Of arrays, which broadcast, the result is `Intervals` of their shape.

        The interval covers the mean of `trunks` new runs of one branch each: uncertain
        coefficients plus trunk and branch noise. `trunks=math.inf` leaves the law's own
        uncertainty. Beyond the fitted domain the interval still assumes that the law holds, and a
        warning says how many decades beyond it is; where a transition to copying lies before the
        inputs, its lower end holds that too (`Interval.transition`).

        Raises:
            FitError: an unknown or missing input, or one that is not positive.
        """
        names = self.form.inputs
        inputs = (*inputs, *self._named(names[len(inputs) :], named))
        if len(inputs) != len(names):
            raise FitError(
                "missing-input",
                f"law {self.law} predicts from {', '.join(names)}: {len(inputs)} given",
                law=self.law,
                inputs=list(names),
                given=len(inputs),
            )
        if any(map(np.ndim, inputs)):
            arrays = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in inputs))
            points = np.stack([each.ravel() for each in arrays], axis=1).tolist()
            each = [self.predict(*point, trunks=trunks) for point in points]
            return Intervals.of(each, arrays[0].shape)
        for name, value in zip((*names, "trunks"), (*inputs, trunks), strict=True):
            if not value > 0 or (math.isinf(value) and name != "trunks"):
                raise FitError(
                    "out-of-range",
                    f"predict: {name} = {value}, must be above 0 and finite",
                    input=name,
                    value=value,
                    above=0,
                )
        return widened(self._of_law(inputs, trunks), self._transition(*inputs))

    @overload
    def optimum(self, flops: float) -> Optimum: ...

    @overload
    def optimum(self, flops: ArrayLike) -> Optimum | Optima: ...

    def optimum(self, flops: Any) -> Optimum | Optima:
        """Compute-optimal params, tokens, D/N and loss at `flops` = k N D, each with its interval.

        Of an array of budgets the result is `Optima` of its shape.

        Raises:
            FitError: `flops` is not positive, the law splits no budget, or a term is left out.
        """
        if np.ndim(flops):
            budgets = np.asarray(flops, np.float64)
            return Optima.of(
                [self.optimum(each) for each in budgets.ravel().tolist()], budgets.shape
            )
        if not 0 < flops < math.inf:
            raise FitError(
                "out-of-range",
                f"optimum: flops = {flops}, must be above 0 and finite",
                option="flops",
                value=flops,
                above=0,
            )
        log_params, log_tokens = self.splits(flops)
        if not (np.isfinite(log_params[0]) and np.isfinite(log_tokens[0])):
            side = "N" if log_params[0] < 0 else "D"
            why = (
                f"the fit gave the term in {side} no weight, so no optimum exists"
                if self.misfit is None
                else f"the lowest loss has less {side}, beyond a factor of "
                f"{frontier.REACH:g} outside the sampled D/N"
            )
            raise FitError(
                "no-optimum",
                f"optimum: {why}. The table does not show it: widen the range of {side}",
                law=self.law,
                term=side,
            )
        params, tokens, ratio = (
            _exp_interval(float(log[0]), *quantiles(log[1:], self.level))
            for log in (log_params, log_tokens, log_tokens - log_params)
        )
        found: tuple[Diagnostic | None, ...] = (
            beyond("flops", flops, self.domain["flops"]),
            beyond("optimal D/N", ratio.value, self.domain["ratio"], "ratio-outside"),
        )
        if self.misfit is not None and len(self.draws):
            apart = self.misfit.apart((log_tokens - log_params)[1:])
            found = (*found, _form_decides_ratio(apart) if apart > FORMS_APART else None)
        if readings := self.details.get("readings"):
            found = (*found, readings_disagree(readings, flops, self.level))
        loss = self.loss_at(params.value, tokens.value)
        # The optimum itself warns about this budget and its D/N.
        others = tuple(w for w in loss.warnings if w.values.get("quantity") not in {"flops", "D/N"})
        return Optimum(
            flops=float(flops),
            params=params,
            tokens=tokens,
            ratio=ratio,
            loss=dataclasses.replace(loss, warnings=others),
            ratio_exact=self.ratio_exact(flops),
            extrapolates=abs(decades_beyond(flops, self.domain["flops"])),
            warnings=tuple(w for w in found if w),
        )

    def loss_at(self, params: float, tokens: float) -> Interval:
        """Loss of one new run at (params, tokens) on fresh tokens; nan for a law without a loss."""
        if self.form.inputs[:2] != ("params", "tokens"):
            return Interval(np.nan, np.nan, np.nan)
        return self.predict(params, tokens, *([tokens] * (len(self.form.inputs) - 2)))

    def ratio_exact(self, flops: float) -> Interval | None:
        """Optimal D/N with all FLOPs counted; None where exact FLOPs are unknown."""
        if self.exact is None or not isinstance(self.form, Chinchilla | Coupled):
            return None
        if self.misfit is not None and len(self.draws) and isinstance(self.form, Coupled):
            return exact_ratio_with_misfit(
                self.form,
                self.draws,
                self.misfit,
                self.exact,
                log_params=float(self.splits(flops)[0][0]),
                flops=flops,
                domain=self.domain,
                level=self.level,
            )
        return exact_ratio(self.form, self.draws, self.exact, flops, level=self.level)

    def to_json(self, path: Path | str | None = None, *, draws: int | None = None) -> str:
        """This fit as JSON text (docs/fit.md), also written to `path`; keeps `draws` resamples."""
        from windtunnel.laws.fit_document import write  # which knows the Fit

        text = write(self, draws=draws)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @staticmethod
    def from_json(text: str) -> "Fit":
        """The fit that `to_json` wrote.

        Raises:
            FitError: not such a text, or of another schema version.
        """
        from windtunnel.laws.fit_document import read

        return read(text)

    @staticmethod
    def read(path: Path) -> "Fit":
        """The fit in a file that `windtunnel fit --out` or `to_json` wrote.

        Raises:
            ConfigError: no such file, or not a text.
            FitError: not a fit, or of another version; the file is named.
        """
        from windtunnel.laws.fit_document import read

        text = text_of(path, WRITE_ONE)
        try:
            return read(text)
        except FitError as wrong:
            raise FitError(
                wrong.code, f"{path}: {wrong}", **{**wrong.values, "path": path}
            ) from None

    def plot(self, table: Table | None = None) -> Any:
        """The figures of `windtunnel fit --figures`; a notebook shows them.

        Args:
            table: the rows to draw; default: those of the fit.

        Raises:
            FitError: the fit was read from a file, which holds no rows, and none are given.
        """
        # By name: figures lie on a higher floor, and the laws work without them.
        return import_module("windtunnel.plots").of_fit(self, table)

    def detailed(self, details: Mapping[str, Any]) -> "Fit":
        """This fit with further details."""
        return dataclasses.replace(self, details={**self.details, **details})

    def made_from(self, inputs: Mapping[str, str]) -> "Fit":
        """This fit, saying which runs of which study it was made from."""
        return dataclasses.replace(self, inputs=inputs)

    def warned(self, *more: Diagnostic) -> "Fit":
        """This fit with further warnings, first."""
        return dataclasses.replace(self, warnings=(*more, *self.warnings)) if more else self

    def _named(self, names: tuple[str, ...], given: dict[str, Any]) -> tuple[Any, ...]:
        for name in given:
            if name not in names:
                raise FitError(
                    "unknown-input",
                    f"law {self.law} has no input {name!r}; it reads {', '.join(self.form.inputs)}"
                    f"{did_you_mean(name, self.form.inputs)}",
                    law=self.law,
                    input=name,
                    known=list(self.form.inputs),
                )
        if "unique_tokens" in names and "tokens" in given:
            # Fresh data by default.
            given = {"unique_tokens": given["tokens"], **given}
        if missing := [name for name in names if name not in given]:
            raise FitError(
                "missing-input",
                f"law {self.law} also needs {', '.join(missing)}",
                law=self.law,
                missing=missing,
            )
        return tuple(given[name] for name in names)

    def _of_law(self, inputs: tuple[float, ...], trunks: float) -> Interval:
        """The prediction at checked inputs, as far as the law knows."""
        point = np.array(inputs, np.float64)[:, None]
        noise = self._noise(inputs[0]) / np.sqrt(trunks)
        if self.misfit is not None and len(self.draws):
            return self._with_misfit(self.misfit, point, noise)
        with np.errstate(all="ignore"):
            draws = self.form.values(self.draws, point)[:, 0] if len(self.draws) else np.empty(0)
        draws = draws * np.exp(noise) if self.form.multiplicative else draws + noise
        return Interval(
            float(self.form(*inputs)), *quantiles(draws, self.level), self._extrapolation(*inputs)
        )

    def _transition(self, *inputs: float) -> tuple[Diagnostic, ...]:
        """The warning that copying changes between the rows and these inputs, if any."""
        trend = CopyTrend.read(self.details.get("copy_gain"))
        return () if trend is None else trend.ahead(self.domain, *inputs[:2])

    def _with_misfit(self, misfit: MisfitDraws, point: Floats, noise: Floats) -> Interval:
        """The median of law and misfit over the draws, and its interval, at one point (2, 1)."""
        with np.errstate(all="ignore"):
            curve = np.log(self.form.values(self.draws, point))
        curve = curve + misfit.draw(point[0], point[1], np.random.default_rng([self.seed, 2]))
        beyond = decades_by_axis(self.domain, point[0], point[1], self.flop_factor)
        draws = np.exp(misfit.widened(curve + noise[:, None], beyond)[:, 0])
        value, (low, high) = float(np.exp(np.median(curve))), quantiles(draws, self.level)
        apart = misfit.apart(curve[:, 0])
        warnings = self._extrapolation(*point[:, 0].tolist())
        if apart > (high - low) / (2 * value):
            warnings = (*warnings, _form_decides(apart))
        return Interval(value, low, high, warnings)

    def _noise(self, size: float) -> Floats:
        """Noise of one new run per draw, from the same normal draws at every call."""
        rng = np.random.default_rng([self.seed, 1])
        normal = rng.standard_normal((len(self.sigma_draws), 2))
        trunk = trunk_sigma(self.sigma_draws, size, self.domain[self.form.inputs[0]])
        return np.asarray(trunk * normal[:, 0] + self.sigma_draws[:, 1] * normal[:, 1])

    def _extrapolation(self, *inputs: float) -> tuple[Diagnostic, ...]:
        at = dict(zip(self.form.inputs, inputs, strict=True))
        if "flops" in self.domain and {"params", "tokens"} <= at.keys():
            at["flops"] = self.flop_factor * at["params"] * at["tokens"]
            at["ratio"] = at["tokens"] / at["params"]
        words = {"ratio": "D/N"}
        found = (
            beyond(words.get(name, name), value, self.domain[name])
            for name, value in at.items()
            if name in self.domain
        )
        return tuple(w for w in found if w)


def frontier_exponents(fit: Fit) -> tuple[Floats, Floats]:
    """Slopes (1 + S,) of ln N* and ln D* between the middle and the largest fitted budget."""
    low, high = fit.domain["flops"]
    middle = math.sqrt(low * high)
    decades = math.log(high / middle)
    with np.errstate(invalid="ignore"):
        first, second = ((each[:, 1] - each[:, 0]) / decades for each in fit.splits([middle, high]))
    return first, second


FORMS_APART = math.log(1.5)
"""Difference of ln D/N between forms that is worth a warning."""


def _form_decides_ratio(apart: float) -> Diagnostic:
    factor = math.exp(apart)
    return Diagnostic(
        "form-decides",
        f"the forms of the law put the optimal D/N a factor of {factor:.2g} apart here: which of "
        "them holds decides the split",
        factor=factor,
    )


def _form_decides(apart: float) -> Diagnostic:
    return Diagnostic(
        "form-decides",
        f"the forms of the law are {apart:.1%} apart here, more than the interval's half-width: "
        "which of them holds decides the loss",
        apart=apart,
    )


def _exp_interval(value: float, low: float, high: float) -> Interval:
    with np.errstate(over="ignore"):
        return Interval(*np.exp([value, low, high]).tolist())


def optima(fit: Fit) -> list[Optimum]:
    """The best splits at the middle and the end of the fitted budgets, and at ten times the end."""
    if not fit.has_optimum:
        return []
    low, high = fit.domain["flops"]
    found = (optimum_at(fit, flops) for flops in (math.sqrt(low * high), high, 10 * high))
    return [best for best in found if best is not None]


def optimum_at(fit: Fit, flops: float) -> Optimum | None:
    """The best split of a budget; None where it lies out of reach of the sampled D/N."""
    try:
        return fit.optimum(flops)
    except FitError:
        return None
