"""Draws from the posterior of a model: the mode, a normal around it, and a few steps of MCMC.

The steps are those of differential evolution (ter Braak and Vrugt 2008): each walker moves along
the difference of two others. They start from a normal with the curvature of the mode, and correct
what the law's bends make of it, such as a floor near 0.
"""

import numpy as np
from scipy.optimize import minimize

from windtunnel.laws.auto.model import Model, robust_weights
from windtunnel.laws.table import Floats

ENOUGH = 1e-6
"""Relative gain in log density below which a climb ends: steps of MCMC follow."""
LITTLE = -1.5
"""Of misfit, in standard units: where it begins to grow from."""
ROUNDS = 5
"""Of weighting rows down, at most."""
SETTLED = 0.02
"""Change of a weight below which the rounds end."""
NEAR = 4.0
"""Standard deviations of the prior that a mode may lie from its mean."""
FLATTEST = 0.3
"""Least curvature of the normal, over the prior's: a flat direction is as wide as the prior."""
GRADIENT_STEP, CURVATURE_STEP = 1e-4, 1e-2
JUMP_EVERY = 10
"""Steps between those that may exchange modes (ter Braak and Vrugt 2008)."""
JITTER = 1e-4


def mode(model: Model) -> tuple[Model, Floats]:
    """The model with rows far off weighted down, and its mode (P,) in standard units.

    The law alone is fitted first: a misfit that is free from the start may stand in for it.
    """
    free = [(-NEAR, NEAR)] * len(model.names)
    rigid = list(free)
    rigid[model.names.index("sigma_misfit")] = (-NEAR, -NEAR)
    start = np.zeros(len(model.names))
    law = _climb(model, start, rigid)
    law[model.names.index("sigma_misfit")] = LITTLE
    found = [_climb(model, each, free) for each in (law, start)]
    point = max(found, key=lambda at: _height(model, at))
    for _ in range(ROUNDS):
        mean, spread = model.prior
        weight = robust_weights(model.own_noise(mean + spread * point))
        change = float(np.max(np.abs(weight - model.weight)))
        model = model.reweighted(weight)
        point = _climb(model, point, free)
        if change < SETTLED:
            break
    return model, point


def draw(
    model: Model, point: Floats, *, walkers: int, steps: int, kept: int, rng: np.random.Generator
) -> Floats:
    """Points (kept * walkers, P) in the model's coordinates, from the last `steps` of each walker.

    Args:
        model: with its weights of rows.
        point: the mode, in standard units.
        walkers: how many move at once; an even number.
        steps: of each walker.
        kept: how many of the steps are kept, evenly spread over the second half.
        rng: of the starts and the steps.
    """
    mean, spread = model.prior
    at = _normal(model, point, walkers, rng)
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


def _height(model: Model, at: Floats) -> float:
    mean, spread = model.prior
    return float(model.log_density((mean + spread * at)[None])[0])


def _climb(model: Model, start: Floats, bounds: list[tuple[float, float]]) -> Floats:
    """The mode that is reached from here, in standard units."""
    mean, spread = model.prior
    size = len(model.names)
    step = GRADIENT_STEP * np.eye(size)

    def cost(at: Floats) -> tuple[float, Floats]:
        around = np.concatenate([at[None], at + step, at - step])
        value = -model.log_density(mean + spread * around)
        value = np.where(np.isfinite(value), value, 1e30)
        slope = (value[1 : size + 1] - value[size + 1 :]) / (2 * GRADIENT_STEP)
        return float(value[0]), slope

    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": ENOUGH}
    )
    return np.asarray(found.x)


def _normal(model: Model, point: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Draws (count, P) of the normal with the mode's curvature, in standard units."""
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
    normal = rng.standard_normal((count, size)) / np.sqrt(np.maximum(values, FLATTEST))
    return np.asarray(point + normal @ vectors.T)
