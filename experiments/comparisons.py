"""Numbers that no finding has, as quantities, and the losses that they compare."""

import numpy as np
from scipy import stats

from windtunnel.findings import LEVEL, Quantity, QuantityId, Records
from windtunnel.runs.run import Run

NATS = "nats per byte"
STUDY = "study"
"""The experiment of a quantity that compares several of a study's."""


def comparison(
    quantity: str,
    value: float,
    ends: tuple[float | None, float | None] = (None, None),
    unit: str = "",
    /,
    *,
    experiment: str = STUDY,
    **fields: str | int | float,
) -> Quantity:
    """A number that no finding has, with its interval where it has one."""
    of = QuantityId(
        experiment=experiment,
        finding="comparison",
        quantity=quantity,
        fields=tuple(fields.items()),
    )
    return Quantity(id=of, value=value, low=ends[0], high=ends[1], unit=unit)


def mean_difference(
    quantity: str,
    one: dict[int, float],
    other: dict[int, float],
    experiment: str = STUDY,
    **fields: str | int | float,
) -> Quantity:
    """`one` minus `other`, paired by seed; Student's interval."""
    seeds = sorted(set(one) & set(other))
    gaps = np.array([one[seed] - other[seed] for seed in seeds])
    mean = float(np.mean(gaps))
    ends: tuple[float | None, float | None] = (None, None)
    if len(gaps) > 1:
        reach = float(stats.t.ppf((1 + LEVEL) / 2, len(gaps) - 1) * stats.sem(gaps))
        ends = (mean - reach, mean + reach)
    return comparison(quantity, mean, ends, NATS, experiment=experiment, **fields)


def losses(records: Records, experiment: str, **wanted: object) -> dict[int, float]:
    """Loss by seed of the decayed runs of one experiment that have the `wanted` values."""
    return {
        run.init_seed: run.loss
        for run in records.of(experiment)
        if run.loss is not None
        and all(_value_of(run, key.replace("__", ".")) == each for key, each in wanted.items())
    }


def _value_of(run: Run, name: str) -> object:
    """An axis of a run, or its size or horizon."""
    return run.axes[name] if name in run.axes else getattr(run, name)
