"""The measured side of every prediction: quantities by id, from an experiment's records alone.

Most are those of the library's findings. The functions here compare parts of one experiment that no
single finding compares, one function an experiment. predictions.yaml maps the text of each
prediction, which was committed before its result, to the id of what it predicts.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from comparisons import NATS, comparison, losses, mean_difference
from ruamel.yaml import YAML
from upcycling import experts_from_scratch, upcycling

from windtunnel.findings import Quantity, Records, findings_of
from windtunnel.findings.batch import batches
from windtunnel.findings.lr_curves import mean_of
from windtunnel.findings.lr_transfer import transfers
from windtunnel.findings.overtraining import overtraining_pairs
from windtunnel.findings.schedules import Losses, paired, schedules

HERE = Path(__file__).resolve().parent
PREDICTIONS = HERE / "predictions.yaml"
BENCHMARKS = HERE.parent / "docs" / "benchmarks.json"


def predicted_ids(experiment: str) -> dict[str, str]:
    """The id of every quantity that an experiment's predictions name, by the text of its name."""
    ids = YAML(typ="safe").load(PREDICTIONS.read_text(encoding="utf-8"))
    found: dict[str, str] = ids[experiment]
    return found


def quantities_of(experiment: str, records: Records) -> dict[str, Quantity]:
    """Every quantity that an experiment's predictions may name, by its id."""
    found = [each for finding in findings_of(records) for each in finding.quantities]
    comparisons = COMPARISONS.get(experiment)
    found += comparisons(records) if comparisons else ()
    return {str(each.id): each for each in found}


def coordinate_check(records: Records) -> Iterator[Quantity]:
    """Does the widest model beat the narrowest at one rate?"""
    for parametrization in ("mup", "standard"):
        wide, narrow = (
            losses(records, "wider", size=size, recipe__parametrization=parametrization)
            for size in ("256x3", "32x3")
        )
        yield mean_difference(
            "wide-minus-narrow", wide, narrow, "wider", parametrization=parametrization
        )


def hyperparameter_search(records: Records) -> Iterator[Quantity]:
    """Winners, with the span of all trials within noise of them; MiniCPM's constants; the ridge."""
    searches = {each["experiment"]: each for each in records.searches}
    short, long = searches["at-10N"], searches["at-20N"]
    for search, horizon in ((short, "10N"), (long, "20N")):
        for axis in search["space"]:
            name = axis.rpartition(".")[2]
            yield _winner(name, search, horizon, lambda values, axis=axis: values[axis])
        yield _winner(
            "scale_emb/scale_depth",
            search,
            horizon,
            lambda values: values["recipe.scale_emb"] / values["recipe.scale_depth"],
        )
    ratio = _value(long)["recipe.lr"] / _value(short)["recipe.lr"]
    yield comparison("winner-ratio", ratio, axis="lr", horizon="20N", base="10N")
    yield comparison("importance", short["importances"]["recipe.lr"], axis="lr", horizon="10N")
    best = short["finalists"][0]["losses"]
    winner = {int(seed): float(loss) for seed, loss in best.items()}
    for width in (32, 256):
        constants = losses(records, "minicpm", recipe__base_width=width, horizon="10N")
        yield mean_difference(
            "minicpm-minus-winner", constants, winner, "minicpm", base_width=width
        )


def _value(search: dict[str, Any]) -> dict[str, float]:
    values: dict[str, float] = search["winner"]["values"]
    return values


def _winner(
    axis: str, search: dict[str, Any], horizon: str, read: Callable[[dict[str, float]], float]
) -> Quantity:
    """The winner's value; the interval spans the finalists and all trials within noise of it."""
    trials = {each["trial"]: each for each in search["trials"]}
    near = [*search["near"], *(each["trial"] for each in search["finalists"])]
    values = [read(trials[number]["values"]) for number in near]
    value = read(_value(search))
    assert math.isfinite(value)
    return comparison("winner", value, (min(values), max(values)), axis=axis, horizon=horizon)


