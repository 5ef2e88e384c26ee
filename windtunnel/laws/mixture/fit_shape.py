"""The schema of a written mixture fit (docs/fit.md), and what goes together in it."""

from typing import Any

from windtunnel.errors import FitError
from windtunnel.laws.fit_shape import DROPPED, LEVEL, POSITIVE, SHARE, WARNINGS
from windtunnel.laws.mixture.runs import SUM_WITHIN
from windtunnel.laws.mixture.surfaces import KINDS
from windtunnel.laws.shape import (
    Check,
    fields,
    flag,
    listed,
    loose,
    named,
    number,
    refused,
    span,
    text,
    whole,
)

FORECAST = fields({"loss": loose, "loss_interval": span(), "another_trunk_interval": span()})


def label(value: Any, place: str) -> None:
    """The name of a trunk or a variant, which a table may write as a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refused(place, value, "text or a number")


TABLE = fields(
    {
        "sources": listed(text, least=2),
        "sets": listed(text, least=1),
        "weights": listed(listed(SHARE), least=2),
        "losses": listed(listed(POSITIVE)),
        "trunk": listed(label),
        "variant": listed(label),
    }
)


def check_mixture_fit(content: Any) -> None:
    """Refuse a document that no mixture fit is written as.

    Raises:
        FitError: With the place, what stands there, and what is allowed.
    """
    fields({"table": TABLE})(content, "")
    table = content["table"]
    for name in ("sources", "sets"):
        if len(set(table[name])) < len(table[name]):
            raise refused(f"table.{name}", table[name], "each name once")
    rows = len(table["weights"])
    for name in ("losses", "trunk", "variant"):
        listed(lambda *_: None, count=rows)(table[name], f"table.{name}")
    for name, width in (("weights", len(table["sources"])), ("losses", len(table["sets"]))):
        listed(listed(number(), count=width))(table[name], f"table.{name}")
    for at, shares in enumerate(table["weights"]):
        _sum_to_one(shares, f"table.weights.{at}")
    _of_table(table["sources"], table["sets"])(content, "")
    _sum_to_one(content["target"].values(), "target")
    kinds = [_chosen(each, f"sets.{name}") for name, each in content["sets"].items()]
    asked, drawn = content["bootstrap"], content["resamples"]  # boosted laws draw fewer
    if drawn != len(content["best_draws"]) or not (
        drawn <= asked if "boosting" in kinds else drawn == asked
    ):
        raise FitError(
            f"resamples: {drawn:g}, where `bootstrap` is {asked:g} and `best_draws` has "
            f"{len(content['best_draws'])} entries"
        )


def _of_table(sources: list[str], sets: list[str]) -> Check:
    """What follows from the names of the sources and of the validation sets."""
    mixture = named(SHARE, sources)
    gain = fields(
        {"over": text, "mixture": mixture, "nats": loose, "nats_interval": span(), "none": flag}
    )
    candidate = fields(
        {
            "kind": text,
            "needs": whole(),
            "rms": loose,
            "relative": loose,
            "rank": loose,
            "rank_interval": span(),
            "predicted": listed(number()),
        }
    )
    one_set = fields(
        {
            "chosen": text,
            "why": text,
            "candidates": listed(candidate, least=1),
            "coefficients": named(listed(loose, count=3)),
        }
    )
    best = {
        "mixture": mixture,
        "intervals": named(span(), sources),
        "target": FORECAST,
        "losses": named(FORECAST, sets),
        "gains": listed(gain),
    }
    return fields(
        {
            "dropped": DROPPED,
            "filters": listed(text),
            "convention": fields({"loss": text}),
            "same": named(loose),
            "sets": named(one_set, sets),
            "target": named(SHARE, among=sets),
            "score": fields({"rms": loose, "rank": loose, "rank_interval": span()}),
            "best": fields(best),
            "level": LEVEL,
            "bootstrap": whole(),
            "resamples": whole(),
            "seed": whole(),
            "warnings": WARNINGS,
            "inputs": named(text),
            "fitted": listed(listed(POSITIVE, count=len(sets)), least=1),
            "best_draws": listed(listed(number(), count=len(sources))),
        },
        {"digest": text},  # fits of version 0.1 have none
    )


def _chosen(found: dict[str, Any], place: str) -> str:
    """The regression that was taken: one of those that could be fitted."""
    able = [each["kind"] for each in found["candidates"] if each["predicted"]]
    chosen: str = found["chosen"]
    if chosen not in KINDS or able.count(chosen) != 1:
        allowed = ", ".join(kind for kind in able if kind in KINDS) or "none of its candidates"
        raise refused(f"{place}.chosen", chosen, allowed)
    return chosen


def _sum_to_one(shares: Any, place: str) -> None:
    if not abs(sum(shares) - 1) <= SUM_WITHIN:
        raise FitError(f"{place}: sums to {sum(shares):.4g}, allowed: 1")
