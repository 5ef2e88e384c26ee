"""The recipe at the target: every setting by its rule, with what it rests on.

A setting follows length, depth or batch by the study's own rule (`transfer:`), else by what a grid
of the study, or of one taken along, has measured. Where neither is there it is kept, with a
warning.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from windtunnel.config import Recipe
from windtunnel.config.model import ScheduleConfig
from windtunnel.config.own_values import own_values
from windtunnel.errors import Diagnostic
from windtunnel.export.handoff import Estimate, LrRule, Transferred, finite
from windtunnel.export.request import StudyRecords
from windtunnel.findings.lr_curves import LRCurve, mean_exponent
from windtunnel.findings.lr_transfer import TransferFinding, transfers, weight_decays
from windtunnel.laws import Interval
from windtunnel.transfer import TABLE, Cell, Place, Rule, Setting, factors

ALONG = {"tokens": "length", "depth": "depth"}
"""What a finding's curves lie along, as the transfer table calls it."""

LONG_BATCH = 2.0
"""Ratio of batches from which an unchanged beta2 gets a warning (assumed)."""


@dataclass(frozen=True, kw_only=True)
class TunedRecipe:
    """The recipe that an export starts from, and where it was tuned.

    Attributes:
        recipe: at base width.
        schedule: of the runs that the law was fitted to.
        place: None where nothing tells.
    """

    recipe: Recipe
    schedule: ScheduleConfig
    place: Place | None

    @property
    def at_its_batch(self) -> Recipe:
        """The recipe with the batch at which its rate was tuned."""
        if self.place is None:
            return self.recipe
        return self.recipe.replace(batch_tokens=int(self.place.batch_tokens))


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """A rule for one cell, and what it rests on.

    Attributes:
        rule: with its power.
        name: of the rule; `measured`, or empty for a power of one's own.
        where: the study and the experiment that measured it; empty for a published rule.
        power: as measured, with its interval; None for a published rule.
        curves: of the values tried, ascending; none for a published rule.
        best: the best value at the middle of the places measured.
        middle: that place.
    """

    rule: Rule
    name: str
    where: str = ""
    power: Interval | None = None
    curves: tuple[LRCurve, ...] = ()
    best: float | None = None
    middle: float | None = None


@dataclass(frozen=True, kw_only=True)
class TransferredRecipe:
    """The recipe at the target, how each of its settings came there, and warnings."""

    recipe: Recipe
    settings: tuple[Transferred, ...]
    warnings: tuple[Diagnostic, ...] = field(default=())


def transferred_recipe(
    studies: Sequence[StudyRecords],
    tuned: TunedRecipe,
    target: Place,
    *,
    lr_rule: LrRule,
    loss: float,
    longest: float,
) -> TransferredRecipe:
    """The tuned recipe at the target's batch, tokens and depth.

    Args:
        studies: the study, and those taken along.
        tuned: what to carry.
        target: where to.
        lr_rule: how the rate follows the batch.
        loss: the forecast at the target, nats per token.
        longest: most tokens of a run of the law.
    """
    evidence: dict[Cell, Evidence] = dict(_evidence(studies, tuned))
    evidence["lr", "batch"] = Evidence(rule=Rule(power=lr_rule.exponent), name=lr_rule.rule)
    base, recipe = tuned.place, tuned.recipe
    length = evidence.get(("lr", "length"))
    if base is None and length is not None and length.best is not None:
        # Nobody says where the rate was tuned: start from the best one of the lengths measured.
        recipe = recipe.replace(lr=length.best)
        base = Place(
            batch_tokens=recipe.batch_tokens,
            tokens=length.middle or target.tokens,
            depth=target.depth,
            params=target.params,
        )
        decay = evidence.get(("weight_decay", "length"))
        if decay is not None and decay.best is not None and decay.middle is not None:
            moved = (base.tokens / decay.middle) ** decay.rule.power
            recipe = recipe.replace(weight_decay=decay.best * moved)
    known = base is not None
    base = base or Place(
        batch_tokens=recipe.batch_tokens,
        tokens=target.tokens,
        depth=target.depth,
        params=target.params,
    )
    if not known:
        evidence = {cell: each for cell, each in evidence.items() if cell[1] == "batch"}
    found = factors({cell: each.rule for cell, each in evidence.items()}, target, base)
    values = found.transferred(
        lr=recipe.lr, weight_decay=recipe.weight_decay, eps=recipe.eps, beta2=recipe.beta2
    )
    settings = tuple(
        _transferred(cell, each, recipe, target, base, loss=loss)
        for cell, each in evidence.items()
        if target.ratio(base, cell[1]) != 1 and (each.rule.power or each.power is not None)
    )
    return TransferredRecipe(
        recipe=recipe.replace(batch_tokens=int(target.batch_tokens), **values),
        settings=settings,
        warnings=tuple(_warnings(evidence, recipe, target, base, longest=longest)),
    )


