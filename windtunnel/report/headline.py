"""The answers on the first screen, and the optima of other budgets, which stand in the appendix."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from windtunnel.config.model import Hold
from windtunnel.errors import Diagnostic, FitError, WindtunnelError
from windtunnel.export.answer import Answer
from windtunnel.laws import Fit, Interval, Optimum
from windtunnel.mup import Role
from windtunnel.report.formatting import (
    NONE,
    count,
    duration,
    interval_span,
    loss,
    scientific,
    short,
    significant,
    span,
    typeset,
)
from windtunnel.report.inputs import ReportInputs, ScalingLaw, Search, StandingRecipe
from windtunnel.runs.search.noise import LEVEL
from windtunnel.runs.search.summary import value_text

TARGET = "Your run"

FAR = 1.5
"""A number that lies further than this factor beyond what was run is called extrapolated."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One number of an answer.

    Attributes:
        note: its interval, or what it is of.
        beyond: the factor by which it lies outside what was run; None up to `FAR`.
    """

    name: str
    text: str
    note: str = ""
    beyond: float | None = None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What to train for one budget or target; `problem` where there is no answer."""

    title: str
    budget: str
    facts: tuple[Fact, ...] = ()
    hyperparameters: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    problem: str = ""


def headlines(inputs: ReportInputs) -> tuple[Headline, ...]:
    """The study's target first, then each law at the largest measured budget.

    Without a law, the best of each search.
    """
    if inputs.laws:
        planned = tuple(map(_of_planned, inputs.planned_runs))
        return planned + tuple(
            _of_law(law, _recipe_of(inputs.recipes, law.experiment), several=len(inputs.laws) > 1)
            for law in inputs.laws
        )
    return tuple(
        _of_search(search, _recipe_of(inputs.recipes, search.outcome.experiment.name))
        for search in inputs.searches
        if search.outcome.winner is not None
    )


def _recipe_of(recipes: Sequence[StandingRecipe], experiment: str) -> StandingRecipe | None:
    return next((each for each in recipes if each.experiment == experiment), None)


def _of_law(law: ScalingLaw, recipe: StandingRecipe | None, *, several: bool) -> Headline:
    title = "What to train" + (f", by {law.experiment}" if several else "")
    if law.fit is None:
        return Headline(title=title, budget="", problem=str(law.problem))
    flops = law.fit.domain["flops"][1]
    budget = f"{scientific(flops)} FLOPs, the largest measured budget"
    try:
        best = law.fit.optimum(flops)
    except FitError as refused:
        return Headline(title=title, budget=budget, problem=str(refused))
    far = {name: _beyond(getattr(best, name).value, law.fit, name)
           for name in ("params", "tokens", "ratio")}  # fmt: skip
    facts = (
        Fact(name="Model", text=f"{count(best.params.value)} params",
             note=interval_span(best.params, count), beyond=far["params"]),
        Fact(name="Data", text=f"{count(best.tokens.value)} tokens",
             note=interval_span(best.tokens, count), beyond=far["tokens"]),
        Fact(name="Tokens per param", text=significant(best.ratio.value),
             note=interval_span(best.ratio), beyond=far["ratio"]),
        Fact(name="Loss", text=loss(best.loss.value),
             note=f"{interval_span(best.loss, loss)}, {law.fit.loss_unit}"),
    )  # fmt: skip
    where = best.params.value, best.tokens.value
    hyper = () if recipe is None else tuple(_hyperparameters(recipe, *where))
    return Headline(title=title, budget=budget, facts=facts, hyperparameters=hyper,
                  warnings=_warnings_of(best))  # fmt: skip


