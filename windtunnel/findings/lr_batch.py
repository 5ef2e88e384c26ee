"""Learning rate and batch together: how the best rate moves with the batch, and what rules cost.

A grid over `recipe.lr` and `recipe.batch_tokens` at one length. An optimum is flat, so a rule is
judged by its regret: the loss given up by following it instead of each cell's own best rate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from windtunnel.config.study import GridExperiment
from windtunnel.errors import Diagnostic, FitError
from windtunnel.findings.base import (
    NATS,
    Finding,
    Quantity,
    coefficient,
    missing_runs,
    with_ends,
)
from windtunnel.findings.labels import RULE_LABELS
from windtunnel.findings.lr_curves import (
    BATCH,
    RATE,
    SIZE,
    LRCurves,
    SeedNoise,
    count_missing_runs,
    mean_exponent,
    noise_between_seeds,
    rate_grids,
    read_variants,
    variants,
)
from windtunnel.findings.records import Records
from windtunnel.laws import Fit, Interval, Power2, Table, fit

# Published: StepLaw (arXiv 2503.04715), N non-embedding, D and batch in tokens.
STEPLAW_RATE = Power2(a=1.79, b=-0.713, c=0.307)
STEPLAW_BATCH = (0.58, 0.571)


@dataclass(frozen=True, kw_only=True)
class RuleCost:
    """Loss given up by a batch rule at the batches other than `anchor`, nats per token.

    `known` cells lie inside the rates tried, `outside` ones do not; nan where none is known.
    """

    anchor: float
    mean: float
    worst: float
    known: int
    outside: int


@dataclass(frozen=True, kw_only=True)
class StepLaw:
    """StepLaw's rate and batch for one size at the tokens of the grid.

    Attributes:
        size: such as `64x3`.
        params: of the size.
        lr: used as the rate of the study.
        hidden_scale: under muP hidden matrices train at `lr` times this.
        batch: tokens per update.
        nearest: the tried batch that is nearest to it.
        tried: lowest and highest rate tried there.
        regret: loss at `lr` and `nearest` above the lowest of the size, nats per token; nan where
            `lr` lies outside the rates tried.
        rate_regret: loss at `lr` and the middle batch above the lowest at that batch, likewise.
    """

    size: str
    params: float
    lr: float
    hidden_scale: float
    batch: float
    nearest: float
    tried: tuple[float, float]
    regret: float
    rate_regret: float


def middle_batch(sizes: Sequence[LRCurves]) -> float:
    """The batch from which rules start; of an even number of batches the lower middle one."""
    batches = sorted({curve.at for size in sizes for curve in size.curves})
    return batches[(len(batches) - 1) // 2]


def rule_cost(sizes: Sequence[LRCurves], exponent: float) -> RuleCost:
    """The cost of scaling each size's best rate from the middle batch as batch^exponent.

    A size without a best rate there is left out.
    """
    anchor = middle_batch(sizes)
    lost = []
    for size in sizes:
        at = {curve.at: curve for curve in size.curves}
        start = at[anchor].best if anchor in at else None
        if start is None:
            continue
        lost += [
            float(curve.above_best(start.value * (batch / anchor) ** exponent))
            for batch, curve in at.items()
            if batch != anchor
        ]
    known = [value for value in lost if np.isfinite(value)]
    return RuleCost(
        anchor=anchor,
        mean=float(np.mean(known)) if known else np.nan,
        worst=max(known, default=np.nan),
        known=len(known),
        outside=len(lost) - len(known),
    )


def published(size: LRCurves, *, middle: float) -> StepLaw:
    """StepLaw at one size of a grid whose middle batch is `middle`."""
    curves = size.curves
    tokens = float(np.mean([curve.tokens for curve in curves]))
    batch = STEPLAW_BATCH[0] * tokens ** STEPLAW_BATCH[1]
    nearest = min(curves, key=lambda curve: abs(np.log(curve.at / batch)))
    lr = float(STEPLAW_RATE(nearest.params, tokens))
    lowest = min(curve.lowest for curve in curves)
    at_middle = [float(curve.above_best(lr)) for curve in curves if curve.at == middle]
    return StepLaw(
        size=size.name,
        params=nearest.params,
        lr=lr,
        hidden_scale=nearest.hidden_scale,
        batch=batch,
        nearest=nearest.at,
        tried=(float(nearest.lr.min()), float(nearest.lr.max())),
        regret=float(nearest.above_best(lr)) + nearest.lowest - lowest,
        rate_regret=at_middle[0] if at_middle else np.nan,
    )


RULES = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
"""Exponents of the rate in the batch, by the name of the rule."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointFinding(Finding):
    """The surface of loss over rate and batch at every size, and rules on it.

    Attributes:
        sizes: the LR curves of every size along the batch.
        exponent: of the best rate in the batch, mean over sizes; None where none has two optima.
        follows: the cost of every rule, by its name.
        power2: the law lr = a params^b batch^c; None where too few cells have an optimum.
        problem: why there is none.
        steplaw: StepLaw's published rate and batch at every size.
        noise: between seeds.
        missing: planned runs that have not ended.
        left_out: why others have no LR curves.
    """

    sizes: tuple[LRCurves, ...]
    exponent: Interval | None
    rule_costs: dict[str, RuleCost]
    power2: Fit | None
    problem: FitError | None
    steplaw: tuple[StepLaw, ...]
    noise: SeedNoise | None
    missing: int = 0
    left_out: tuple[FitError, ...] = ()

    kind: ClassVar[str] = "lr-batch"
    title: ClassVar[str] = "Learning rate and batch"

    @property
    def supports(self) -> tuple[str, ...]:
        """The rules whose exponent lies inside the interval."""
        if self.exponent is None:
            return ()
        return tuple(name for name, value in RULES.items() if value in self.exponent)

    @property
    def lead(self) -> str:
        """The exponent, the rules that it supports, and what each of them costs."""
        if self.exponent is None:
            return "No size has two batches with a best rate inside the rates tried: add rates."
        rules = " and ".join(f"`{name}`" for name in self.supports)
        supported = f"It supports {rules}" if rules else "It supports none of the usual rules"
        costs = ", ".join(
            f"{RULE_LABELS[name]} {each.mean:.3f} (at most {each.worst:.3f})"
            for name, each in self.rule_costs.items()
            if name in RULES and each.known
        )
        middle = self.rule_costs["none"].anchor
        cost = (
            f" From batch {middle:.0f} on, the loss given up in nats is: {costs}." if costs else ""
        )
        noise = f" Seeds differ by {self.noise.sigma.value:.2g} nats." if self.noise else ""
        return (
            f"The best rate grows as batch^{with_ends(self.exponent)}. {supported} "
            f"(none is 0, sqrt 0.5, linear 1).{cost}{noise}"
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Exponents, regrets, StepLaw, best rates, noise."""
        noise = (self.quantity("noise", self.noise.sigma, NATS),) if self.noise else ()
        return (
            *self._exponents(),
            *self._regrets(),
            *self._power2(),
            *self._published(),
            *(
                self.quantity("best-rate", curve.best, at=curve.label, size=size.name or None)
                for size in self.sizes
                for curve in size.curves
                if curve.best is not None
            ),
            *noise,
        )

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Optima at an edge, divergence, rules that leave the rates tried, missing runs."""
        found = [warning for size in self.sizes for warning in size.warnings]
        found += [each.diagnostic() for each in self.left_out]
        found += [
            Diagnostic(
                "outside-rates",
                f"{RULE_LABELS[name]}: {each.outside} of {each.outside + each.known} cells lie "
                "outside the rates tried and are not in its regret",
                rule=name,
                cells=each.outside,
                of=each.outside + each.known,
            )
            for name, each in self.rule_costs.items()
            if each.outside
        ]
        if self.problem is not None:
            message = f"no law of rate by size and batch: {self.problem}"
            found.append(Diagnostic("no-rate-law", message, cause=self.problem.code))
        found += self._published_warnings()
        if self.missing:
            found.append(missing_runs(self.missing))
        return tuple(found)

    def _published_warnings(self) -> Iterator[Diagnostic]:
        for each in self.steplaw:
            if not np.isfinite(each.regret):
                yield Diagnostic(
                    "published-outside",
                    f"StepLaw's rate for {each.size or 'this size'}, {each.lr:.3g}, lies outside "
                    f"the tried rates ({each.tried[0]:.3g} to {each.tried[1]:.3g}) or beside one "
                    "that diverged",
                    size=each.size,
                    lr=each.lr,
                    tried=each.tried,
                )
        least = min(each.hidden_scale for each in self.steplaw)
        if least < 1:
            yield Diagnostic(
                "published-parametrization",
                "StepLaw's rate was published for the standard parametrization; used as the base "
                f"rate of muP, hidden matrices train at down to {least:.2g} times it",
                hidden_scale=least,
            )

    def _exponents(self) -> Iterator[Quantity]:
        if self.exponent is None:
            return
        yield self.quantity("exponent", self.exponent)
        for size in self.sizes if len(self.sizes) > 1 else ():
            if size.exponent is not None:
                yield self.quantity("exponent", size.exponent, size=size.name or None)

    def _regrets(self) -> Iterator[Quantity]:
        for name, each in self.rule_costs.items():
            if each.known:
                yield self.quantity("given-up-mean", each.mean, NATS, rule=name)
                yield self.quantity("given-up-worst", each.worst, NATS, rule=name)

    def _power2(self) -> Iterator[Quantity]:
        if self.power2 is None:
            return
        fitted, regret = self.power2, self.power2.details
        for name, of in (("b", "size"), ("c", "batch")):
            yield self.quantity("power2-exponent", coefficient(fitted, name), input=of)
        for name in ("mean", "worst"):
            if regret[f"regret_{name}"] is not None:
                value = regret[f"regret_{name}"]
                yield self.quantity("power2-regret", value, NATS, statistic=name)

    def _published(self) -> Iterator[Quantity]:
        known = [each.rate_regret for each in self.steplaw if np.isfinite(each.rate_regret)]
        if known:
            batch = self.rule_costs["none"].anchor
            mean = float(np.mean(known))
            yield self.quantity("published-rate-regret", mean, NATS, batch=batch)
        for each in self.steplaw:
            size = each.size or None
            yield self.quantity("published-rate", each.lr, size=size)
            yield self.quantity("published-batch", each.batch, "tokens per update", size=size)
            if np.isfinite(each.regret):
                yield self.quantity("published-regret", each.regret, NATS, size=size)


def joints(records: Records) -> tuple[JointFinding, ...]:
    """Every grid over rate and batch alone, at one length, perhaps at several sizes."""
    grids = (
        grid
        for grid in rate_grids(records)
        if BATCH in grid.axes and set(grid.axes) <= {RATE, BATCH, SIZE} and len(grid.horizons) == 1
    )
    return tuple(found for grid in grids if (found := _read(records, grid)) is not None)


def _read(records: Records, grid: GridExperiment) -> JointFinding | None:
    """None while no size has two batches with three rates."""
    runs = records.of(grid.name, decayed=False)
    sizes, refused = read_variants(records, variants(grid, runs, [SIZE]), along="batch_tokens")
    if not sizes:
        return None
    known = [size for size in sizes if size.exponent is not None]
    exponent = mean_exponent(known) if known else None
    rules = RULES | ({"measured": exponent.value} if exponent else {})
    power2, problem = _power2(sizes)
    return JointFinding(
        experiment=grid.name,
        sizes=sizes,
        left_out=refused,
        exponent=exponent,
        rule_costs={name: rule_cost(sizes, value) for name, value in rules.items()},
        power2=power2,
        problem=problem,
        steplaw=tuple(published(size, middle=middle_batch(sizes)) for size in sizes),
        noise=noise_between_seeds([curve for size in sizes for curve in size.curves]),
        missing=count_missing_runs(records, grid),
    )


def _power2(sizes: tuple[LRCurves, ...]) -> tuple[Fit | None, FitError | None]:
    """The law through every cell's best rate, or why there is none."""
    curves = [curve for size in sizes for curve in size.curves]
    table = Table(
        x=np.concatenate([np.full(v.lr.size, v.params) for v in curves]),
        z=np.concatenate([np.full(v.lr.size, v.at) for v in curves]),
        y=np.concatenate([v.lr for v in curves]),
        loss=np.concatenate([v.loss for v in curves]),
    )
    try:
        return fit(table, "power2", holdout=None), None
    except FitError as refused:
        return None, refused