def as_tuned(
    tuned: TunedRecipe, lr_rule: LrRule, target: Place, *, longest: float
) -> TransferredRecipe:
    """The tuned recipe with nothing carried but the rate over the batch."""
    by_batch = Evidence(rule=Rule(power=lr_rule.exponent), name=lr_rule.rule)
    evidence: dict[Cell, Evidence] = {("lr", "batch"): by_batch}
    recipe = tuned.recipe.replace(
        batch_tokens=int(target.batch_tokens), lr=tuned.recipe.lr * lr_rule.factor
    )
    base = Place(
        batch_tokens=tuned.recipe.batch_tokens,
        tokens=target.tokens,
        depth=target.depth,
        params=target.params,
    )
    return TransferredRecipe(
        recipe=recipe,
        settings=(),
        warnings=tuple(_warnings(evidence, recipe, target, base, longest=longest)),
    )


def _evidence(
    studies: Sequence[StudyRecords], tuned: TunedRecipe
) -> Iterator[tuple[Cell, Evidence]]:
    """The study's own rules, then what grids have measured beyond them."""
    config = studies[0].records.config
    chosen = config.transfer.chosen
    seen = set[Cell]()
    for cell, rule in config.transfer.rules().items():
        seen.add(cell)
        measuring = config.measuring(*cell)
        measured = _measured(studies, cell, tuned.schedule, only=measuring) if measuring else None
        if measured is not None:
            yield cell, measured
        else:
            yield cell, Evidence(rule=rule, name=chosen[cell].name)
    for cell in (("lr", "length"), ("lr", "depth"), ("weight_decay", "length")):
        if cell not in seen and (found := _measured(studies, cell, tuned.schedule)) is not None:
            yield cell, found


def _measured(
    studies: Sequence[StudyRecords], cell: Cell, schedule: ScheduleConfig, only: str | None = None
) -> Evidence | None:
    """What the first grid with an exponent tells of one cell, under the exported stable phase."""
    setting, along = cell
    for each in studies:
        findings = (transfers if setting == "lr" else weight_decays)(each.records)
        for finding in findings:
            if (
                ALONG.get(finding.along) == along
                and only in {None, finding.experiment}
                and _schedule(each, finding).hold == schedule.hold
                and (found := _of_finding(each.name, finding)) is not None
            ):
                return found
    return None


def _schedule(study: StudyRecords, finding: TransferFinding) -> ScheduleConfig:
    """The schedule of the runs behind a finding."""
    config = study.records.config
    experiment = next(each for each in config.experiments if each.name == finding.experiment)
    return own_values(config, experiment)[1]


def _of_finding(study: str, finding: TransferFinding) -> Evidence | None:
    known = [each for each in finding.variants if each.exponent is not None]
    if not known:
        return None
    power = mean_exponent(known)
    curves = sorted((curve for each in known for curve in each.curves), key=lambda curve: curve.at)
    middle = math.sqrt(curves[0].at * curves[-1].at)
    best = [float(each.fitted(middle)) for each in known if each.fitted is not None]
    return Evidence(
        rule=Rule(power=power.value),
        name="measured",
        where=f"{study}, experiment {finding.experiment}",
        power=power,
        curves=tuple(curves),
        best=float(np.exp(np.mean(np.log(best)))),
        middle=middle,
    )


def _transferred(
    cell: Cell, evidence: Evidence, recipe: Recipe, target: Place, base: Place, *, loss: float
) -> Transferred:
    setting, along = cell
    alone = factors({cell: evidence.rule}, target, base)
    factor = {
        "lr": alone.lr,
        "weight_decay": alone.weight_decay,
        "eps": alone.eps,
        "beta2": alone.beta2,
    }[setting]
    ratio, power = target.ratio(base, along), evidence.power
    places = [curve.at for curve in evidence.curves]
    return Transferred(
        setting=setting,
        along=along,
        rule=evidence.name or "own",
        power=Estimate(
            value=evidence.rule.power,
            low=None if power is None else finite(power.low),
            high=None if power is None else finite(power.high),
        ),
        tuned=_value(recipe, setting),
        ratio=ratio,
        factor=factor,
        measured=(min(places), max(places)) if places else None,
        lost=_lost(evidence, factor, loss),
        evidence=_text(cell, evidence),
    )


