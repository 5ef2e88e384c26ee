"""Which coefficients a fit may move: some are fixed, some tied, some pinned for a profile.

All arrays here are of the scaled problem (inputs divided by `units`) except the values that a user
gives, which are raw.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.forms.law import STEP, Law
from windtunnel.laws.table import Floats

# All coefficients (p, K), raw, and the problems' numbers -> the same with one of them recomputed
Pin = Callable[[Any, NDArray[np.intp]], Any]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map from free coefficients (p, F) to all of them (p, K).

    Attributes:
        fixed: raw values that stay, by name.
        tied: name -> the coefficient that it equals, raw.
        pinned: name -> its raw value as a function of the other coefficients.
    """

    law: type[Law]
    units: Floats
    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    pinned: Mapping[str, Pin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        law = self.law
        for name in (*self.fixed, *self.tied, *self.tied.values(), *self.pinned):
            law.index(name)
        for name, value in self.fixed.items():
            low, high = law.bounds[name]
            if not low <= value <= high:
                raise FitError(f"fix {name}={value:g}: allowed from {low:g} to {high:g}")
        twice = set(self.tied) & (set(self.fixed) | set(self.tied.values()))
        if twice:
            raise FitError(f"{min(twice)} is both tied and fixed, or tied twice: keep one of them")
        if not self.free:
            raise FitError(f"no coefficient of {law.name} is left to fit: fix fewer")

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the coefficients that move, in the law's order."""
        held = {*self.fixed, *self.tied, *self.pinned}
        return tuple(name for name in self.law.names() if name not in held)

    @property
    def trivial(self) -> bool:
        """Whether every coefficient moves."""
        return len(self.free) == len(self.law.names())

    @property
    def places(self) -> NDArray[np.intp]:
        """Positions of the free coefficients among all."""
        return np.array([self.law.index(name) for name in self.free])

    def bounds(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds (F,) of the free ones."""
        pairs = np.array([self.law.bounds[name] for name in self.free])
        return pairs[:, 0], pairs[:, 1]

    def expand(self, free: Any, which: NDArray[np.intp]) -> Any:
        """All coefficients (p, K) from the free ones (p, F); complex in, complex out."""
        if self.trivial:
            return free
        law, units = self.law, self.units
        theta = np.zeros((len(free), len(law.names())), free.dtype)
        theta[:, self.places] = free
        # Exponents first: the unit of a coefficient with a scale depends on them.
        for name in sorted((*self.fixed, *self.tied), key=lambda name: name in law.scaling):
            if name in self.fixed:
                raw: Any = self.fixed[name]
            else:
                other = self.tied[name]
                raw = theta[:, law.index(other)] / law.factor(other, theta, units)
            theta[:, law.index(name)] = raw * law.factor(name, theta, units)
        for name, pin in self.pinned.items():
            raw_theta = np.array(theta)
            for scaled in law.scaling:
                raw_theta[:, law.index(scaled)] /= law.factor(scaled, theta, units)
            theta[:, law.index(name)] = pin(raw_theta, which) * law.factor(name, theta, units)
        return theta

    def slopes(self, free: Floats, which: NDArray[np.intp]) -> Floats:
        """Derivatives (p, K, F) of `expand`, by complex steps."""
        columns = []
        for k in range(free.shape[1]):
            stepped = free.astype(np.complex128)
            stepped[:, k] += 1j * STEP
            columns.append(self.expand(stepped, which).imag / STEP)
        return np.stack(columns, axis=2)