def _of_planned(planned: Answer | WindtunnelError) -> Headline:
    """The run that the study is for."""
    if isinstance(planned, WindtunnelError):
        return Headline(title=TARGET, budget="", problem=str(planned))
    model, best = planned.model, planned.best
    facts = [
        Fact(
            name="Loss",
            text=loss(planned.loss.value),
            note=f"{interval_span(planned.loss, loss)}, nats per token"
            + ("" if planned.level else "; the range of the fit, of no known coverage so far out"),
            beyond=_furthest(planned),
        ),
        Fact(name="Compute", text=scientific(planned.flops), note="FLOPs, attention and head too"),
    ]
    if best is not None:
        ratio = best.tokens_per_param
        low, high = (math.inf if end is None else end for end in (ratio.low, ratio.high))
        ends = span(low, high)
        facts.insert(
            1,
            Fact(
                name="Best tokens per param",
                text=significant(ratio.value),
                note=f"{ends}, at this compute; yours are {significant(planned.tokens_per_param)}",
            ),
        )
    if planned.device_seconds is not None and planned.flops_per_second is not None:
        speed = f"on one slot at this study's {scientific(planned.flops_per_second)} FLOP/s"
        facts.append(Fact(name="Time", text=duration(planned.device_seconds), note=speed))
    if planned.passes is not None:
        passes = significant(planned.passes)
        facts.append(Fact(name="Passes", text=passes, note="over the source read most often"))
    return Headline(
        title=TARGET,
        budget=f"{model.size.replace('x', '×')}, {count(model.params)} params on "
        f"{count(planned.tokens)} tokens; {planned.sized}",
        facts=tuple(facts),
        hyperparameters=tuple(_of_handoff(planned)),
        notes=tuple(_notes(planned)),
        warnings=planned.warnings,
    )


def _furthest(planned: Answer) -> float | None:
    """The factor by which it lies beyond the runs; None up to `FAR`."""
    times = max(each.times for each in planned.beyond.values())
    return times if times > FAR else None


def _of_handoff(planned: Answer) -> Iterator[Fact]:
    """Rate, batch, warm-up, weight decay and decay of the planned run."""
    handoff = planned.handoff
    if handoff is None:
        return
    recipe, steps, batch = handoff.recipe, handoff.schedule, handoff.batch
    hidden = field_text(handoff.roles[Role.HIDDEN].lr)
    where = f"peak, at base width {recipe.base_width}; hidden matrices {hidden}"
    yield Fact(name="Learning rate", text=field_text(recipe.lr), note=where)
    found = {"law": "by the batch law", "search": "as a search found it", "given": "as given",
             "study": "as the small models have it"}  # fmt: skip
    yield Fact(name="Batch", text=_batch(batch.batch_tokens), note=f"tokens, {found[batch.how]}")
    yield Fact(name="Warm-up", text=f"{steps.warmup:,}", note=f"of {steps.end:,} updates")
    yield Fact(name="Weight decay", text=field_text(recipe.weight_decay))
    share = (steps.end - steps.decay_start) / steps.end
    yield Fact(name="Decay", text=steps.shape, note=f"over the last {share:.0%}")


def _batch(tokens: int) -> str:
    return short(tokens) if tokens >= 1e4 else f"{tokens:,}"


def _notes(planned: Answer) -> Iterator[str]:
    """Why there is no recipe, what is inherited, and which runs would narrow the interval."""
    if planned.problem is not None:
        yield f"No recipe: {planned.problem}"
    if planned.inherited:
        named = ", ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
            for name, value in planned.inherited.items()
        )
        yield f"From the small models, for want of the run's own: {named}."
    for each in planned.narrowing:
        took = "" if each.seconds is None else f", {duration(each.seconds)}"
        yield (
            f"To narrow the loss: {each.size.replace('x', '×')} on {count(each.tokens)} tokens "
            f"({scientific(each.flops)} FLOPs{took}) leaves {each.width:.0%} of its interval."
        )


def _beyond(value: float, fit: Fit, name: str) -> float | None:
    low, high = fit.domain[name]
    factor = max(value / high, low / value) if value > 0 else math.inf
    return factor if factor > FAR else None


def _of_search(search: Search, recipe: StandingRecipe | None) -> Headline:
    outcome = search.outcome
    ends = outcome.winner_interval()
    facts = (
        Fact(name="Model", text=search.size.replace("x", "×")),
        Fact(name="Data", text=typeset(str(outcome.experiment.horizon))),
        Fact(name="Loss", text=loss(outcome.winner.mean if outcome.winner else None),
             note=f"{span(*ends, loss)}, nats per token" if ends else "nats per token"),
    )  # fmt: skip
    return Headline(
        title=f"Best of search {outcome.experiment.name}",
        budget=f"{len(outcome.results)} trials; ranges are {LEVEL:.0%} intervals",
        facts=facts,
        hyperparameters=() if recipe is None else tuple(_hyperparameters(recipe, None, None)),
    )


