"""The cost of a wrong learning rate for every variant of one size, such as with QK-norm.

Learning-rate sensitivity of Wortsman et al. 2023 (arXiv 2309.14322): the mean over the rates tried
of min(loss, loss at init) less the lowest loss. A run that diverged counts as the loss at init.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from windtunnel.config.study import GridExperiment
from windtunnel.errors import Diagnostic
from windtunnel.findings.base import (
    NATS,
    Finding,
    Quantity,
    mean_of_seeds,
    missing_runs,
    with_ends,
)
from windtunnel.findings.lr_curves import (
    BATCH,
    MIN_RATES,
    RATE,
    SIZE,
    GridVariant,
    count_missing_runs,
    rate_grids,
    variants,
)
from windtunnel.findings.records import Records
from windtunnel.laws import Interval
from windtunnel.laws.table import Floats
from windtunnel.runs.run import Run

BYTES = 256
"""Of the byte tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rates:
    """One variant over the rates that all variants have tried.

    Attributes:
        name: such as `QK-norm`.
        rates: ascending, (C,).
        losses: capped at the loss at init, a row a seed, (S, C).
        diverged: how many runs diverged.
    """

    name: str
    rates: Floats
    losses: Floats
    diverged: int

    @property
    def means(self) -> Floats:
        """Mean losses over seeds, (C,)."""
        return np.asarray(self.losses.mean(axis=0))

    @property
    def best(self) -> float:
        """The rate of the lowest mean."""
        return float(self.rates[np.argmin(self.means)])

    @property
    def by_seed(self) -> Floats:
        """Sensitivity of every seed, (S,), with the best rate of their mean."""
        return np.asarray(self.losses.mean(axis=1) - self.losses[:, np.argmin(self.means)])

    @property
    def sensitivity(self) -> Interval:
        """Mean loss above the lowest, nats per token."""
        return mean_of_seeds(self.by_seed.tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class SensitivityFinding(Finding):
    """Sensitivity to the learning rate of every variant, and their ratios to the first.

    `loss_at_init` is that of a model that knows nothing, ln(vocabulary).
    """

    params: float
    loss_at_init: float
    variants: tuple[Rates, ...]
    missing: int = 0

    kind: ClassVar[str] = "lr-sensitivity"
    title: ClassVar[str] = "Sensitivity to the learning rate"

    @property
    def lead(self) -> str:
        """Every variant's sensitivity, and its ratio to the first."""
        rates = self.variants[0].rates
        each = "; ".join(
            f"{variant.name} {with_ends(variant.sensitivity, '.3f')}" for variant in self.variants
        )
        ratios = "; ".join(
            f"{other} over {first} {with_ends(ratio)}" for other, first, ratio in self._ratios()
        )
        return (
            f"Over the rates from {rates[0]:.3g} to {rates[-1]:.3g} the mean loss lies above the "
            f"lowest by, in nats: {each}. Ratio: {ratios}."
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Sensitivities, ratios, best rates and losses, divergence."""
        return (
            *(
                self.quantity("sensitivity", each.sensitivity, NATS, variant=each.name)
                for each in self.variants
            ),
            *(
                self.quantity("ratio", ratio, variant=other, base=first)
                for other, first, ratio in self._ratios()
            ),
            *(self.quantity("best-rate", v.best, variant=v.name) for v in self.variants),
            *(
                self.quantity(
                    "lowest-loss",
                    mean_of_seeds(each.losses[:, np.argmin(each.means)].tolist()),
                    NATS,
                    variant=each.name,
                )
                for each in self.variants
            ),
            *(
                self.quantity("diverged", each.diverged, variant=each.name)
                for each in self.variants
                if each.diverged
            ),
        )

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Divergence, lowest losses at an edge, and missing runs."""
        found = []
        for each in self.variants:
            if each.diverged:
                found.append(
                    Diagnostic(
                        "diverged-runs",
                        f"{each.name}: {each.diverged} runs diverged and count as the loss at "
                        f"init, {self.loss_at_init:.2f}",
                        variant=each.name,
                        runs=each.diverged,
                        loss=self.loss_at_init,
                    )
                )
            if each.best in (each.rates[0], each.rates[-1]):
                found.append(
                    Diagnostic(
                        "edge-minimum",
                        f"{each.name}: the lowest loss is at {each.best:.3g}, an end of the rates "
                        "tried: add rates beyond",
                        variant=each.name,
                        lr=each.best,
                    )
                )
        if self.missing:
            found.append(missing_runs(self.missing))
        return tuple(found)

    def _ratios(self) -> Iterator[tuple[str, str, Interval]]:
        """Ratios of the others to the first, paired by seed."""
        first = self.variants[0]
        for other in self.variants[1:]:
            logs = mean_of_seeds(np.log(other.by_seed / first.by_seed).tolist())
            ends = (math.exp(logs.low), math.exp(logs.high))
            yield other.name, first.name, Interval(math.exp(logs.value), *ends)


def sensitivities(records: Records) -> tuple[SensitivityFinding, ...]:
    """Grids over the rate at one size and length, with another axis whose values are compared."""
    found = (
        _read(records, grid)
        for grid in rate_grids(records)
        if len(grid.sizes_named or records.config.model.sizes) == len(grid.horizons) == 1
        and BATCH not in grid.axes
    )
    return tuple(each for each in found if each is not None)


def _read(records: Records, grid: GridExperiment) -> SensitivityFinding | None:
    """None while fewer than two variants have a seed with every rate."""
    runs = records.of(grid.name, decayed=False)
    if not runs:
        return None
    at_init = math.log(_vocabulary(records, runs[0]))
    others = [axis for axis in grid.axes if axis not in (RATE, SIZE)]
    compared = [
        (each, losses)
        for each in variants(grid, runs, others)
        if (losses := _capped(each, at_init))
    ]
    if len(compared) < 2:
        return None
    tried = sorted(set.intersection(*({lr for lr, _ in losses} for _, losses in compared)))
    seeds = set.intersection(
        *(
            {seed for _, seed in losses if all((lr, seed) in losses for lr in tried)}
            for _, losses in compared
        )
    )
    if len(tried) < MIN_RATES or not seeds:
        return None
    return SensitivityFinding(
        experiment=grid.name,
        params=float(runs[0].params),
        loss_at_init=at_init,
        variants=tuple(
            Rates(
                name=each.name,
                rates=np.array(tried),
                losses=np.array([[losses[lr, s] for lr in tried] for s in sorted(seeds)]),
                diverged=len({run.trunk for run in each.runs if run.diverged}),
            )
            for each, losses in compared
        ),
        missing=count_missing_runs(records, grid),
    )


def _capped(variant: GridVariant, at_init: float) -> dict[tuple[float, int], float]:
    """Loss by rate and seed, at most that at init."""
    found = {}
    for run in variant.runs:
        cell = (run.lr, run.init_seed)
        if run.diverged:
            found[cell] = at_init
        elif run.decayed and run.loss is not None:
            found.setdefault(cell, min(run.loss, at_init))
    return found


def _vocabulary(records: Records, run: Run) -> int:
    """Size of the vocabulary, from the parameters of the embedding unless tokens are bytes."""
    if records.config.data.tokenizer == "bytes" and records.config.data.vocab_size is None:
        return BYTES
    tables = 1 if records.config.model.tied else 2
    return int(run.params_embedding) // (int(run.width) * tables)
