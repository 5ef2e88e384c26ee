"""The data-model law: how loss falls with params and tokens, and which ratio of the two is best.

One law is fitted to the mean loss over the validation sets, one to each set, and one without the
longest horizons, which separate params from tokens. Published laws can be compared by their
exponents alone. A forecast that was written before the largest size was trained is scored against
its runs.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, NamedTuple

from windtunnel.config import Duration
from windtunnel.config.study import LadderExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import LEVEL, Finding, Quantity, coefficient, with_ends
from windtunnel.findings.records import Records
from windtunnel.findings.variants import sets_of_all
from windtunnel.laws import Fit, Interval, compare, fit
from windtunnel.laws.result import optimum_at
from windtunnel.runs.forecast import as_table
from windtunnel.runs.run import Run
from windtunnel.runs.transition import transition_of


class Published(NamedTuple):
    """A law of others: exponents, and the tokens per param that it wants at a budget."""

    name: str
    alpha: float
    beta: float
    ratio: float
    flops: float


PUBLISHED = (
    Published("MiniCPM", 0.29, 0.23, 192, 1e21),  # arXiv 2404.06395, the fit of the average loss
    Published("Chinchilla", 0.34, 0.28, 20, 5.8e23),  # arXiv 2203.15556, at 70B and 1.4T tokens
)


def against_published(alpha: Interval, beta: Interval) -> str:
    """Whether the published exponents lie in the intervals, as a clause for each of them."""
    if math.isnan(alpha.low) or math.isnan(beta.low):
        return "without intervals they cannot be compared with the published ones"
    return ", ".join(
        f"{law.name}'s {law.alpha:g} and {law.beta:g} "
        f"{_agreement(alpha_agrees=law.alpha in alpha, beta_agrees=law.beta in beta)}"
        for law in PUBLISHED
    )


def _agreement(*, alpha_agrees: bool, beta_agrees: bool) -> str:
    match alpha_agrees, beta_agrees:
        case True, True:
            return "lie inside both intervals"
        case False, False:
            return "lie outside both intervals"
    return f"agree in {'alpha' if alpha_agrees else 'beta'} alone"


@dataclass(frozen=True, kw_only=True)
class ForecastResult:
    """A forecast against the runs that came after it.

    Attributes:
        runs: held-out runs that have been measured.
        inside: how many of them lie in their own prediction interval.
        rms: root mean square of ln(forecast / measured).
        baselines: the same of forecasts that need no law, by name.
        blind: whether it was written before a held-out run had been trained.
    """

    runs: int
    inside: int
    rms: float
    baselines: Mapping[str, float]
    blind: bool


def forecast_result(records: Records, runs: Sequence[Run]) -> ForecastResult | None:
    """The newest forecast that was written before its runs, else the newest, against them."""
    measured = {run.segment: run.loss for run in runs if run.loss is not None}
    about = [
        each for each in records.forecasts if any(p["segment"] in measured for p in each["points"])
    ]
    if not about:
        return None
    blind = [each for each in about if not each["held_out_trained_before"]]
    chosen = (blind or about)[-1]
    points = [point for point in chosen["points"] if point["segment"] in measured]
    losses = [measured[point["segment"]] for point in points]
    predictions = {"law": [point["loss"] for point in points]} | {
        name: [point["naive"][name] for point in points] for name in points[0]["naive"]
    }
    scores = {
        score.name: score.rms_percent / 100
        for score in compare(predictions, losses, chosen["sigma"] or 1.0).scores
    }
    return ForecastResult(
        runs=len(points),
        inside=sum(_lies_in(loss, p) for loss, p in zip(losses, points, strict=True)),
        rms=scores.pop("law"),
        baselines=scores,
        blind=bool(blind),
    )


def _lies_in(loss: float, point: Mapping[str, Any]) -> bool:
    ends = point["low"], point["high"]
    return None not in ends and ends[0] <= loss <= ends[1]


Fields = dict[str, str | int | float | None]

MULTIPLES = (1, 10, 100)
"""Of the largest fitted budget: where the best ratio is reported."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Laws:
    """One table of losses under two laws.

    Attributes:
        auto: forecasts and optima.
        chinchilla: exponents, which only compare with published ones under the same form.
    """

    auto: Fit
    chinchilla: Fit


