"""The measured side of every prediction: quantities by name, from an experiment's records alone.

Most are those of the library's findings. Here stand only comparisons across the parts of one
experiment, which no single finding makes: one short function an experiment, in their order, and
so longer than a file should be.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from windtunnel.findings import LEVEL, Quantity, Records, findings_of
from windtunnel.findings.batch import batches
from windtunnel.findings.overtraining import catch_ups
from windtunnel.findings.schedules import Losses, paired, schedules
from windtunnel.laws.mixture import fit_mixture

NATS = "nats per byte"
BENCHMARKS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.json"


def quantities_of(experiment: str, records: Records) -> dict[str, Quantity]:
    """Every quantity that an experiment's predictions may speak of, by name.

    A finding's quantity is also known as `EXPERIMENT: NAME`, where a study has several findings,
    and either without the quotes around variants, which older predictions do not have.
    """
    found = {}
    for finding in findings_of(records):
        for quantity in finding.quantities:
            for name in (quantity.name, quantity.name.replace("'", "")):
                found.setdefault(name, quantity)
                found[f"{finding.experiment}: {name}"] = quantity
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
    yield from renamed(
        {
            "rate sensitivity with QK-norm over without": (
                "rate sensitivity, QK-norm over no QK-norm"
            )
        }
    )(records)
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


def batch_size(records: Records) -> Iterator[Quantity]:
    """The best batch at one loss, and regret as a share."""
    (found,) = batches(records)
    assert found.fitted is not None
    best = found.fitted.predict(1.9, trunks=math.inf)
    name = "best batch at a loss of 1.9 nats per byte"
    yield Quantity(name=name, value=best.value, low=best.low, high=best.high, unit="tokens")
    for times in (2, 4):
        name = f"extra tokens for a batch {times} times off the best"
        yield Quantity(name=name, value=found.fitted.details["regret"][f"{times}x"])


def schedules_compared(records: Records) -> Iterator[Quantity]:
    """Differences of schedules, paired by seed and length."""
    (found,) = schedules(records)
    wsd = {share: found.losses("linear", share) for share in (0.025, 0.1, 0.2)}
    cosine = found.losses("cosine", 1.0)
    for share in (0.1, 0.2):
        yield _paired(f"WSD with a decay of {share:.0%} minus cosine", wsd[share], cosine)
    for share, spelt in ((0.025, "2.5%"), (0.2, "20%")):
        yield _paired(f"decay of {spelt} minus decay of 10%", wsd[share], wsd[0.1])
    for shape, spelt in (
        ("one_minus_sqrt", "1 - sqrt"),
        ("exponential", "exponential"),
        ("cosine", "cosine"),
    ):
        name = f"{spelt} minus linear, decay of 10%"
        yield _paired(name, found.losses(shape, 0.1), wsd[0.1])
    assert found.cost is not None
    yield Quantity(
        name="compute of cosine runs over trunk and branches for the same four points, "
        "decay of 10%",
        value=found.cost.cosine / found.cost.wsd,
    )


def _paired(name: str, some: Losses, others: Losses) -> Quantity:
    gap = paired(some, others)
    assert gap is not None
    return Quantity(name=name, value=gap.value, low=gap.low, high=gap.high, unit=NATS)


def own_rates(records: Records) -> Iterator[Quantity]:
    """WSD and cosine, each at the rate that did best among those tried, paired by seed."""
    names = {
        "best rate of a decay of 10% at 80N": "wsd: best rate at 80N, a decay of 10%",
        "best rate of the cosine at 80N": "cosine: best rate at 80N",
    }
    yield from renamed(names)(records)

    def best(experiment: str, share: float, horizon: str) -> dict[int, float]:
        rates = {row["recipe.lr"] for row in records.of(experiment)}
        wanted = {"schedule__decay_fraction": share, "horizon": horizon}
        tried = [losses(records, experiment, recipe__lr=rate, **wanted) for rate in rates]
        return min(tried, key=lambda by_seed: float(np.mean(list(by_seed.values()))))

    for share, horizon in ((0.1, "80N"), (0.2, "80N"), (0.2, "20N")):
        name = f"cosine minus decay of {share:.0%}, each at its best rate tried, {horizon}"
        yield mean_difference(name, best("cosine", 1.0, horizon), best("wsd", share, horizon))


def catching_up(records: Records) -> Iterator[Quantity]:
    """Tokens and compute to match; from the longest run on where no length reached the loss."""
    yield from renamed(LONG)(records)
    (found,) = catch_ups(records)
    longest = max(row["tokens"] / row["params"] for row in records.of(found.experiment))
    reached = {each.name for each in found.quantities}
    for times, at in ((20, ""), (40, ", at 40N")):
        if f"tokens of 32x3 to match 64x3 at {times}N" in reached:
            continue
        name = f"tokens per param with which the small model matches the large one at {times}N"
        yield Quantity(name=name, value=math.inf, low=longest, high=math.inf)
        compute = longest / times / found.pair.saved(exact=False) ** 2
        name = f"training compute of that, over the large model's (6ND){at}"
        yield Quantity(name=name, value=math.inf, low=compute, high=math.inf)


def dynamics(records: Records) -> Iterator[Quantity]:
    """The series, and the cost of the hook as `make bench` has measured it."""
    yield from renamed(SERIES)(records)
    (row,) = (
        row
        for row in json.loads(BENCHMARKS.read_text())["watched"]["found"]["rows"]
        if row["shape"].startswith("64x3")
    )
    name = "time of an update with the hook over without, 64x3"
    yield Quantity(name=name, value=row["ratios"]["every update"])


def renamed(names: dict[str, str]) -> Callable[[Records], Iterator[Quantity]]:
    """Quantities of findings under the names that the predictions gave them beforehand."""

    def read(records: Records) -> Iterator[Quantity]:
        found = {
            known: quantity
            for finding in findings_of(records)
            for quantity in finding.quantities
            for known in (quantity.name, f"{finding.experiment}: {quantity.name}")
        }
        for theirs, ours in names.items():
            if ours in found:
                yield replace(found[ours], name=theirs)

    return read


SERIES = {
    "checkpoint difference, decay over stable": "change of weights, end of decay over stable",
    "gradient norm, decay over stable": "gradient norm, end of decay over stable",
    "share of decay updates with a positive cosine between successive gradients": (
        "share of positive cosines in decay"
    ),
    "exponent of D1 in the rate during decay": "exponent of the size of D1 on rate",
    "D2, decay over stable": "size of D2, end of decay over stable",
    "curvature, decay over stable": "curvature, end of decay over stable",
}


LONG = {
    f"tokens per param with which the small model matches the large one at {length}": (
        f"tokens per parameter of 32x3 to match 64x3 at {length}"
    )
    for length in ("20N", "40N")
} | {
    "training compute of that, over the large model's (6ND)": (
        "training compute of 32x3 to match 64x3 at 20N, 6ND"
    ),
    "training compute of that, over the large model's (6ND), at 40N": (
        "training compute of 32x3 to match 64x3 at 40N, 6ND"
    ),
    "inference compute of the large model over the small one's (exact FLOPs per token)": (
        "inference compute of 64x3 over 32x3, exact"
    ),
    "AIC of exp-offset minus AIC of power-offset, envelope of the small model": (
        "AIC of the exponential minus the power law"
    ),
}


def variant_losses(
    records: Records, experiment: str, variant: str, column: str
) -> dict[int, float]:
    """Loss by seed of one way to leave the trunk."""
    return {
        row["init_seed"]: row[column] for row in records.of(experiment) if row["variant"] == variant
    }


def between_variants(
    *asked: tuple[str, str, str, str],
) -> Callable[[Records], Iterator[Quantity]]:
    """Differences of two ways, neither of which is the first: (experiment, set, one, other)."""

    def quantities(records: Records) -> Iterator[Quantity]:
        for experiment, on, one, other in asked:
            mine, theirs = (
                variant_losses(records, experiment, each, f"loss_{on}") for each in (one, other)
            )
            yield mean_difference(f"{experiment}: loss on {on}, {one} minus {other}", mine, theirs)

    return quantities


def continuations(records: Records) -> Iterator[Quantity]:
    """Every way to go on minus the extended trunk."""
    for experiment in ("twice", "four-times"):
        ways = {row["variant"] for row in records.of(experiment)}
        base = variant_losses(records, experiment, "extended", "loss")
        for way in sorted(ways - {None, "extended"}):
            mine = variant_losses(records, experiment, way, "loss")
            name = f"{experiment}: {way} minus extended, mean over the sets"
            yield mean_difference(name, mine, base)


def mixtures(records: Records) -> Iterator[Quantity]:
    """The mixture law over the design."""
    fitted = fit_mixture(records.of("design"))
    for on, choice in fitted.choices.items():
        rank = choice.taken.rank
        name = f"rank correlation on mixtures left out, loss on {on}"
        yield Quantity(name=name, value=rank.value, low=rank.low, high=rank.high, unit="")
    for source, share in fitted.best.shares.items():
        name = f"share of {source} in the best mixture"
        yield Quantity(name=name, value=share.value, low=share.low, high=share.high, unit="")
    for gain in fitted.best.gains:
        nats = gain.nats
        name = f"gain of the best mixture over {gain.over}"
        yield Quantity(name=name, value=nats.value, low=nats.low, high=nats.high, unit=NATS)


OWN: dict[str, Callable[[Records], Iterator[Quantity]]] = {
    "001-coordinate-check": coordinate_check,
    "002-hyperparameter-search": hyperparameter_search,
    "003-lr-transfer": renamed(
        {
            "best loss at 8 times the width, constant minus scaled weight decay": (
                "best loss at 8 times the width, constant weight decay minus scaled weight decay"
            ),
        }
    ),
    "005-batch-size": batch_size,
    "006-wsd-against-cosine": schedules_compared,
    "007-training-dynamics": dynamics,
    "010-wsd-and-cosine-rates": own_rates,
    "009-small-model-long": catching_up,
    "011-two-stage": between_variants(("B", "doctests_conditional", "3-mixed", "2-apart-twice")),
    "012-domain-adaptation": between_variants(("mix", "code", "code100", "code50")),
    "014-continuation": continuations,
    "015-mixture-law": mixtures,
}
