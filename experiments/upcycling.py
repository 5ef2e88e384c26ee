"""What 022 and 023 measured: variants at equal tokens, crossings, and the law of upcycling."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from comparisons import comparison, mean_difference

from windtunnel import fit
from windtunnel.findings import Quantity, Records
from windtunnel.findings.records import read_records
from windtunnel.laws import Fit

HERE = Path(__file__).resolve().parent

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
        return fit(columns, law="upcycling")

    whole = fitted(rows)
    yield comparison("alpha3", whole.coefficients["alpha3"], whole.intervals["alpha3"])
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
