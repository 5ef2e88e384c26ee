"""The parts of a Fit's JSON document, written and read; docs/fit.md describes its keys.

JSON has neither infinity nor nan: an unbounded end of an interval is written as the text "inf" or
"-inf", and a number that does not exist as null.
"""

from dataclasses import asdict
from typing import Any, cast

import numpy as np

from windtunnel.laws.exact import ExactRule
from windtunnel.laws.interval import HoldOut, Influence, Interval, LeaveOneOut, Optimum
from windtunnel.laws.misfit import Basis, MisfitDraws
from windtunnel.laws.schema import as_number
from windtunnel.laws.table import Floats

SCHEMA = 2
# Resamples keep so many digits: coefficients of a resample are correlated, so losses predicted from
# them are then good to seven.
DRAW_DIGITS = 10
WRITE_ONE = "write one with windtunnel fit --out FIT.json"
FIT_AGAIN = "put back what stood there, or fit again with windtunnel fit --out FIT.json"


def optimum_document(best: Optimum) -> dict[str, Any]:
    """One optimum as plain data; every number has its interval beside it."""
    out: dict[str, Any] = {"flops": best.flops}
    for name in ("params", "tokens", "ratio", "ratio_exact", "loss"):
        found: Interval | None = getattr(best, name)
        out[name] = None if found is None else found.value
        out[f"{name}_interval"] = None if found is None else [found.low, found.high]
    if best.loss.transition is not None:
        out["loss_transition"] = asdict(best.loss.transition)
    out["extrapolates"] = best.extrapolates
    out["excess"] = best.excess
    out["warnings"] = [warning.document() for warning in best.warnings]
    return out


def holdout_document(held: HoldOut) -> dict[str, Any]:
    """A hold-out as plain data."""
    keys = {"rows": "n", "baselines": "naive"}
    values = asdict(held)
    if not values["baseline_p"]:
        del values["baseline_p"]
    names = ("rows", *(name for name in values if name != "rows"))
    return {keys.get(name, name): values[name] for name in names}


def read_holdout(content: dict[str, Any] | None) -> HoldOut | None:
    """The hold-out of a written fit; None where there was none."""
    if content is None:
        return None
    numbers = ("mean_relative_error", "error", "rms", "low", "high")
    points = tuple(tuple(read_number(value) for value in point) for point in content["points"])
    return HoldOut(
        what=content["what"],
        rows=content["n"],
        trunks=content["trunks"],
        inside=content["inside"],
        covered=content["covered"],
        by_group=read_numbers(content["by_group"]),
        baselines=read_numbers(content["naive"]),
        baseline_p=read_numbers(content.get("baseline_p", {})),
        points=cast("Any", points),
        **{name: read_number(content[name]) for name in numbers},
    )


def influence_document(found: Influence) -> dict[str, Any]:
    """The influence of rows and trunks as plain data."""

    def effects(many: tuple[LeaveOneOut, ...]) -> list[dict[str, Any]]:
        return [asdict(effect) for effect in many]

    return {
        "quantity": found.quantity,
        "value": found.value,
        "rows": effects(found.rows),
        "trunks": effects(found.trunks),
    }


def read_influence(content: dict[str, Any] | None) -> Influence | None:
    """The influence of a written fit; None where there was none."""
    if content is None:
        return None

    def effects(many: list[dict[str, Any]]) -> tuple[LeaveOneOut, ...]:
        return tuple(
            LeaveOneOut(
                each["label"], read_number(each["value_without"]), read_number(each["shift"])
            )
            for each in many
        )

    return Influence(
        content["quantity"],
        read_number(content["value"]),
        effects(content["rows"]),
        effects(content["trunks"]),
    )


def rule_document(rule: ExactRule) -> dict[str, Any]:
    """An exact FLOP rule as plain data."""
    return {
        "log_params": rule.log_params,
        "log_excess": rule.log_excess,
        "flop_factor": rule.flop_factor,
    }


def read_rule(content: dict[str, Any]) -> ExactRule:
    """The exact FLOP rule of a written fit."""
    return ExactRule(
        np.array(content["log_params"], np.float64),
        np.array(content["log_excess"], np.float64),
        content["flop_factor"],
    )


def misfit_document(misfit: MisfitDraws, draws: int | None) -> dict[str, Any]:
    """A misfit as plain data, of the first `draws` draws (None: all)."""
    columns = np.column_stack([misfit.amplitude, misfit.sigma_size, misfit.weights])
    return {
        "middle": list(misfit.basis.middle),
        "span": list(misfit.basis.span),
        "knots": [knots.tolist() for knots in misfit.basis.knots],
        "forms": list(misfit.forms),
        "widening": dict(misfit.widening),
        "reach": misfit.reach,
        "form": misfit.form[:draws].tolist(),
        "draws": rounded(columns[:draws]),
    }


def read_misfit(content: dict[str, Any]) -> MisfitDraws:
    """The misfit of a written fit."""
    middle, span = content["middle"], content["span"]
    first, second = (np.array(knots, np.float64) for knots in content["knots"])
    basis = Basis((middle[0], middle[1]), (span[0], span[1]), (first, second))
    draws = read_draws(content["draws"], basis.size + 2)
    return MisfitDraws(
        basis=basis,
        weights=draws[:, 2:],
        amplitude=draws[:, 0],
        sigma_size=draws[:, 1],
        form=np.array(content["form"], np.intp),
        forms=tuple(content["forms"]),
        widening=content["widening"],
        reach=content["reach"],
    )


def rounded(values: Floats) -> list[list[float]]:
    """Draws as lists, with `DRAW_DIGITS` significant digits."""
    return [[float(f"{number:.{DRAW_DIGITS}g}") for number in row] for row in values.tolist()]


def read_draws(rows: list[list[Any]], width: int) -> Floats:
    """Draws (rows, width) of a written fit."""
    numbers = [[as_number(value) for value in row] for row in rows]
    return np.asarray(numbers, np.float64).reshape(-1, width)


def read_span(span: Any) -> tuple[float, float]:
    """The low and high end of a written interval."""
    low, high = (as_number(value) for value in span)
    return low, high


def read_number(value: Any) -> Any:
    """A number, also where JSON has none; others stay as they are written, for fingerprints."""
    return value if isinstance(value, int | float) else as_number(value)


def read_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers by name, as `read_number` reads each."""
    return {name: read_number(value) for name, value in values.items()}


def read_optional(value: Any) -> Any:
    """A number as `read_number` reads it, or None for null."""
    return None if value is None else read_number(value)
