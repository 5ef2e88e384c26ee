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
from ruamel.yaml import YAML
from scipy import stats

from windtunnel import fit
from windtunnel.findings import LEVEL, Quantity, QuantityId, Records, findings_of
from windtunnel.findings.batch import batches
from windtunnel.findings.lr_curves import mean_of
from windtunnel.findings.lr_transfer import transfers
from windtunnel.findings.overtraining import overtraining_pairs
from windtunnel.findings.records import read_records
from windtunnel.findings.schedules import Losses, paired, schedules
from windtunnel.laws import Fit
from windtunnel.runs.run import Run

NATS = "nats per byte"
HERE = Path(__file__).resolve().parent
PREDICTIONS = HERE / "predictions.yaml"
BENCHMARKS = HERE.parent / "docs" / "benchmarks.json"
STUDY = "study"
"""The experiment of a quantity that compares several of a study's."""


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


NEW_TOKENS = {"ten": 10, "twenty": 20, "forty": 40}
"""Of each experiment of 022, in N of the dense model."""
FORKS = (10, 20, 40, 80)
"""Of 022, in N."""
SIZE = "48x2"
"""The size that 022 and 023 are judged at."""


def upcycling(records: Records) -> Iterator[Quantity]:
    """Variants at equal tokens, where their losses cross, and the law of sunk and new tokens."""

    def ends(experiment: str, fork: int, variant: str) -> dict[int, float]:
        return _variant_losses(records, experiment, fork, variant)

    for experiment, fork, variant, base in (
        ("forty", 20, "eight", "dense"),
        ("ten", 80, "eight", "dense"),
        ("forty", 80, "half-new", "eight"),
        ("ten", 80, "half-new", "eight"),
    ):
        mine, theirs = (ends(experiment, fork, each) for each in (variant, base))
        fields = {"variant": variant, "base": base, "size": SIZE, "fork": f"{fork}N"}
        yield mean_difference("difference", mine, theirs, experiment, **fields)
    ahead = [
        _crossing(seed, lambda name, seed: ends(name, 20, "dense")[seed], ends) for seed in (0, 1)
    ]
    yield _over_sunk("ahead-of-dense", ahead)
    scratch = _scratch()
    caught = [
        _crossing(seed, lambda name, seed: scratch(seed, NEW_TOKENS[name]), ends, falls=False)
        for seed in (0, 1)
    ]
    yield _over_sunk("caught-by-scratch", caught)
    yield from _law_of_upcycling(records)


def _variant_losses(
    records: Records, experiment: str, fork: int, variant: str, size: str = SIZE
) -> dict[int, float]:
    """Loss by seed of a variant of 022 at one fork, after its last stage."""
    mine = [
        run
        for run in records.of(experiment)
        if run.decayed and run.size == size and run.variants.get(experiment) == variant
    ]
    forks = sorted({run.fork_tokens for run in mine})
    wanted = forks[FORKS.index(fork)]
    return {
        run.init_seed: run.loss
        for run in mine
        if run.fork_tokens == wanted and run.loss is not None
    }


def _crossing(
    seed: int,
    rival: Callable[[str, int], float],
    ends: Callable[[str, int, str], dict[int, float]],
    *,
    falls: bool = True,
) -> tuple[float, float]:
    """Bounds of the new tokens, over 20N sunk, at which eight experts cross the rival's loss.

    Crossed from above where the gap `falls`; the bounds are the lengths before and after.
    """
    before = 0.0
    for name, new in NEW_TOKENS.items():
        gap = ends(name, 20, "eight")[seed] - rival(name, seed)
        if (gap < 0) == falls:
            return before, new / 20
        before = new / 20
    return before, math.inf


def _over_sunk(quantity: str, bounds: list[tuple[float, float]]) -> Quantity:
    """The union of the bounds of the seeds; its value is the last length before the crossing."""
    low, high = min(each[0] for each in bounds), max(each[1] for each in bounds)
    return comparison(quantity, low, (low, high), size=SIZE, fork="20N")


def _scratch() -> Callable[[int, int], float]:
    """Loss of eight experts from scratch by seed and tokens in N of the dense model, from 023.

    Interpolated in ln tokens between its lengths.
    """
    records = read_records(HERE / "023-experts-from-scratch" / "records")
    runs = [
        run
        for run in records.of("experts")
        if run.decayed and run.size == SIZE and run.experts == 8
    ]

    def loss(seed: int, tokens: int) -> float:
        mine = sorted((run.tokens, run.loss) for run in runs if run.init_seed == seed)
        x, y = (np.array(each, float) for each in zip(*mine, strict=True))
        return float(np.interp(math.log(tokens * DENSE), np.log(x), y))

    return loss


DENSE = 53_232
"""Parameters of the dense 48x2."""


def _law_of_upcycling(records: Records) -> Iterator[Quantity]:
    """The exponent of the interaction, and the fork left out."""
    rows = [
        {
            "params": float(run.params),
            "sunk_tokens": float(run.sunk_tokens),
            "tokens": float(run.tokens - run.sunk_tokens),
            "loss": run.loss,
            "trunk": run.trunk,
            "size": run.size,
        }
        for experiment in NEW_TOKENS
        for run in records.of(experiment)
        if run.decayed and run.sunk_tokens and run.variants.get(experiment) == "eight"
    ]
    of_law = ("params", "sunk_tokens", "tokens", "loss", "trunk")

    def fitted(some: list[dict[str, Any]]) -> Fit:
        columns = {name: [row[name] for row in some] for name in of_law}
        return fit(columns, law="upcycling", intervals="none", holdout=None)

    yield comparison("alpha3", fitted(rows).coefficients["alpha3"])
    last = {
        size: max(row["sunk_tokens"] for row in rows if row["size"] == size)
        for size in {row["size"] for row in rows}
    }
    law = fitted([row for row in rows if row["sunk_tokens"] < last[row["size"]]])
    ratios = []
    for row in rows:
        if row["size"] == SIZE and row["sunk_tokens"] == last[SIZE]:
            inputs = {name: row[name] for name in of_law[:3]}
            ratios.append(row["loss"] / law.predict(**inputs).value)
    yield comparison(
        "measured-over-forecast", float(np.mean(ratios)), (min(ratios), max(ratios)), fork="80N"
    )


def experts_from_scratch(records: Records) -> Iterator[Quantity]:
    """More experts, against upcycling at equal tokens, and how even their load is."""
    longest = max(run.tokens for run in records.of("experts") if run.decayed)
    eight, four = (
        {
            run.init_seed: run.loss
            for run in records.of("experts")
            if run.decayed and run.size == SIZE and run.tokens == longest and run.experts == number
        }
        for number in (8, 4)
    )
    yield mean_difference("eight-minus-four", eight, four, "experts", size=SIZE)
    scratch = _scratch()
    dense = read_records(HERE / "022-upcycling" / "records")
    upcycled = _variant_losses(dense, "twenty", 20, "eight")
    yield mean_difference(
        "scratch-minus-upcycled",
        {seed: scratch(seed, 40) for seed in upcycled},
        upcycled,
        size=SIZE,
    )
    ends = {
        run.segment
        for run in records.of("experts")
        if run.decayed and run.size == SIZE and run.tokens == longest and run.experts == 8
    }
    last = {
        (each.segment, each.layer): each.largest_share
        for each in records.routing
        if each.segment in ends and each.largest_share is not None
    }  # later bins replace earlier ones
    times = [8 * share for share in last.values()]
    yield comparison(
        "largest-share-over-balance", float(np.mean(times)), (min(times), max(times)), size=SIZE
    )


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
