"""The answer for a full-size run: its recipe, ratio, loss and cost, and how far beyond the runs.

The law answers for any target. Its interval is called one of so many per cent only as far beyond
the runs as forecasts of the same store have come true, or by a factor of 3.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from windtunnel.config import ModelSpec
from windtunnel.config.model import ShapeField
from windtunnel.errors import ConfigError, Diagnostic, FitError
from windtunnel.export.build import best_of, build_handoff
from windtunnel.export.extrapolation import Beyond, beyond_of
from windtunnel.export.fits import StudyFit, read_study_fit
from windtunnel.export.handoff import Best, Handoff
from windtunnel.export.request import Request
from windtunnel.export.size import Sized, nearest_model, takes, target_of
from windtunnel.findings.track_record import past_forecasts
from windtunnel.laws import Fit, Interval
from windtunnel.laws.table import Floats
from windtunnel.runs.forecast import law_runs
from windtunnel.runs.imported import study_runs
from windtunnel.runs.run import Run
from windtunnel.runs.study import Study

LONGER = (1.0, 2.0, 4.0)
"""Sizes and lengths of candidate runs, in those of the largest model and of the longest run."""

NARROWER = 0.95
"""Width of the interval with a candidate run, over the one without, from which it is named."""

MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """A run that would narrow the interval of the target's loss.

    Attributes:
        size: WIDTHxDEPTH.
        tokens: its length.
        flops: its cost, with attention and head.
        seconds: the same at the study's speed; None where that is not known.
        width: of the interval with it, over the width without.
    """

    size: str
    params: int
    tokens: float
    flops: float
    seconds: float | None
    width: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a study answers for one target.

    Attributes:
        requested: the options or fields that say what the target is, as typed.
        sized: whether size and data were requested, or given by the law.
        loss: of one run, nats per token, mean over the validation sets.
        level: coverage of its interval; None where the target lies further than past forecasts
            support, so that the interval is the fit's alone.
        best: the compute-optimal split of the same compute; None where the fit has no optimum.
        beyond: by `params` and `tokens`.
        inherited: what the target has from the study's small models, for want of another value.
        flops: training compute with attention and head counted.
        flops_per_second: of one slot, measured on the study's largest models; None: unknown.
        passes: over the source that is read most often; None where no run knows it.
        narrowing: runs that would narrow the interval, the cheapest first.
        handoff: the recipe; None where `problem` says why there is none.
    """

    requested: Mapping[str, str]
    model: ModelSpec
    tokens: float
    sized: str
    loss: Interval
    level: float | None
    best: Best | None
    beyond: Mapping[str, Beyond]
    inherited: Mapping[str, ShapeField]
    flops: float
    flops_per_second: float | None
    passes: float | None
    narrowing: tuple[Narrowing, ...]
    handoff: Handoff | None
    problem: ConfigError | FitError | None
    warnings: tuple[Diagnostic, ...]

    @property
    def tokens_per_param(self) -> float:
        """D / N of the target."""
        return self.tokens / self.model.params

    @property
    def device_seconds(self) -> float | None:
        """Seconds of one slot at the study's own speed; None where that is unknown."""
        return self.flops / self.flops_per_second if self.flops_per_second else None


def answer_of(study: Study, request: Request, made: StudyFit | None = None) -> Answer:
    """The answer for a target: of the request, the study, or the largest budget of its runs.

    It rests on a fit, or the study's own.

    Raises:
        ConfigError: The study has no fit, or the request names no model of the family.
        FitError: The fit is damaged, or its law gives no size or data where one is left out.
    """
    request = request.filled(study)
    made, runs = made or read_study_fit(study, request), study_runs(study)
    fitted = made.fit
    requested = request.as_typed
    if not request.has_target:
        request = replace(request, flops=fitted.domain["flops"][1])
    sized = target_of(study.study_context, fitted, request)
    handoff, problem = None, None
    try:
        handoff = build_handoff(study, replace(request, extrapolate=True), made).handoff
    except (ConfigError, FitError) as refused:
        problem = refused
    model, tokens = sized.model, sized.tokens if handoff is None else float(handoff.counts.tokens)
    loss = fitted.predict(model.params, tokens)
    beyond = beyond_of(fitted, model.params, tokens, past_forecasts(study.store))
    own = [run for run in law_runs(runs) if run.is_of(*made.experiments) and not run.imported]
    speed = _speed(own)
    return Answer(
        requested=requested,
        model=model,
        tokens=tokens,
        sized=sized.how,
        loss=loss,
        level=fitted.level if all(each.holds for each in beyond.values()) else None,
        best=best_of(fitted, fitted.flop_factor * model.params * tokens),
        beyond=beyond,
        inherited=dict(_inherited(study, request, handoff)),
        flops=float(model.flops_exact_per_token) * tokens,
        flops_per_second=speed,
        passes=_passes(own, tokens),
        narrowing=narrowing(study, fitted, sized, speed),
        handoff=handoff,
        problem=problem,
        warnings=handoff.warnings if handoff is not None else (*fitted.warnings, *loss.warnings),
    )