def batch_size(records: Records) -> Iterator[Quantity]:
    """The best batch at one loss, and regret as a share."""
    (found,) = batches(records)
    assert found.fitted is not None
    best = found.fitted.predict(1.9, trunks=math.inf)
    yield comparison("best-batch", best.value, (best.low, best.high), "tokens", loss=1.9)
    for times in (2, 4):
        regret = found.fitted.details["regret"][f"{times}x"]
        yield comparison("extra-tokens", regret, times=times)


def schedules_compared(records: Records) -> Iterator[Quantity]:
    """Differences of schedules, paired by seed and length."""
    (found,) = schedules(records)
    wsd = {share: found.losses("linear", share) for share in (0.025, 0.1, 0.2)}
    cosine = found.losses("cosine", 1.0)
    for share in (0.1, 0.2):
        yield _paired("wsd-minus-cosine", wsd[share], cosine, decay=share)
    for share in (0.025, 0.2):
        yield _paired("decay-difference", wsd[share], wsd[0.1], decay=share, base=0.1)
    for shape in ("one_minus_sqrt", "exponential", "cosine"):
        mine = found.losses(shape, 0.1)
        yield _paired("shape-difference", mine, wsd[0.1], shape=shape, base="linear", decay=0.1)


def _paired(quantity: str, some: Losses, others: Losses, **fields: str | float) -> Quantity:
    gap = paired(some, others)
    assert gap is not None
    return comparison(quantity, gap.value, (gap.low, gap.high), NATS, **fields)


def own_rates(records: Records) -> Iterator[Quantity]:
    """WSD and cosine, each at the rate that did best among those tried, paired by seed."""

    def best(experiment: str, share: float, horizon: str) -> dict[int, float]:
        rates = {run.axes["recipe.lr"] for run in records.of(experiment)}
        wanted = {"schedule__decay_fraction": share, "horizon": horizon}
        tried = [losses(records, experiment, recipe__lr=rate, **wanted) for rate in rates]
        return min(tried, key=lambda by_seed: float(np.mean(list(by_seed.values()))))

    for share, horizon in ((0.1, "80N"), (0.2, "80N"), (0.2, "20N")):
        cosine, wsd = best("cosine", 1.0, horizon), best("wsd", share, horizon)
        yield mean_difference("cosine-minus-wsd", cosine, wsd, decay=share, horizon=horizon)


def catching_up(records: Records) -> Iterator[Quantity]:
    """Bounds on the tokens and compute to match a loss that no length reached."""
    (found,) = overtraining_pairs(records)
    longest = max(run.tokens / run.params for run in records.of(found.experiment))
    reached = {
        dict(each.id.fields)["horizon"] for each in found.quantities if each.id.quantity == "tokens"
    }
    pair = {"small": found.pair.small.name, "large": found.pair.large.name}
    for times in (20, 40):
        horizon = f"{times}N"
        if horizon in reached:
            continue
        compute = longest / times / found.pair.saved(exact=False) ** 2
        for quantity, least, fields in (
            ("tokens-per-param", longest, pair | {"horizon": horizon}),
            ("training-compute", compute, pair | {"horizon": horizon, "flops": "6ND"}),
        ):
            bound = found.quantity(quantity, math.inf, **fields)
            yield replace(bound, low=least, high=math.inf)


def dynamics(records: Records) -> Iterator[Quantity]:
    """The cost of the hook, as `make bench` has measured it."""
    assert records
    (row,) = (
        row
        for row in json.loads(BENCHMARKS.read_text())["watched"]["found"]["rows"]
        if row["shape"].startswith("64x3")
    )
    yield comparison("hook-time-ratio", row["ratios"]["every update"], size="64x3")


