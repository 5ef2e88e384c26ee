"""Break-even of upcycling: after how many new tokens it is ahead, and until how many it stays so.

Upcycling copies a dense model of D1 sunk tokens into experts and trains them on D2 new ones. Two
other uses of the D2 tokens compete: the dense model goes on, to D1 + D2 tokens, or a mixture of
experts starts from scratch. Each has a law of its own; this compares their losses along D2.

Losses are compared at equal new tokens. An upcycled model has more active parameters than its dense
one if a token visits several experts, so that a token of it costs more.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from windtunnel.errors import Diagnostic, FitError
from windtunnel.laws.interval import Interval, Span, beyond, codes_text, quantiles, span_text
from windtunnel.laws.misfit import decades_by_axis
from windtunnel.laws.result import Fit
from windtunnel.laws.table import Floats
from windtunnel.quantities import write_count

REACH = 10.0
"""New tokens beyond the fitted ones, both ways, by this factor at most: further is no answer."""
PER_DECADE = 200
"""Points in which the curves are compared; a crossing is interpolated between two."""
MOST_POINTS = 4000

ScratchTokens = Literal["new", "total"]
NEW, TOTAL = get_args(ScratchTokens)
Rival = Literal["dense", "scratch"]
RIVALS: Mapping[Rival, str] = {
    "dense": "the dense continuation",
    "scratch": "a mixture of experts from scratch",
}


@dataclass(frozen=True)
class Lead:
    """The new tokens at which upcycling has the lower loss than a rival: from `start` to `end`.

    A start of 0 is before the fewest new tokens compared, and an end of infinity beyond the most.
    A start of infinity with an end of 0 is nowhere between.

    Attributes:
        ever: share of the pairs of draws in which upcycling is ahead somewhere; nan without draws.
    """

    over: Rival
    start: Interval
    end: Interval
    ever: float

    @property
    def never(self) -> bool:
        """Whether the laws themselves give no lead at any of the tokens compared."""
        return math.isinf(self.start.value)


@dataclass(frozen=True, kw_only=True, repr=False)
class BreakEven:
    """When upcycling pays: its lead over each rival that has a law.

    Attributes:
        span: fewest and most new tokens compared.
        scratch_tokens: what a model from scratch is given: the `new` tokens alone, or the `total`.
        pairs: number of pairs of draws behind every interval.
    """

    params: float
    dense_params: float
    sunk_tokens: float
    experts: float | None
    span: Span
    scratch_tokens: ScratchTokens
    level: float
    pairs: int
    dense: Lead | None = None
    scratch: Lead | None = None
    warnings: tuple[Diagnostic, ...] = field(default=())

    def __repr__(self) -> str:
        lines = [f"upcycling after {write_count(self.sunk_tokens)} tokens, new tokens at which"]
        for lead in self.leads:
            for word in ("start", "end"):
                found: Interval = getattr(lead, word)
                text = span_text(found.value, found.low, found.high)
                lines.append(f"  its lead over {RIVALS[lead.over]} {word}s: {text}")
        return "\n".join([*lines, *codes_text(self.warnings)])

    @property
    def leads(self) -> tuple[Lead, ...]:
        """Over every rival that has a law."""
        return tuple(lead for lead in (self.dense, self.scratch) if lead is not None)


def break_even(
    upcycling: Fit,
    *,
    params: float,
    sunk_tokens: float,
    dense: Fit | None = None,
    scratch: Fit | None = None,
    dense_params: float | None = None,
    experts: float | None = None,
    scratch_tokens: ScratchTokens = "new",
    reach: float = REACH,
) -> BreakEven:
    """After how many new tokens upcycling beats the dense continuation, and loses to a fresh start.

    Intervals come from pairs of draws, one of each fit in random order, since fits of two tables
    know nothing of each other. They hold the uncertainty of the laws, and no noise of single runs.

    Args:
        upcycling: a fit of law `upcycling`.
        params: active parameters of the upcycled model, and of the one from scratch.
        sunk_tokens: tokens of the dense model before it is upcycled.
        dense: a fit of size and tokens (`auto`, `chinchilla`, `coupled`) to dense models.
        scratch: a fit to mixtures of experts from scratch: one of these laws, or `moe-data`.
        dense_params: parameters of the dense model; None: `params`.
        experts: of the model from scratch, where its law is `moe-data`.
        scratch_tokens: `new`: a model from scratch is trained on the new tokens alone; `total`: on
            as many as the upcycled model has seen with those of its dense past.
        reach: factor beyond the fitted new tokens within which a lead is sought.

    Raises:
        FitError: a fit of another law or loss, no rival, or a number that is not positive.
    """
    _require_numbers(
        params=params, dense_params=dense_params, sunk_tokens=sunk_tokens, experts=experts
    )
    if not (reach >= 1 and math.isfinite(reach)):
        raise FitError(
            "out-of-range",
            f"break_even: reach = {reach}, must be 1 or more, and finite",
            option="reach",
            value=reach,
            low=1,
        )
    if scratch_tokens not in (NEW, TOTAL):
        raise FitError(
            "unknown-value",
            f"break_even: scratch_tokens = {scratch_tokens!r}: {NEW} or {TOTAL}",
            option="scratch_tokens",
            value=scratch_tokens,
            known=[NEW, TOTAL],
        )
    _require_laws(upcycling, dense, scratch, experts)
    size = params if dense_params is None else dense_params
    low, high = upcycling.domain["tokens"]
    span = (low / reach, high * reach)
    decades = math.log10(span[1] / span[0])
    tokens = np.geomspace(*span, min(max(int(PER_DECADE * decades), 2), MOST_POINTS))
    mine = _Curves.of(upcycling, params, sunk_tokens, tokens)
    total = sunk_tokens + tokens
    rivals: list[tuple[Rival, Fit, dict[str, float], Floats]] = []
    if dense is not None:
        rivals.append(("dense", dense, {"params": size}, total))
    if scratch is not None:
        at = {"params": params} if experts is None else {"params": params, "experts": experts}
        given = tokens if scratch_tokens == NEW else total
        rivals.append(("scratch", scratch, at, given))
    leads: dict[str, Lead] = {}
    pairs = len(mine.draws)
    found = _beyond("upcycling", upcycling, {"params": params, "sunk_tokens": sunk_tokens})
    for number, (name, fit, at, given) in enumerate(rivals, 1):
        theirs = _Curves.of(fit, *at.values(), given, number=number)
        lead = leads[name] = _lead(name, mine, theirs, tokens, upcycling.level)
        pairs = min(pairs, len(theirs.draws))
        found += _outside(lead, span, reach)
        crossing = lead.start.value if name == "dense" else lead.end.value
        if 0 < crossing < math.inf:
            found += _beyond("upcycling", upcycling, {"tokens": crossing})
            found += _beyond(name, fit, {"tokens": float(np.interp(crossing, tokens, given))})
        found += _beyond(name, fit, at)
    return BreakEven(
        params=params,
        dense_params=size,
        sunk_tokens=sunk_tokens,
        experts=experts,
        span=span,
        scratch_tokens=scratch_tokens,
        level=upcycling.level,
        pairs=pairs,
        dense=leads.get("dense"),
        scratch=leads.get("scratch"),
        warnings=tuple(dict.fromkeys(found)),
    )


@dataclass(frozen=True)
class _Curves:
    """Losses along the new tokens: of the fit (P,), and of its draws (S, P) in random order."""

    fitted: Floats
    draws: Floats

    @classmethod
    def of(cls, fit: Fit, *inputs: float | Floats, number: int = 0) -> "_Curves":
        # Fits of one seed share their random numbers, so their draws are put in another order each.
        order = np.random.default_rng([fit.seed, number]).permutation(len(fit.draws))
        draws = fit.curves(*inputs)
        if fit.misfit is not None and len(draws):
            params, tokens = np.broadcast_arrays(*inputs)
            away = decades_by_axis(fit.domain, params, tokens, fit.flop_factor)
            draws = np.exp(fit.misfit.widened(np.log(draws), away))
        return cls(np.asarray(fit(*inputs)), draws[order])


def _lead(over: Rival, mine: _Curves, theirs: _Curves, tokens: Floats, level: float) -> Lead:
    """The lead of the laws themselves, and its interval over pairs of draws."""
    pairs = min(len(mine.draws), len(theirs.draws))
    start, end = first_lead((theirs.fitted - mine.fitted)[None], tokens)
    starts, ends = first_lead(theirs.draws[:pairs] - mine.draws[:pairs], tokens)
    return Lead(
        over=over,
        start=Interval(float(start[0]), *quantiles(starts, level)),
        end=Interval(float(end[0]), *quantiles(ends, level)),
        ever=float(np.mean(np.isfinite(starts))) if pairs else math.nan,
    )


def first_lead(gain: Floats, tokens: Floats) -> tuple[Floats, Floats]:
    """The first stretch of `tokens` (P,) where `gain` (S, P) is positive: its ends, (S,) each.

    0 and infinity where it reaches the ends of `tokens`; infinity and 0 where there is none.
    """
    rows = np.arange(len(gain))
    ahead = gain > 0
    first = np.argmax(ahead, axis=1)
    after = ~ahead & (np.arange(tokens.size) > first[:, None])
    last = np.argmax(after, axis=1)
    ever, ends = ahead.any(axis=1), after.any(axis=1)
    log = np.log(tokens)

    def crossing(right: np.typing.NDArray[np.intp]) -> Floats:
        left = np.maximum(right - 1, 0)
        before, behind = gain[rows, left], gain[rows, right]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(before == behind, 1.0, before / (before - behind))
        return np.asarray(np.exp(log[left] + share * (log[right] - log[left])))

    start = np.where(first > 0, crossing(first), 0.0)
    end = np.where(ends, crossing(last), np.inf)
    return np.where(ever, start, np.inf), np.where(ever, end, 0.0)


def _outside(lead: Lead, span: Span, reach: float) -> Iterator[Diagnostic]:
    """What lies beyond the tokens compared: no lead, or one without an end."""
    rival, most = RIVALS[lead.over], write_count(span[1])
    if lead.never:
        yield Diagnostic(
            "never-ahead",
            f"upcycling is not ahead of {rival} anywhere up to {most} new tokens, {reach:g} times "
            "the most that were fitted",
            over=lead.over,
            tokens=span[1],
            reach=reach,
        )
    elif math.isinf(lead.end.value):
        yield Diagnostic(
            "always-ahead",
            f"upcycling stays ahead of {rival} up to {most} new tokens, {reach:g} times the most "
            "that were fitted",
            over=lead.over,
            tokens=span[1],
            reach=reach,
        )


def _beyond(name: str, fit: Fit, at: Mapping[str, float]) -> list[Diagnostic]:
    """Warnings about numbers outside what a fit was fitted to."""
    found = (beyond(each, value, fit.domain[each]) for each, value in at.items())
    return [warning.at(f"{name} law", fit=name) for warning in found if warning is not None]


def _require_numbers(**numbers: float | None) -> None:
    for name, value in numbers.items():
        low = 1 if name == "experts" else 0
        if value is None or (math.isfinite(value) and value > 0 and value >= low):
            continue
        allowed = "at least 1" if name == "experts" else "above 0"
        raise FitError(
            "out-of-range",
            f"break_even: {name} = {value}, must be {allowed} and finite",
            option=name,
            value=value,
            low=low,
        )


SIZE_AND_TOKENS = ("params", "tokens")
WITH_EXPERTS = ("params", "experts", "tokens")


def _require_laws(
    upcycling: Fit, dense: Fit | None, scratch: Fit | None, experts: float | None
) -> None:
    """Check that the fits are of the laws that are compared, in one unit of loss."""
    if dense is None and scratch is None:
        raise FitError(
            "missing-input",
            "break_even: give a fit of dense models, one of mixtures of experts from scratch, or "
            "both",
            missing=["dense", "scratch"],
        )
    allowed: dict[str, tuple[Fit | None, list[tuple[str, ...]]]] = {
        "upcycling": (upcycling, [("params", "sunk_tokens", "tokens")]),
        "dense": (dense, [SIZE_AND_TOKENS]),
        "scratch": (scratch, [SIZE_AND_TOKENS, WITH_EXPERTS]),
    }
    for name, (fit, inputs) in allowed.items():
        if fit is not None and fit.form.inputs not in inputs:
            laws = {"upcycling": "upcycling", "dense": "auto, chinchilla or coupled"}
            known = laws.get(name, "auto, chinchilla, coupled or moe-data")
            raise FitError(
                "wrong-law",
                f"break_even: {name}: a fit of law {fit.law}; wanted is {known}",
                fit=name,
                law=fit.law,
                needed=known,
            )
        if fit is not None and _unit(fit) != _unit(upcycling):
            raise FitError(
                "unlike-fits",
                f"break_even: the losses of {name} are in {_unit(fit)}, those of upcycling in "
                f"{_unit(upcycling)}: fit both to one loss",
                fit=name,
                units=[_unit(fit), _unit(upcycling)],
            )
    reads = scratch is not None and scratch.form.inputs == WITH_EXPERTS
    if reads and experts is None:
        raise FitError(
            "missing-input",
            "break_even: the law of models from scratch also needs experts, their number",
            law="moe-data",
            missing=["experts"],
        )
    if experts is not None and not reads:
        raise FitError(
            "unknown-input",
            "break_even: experts: only a scratch fit of law moe-data reads it",
            input="experts",
            law=None if scratch is None else scratch.law,
        )


def _unit(fit: Fit) -> str:
    """The loss unit without how it was found out."""
    return fit.loss_unit.partition(",")[0]