def narrowing(
    study: Study, fitted: Fit, target: Sized, speed: float | None
) -> tuple[Narrowing, ...]:
    """Runs that would narrow the interval of the target's loss, the cheapest first.

    With draws of ln loss at the target t and at a candidate c, and a run's noise s, a run there
    leaves var(t) - cov(t, c)^2 / (var(c) + s^2): linear Gaussian updating.
    """
    if not len(fitted.draws):
        return ()
    models = {model.params: model for model in _candidates(study, fitted)}
    params = np.array([n for n in models for _ in LONGER], dtype=float)
    longest = fitted.domain["tokens"][1]
    tokens = np.array([longest * times for _ in models for times in LONGER])
    at = np.log(
        fitted.curves(np.append(params, target.model.params), np.append(tokens, target.tokens))
    )
    at = at[np.isfinite(at).all(axis=1)]
    noise = fitted.sigma_trunk**2 + fitted.sigma_branch**2
    found = []
    for n, d, left in zip(params, tokens, _left(at, noise), strict=True):
        if left > NARROWER or (n >= target.model.params and d >= target.tokens):
            continue
        model = models[int(n)]
        cost = float(model.flops_exact_per_token) * float(d)
        found.append(
            Narrowing(
                size=model.size,
                params=model.params,
                tokens=float(d),
                flops=cost,
                seconds=cost / speed if speed else None,
                width=float(left),
            )
        )
    return tuple(_worth_their_cost(sorted(found, key=lambda each: each.flops)))[:MOST_NAMED]


def _left(at: Floats, noise: float) -> Floats:
    """Widths (C,) of the interval at the last column of draws (S, C + 1), each with a run there."""
    covariance = np.cov(at, rowvar=False)
    variance = covariance[-1, -1] + noise
    gained = covariance[-1, :-1] ** 2 / (np.diagonal(covariance)[:-1] + noise)
    return np.asarray(np.sqrt(np.maximum(1 - gained / variance, 0.0)))


def _worth_their_cost(runs: Sequence[Narrowing]) -> Iterator[Narrowing]:
    """Those, ascending in cost, that narrow the interval more than every cheaper one."""
    narrowest = math.inf
    for run in runs:
        if run.width < narrowest:
            narrowest = run.width
            yield run


def _candidates(study: Study, fitted: Fit) -> Iterator[ModelSpec]:
    """The family's models near the largest size, and near some multiples of it."""
    largest = fitted.domain["params"][1]
    for times in LONGER:
        yield nearest_model(study.config.model, study.study_context.vocab_size, largest * times)


def _inherited(
    study: Study, request: Request, handoff: Handoff | None
) -> Iterator[tuple[str, ShapeField]]:
    """Names and values of what nobody gave for the target."""
    yield from _shape(study, request) if request.model is None else ()
    if request.vocab_size is None:
        yield "vocab_size", study.study_context.vocab_size
    if handoff is not None and handoff.batch.how in {"search", "study"}:
        yield "batch_tokens", handoff.batch.batch_tokens


def _shape(study: Study, request: Request) -> Iterator[tuple[str, ShapeField]]:
    """Fields of the shape that the target has from the study's family."""
    family = study.config.model
    if request.context is None:
        yield "context", family.context
    yield from ((f"shape.{name}", value) for name, value in family.shape.items())
    if request.head_dim is None and takes(family, "head_dim"):
        yield "head_dim", family.head_dim
    if request.heads_per_kv is not None or not takes(family, "heads_per_kv"):
        return
    if family.kv_heads is not None:
        yield "kv_heads", family.kv_heads
    else:
        yield "heads_per_kv", family.heads_per_kv


def _speed(runs: Sequence[Run]) -> float | None:
    """FLOP/s of one slot on the largest models that were trained here; None where no run tells."""
    timed = [run for run in runs if run.seconds and run.flops_spent]
    largest = max((run.params for run in timed), default=0)
    chosen = [run for run in timed if run.params == largest]
    seconds = sum(run.seconds for run in chosen)
    return float(sum(run.flops_spent for run in chosen) / seconds) if seconds else None


def _passes(runs: Sequence[Run], tokens: float) -> float | None:
    """Passes over the source that is read most often, in proportion to the longest run's."""
    known = [run for run in runs if run.epochs is not None]
    if not known:
        return None
    longest = max(known, key=lambda run: run.tokens)
    return float(longest.epochs * tokens / longest.tokens)
