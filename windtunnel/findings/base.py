"""Findings and their quantities: numbers with an id, an interval and a unit."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import ClassVar

import numpy as np

from windtunnel.errors import Diagnostic
from windtunnel.findings.labels import Field, label_of
from windtunnel.laws import Fit, Interval
from windtunnel.laws.interval import NO_INTERVAL
from windtunnel.runs.search.noise import Difference, interval_of_mean

LEVEL = 0.9
"""Of every interval here."""
NATS = "nats per token"


@dataclass(frozen=True, kw_only=True)
class QuantityId:
    """The identity of a number, unique among the quantities of a study.

    As text: `widths/lr-transfer/drift[along=width,variant=muP]`.

    Attributes:
        experiment: of the study.
        finding: the kind of finding, such as `lr-transfer`.
        quantity: which of its numbers, such as `drift`.
        fields: (name, value) pairs: size, variant, validation set and so on.
    """

    experiment: str
    finding: str
    quantity: str
    fields: tuple[tuple[str, Field], ...] = ()

    def __str__(self) -> str:
        fields = ",".join(f"{name}={_field(value)}" for name, value in self.fields)
        path = f"{self.experiment}/{self.finding}/{self.quantity}"
        return f"{path}[{fields}]" if fields else path


def _field(value: Field) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A measured number, and the interval in which it lies at `LEVEL`.

    `low` and `high` are None where nothing tells how sure it is, and the number stands alone.
    """

    id: QuantityId
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    """Empty for a plain number, a ratio or a share."""

    @property
    def name(self) -> str:
        """Its label, for people; look a number up by its id."""
        return label_of(self.id.finding, self.id.quantity, dict(self.id.fields))

    def row(self) -> dict[str, str | float | None]:
        """Label, value, interval and unit, for a table."""
        return {
            "name": self.name,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
        }


@dataclass(frozen=True, kw_only=True)
class Finding(ABC):
    """The result of one experiment, for one kind of question."""

    experiment: str

    kind: ClassVar[str]
    """In the ids of its quantities."""
    title: ClassVar[str]
    """The question, as a heading."""

    @property
    @abstractmethod
    def lead(self) -> str:
        """The result, in one to three sentences."""

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """Its numbers, the most important first."""

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What a reader must know before using them."""
        return ()

    def quantity(
        self, quantity: str, value: Interval | float, unit: str = "", /, **fields: Field | None
    ) -> Quantity:
        """A number of this finding, with its interval where it has one.

        Args:
            quantity: The number's id within the finding; findings/labels.py has its label.
            value: An interval without ends, or a plain number, stands alone.
            unit: Empty for a plain number, a ratio or a share.
            fields: What else it is of; None leaves one out.
        """
        known = tuple((name, field) for name, field in fields.items() if field is not None)
        of = QuantityId(
            experiment=self.experiment, finding=self.kind, quantity=quantity, fields=known
        )
        if not isinstance(value, Interval):
            return Quantity(id=of, value=value, unit=unit)
        if np.isnan(value.low) or np.isnan(value.high):
            return Quantity(id=of, value=value.value, unit=unit)
        return Quantity(id=of, value=value.value, low=value.low, high=value.high, unit=unit)


def coefficient(fitted: Fit, name: str) -> Interval:
    """A coefficient of a fit, with its interval where it has one."""
    return Interval(fitted.coefficients[name], *fitted.intervals.get(name, NO_INTERVAL))


def mean_of_seeds(values: Sequence[float]) -> Interval:
    """The mean with Student's interval over seeds; of one seed without."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, *NO_INTERVAL)
    return Interval(mean, *interval_of_mean(mean, stdev(values), len(values)))


def difference_interval(gap: Difference) -> Interval:
    """A difference with its interval where it has one."""
    if gap.low is None or gap.high is None:
        return Interval(gap.value, *NO_INTERVAL)
    return Interval(gap.value, gap.low, gap.high)


def doubled(exponent: Interval) -> Interval:
    """The factor of a power law when its input doubles."""
    return Interval(2**exponent.value, 2**exponent.low, 2**exponent.high)


def scaled(found: Interval, factor: float) -> Interval:
    """A number and its interval times a factor."""
    return Interval(found.value * factor, found.low * factor, found.high * factor)


def with_ends(found: Interval, digits: str = ".3g") -> str:
    """`0.97 (0.92 to 1.03)`."""
    if np.isnan(found.low) or np.isnan(found.high):
        return f"{found.value:{digits}}"
    return f"{found.value:{digits}} ({found.low:{digits}} to {found.high:{digits}})"


def one_seed() -> Diagnostic:
    """The warning that nothing measures the noise."""
    return Diagnostic(
        "one-seed", "one seed: nothing tells how large noise is, so no interval is given", seeds=1
    )


def missing_runs(count: int) -> Diagnostic:
    """The warning of planned runs that have not ended."""
    return Diagnostic("missing-runs", f"{count} planned runs are not there yet", runs=count)


def diverged_runs(count: int) -> Diagnostic:
    """The warning of runs that no number here rests on."""
    return Diagnostic("diverged-runs", f"{count} runs diverged and are left out", runs=count)
