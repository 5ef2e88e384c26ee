"""Made-up trunk-and-branch tables with a planted law and planted noise."""

import numpy as np
import pytest

from windtunnel.laws import Chinchilla, Table
from windtunnel.laws.mixture.models import KINDS

CHINCHILLA = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
SIZES = np.geomspace(1e5, 3.2e6, 5)
HORIZONS = (10, 20, 40, 80, 160)


def make_table(
    seed=0,
    *,
    law=CHINCHILLA,
    sizes=SIZES,
    horizons=HORIZONS,
    seeds=2,
    sigma_trunk=0.003,
    sigma_branch=0.001,
    **columns,
):
    """`seeds` trunks per size, a branch per horizon (tokens per parameter); sigmas of ln loss."""
    rng = np.random.default_rng(seed)
    trunks = len(sizes) * seeds
    params = np.repeat(sizes, seeds * len(horizons))
    tokens = params * np.tile(horizons, trunks)
    trunk = np.repeat(np.arange(trunks), len(horizons))
    noise = sigma_trunk * rng.standard_normal(trunks)[trunk]
    noise = noise + sigma_branch * rng.standard_normal(trunk.size)
    loss = law(params, tokens) * np.exp(noise)
    return Table(params=params, tokens=tokens, loss=loss, trunk=trunk, **columns)


@pytest.fixture(scope="session")
def table():
    return make_table


@pytest.fixture
def planted():
    return CHINCHILLA


@pytest.fixture
def trees():
    """Asked for by a test that boosts."""


@pytest.fixture
def without_trees(request, monkeypatch):
    """Trees take seconds: only the tests that ask for them have them."""
    if "trees" not in request.fixturenames:
        kinds = {name: kind for name, kind in KINDS.items() if name != "boosting"}
        monkeypatch.setattr("windtunnel.laws.mixture.selection.KINDS", kinds)