def _value(recipe: Recipe, setting: Setting) -> float:
    value: float = getattr(recipe, setting)
    return value


def _lost(evidence: Evidence, factor: float, loss: float) -> float | None:
    """Loss given up at the target by not following the rule, nats per token.

    By the parabola in ln value of the farthest curve with an optimum, scaled to the forecast.
    """
    curved = [each for each in evidence.curves if each.best is not None]
    if not curved:
        return None
    return float(loss * math.expm1(curved[-1].curvature * math.log(factor) ** 2))


def _text(cell: Cell, evidence: Evidence) -> str:
    setting, along = cell
    if evidence.where:
        power = evidence.power
        ends = "" if power is None else f" (90%: {power.low:.3f} to {power.high:.3f})"
        return (
            f"{evidence.where}: the best {setting} follows {along} as a power of "
            f"{evidence.rule.power:.3f}{ends}"
        )
    published = TABLE[cell].get(evidence.name)
    if published is not None:
        return f"published: {published.source}"
    return "as given with the study" if not evidence.name else f"rule {evidence.name} of the batch"


def _warnings(
    evidence: dict[Cell, Evidence],
    recipe: Recipe,
    target: Place,
    base: Place,
    *,
    longest: float,
) -> Iterator[Diagnostic]:
    for cell, each in evidence.items():
        yield from _of_rule(cell, each, target, base)
    if ("lr", "length") not in evidence and target.tokens > longest:
        yield Diagnostic(
            "lr-length",
            f"the target trains on {target.tokens / longest:.3g} times the tokens of the longest "
            "run at this rate; best rates fall as training gets longer, and by how much was not "
            "measured here: a grid over recipe.lr at two horizons or more measures it",
            tokens=target.tokens,
            longest=longest,
        )
    if ("weight_decay", "length") not in evidence and target.tokens > longest:
        timescale = target.batch_tokens / (recipe.lr * recipe.weight_decay or math.inf)
        if recipe.weight_decay:
            yield Diagnostic(
                "weight-decay-length",
                f"weight decay is kept at {recipe.weight_decay:g}: AdamW then averages its weights "
                f"over {timescale / target.tokens:.2g} of the training, and over "
                f"{timescale / longest:.2g} in the longest run; nothing measured which is best",
                weight_decay=recipe.weight_decay,
                share=timescale / target.tokens,
                studied=timescale / longest,
            )
    ratio = target.ratio(base, "batch")
    if ("beta2", "batch") not in evidence and max(ratio, 1 / ratio) > LONG_BATCH:
        yield Diagnostic(
            "beta2-kept",
            f"the batch is {ratio:.3g} times the tuned one, and beta2 is kept at "
            f"{recipe.beta2:g}: so many tokens more or fewer are averaged; `transfer: {{beta2: "
            "{batch: half_life}}` keeps the tokens (arXiv 2507.07101)",
            beta2=recipe.beta2,
            ratio=ratio,
        )


def _of_rule(cell: Cell, evidence: Evidence, target: Place, base: Place) -> Iterator[Diagnostic]:
    """Warnings of one rule: published and not measured, or measured nearer than the target."""
    setting, along = cell
    if along == "batch" or target.ratio(base, along) == 1:
        return  # the batch's rules have their own
    if not evidence.where:
        yield Diagnostic(
            "rule-not-measured-here",
            f"{setting} follows {along} by a rule that was not measured here: "
            f"{_text(cell, evidence)}",
            setting=setting,
            along=along,
            rule=evidence.name or "own",
        )
        return
    at = {"length": target.tokens, "depth": float(target.depth)}[along]
    low, high = evidence.curves[0].at, evidence.curves[-1].at
    if not low <= at <= high:
        yield Diagnostic(
            "rule-extrapolated",
            f"{setting} follows {along} beyond what was measured: {at:.3g}, and {evidence.where} "
            f"measured {low:.3g} to {high:.3g}",
            setting=setting,
            along=along,
            at=at,
            measured=[low, high],
        )