@dataclass(frozen=True, kw_only=True, eq=False)
class DataModelLaw(Finding):
    """The fits of one scaling experiment.

    Attributes:
        mean: of the mean loss over all validation sets.
        by_set: of each set alone; empty where there is only one.
        short: without the extra horizons of single sizes; None where there are none.
        refused: (which fit, why not) of those that the runs could not carry.
        transition: where copying changes within the ladder, or between it and its targets.
    """

    mean: Laws
    by_set: Mapping[str, Laws]
    short: Laws | None
    forecast: ForecastResult | None
    refused: tuple[tuple[str, FitError], ...] = ()
    transition: Diagnostic | None = None

    kind: ClassVar[str] = "scaling-law"
    title: ClassVar[str] = "Data-model law"

    @property
    def fit(self) -> Fit:
        """The law of the mean loss that forecasts and optima are of."""
        return self.mean.auto

    @property
    def largest_budget(self) -> float:
        """Of the fitted runs, in FLOPs by 6ND."""
        return self.fit.domain["flops"][1]

    @property
    def lead(self) -> str:
        """Exponents beside the published ones, the best ratio, and how the forecast did."""
        chinchilla = self.mean.chinchilla
        alpha, beta = coefficient(chinchilla, "alpha"), coefficient(chinchilla, "beta")
        sentences = [
            "Under the Chinchilla law, loss falls as N^-alpha and D^-beta with alpha = "
            f"{with_ends(alpha, '.2g')} and beta = {with_ends(beta, '.2g')}; "
            f"{against_published(alpha, beta)}.",
            self._ratio_sentence(),
        ]
        if self.forecast is not None:
            found = self.forecast
            when = "before" if found.blind else "after"
            sentences.append(
                f"The forecast of the largest size, written {when} it was trained, was off by "
                f"{found.rms:.2%} (rms); {found.inside} of {found.runs} runs lie in its "
                f"{self.fit.level:.0%} interval."
            )
        return " ".join(sentences)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Exponents, ratios under both FLOP rules, per set, without long horizons, forecast."""
        return tuple(self._quantities())

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Where the ratios leave what was measured, what could not be fitted, and what compares."""
        found = [
            Diagnostic("no-law-of-part", f"{part}: {why}", part=part, cause=why.code)
            for part, why in self.refused
        ]
        if self.transition is not None:
            found.append(self.transition)
        if self.fit.has_optimum:
            for multiple in MULTIPLES:
                optimum = optimum_at(self.fit, multiple * self.largest_budget)
                found += () if optimum is None else optimum.warnings
        decades = math.log10(PUBLISHED[0].flops / self.largest_budget)
        published = ", ".join(
            f"{p.name}'s {p.ratio:g} is at {p.flops:.2g} FLOPs".replace("e+", "e")
            for p in PUBLISHED
        )
        found.append(
            Diagnostic(
                "ratio-without-compute",
                f"a ratio means nothing without its compute: {published}, {decades:.0f} decades or "
                "more above the runs here, in other tokens; only exponents compare",
                decades=decades,
            )
        )
        return tuple(dict.fromkeys(found))

    def _ratio_sentence(self) -> str:
        if not self.fit.has_optimum:
            return "No best ratio exists yet: none lies within reach of the measured ones."
        best = self.fit.optimum(self.largest_budget)
        further = optimum_at(self.fit, MULTIPLES[-1] * self.largest_budget)
        exact = best.ratio_exact
        counted = "" if exact is None else f", {with_ends(exact, '.2g')} under exact FLOPs"
        eta = _eta(self.fit)
        trend = "whether that changes with compute is not decided"
        if eta.high < 0 or eta.low > 0:
            trend = "more compute wants " + ("more of them" if eta.high < 0 else "fewer of them")
        elif math.isnan(eta.low):
            trend = "nothing tells how sure that is"
        beyond = (
            f", and none within reach at {MULTIPLES[-1]} times the budget"
            if further is None
            else f", and {with_ends(further.ratio, '.2g')} at {MULTIPLES[-1]} times the budget"
        )
        return (
            f"At the largest budget, {self.largest_budget:.2g} FLOPs by 6ND, the best split has "
            f"{with_ends(best.ratio, '.2g')} tokens per param{counted}; {trend} "
            f"(eta = {with_ends(eta, '.2g')}{beyond})."
        )

    def _quantities(self) -> Iterator[Quantity]:
        mean: Fields = {"set": "mean", "sets": len(self.by_set)} if self.by_set else {}
        yield from self._exponents(self.mean, mean)
        yield self.quantity("eta", _eta(self.fit), **mean)
        yield self.quantity("largest-budget", self.largest_budget, "FLOPs")
        if self.fit.has_optimum:
            for multiple in MULTIPLES:
                yield from self._ratios(self.fit, multiple, mean)
            if self.mean.chinchilla.has_optimum:
                best = self.mean.chinchilla.optimum(self.largest_budget)
                yield self.quantity("best-ratio", best.ratio, law="chinchilla", **mean)
            best = self.fit.optimum(self.largest_budget)
            if best.ratio_exact is not None:
                change = best.ratio_exact.value / best.ratio.value
                yield self.quantity("ratio-of-flop-rules", change)
        yield from self._of_sets()
        if self.short is not None:
            yield from self._without_long(self.short)
        if self.forecast is not None:
            share = self.forecast.inside / self.forecast.runs
            yield self.quantity("forecast-inside", share)
            yield self.quantity("forecast-error", self.forecast.rms, "of ln loss")
            for name, rms in self.forecast.baselines.items():
                yield self.quantity("baseline-error", rms, "of ln loss", baseline=name)

    def _of_sets(self) -> Iterator[Quantity]:
        """Exponents and ratio of every set, and the ratio of each two of them."""
        ratios = {}
        for name, laws in self.by_set.items():
            yield from self._exponents(laws, {"set": name})
            fitted = laws.auto
            if fitted.has_optimum:
                yield from self._ratios(fitted, 1, {"set": name})
                ratios[name] = fitted.optimum(self.largest_budget).ratio.value
        for one, other in combinations(sorted(ratios), 2):
            # No interval: their runs are the same, and so their errors are not independent.
            yield self.quantity("ratio-of-sets", ratios[one] / ratios[other], set=one, base=other)

    def _without_long(self, short: Laws) -> Iterator[Quantity]:
        """At the same budget, though without the long horizons it may not have been reached."""
        yield from self._exponents(short, {"without": "long horizons"})
        if not (self.fit.has_optimum and short.auto.has_optimum):
            return
        with_long, without = (f.optimum(self.largest_budget).ratio for f in (self.fit, short.auto))
        yield self.quantity("best-ratio", without, without="long horizons")
        if (wide := _width(with_long)) and (wider := _width(without)):
            yield self.quantity("width-without-long", wider / wide, "of ln D/N")

    def _ratios(self, fitted: Fit, multiple: int, of: Fields) -> Iterator[Quantity]:
        """The best ratio by 6ND, and with attention, embedding and head counted."""
        optimum = optimum_at(fitted, multiple * self.largest_budget)
        if optimum is None:
            return
        of = of if multiple == 1 else {"multiple": multiple, **of}
        yield self.quantity("best-ratio", optimum.ratio, **of)
        if optimum.ratio_exact is not None:
            yield self.quantity("best-ratio", optimum.ratio_exact, **of, flops="exact")

    def _exponents(self, laws: Laws, of: Fields) -> Iterator[Quantity]:
        for name in ("alpha", "beta"):
            found = coefficient(laws.chinchilla, name)
            yield self.quantity("exponent", found, coefficient=name, **of)


