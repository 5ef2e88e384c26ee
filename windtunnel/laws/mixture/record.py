"""A MixtureFit as one flat JSON object and back: the schema of docs/fit.md.

It holds the table. Reading it fits the chosen regressions and their resamples again, which gives
the same numbers, and checks that it does.
"""

from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.caution import Caution
from windtunnel.laws.document import EDITED, is_edited, text_of
from windtunnel.laws.interval import Interval
from windtunnel.laws.mixture.choice import Candidate, Choice
from windtunnel.laws.mixture.ensemble import ensemble
from windtunnel.laws.mixture.fit_shape import check_mixture_fit
from windtunnel.laws.mixture.result import LAW, Best, Forecast, Gain, MixtureFit, Score
from windtunnel.laws.mixture.runs import MixtureRuns, points_of
from windtunnel.laws.mixture.surfaces import KINDS
from windtunnel.laws.shape import anything, as_number, as_written, listed, parse

SCHEMA = 2
# Least squares on another machine differ in their last digits.
REPRODUCES = 1e-6
DRAW_DIGITS = 6


def write(fit: MixtureFit) -> str:
    """The fit as JSON, a key a line."""
    return text_of(document(fit))


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
        "warnings": [warning._asdict() for warning in fit.warnings],
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
        raise FitError(
            f"mixture fit schema {found!r:.60}: this version reads {SCHEMA}; fit the table again"
        )
    with as_written("mixture fit", "put back what stood there, or fit the table again"):
        check_mixture_fit(content)
        runs = _runs(content)
        _check_counts(content, len(points_of(runs).weights))
        fit = _rebuilt(content, runs)
        written = np.array(content["fitted"], np.float64)
        found = fit.losses(fit.points.weights)
    if not np.allclose(found, written, rtol=REPRODUCES, atol=0):
        raise FitError(
            "a mixture fit that does not come out again from its own table: the file was edited, "
            "or scikit-learn has changed; fit the table again"
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
        warnings=tuple(Caution(said["code"], said["message"]) for said in content["warnings"]),
        bootstrap=content["bootstrap"],
        seed=content["seed"],
        level=content["level"],
        inputs=content["inputs"],
    )


def _read_choice(content: dict[str, Any]) -> Choice:
    return Choice(
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
