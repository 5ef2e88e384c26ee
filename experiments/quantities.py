"""The measured side of every prediction: quantities by name, from an experiment's records alone.

Most are those of the library's findings. Here stand only comparisons across the parts of one
experiment, which no single finding makes.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import stats

from windtunnel.findings import LEVEL, Quantity, Records, findings_of

NATS = "nats per byte"


def quantities_of(experiment: str, records: Records) -> dict[str, Quantity]:
    """Every quantity that an experiment's predictions may speak of, by name.

    A finding's quantity is also known as `EXPERIMENT: NAME`, where a study has several findings.
    """
    found = {}
    for finding in findings_of(records):
        for quantity in finding.quantities:
            found.setdefault(quantity.name, quantity)
            found[f"{finding.experiment}: {quantity.name}"] = quantity
    own = OWN.get(experiment)
    return found | {each.name: each for each in (own(records) if own else ())}


def mean_difference(name: str, one: dict[int, float], other: dict[int, float]) -> Quantity:
    """`one` minus `other`, paired by seed; Student's interval."""
    seeds = sorted(set(one) & set(other))
    gaps = np.array([one[seed] - other[seed] for seed in seeds])
    return _mean(name, gaps)


def _mean(name: str, values: Any) -> Quantity:
    mean = float(np.mean(values))
    if len(values) < 2:
        return Quantity(name=name, value=mean, unit=NATS)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Quantity(name=name, value=mean, low=mean - reach, high=mean + reach, unit=NATS)


def losses(records: Records, experiment: str, **wanted: object) -> dict[int, float]:
    """Loss by seed of the decayed rows of one experiment that have the `wanted` values."""
    return {
        row["init_seed"]: row["loss"]
        for row in records.of(experiment)
        if all(row[key.replace("__", ".")] == value for key, value in wanted.items())
    }


def coordinate_check(records: Records) -> Iterator[Quantity]:
    """Does the widest model beat the narrowest at one rate?"""
    for parametrization, spelt in (("mup", "muP"), ("standard", "standard")):
        name = f"loss at 8 times the width minus loss at the smallest, one rate, {spelt}"
        wide, narrow = (
            losses(records, "wider", size=size, recipe__parametrization=parametrization)
            for size in ("256x3", "32x3")
        )
        yield mean_difference(name, wide, narrow)


def hyperparameter_search(records: Records) -> Iterator[Quantity]:
    """Winners, with the span of all trials within noise of them; MiniCPM's constants; the ridge."""
    searches = {each["experiment"]: each for each in records.searches}
    short, long = searches["at-10N"], searches["at-20N"]
    for search, horizon in ((short, "10N"), (long, "20N")):
        for axis in search["space"]:
            yield _winner(f"{axis.rpartition('.')[2]} at {horizon}", search, lambda v, a=axis: v[a])
        yield _winner(
            f"scale_emb / scale_depth at {horizon}",
            search,
            lambda values: values["recipe.scale_emb"] / values["recipe.scale_depth"],
        )
    ratio = _value(long)["recipe.lr"] / _value(short)["recipe.lr"]
    yield Quantity(name="lr at 20N over lr at 10N", value=ratio)
    yield Quantity(name="share of variance owed to lr", value=short["importances"]["recipe.lr"])
    best = short["finalists"][0]["losses"]
    winner = {int(seed): float(loss) for seed, loss in best.items()}
    for width in (32, 256):
        constants = losses(records, "minicpm", recipe__base_width=width, horizon="10N")
        yield mean_difference(
            f"loss above the winner of MiniCPM's constants at base width {width}", constants, winner
        )


def _value(search: dict[str, Any]) -> dict[str, float]:
    values: dict[str, float] = search["winner"]["values"]
    return values


def _winner(
    name: str, search: dict[str, Any], read: Callable[[dict[str, float]], float]
) -> Quantity:
    """The winner's value; the interval spans the finalists and all trials within noise of it."""
    trials = {each["trial"]: each for each in search["trials"]}
    near = [*search["near"], *(each["trial"] for each in search["finalists"])]
    values = [read(trials[number]["values"]) for number in near]
    value = read(_value(search))
    assert math.isfinite(value)
    return Quantity(name=name, value=value, low=min(values), high=max(values))


OWN: dict[str, Callable[[Records], Iterator[Quantity]]] = {
    "001-coordinate-check": coordinate_check,
    "002-hyperparameter-search": hyperparameter_search,
}