def data_model_laws(records: Records) -> tuple[DataModelLaw, ...]:
    """One for each scaling experiment whose runs carry the law; the others have none yet."""
    found = (
        _data_model_law(records, experiment)
        for experiment in records.config.experiments
        if isinstance(experiment, LadderExperiment)
    )
    return tuple(law for law in found if law is not None)


def _data_model_law(records: Records, experiment: LadderExperiment) -> DataModelLaw | None:
    runs = records.of(experiment.name)
    refused: list[tuple[str, FitError]] = []

    def attempt(which: str, runs: Sequence[Run], on: str | None = None) -> Laws | None:
        try:
            return _laws(runs, on, which)
        except FitError as why:
            refused.append((which, why))
            return None

    mean = attempt("the mean loss", runs)
    if mean is None:
        return None
    names = sets_of_all(runs)
    by_set = {name: attempt(name, runs, name) for name in names if len(names) > 1}
    usual = [run for run in runs if run.tokens in _tokens(run, experiment.horizons)]
    short = attempt("without the long horizons", usual) if len(usual) < len(runs) else None
    return DataModelLaw(
        experiment=experiment.name,
        mean=mean,
        by_set={name: laws for name, laws in by_set.items() if laws is not None},
        short=short,
        forecast=forecast_result(records, runs),
        refused=tuple(refused),
        transition=transition_of(
            [run for run in runs if not run.held_out], [run for run in runs if run.held_out]
        ),
    )


def _laws(runs: Sequence[Run], on: str | None, which: str) -> Laws:
    """The laws of one set's loss or the mean's: per byte where bytes are known, else per token."""
    nats = [run.loss if on is None else run.losses[on] for run in runs]
    bits = [run.bits_per_byte if on is None else run.bits_per_byte_by_set.get(on) for run in runs]
    in_bytes = [each * math.log(2) for each in bits if each is not None]
    per_byte = len(in_bytes) == len(runs)
    losses = in_bytes if per_byte else nats
    table = as_table(
        [replace(run, loss=loss) for run, loss in zip(runs, losses, strict=True)],
        filters=("decayed", "finished", which),
    )
    unit = "nats per byte" if per_byte else "nats per token"
    table = table.stated(loss_unit=unit, params_convention="non-embedding")
    return Laws(
        auto=fit(table, "auto", level=LEVEL), chinchilla=fit(table, "chinchilla", level=LEVEL)
    )


def _tokens(run: Run, horizons: Iterable[Duration]) -> set[float]:
    """What the horizons are for a run's size, in tokens."""
    params, batch = run.params, run.batch_tokens
    return {each.steps(params=params, batch_tokens=batch) * batch for each in horizons}


def _width(interval: Interval) -> float | None:
    """Ln(high / low); None without both ends."""
    if not (interval.low > 0 and math.isfinite(interval.high)):
        return None
    return math.log(interval.high / interval.low)


def _eta(fitted: Fit) -> Interval:
    """N/D of the best split grows as C^eta: eta = 2a - 1."""
    a, _ = fitted.exponents
    return Interval(2 * a.value - 1, 2 * a.low - 1, 2 * a.high - 1)
