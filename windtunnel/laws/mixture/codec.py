"""The JSON document of a MixtureFit, written, checked and read; docs/fit.md describes its keys.

The document holds the table. Reading it fits the chosen regressions and their resamples again and
checks that they give the numbers in the document.
"""

from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.interval import Interval
from windtunnel.laws.mixture.models import KINDS
from windtunnel.laws.mixture.result import LAW, Best, Forecast, Gain, MixtureFit, Score
from windtunnel.laws.mixture.runs import SUM_WITHIN, MixtureRuns, points_of
from windtunnel.laws.mixture.selection import Candidate, ModelSelection, ensemble
from windtunnel.laws.schema import (
    DROPPED,
    EDITED,
    LEVEL,
    POSITIVE,
    SHARE,
    WARNINGS,
    Check,
    anything,
    as_number,
    as_written,
    fields,
    flag,
    is_edited,
    json_text,
    listed,
    loose,
    named,
    number,
    parse,
    read_warnings,
    refused,
    span,
    text,
    whole,
    wrong_version,
)

SCHEMA = 2
# Least squares on another machine differ in their last digits.
REPRODUCES = 1e-6
DRAW_DIGITS = 6


def write(fit: MixtureFit) -> str:
    """The fit as JSON, a key a line."""
    return json_text(document(fit))


def document(fit: MixtureFit) -> dict[str, Any]:
    """The fit as plain data, in the order of docs/fit.md."""
    runs, points = fit.runs, fit.points
    return {
        "law": LAW,
        "schema": SCHEMA,
        "n": runs.rows,
        "n_mixtures": len(points.weights),
        "n_trunks": runs.trunks,
        "dropped": [{"reason": reason, "rows": rows} for reason, rows in runs.dropped],
        "filters": list(runs.filters),
        "convention": {"loss": runs.loss_unit, "weights": "shares, sum 1"},
        "same": runs.same,
        "sets": {name: _set(fit, s, name) for s, name in enumerate(runs.sets)},
        "target": fit.target,
        "score": {"rms": fit.score.rms, **_interval("rank", fit.score.rank)},
        "best": _best(fit.best),
        "level": fit.level,
        "bootstrap": fit.bootstrap,
        "resamples": len(fit.laws.noise),
        "seed": fit.seed,
        "warnings": [warning.document() for warning in fit.warnings],
        "inputs": fit.inputs,
        "table": {
            "sources": runs.sources,
            "sets": runs.sets,
            "weights": runs.weights,
            "losses": runs.losses,
            "trunk": runs.trunk,
            "variant": runs.variant,
        },
        "fitted": fit.losses(points.weights),
        "best_draws": [
            [round(share, DRAW_DIGITS) for share in row] for row in fit.best.draws.tolist()
        ],
    }


def read(text: str) -> MixtureFit:
    """The fit in `text`.

    Raises:
        FitError: no such text, another schema version, fields that are missing, or regressions
            that come out otherwise.
    """
    return of_document(parse(text, "write one with windtunnel fit --out FIT.json"))


def of_document(content: Any) -> MixtureFit:
    """The fit of a parsed document.

    Raises:
        FitError: as `read`.
    """
    if not is_mixture(content) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise wrong_version("mixture fit", found, SCHEMA)
    with as_written("mixture fit", "put back what stood there, or fit the table again"):
        check_mixture_fit(content)
        runs = _runs(content)
        _check_counts(content, len(points_of(runs).weights))
        fit = _rebuilt(content, runs)
        written = np.array(content["fitted"], np.float64)
        found = fit.losses(fit.points.weights)
    if not np.allclose(found, written, rtol=REPRODUCES, atol=0):
        raise FitError(
            "not-reproduced",
            "a mixture fit that does not come out again from its own table: the file was edited, "
            "or scikit-learn has changed; fit the table again",
        )
    return fit.warned(EDITED) if is_edited(content) else fit


def is_mixture(content: Any) -> bool:
    """Whether parsed JSON says that it is a mixture fit."""
    return isinstance(content, dict) and content.get("law") == LAW


def forecast_document(found: Forecast) -> dict[str, Any]:
    """One forecast as plain data."""
    return {
        **_interval("loss", found.loss),
        "another_trunk_interval": list(found.another_trunk),
    }


def _set(fit: MixtureFit, which: int, name: str) -> dict[str, Any]:
    choice = fit.choices[name]
    return {
        "chosen": choice.chosen,
        "why": choice.why,
        "formula": KINDS[choice.chosen].formula,
        "candidates": [
            {
                "kind": each.kind,
                "needs": each.needs,
                "refused": each.refused,
                "rms": each.rms,
                "relative": each.relative,
                **_interval("rank", each.rank),
                "predicted": each.predicted,
            }
            for each in choice.candidates
        ],
        "coefficients": {
            key: [value.value, value.low, value.high]
            for key, value in fit.coefficients[name].items()
        },
        "noise": {"run": fit.laws.sigma[which], "trunk": fit.laws.sigma_trunk[which]},
    }


