"""How far a target lies beyond the runs, and how far beyond them an interval is known to hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windtunnel.config import ModelSpec
from windtunnel.errors import ConfigError, Diagnostic
from windtunnel.findings.track_record import PastForecast
from windtunnel.laws import Fit
from windtunnel.laws.interval import Span, decades_beyond
from windtunnel.runs.forecast import law_runs
from windtunnel.runs.run import Run

FURTHEST = 0.5
"""Decades in params and in tokens that a target may lie beyond the fitted runs, a factor of 3.

Assumed, between what is known: on the quickstart (docs/export/torch.md) all ten held-out runs lay
inside their intervals 0.16 decades beyond, and 0.4 beyond in both the loss was 3% above, outside.
"""

FEWEST = 3
"""Past forecasts at a distance, or beyond it, that say whether intervals hold there."""

HELD = 0.8
"""Share of them inside their interval from which it is taken to hold."""


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """How far the target lies beyond the fitted runs along one quantity.

    Attributes:
        times: the target over the largest fitted run.
        below: the smallest fitted run over the target.
        supported: the ratio up to which the interval is one of so many per cent.
    """

    times: float
    below: float
    supported: float

    @property
    def holds(self) -> bool:
        """Whether past forecasts support an interval here."""
        return max(self.times, self.below) <= self.supported


def beyond_of(
    fitted: Fit, params: float, tokens: float, past: Sequence[PastForecast]
) -> dict[str, Beyond]:
    """How far a target lies beyond the fitted runs, and how far past forecasts have held."""
    return {
        name: Beyond(
            times=value / fitted.domain[name][1],
            below=fitted.domain[name][0] / value,
            supported=_supported(past, name),
        )
        for name, value in (("params", params), ("tokens", tokens))
    }


def _supported(past: Sequence[PastForecast], along: str) -> float:
    """The furthest ratio at which forecasts held, in a store with enough of them."""
    judged = sorted(
        (each for each in past if each.blind and each.inside is not None),
        key=lambda each: -getattr(each, along),
    )
    furthest = 10**FURTHEST
    for count in range(FEWEST, len(judged) + 1):
        beyond = judged[:count]
        if sum(each.inside is True for each in beyond) >= HELD * count:
            return float(max(furthest, getattr(beyond[-1], along)))
    return furthest


def own_domain(runs: Sequence[Run], experiments: Sequence[str]) -> dict[str, Span]:
    """Range of params and tokens of the study's own runs of the fitted experiments.

    Imported runs tell the law how loss falls, but were trained by another recipe.
    """
    own = [run for run in law_runs(runs) if run.is_of(*experiments) and not run.imported]
    if not own:
        raise ConfigError(
            "only-imported-runs",
            "every fitted run is imported: none was trained by this study's recipe, and there is "
            "none to hand over; sweep the study",
            experiments=sorted(experiments),
        )
    params, tokens = [float(run.params) for run in own], [float(run.tokens) for run in own]
    return {"params": (min(params), max(params)), "tokens": (min(tokens), max(tokens))}


def check_reach(
    fitted: Fit, own: Mapping[str, Span], model: ModelSpec, tokens: float, *, accepted: bool
) -> list[Diagnostic]:
    """Warnings where the target lies outside the fitted runs, or outside the study's own.

    Raises:
        ConfigError: It lies further than `FURTHEST` decades, and that was not accepted.
    """
    found = list[Diagnostic]()
    far = list[Diagnostic]()
    target = {"params": float(model.params), "tokens": tokens}
    for domain in (fitted.domain, own):
        for name, value in target.items():
            decades = decades_beyond(value, domain[name])
            if not decades or (domain is own and own[name] == fitted.domain[name]):
                continue
            runs = (
                "the runs of this recipe (the study's own)" if domain is own else "the fitted runs"
            )
            side, edge = ("above", 1) if decades > 0 else ("below", 0)
            found.append(
                Diagnostic(
                    "recipe-beyond" if domain is own else "extrapolates",
                    f"{name} = {value:.3g} is {abs(decades):.2f} decades {side} {runs} "
                    f"({domain[name][edge]:.3g})",
                    column=name,
                    value=value,
                    decades=decades,
                )
            )
            if abs(decades) > FURTHEST:
                far.append(found[-1])
    if far and not accepted:
        raise ConfigError(
            "beyond-domain",
            f"{' and '.join(each.message for each in far)}, and no more than {FURTHEST:g} is "
            "handed over: train larger sizes or longer horizons, or take the forecast as it is "
            "with --extrapolate, which the Handoff will say",
            furthest=FURTHEST,
            beyond=[{**each.values, "code": each.code} for each in far],
        )
    return found
