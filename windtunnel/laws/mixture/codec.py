"""The parts of a MixtureFit's JSON document, written, checked and read; see docs/fit.md."""

from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.interval import Interval
from windtunnel.laws.mixture.best import LAW, Best, Forecast
from windtunnel.laws.mixture.models import KINDS
from windtunnel.laws.mixture.runs import SUM_WITHIN, MixtureRuns
from windtunnel.laws.mixture.selection import Candidate, ModelSelection
from windtunnel.laws.schema import (
    DROPPED,
    LEVEL,
    POSITIVE,
    SHARE,
    WARNINGS,
    Check,
    anything,
    as_number,
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

SCHEMA = 2
# Least squares on another machine differ in their last digits.
REPRODUCES = 1e-6
DRAW_DIGITS = 6


def is_mixture(content: Any) -> bool:
    """Whether parsed JSON says that it is a mixture fit."""
    return isinstance(content, dict) and content.get("law") == LAW


def forecast_document(found: Forecast) -> dict[str, Any]:
    """One forecast as plain data."""
    return {
        **interval_document("loss", found.loss),
        "another_trunk_interval": list(found.another_trunk),
    }


def best_document(best: Best) -> dict[str, Any]:
    """The best mixture as plain data."""
    return {
        "mixture": best.mixture,
        "intervals": {name: [share.low, share.high] for name, share in best.shares.items()},
        "target": forecast_document(best.target),
        "losses": {name: forecast_document(each) for name, each in best.losses.items()},
        "gains": [
            {
                "over": gain.over,
                "mixture": gain.mixture,
                **interval_document("nats", gain.nats),
                "none": gain.none,
            }
            for gain in best.gains
        ],
    }


def read_runs(content: dict[str, Any]) -> MixtureRuns:
    """The runs of a written fit."""
    table = content["table"]
    return MixtureRuns(
        sources=tuple(table["sources"]),
        sets=tuple(table["sets"]),
        weights=np.array(table["weights"], np.float64),
        losses=np.array(table["losses"], np.float64),
        trunk=tuple(table["trunk"]),
        variant=tuple(table["variant"]),
        same=content["same"],
        loss_unit=content["convention"]["loss"],
        filters=tuple(content["filters"]),
        dropped=tuple((each["reason"], each["rows"]) for each in content["dropped"]),
    )


def check_counts(content: dict[str, Any], mixtures: int) -> None:
    """Check that lists by mixture are as long as the table has mixtures."""
    listed(anything, count=mixtures)(content["fitted"], "fitted")
    for name, found in content["sets"].items():
        for at, candidate in enumerate(found["candidates"]):
            place = f"sets.{name}.candidates.{at}.predicted"
            listed(anything, count=mixtures if candidate["predicted"] else 0)(
                candidate["predicted"], place
            )


def read_selection(content: dict[str, Any]) -> ModelSelection:
    """The candidates of one validation set of a written fit, and the chosen one."""
    return ModelSelection(
        candidates=tuple(
            Candidate(
                kind=each["kind"],
                needs=each["needs"],
                rms=as_number(each["rms"]),
                relative=as_number(each["relative"]),
                rank=read_interval("rank", each),
                predicted=np.array(each["predicted"], np.float64),
            )
            for each in content["candidates"]
        ),
        chosen=content["chosen"],
        why=content["why"],
    )


def read_forecast(content: dict[str, Any]) -> Forecast:
    """A written forecast."""
    low, high = (as_number(end) for end in content["another_trunk_interval"])
    return Forecast(read_interval("loss", content), (low, high))


def interval_document(name: str, found: Interval) -> dict[str, Any]:
    """A number under `name`, and its interval beside it."""
    return {name: found.value, f"{name}_interval": [found.low, found.high]}


def read_interval(name: str, content: dict[str, Any]) -> Interval:
    """The number under `name` with its interval."""
    return interval_of(content[name], *content[f"{name}_interval"])


def interval_of(value: Any, low: Any, high: Any) -> Interval:
    """An interval of numbers as JSON has them."""
    return Interval(as_number(value), as_number(low), as_number(high))


FORECAST = fields({"loss": loose, "loss_interval": span(), "another_trunk_interval": span()})


def label(value: Any, place: str) -> None:
    """The name of a trunk or a variant: text or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refused("wrong-type", place, value, "text or a number")


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
    """Check the document of a mixture fit.

    Raises:
        FitError: With the place, what stands there, and what is allowed.
    """
    fields({"table": TABLE})(content, "")
    table = content["table"]
    for name in ("sources", "sets"):
        if len(set(table[name])) < len(table[name]):
            raise refused("duplicate-name", f"table.{name}", table[name], "each name once")
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
    requested, drawn = content["bootstrap"], content["resamples"]  # boosted laws draw fewer
    if drawn != len(content["best_draws"]) or not (
        drawn <= requested if "boosting" in kinds else drawn == requested
    ):
        raise FitError(
            "wrong-length",
            f"resamples: {drawn:g}, where `bootstrap` is {requested:g} and `best_draws` has "
            f"{len(content['best_draws'])} entries",
            place="resamples",
            resamples=drawn,
            bootstrap=requested,
            draws=len(content["best_draws"]),
        )


def _of_table(sources: list[str], sets: list[str]) -> Check:
    """Checks that depend on the names of the sources and the validation sets."""
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
    """The chosen regression, which must be one that could be fitted."""
    able = [each["kind"] for each in found["candidates"] if each["predicted"]]
    chosen: str = found["chosen"]
    if chosen not in KINDS or able.count(chosen) != 1:
        allowed = ", ".join(kind for kind in able if kind in KINDS) or "none of its candidates"
        raise refused("unknown-value", f"{place}.chosen", chosen, allowed)
    return chosen


def _sum_to_one(shares: Any, place: str) -> None:
    if not abs(sum(shares) - 1) <= SUM_WITHIN:
        raise FitError(
            "wrong-sum",
            f"{place}: sums to {sum(shares):.4g}, allowed: 1",
            place=place,
            sum=sum(shares),
        )