def _best(best: Best) -> dict[str, Any]:
    return {
        "mixture": best.mixture,
        "intervals": {name: [share.low, share.high] for name, share in best.shares.items()},
        "target": forecast_document(best.target),
        "losses": {name: forecast_document(each) for name, each in best.losses.items()},
        "gains": [
            {
                "over": gain.over,
                "mixture": gain.mixture,
                **_interval("nats", gain.nats),
                "none": gain.none,
            }
            for gain in best.gains
        ],
    }


def _runs(content: dict[str, Any]) -> MixtureRuns:
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


def _check_counts(content: dict[str, Any], mixtures: int) -> None:
    """Refuse numbers by mixture that are not as many as the table has mixtures."""
    listed(anything, count=mixtures)(content["fitted"], "fitted")
    for name, found in content["sets"].items():
        for at, candidate in enumerate(found["candidates"]):
            place = f"sets.{name}.candidates.{at}.predicted"
            listed(anything, count=mixtures if candidate["predicted"] else 0)(
                candidate["predicted"], place
            )


def _rebuilt(content: dict[str, Any], runs: MixtureRuns) -> MixtureFit:
    sets = {name: content["sets"][name] for name in runs.sets}
    choices = {name: _read_choice(each) for name, each in sets.items()}
    best = content["best"]
    return MixtureFit(
        runs=runs,
        choices=choices,
        laws=ensemble(
            points_of(runs),
            [choice.chosen for choice in choices.values()],
            np.stack([choice.taken.predicted for choice in choices.values()], axis=1),
            bootstrap=content["bootstrap"],
            seed=content["seed"],
        ),
        coefficients={
            name: {key: _interval_of(*values) for key, values in each["coefficients"].items()}
            for name, each in sets.items()
        },
        target=content["target"],
        score=Score(as_number(content["score"]["rms"]), _read_interval("rank", content["score"])),
        best=Best(
            shares={
                name: _interval_of(share, *best["intervals"][name])
                for name, share in best["mixture"].items()
            },
            target=_read_forecast(best["target"]),
            losses={name: _read_forecast(each) for name, each in best["losses"].items()},
            gains=tuple(
                Gain(each["over"], each["mixture"], _read_interval("nats", each), each["none"])
                for each in best["gains"]
            ),
            draws=np.array(content["best_draws"], np.float64).reshape(-1, len(runs.sources)),
        ),
        warnings=read_warnings(content["warnings"]),
        bootstrap=content["bootstrap"],
        seed=content["seed"],
        level=content["level"],
        inputs=content["inputs"],
    )


def _read_choice(content: dict[str, Any]) -> ModelSelection:
    return ModelSelection(
        candidates=tuple(
            Candidate(
                kind=each["kind"],
                needs=each["needs"],
                rms=as_number(each["rms"]),
                relative=as_number(each["relative"]),
                rank=_read_interval("rank", each),
                predicted=np.array(each["predicted"], np.float64),
            )
            for each in content["candidates"]
        ),
        chosen=content["chosen"],
        why=content["why"],
    )


def _read_forecast(content: dict[str, Any]) -> Forecast:
    low, high = (as_number(end) for end in content["another_trunk_interval"])
    return Forecast(_read_interval("loss", content), (low, high))


def _interval(name: str, found: Interval) -> dict[str, Any]:
    return {name: found.value, f"{name}_interval": [found.low, found.high]}


def _read_interval(name: str, content: dict[str, Any]) -> Interval:
    return _interval_of(content[name], *content[f"{name}_interval"])


def _interval_of(value: Any, low: Any, high: Any) -> Interval:
    return Interval(as_number(value), as_number(low), as_number(high))


FORECAST = fields({"loss": loose, "loss_interval": span(), "another_trunk_interval": span()})


def label(value: Any, place: str) -> None:
    """The name of a trunk or a variant, which a table may write as a number."""
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
    """Refuse a document that no mixture fit is written as.

    Raises:
        FitError: With the place, what stands there, and what is allowed.
    """
    fields({"table": TABLE})(content, "")
    table = content["table"]
    for name in ("sources", "sets"):
        if len(set(table[name])) < len(table[name]):
            raise refused("repeated-name", f"table.{name}", table[name], "each name once")
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
            "wrong-length",
            f"resamples: {drawn:g}, where `bootstrap` is {asked:g} and `best_draws` has "
            f"{len(content['best_draws'])} entries",
            place="resamples",
            resamples=drawn,
            bootstrap=asked,
            draws=len(content["best_draws"]),
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
        raise refused("unknown-option", f"{place}.chosen", chosen, allowed)
    return chosen


def _sum_to_one(shares: Any, place: str) -> None:
    if not abs(sum(shares) - 1) <= SUM_WITHIN:
        raise FitError(
            "wrong-sum",
            f"{place}: sums to {sum(shares):.4g}, allowed: 1",
            place=place,
            sum=sum(shares),
        )