def variant_losses(
    records: Records, experiment: str, variant: str, on: str | None = None
) -> dict[int, float]:
    """Loss by seed of one variant: the mean, or on one validation set."""
    return {
        run.init_seed: run.losses[on] if on else run.loss
        for run in records.of(experiment)
        if run.variants.get(experiment) == variant and run.loss is not None
    }


def between_variants(
    *pairs: tuple[str, str, str, str],
) -> Callable[[Records], Iterator[Quantity]]:
    """Differences of two variants, neither of which is the first: (experiment, set, one, other)."""

    def quantities(records: Records) -> Iterator[Quantity]:
        for experiment, on, one, other in pairs:
            mine, theirs = (variant_losses(records, experiment, each, on) for each in (one, other))
            fields = {"set": on, "variant": one, "base": other}
            yield mean_difference("difference", mine, theirs, experiment, **fields)

    return quantities


def continuations(records: Records) -> Iterator[Quantity]:
    """Every variant minus the extended trunk."""
    for experiment in ("twice", "four-times"):
        runs = records.of(experiment)
        variants = {run.variants[experiment] for run in runs if run.variants}
        base = variant_losses(records, experiment, "extended")
        for variant in sorted(variants - {"extended"}):
            mine = variant_losses(records, experiment, variant)
            fields = {"set": "mean", "variant": variant, "base": "extended"}
            yield mean_difference("difference", mine, base, experiment, **fields)


def trunks_over_length(records: Records) -> Iterator[Quantity]:
    """The lowest loss at each end of the lengths, by the trunk; each has its own best rate."""
    lowest = {
        each.experiment: {curve.label: (curve.lowest, curve.seeds) for curve in variant.curves}
        for each in transfers(records)
        for variant in each.variants
    }
    noise = next((each.noise for each in transfers(records) if each.noise is not None), None)
    for horizon in ("20N", "160N"):
        if all(horizon in lowest.get(trunk, {}) for trunk in ("constant", "power")):
            (power, seeds), (constant, _) = lowest["power"][horizon], lowest["constant"][horizon]
            found = mean_of(noise, power - constant, seeds / 2)  # of two means
            ends = found.low, found.high
            yield comparison("power-minus-constant", found.value, ends, NATS, horizon=horizon)


def eightfold(records: Records) -> Iterator[Quantity]:
    """How far each forecast was off at each length, and which trunk's target ended lower."""
    measured = {run.segment: run.loss for run in records.runs if run.loss is not None}
    ends: dict[str, dict[int, float]] = {}
    for forecast in records.forecasts:
        name, longest = forecast["experiment"], forecast["largest"]["tokens"]
        for point in forecast["points"]:
            if (loss := measured.get(point["segment"])) is None:
                continue
            times = round(point["tokens"] / longest)
            ends.setdefault(name, {})[times] = loss
            off = math.log(point["loss"] / loss)
            yield comparison("forecast-error", off, experiment=name, times=times)
    for times in ends.get("power", {}).keys() & ends.get("constant", {}).keys():
        difference = ends["power"][times] - ends["constant"][times]
        yield comparison("power-minus-constant", difference, (None, None), NATS, times=times)


COMPARISONS: dict[str, Callable[[Records], Iterator[Quantity]]] = {
    "001-coordinate-check": coordinate_check,
    "002-hyperparameter-search": hyperparameter_search,
    "005-batch-size": batch_size,
    "006-wsd-against-cosine": schedules_compared,
    "007-training-dynamics": dynamics,
    "010-wsd-and-cosine-rates": own_rates,
    "009-small-model-long": catching_up,
    "011-two-stage": between_variants(("B", "doctests_conditional", "3-mixed", "2-apart-twice")),
    "012-domain-adaptation": between_variants(("mix", "code", "code100", "code50")),
    "014-continuation": continuations,
    "016-trunks-over-length": trunks_over_length,
    "019-forecast-docs": eightfold,
    "020-forecast-code": eightfold,
    "022-upcycling": upcycling,
    "023-experts-from-scratch": experts_from_scratch,
}
