"""Draws from the posterior of a model: the mode, a normal around it, and a few steps of MCMC.

The steps are those of differential evolution (ter Braak and Vrugt 2008): each walker moves along
the difference of two others. They start from a normal with the curvature of the mode, and correct
what the law's bends make of it, such as a floor near 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from windtunnel.laws.auto.model import Model, robust_weights
from windtunnel.laws.table import Floats

ROUGH, ENOUGH = 1e-5, 1e-7
"""Relative gains in log density below which a climb ends: on the way, and at the mode."""
ROUNDS = 5
"""Of weighting rows down, at most."""
SETTLED = 0.02
"""Change of a weight below which the rounds end."""
NEAR = 4.0
"""Standard deviations of the prior that a mode may lie from its mean."""
BACK = 1e3
"""Cost per square of what a climb goes beyond that."""
FLATTEST = 0.3
"""Least curvature of the normal, over the prior's: a flat direction is as wide as the prior."""
GRADIENT_STEP, CURVATURE_STEP = 1e-4, 1e-2
JUMP_EVERY = 10
"""Steps between those that may exchange modes (ter Braak and Vrugt 2008)."""
JITTER = 1e-4


@dataclass(frozen=True, eq=False)
class Mode:
    """A model with rows far off weighted down, and its mode (P,) in standard units."""

    model: Model
    point: Floats

    @property
    def coordinates(self) -> dict[str, float]:
        """The mode by name, in standard units: where the climb for a part of the table starts."""
        return dict(zip(self.model.names, self.point.tolist(), strict=True))


def mode(model: Model, start: Mapping[str, float] | None = None) -> Mode:
    """The mode that is reached from `start`, which names coordinates in standard units.

    Without a start, the law alone is fitted first: a misfit that is free from the beginning may
    stand in for it.
    """
    if start is None:
        point = _law_alone(model)
    else:
        point = np.array([start.get(name, 0.0) for name in model.names])
    for tolerance in (ROUGH, ENOUGH):
        point = _climb(model, point, _whitening(model, point), tolerance)
    mean, spread = model.prior
    shape = _whitening(model, point)
    for _ in range(ROUNDS):
        weight = robust_weights(model.own_noise(mean + spread * point))
        change = float(np.max(np.abs(weight - model.weight)))
        model = model.reweighted(weight)
        point = _climb(model, point, shape, ENOUGH)
        if change < SETTLED:
            break
    return Mode(model, point)


def raised(top: Mode, rows: NDArray[np.bool_], excess: float) -> Mode:
    """The mode where the size of these rows may lie above the law; weights of rows stay.

    The climb starts with that size `excess` of ln loss above the law.
    """
    model = top.model.with_off(rows)
    mean, spread = model.prior
    start = np.append(top.point, (np.log(excess) - mean[-1]) / spread[-1])
    point = np.clip(start, -NEAR, NEAR)
    for name in ("sigma_misfit", "sigma_size"):  # they may have grown to hold that size
        if name in model.names:
            at = model.names.index(name)
            point[at] = min(point[at], 0.0)
    for tolerance in (ROUGH, ENOUGH):
        point = _climb(model, point, _whitening(model, point), tolerance)
    return Mode(model, point)


def evidence(top: Mode) -> float:
    """Ln of a model's evidence by Laplace's method, up to a constant of its table and weights."""
    mean, spread = top.model.prior
    height = float(top.model.log_density((mean + spread * top.point)[None])[0])
    return height + float(np.linalg.slogdet(_whitening(top.model, top.point))[1])


def draw(top: Mode, *, walkers: int, steps: int, kept: int, rng: np.random.Generator) -> Floats:
    """Points (kept * walkers, P) in the model's coordinates, from the last `steps` of each walker.

    Args:
        top: where the walkers start around.
        walkers: how many move at once; an even number.
        steps: of each walker.
        kept: how many of the steps are kept, evenly spread over the second half.
        rng: of the starts and the steps.
    """
    model, point = top.model, top.point
    mean, spread = model.prior
    at = point + rng.standard_normal((walkers, point.size)) @ _whitening(model, point).T
    value = model.log_density(mean + spread * at)
    keep = {steps - 1 - (steps // (2 * kept)) * k for k in range(kept)}
    found = []
    halves = (np.arange(0, walkers, 2), np.arange(1, walkers, 2))
    for step in range(steps):
        for moving, others in (halves, halves[::-1]):
            first, second = rng.choice(others, (2, moving.size))
            scale = rng.uniform(0.5, 1.1, moving.size) * 2.38 / np.sqrt(2 * point.size)
            if step % JUMP_EVERY == JUMP_EVERY - 1:
                scale = np.ones(moving.size)
            jitter = JITTER * rng.standard_normal((moving.size, point.size))
            proposed = at[moving] + scale[:, None] * (at[first] - at[second]) + jitter
            new = model.log_density(mean + spread * proposed)
            taken = np.log(rng.random(moving.size)) < new - value[moving]
            at[moving[taken]], value[moving[taken]] = proposed[taken], new[taken]
        if step in keep:
            found.append(at.copy())
    return np.asarray(mean + spread * np.concatenate(found))


def _law_alone(model: Model) -> Floats:
    """The mode without a misfit, and with the usual one put back."""
    misfit = model.names.index("sigma_misfit")
    start = np.zeros(len(model.names))
    start[misfit] = -NEAR  # of no consequence
    shape = _whitening(model, start)
    shape[misfit] = 0.0
    found = _climb(model, start, shape, ROUGH)
    found[misfit] = 0.0
    return found


def _climb(model: Model, start: Floats, shape: Floats, tolerance: float) -> Floats:
    """The mode that is reached from here, in standard units, by steps in coordinates of `shape`."""
    mean, spread = model.prior
    size = start.size
    step = GRADIENT_STEP * np.concatenate([np.zeros((1, size)), np.eye(size), -np.eye(size)])

    def cost(at: Floats) -> tuple[float, Floats]:
        points = start + (at + step) @ shape.T
        inside = np.clip(points, -NEAR, NEAR)
        value = BACK * np.sum((points - inside) ** 2, axis=1)
        value -= model.log_density(mean + spread * inside)
        value = np.where(np.isfinite(value), value, 1e30)
        slope = (value[1 : size + 1] - value[size + 1 :]) / (2 * GRADIENT_STEP)
        return float(value[0]), slope

    found = minimize(cost, np.zeros(size), jac=True, method="L-BFGS-B", options={"ftol": tolerance})
    return np.clip(start + shape @ found.x, -NEAR, NEAR)


def _whitening(model: Model, point: Floats) -> Floats:
    """The matrix (P, P) that takes independent standard normals to the curvature at a point."""
    mean, spread = model.prior
    size = point.size
    step = CURVATURE_STEP * np.eye(size)
    rows, columns = np.triu_indices(size)
    corners = [
        point + a * step[rows] + b * step[columns] for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))
    ]
    value = model.log_density(mean + spread * np.concatenate(corners)).reshape(4, -1)
    bend = -(value[0] - value[1] - value[2] + value[3]) / (4 * CURVATURE_STEP**2)
    curvature = np.zeros((size, size))
    curvature[rows, columns] = curvature[columns, rows] = np.where(np.isfinite(bend), bend, 1.0)
    values, vectors = np.linalg.eigh(curvature)
    return np.asarray(vectors / np.sqrt(np.maximum(np.abs(values), FLATTEST)))
