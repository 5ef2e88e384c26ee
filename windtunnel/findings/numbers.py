"""Intervals of fits as quantities of a finding, and in words."""

import numpy as np

from windtunnel.findings.finding import Quantity
from windtunnel.laws import Interval


def doubled(exponent: Interval) -> Interval:
    """The factor of a power law when its input doubles."""
    return Interval(2**exponent.value, 2**exponent.low, 2**exponent.high)


def scaled(found: Interval, factor: float) -> Interval:
    """A number and its interval times a factor."""
    return Interval(found.value * factor, found.low * factor, found.high * factor)


def quantity(name: str, found: Interval, unit: str = "") -> Quantity:
    """A number with its interval, where it has one."""
    if np.isnan(found.low):
        return Quantity(name=name, value=found.value, unit=unit)
    return Quantity(name=name, value=found.value, low=found.low, high=found.high, unit=unit)


def said(found: Interval, digits: str = ".3g") -> str:
    """`0.97 (0.92 to 1.03)`."""
    if np.isnan(found.low):
        return f"{found.value:{digits}}"
    return f"{found.value:{digits}} ({found.low:{digits}} to {found.high:{digits}})"