def _hyperparameters(
    standing: StandingRecipe, params: float | None, tokens: float | None
) -> Iterator[Fact]:
    """Rate, batch, warm-up, weight decay and schedule, carried to the answer's place."""
    recipe, schedule = standing.recipe, standing.schedule
    rate, decay = recipe.lr, recipe.weight_decay
    if params is not None and tokens is not None:
        moved = standing.at(params, tokens)
        rate, decay = moved["lr"], moved["weight_decay"]
    width = "" if recipe.parametrization == "standard" else f", at base width {recipe.base_width}"
    yield Fact(name="Learning rate", text=field_text(rate), note=f"peak{width}")
    batch = recipe.batch_tokens
    yield Fact(name="Batch", text=_batch(batch), note="tokens")
    yield Fact(name="Warm-up", text=f"{recipe.warmup_steps:,}", note="updates")
    yield Fact(name="Weight decay", text=field_text(decay))
    hold = schedule.hold
    stable = (
        f"held to {typeset(str(hold.start))}, then as tokens^{hold.power:g}".replace("^-", "^−")
        if isinstance(hold, Hold)
        else "after a constant rate"
    )
    decayed = (
        "the whole run" if schedule.decay_share == 1 else f"the last {schedule.decay_share:.0%}"
    )
    yield Fact(name="Decay", text=schedule.shape, note=f"over {decayed}, {stable}")


@dataclass(frozen=True, kw_only=True)
class BudgetOptimum:
    """The best model and data for one budget, or the `problem` that says why there is none."""

    label: str
    flops: float
    optimum: Optimum | None
    problem: FitError | None = None

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Where the optimum leaves what was measured, each once."""
        return () if self.optimum is None else _warnings_of(self.optimum)

    @property
    def exact(self) -> Interval | None:
        """The best ratio with every FLOP counted."""
        return None if self.optimum is None else self.optimum.ratio_exact


def _warnings_of(best: Optimum) -> tuple[Diagnostic, ...]:
    # The run is named by its own N, D and C; what `loss` adds on C and D/N is said already.
    return tuple(dict.fromkeys((*best.warnings, *best.loss.warnings)))


def budgets(fit: Fit) -> tuple[tuple[str, float], ...]:
    """Four budgets in FLOPs by the fit's rule: inside, at the edge, and up to two decades on."""
    low, high = fit.domain["flops"]
    return (
        ("middle of those measured", math.sqrt(low * high)),
        ("largest measured", high),
        ("10 times the largest", 10 * high),
        ("100 times the largest", 100 * high),
    )


def budget_optima(law: ScalingLaw) -> tuple[BudgetOptimum, ...]:
    """The optimum of each budget; none without a fit."""
    if law.fit is None:
        return ()
    return tuple(_optimum_at(law.fit, label, flops) for label, flops in budgets(law.fit))


def _optimum_at(fit: Fit, label: str, flops: float) -> BudgetOptimum:
    try:
        return BudgetOptimum(label=label, flops=flops, optimum=fit.optimum(flops))
    except FitError as refused:
        return BudgetOptimum(label=label, flops=flops, optimum=None, problem=refused)


def grid_value(text: str) -> str:
    """A value of a grid's axis, three digits of a number."""
    try:
        value = float(text)
    except ValueError:
        return text
    return text if value.is_integer() else field_text(value)


def field_text(value: object) -> str:
    """A value of the recipe as a study file has it, with counts for people."""
    match value:
        case None:
            return NONE
        case bool():
            return str(value).lower()
        case Hold():
            return f"tokens^{value.power:g} from {typeset(str(value.start))}".replace("^-", "^−")
        case int():
            return short(value) if value >= 1e4 else f"{value:,}"
    return typeset(value_text(value))
