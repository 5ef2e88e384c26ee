"""The JSON document of a Fit, written and read; docs/fit.md describes its keys.

JSON has neither infinity nor nan: an unbounded end of an interval is written as the text "inf" or
"-inf", and a number that does not exist as null.
"""

import math
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.exact import ExactRule
from windtunnel.laws.forms import Formula
from windtunnel.laws.interval import HoldOut, Influence, Interval, LeaveOneOut, Optimum
from windtunnel.laws.result import Fit, written_law
from windtunnel.laws.schema import (
    EDITED,
    as_number,
    as_written,
    check_fit,
    is_edited,
    json_text,
    parse,
    read_warnings,
    wrong_version,
)
from windtunnel.laws.table import Floats

SCHEMA = 2
# Resamples keep so many digits: coefficients of a resample are correlated, so losses predicted from
# them are then good to seven.
DRAW_DIGITS = 10
WRITE_ONE = "write one with windtunnel fit --out FIT.json"
FIT_AGAIN = "put back what stood there, or fit again with windtunnel fit --out FIT.json"


def write(fit: Fit, *, draws: int | None = None, with_digest: bool = True) -> str:
    """The fit as JSON, a key a line, with the first `draws` resamples (None: all)."""
    return json_text(document(fit, draws=draws), with_digest=with_digest)


def document(fit: Fit, *, draws: int | None = None) -> dict[str, Any]:
    """The fit as plain data, in the order of docs/fit.md."""
    return {
        "schema": SCHEMA,
        "law": fit.law,
        "formula": fit.form.formula,
        "source": fit.form.source,
        "n": fit.rows,
        "n_trunks": fit.trunks,
        "n_dropped": sum(rows for _, rows in fit.dropped),
        "dropped": [{"reason": reason, "rows": rows} for reason, rows in fit.dropped],
        "columns": fit.columns,
        "filters": list(fit.filters),
        "convention": {
            "params": fit.params_convention,
            "flop_rule": fit.flop_rule,
            "flop_factor": fit.flop_factor,
            "loss": fit.loss_unit,
            "units": "raw: parameters, tokens, FLOPs",
        },
        "objective": {
            "name": fit.objective,
            "delta": fit.delta,
            "value": fit.objective_value,
            "gradient_norm": fit.gradient_norm,
        },
        "coefficients": fit.coefficients,
        "scaled": {"coefficients": fit.scaled, "scales": fit.scales},
        "intervals": fit.intervals,
        "level": fit.level,
        "method": fit.method,
        "resamples": len(fit.draws),
        "resamples_failed": fit.resamples_failed,
        "starts": fit.starts,
        "starts_agreeing": fit.starts_agreeing,
        "converged": fit.converged,
        "domain": fit.domain,
        "optimum": [optimum_document(best) for best in optima(fit)],
        "exponents": _exponents(fit),
        "holdout": None if fit.holdout is None else _holdout(fit.holdout),
        "influence": None if fit.influence is None else _influence(fit.influence),
        "residuals": {
            "rms_log": fit.residual_rms,
            "worst": [{"row": label, "residual": value} for label, value in fit.worst],
        },
        "noise": {
            "branch": fit.sigma_branch,
            "trunk": fit.sigma_trunk,
            "seed": fit.sigma_seed,
            "lack_of_fit_p": fit.lack_of_fit_p,
            "seeds_per_cell": list(fit.seeds_per_cell),
        },
        "correlation": fit.correlation,
        "warnings": [warning.document() for warning in fit.warnings],
        "details": fit.details,
        "inputs": fit.inputs,
        "seed": fit.seed,
        "exact_rule": None if fit.exact is None else _rule(fit.exact),
        "draws": _rounded(fit.draws[:draws]),
        "noise_draws": _rounded(fit.sigma_draws[:draws]),
    }


def optima(fit: Fit) -> list[Optimum]:
    """The best split in the middle of the fitted budgets, at their end, and ten times beyond."""
    if not fit.has_optimum:
        return []
    low, high = fit.domain["flops"]
    return [fit.optimum(flops) for flops in (math.sqrt(low * high), high, 10 * high)]


def optimum_document(best: Optimum) -> dict[str, Any]:
    """One optimum as plain data; every number has its interval beside it."""
    out: dict[str, Any] = {"flops": best.flops}
    for name in ("params", "tokens", "ratio", "ratio_exact", "loss"):
        found: Interval | None = getattr(best, name)
        out[name] = None if found is None else found.value
        out[f"{name}_interval"] = None if found is None else [found.low, found.high]
    out["extrapolates"] = best.extrapolates
    out["excess"] = best.excess
    out["warnings"] = [warning.document() for warning in best.warnings]
    return out


def read(text: str) -> Fit:
    """The fit in `text`.

    Raises:
        FitError: not JSON, another schema version, or a value that no fit has, with its place.
    """
    return of_document(parse(text, WRITE_ONE))


def of_document(content: Any) -> Fit:
    """The fit of a parsed document.

    Raises:
        FitError: as `read`.
    """
    found = content.get("schema") if isinstance(content, dict) else None
    if found is not None and content.get("law") == "mixture":
        raise FitError(
            "wrong-law",
            "a mixture law says nothing of sizes and lengths: "
            "`windtunnel predict FIT --weight SOURCE=SHARE` reads it",
            law="mixture",
        )
    if found != SCHEMA or isinstance(found, bool):
        raise wrong_version("fit", found, SCHEMA)
    with as_written("fit", FIT_AGAIN):
        law = written_law(content.get("law"), content.get("details"))
        check_fit(content, law)
        fit = _rebuilt(content, law)
    return fit.warned(EDITED) if is_edited(content) else fit


def _rebuilt(content: dict[str, Any], law: type[Formula]) -> Fit:
    form = law(**content["coefficients"])
    objective, noise, convention = (content[k] for k in ("objective", "noise", "convention"))
    rule, width = content["exact_rule"], len(form.names())
    return Fit(
        form=form,
        intervals={name: _span(span) for name, span in content["intervals"].items()},
        level=content["level"],
        method=content["method"],
        resamples_failed=content["resamples_failed"],
        scaled=_numbers(content["scaled"]["coefficients"]),
        scales=_numbers(content["scaled"]["scales"]),
        objective=objective["name"],
        delta=_optional(objective["delta"]),
        objective_value=_number(objective["value"]),
        gradient_norm=_number(objective["gradient_norm"]),
        starts=content["starts"],
        starts_agreeing=content["starts_agreeing"],
        converged=content["converged"],
        rows=content["n"],
        trunks=content["n_trunks"],
        seeds_per_cell=(noise["seeds_per_cell"][0], noise["seeds_per_cell"][1]),
        sigma_trunk=_number(noise["trunk"]),
        sigma_branch=_number(noise["branch"]),
        sigma_seed=_optional(noise["seed"]),
        lack_of_fit_p=noise["lack_of_fit_p"],
        correlation=_optional(content["correlation"]),
        residual_rms=_number(content["residuals"]["rms_log"]),
        worst=tuple(
            (each["row"], _number(each["residual"])) for each in content["residuals"]["worst"]
        ),
        domain={name: _span(span) for name, span in content["domain"].items()},
        columns=content["columns"],
        loss_unit=convention["loss"],
        params_convention=convention["params"],
        flop_factor=convention["flop_factor"],
        filters=tuple(content["filters"]),
        dropped=tuple((each["reason"], each["rows"]) for each in content["dropped"]),
        holdout=_read_holdout(content["holdout"]),
        influence=_read_influence(content["influence"]),
        warnings=read_warnings(content["warnings"]),
        seed=content["seed"],
        exact=None if rule is None else _read_rule(rule),
        draws=_array(content["draws"], width),
        sigma_draws=_array(content["noise_draws"], 3),
        details=content["details"],
        inputs=content.get("inputs", {}),  # fits of version 0.1 have none
    )


def _exponents(fit: Fit) -> dict[str, Any] | None:
    if not fit.form.allocates:
        return None
    a, b = (float(value) for value in fit.form.split(fit.form.vector))
    return {
        "a": a,
        "a_interval": fit.intervals.get("a"),
        "b": b,
        "b_interval": fit.intervals.get("b"),
    }


def _holdout(held: HoldOut) -> dict[str, Any]:
    keys = {"rows": "n", "baselines": "naive"}
    values = asdict(held)
    names = ("rows", *(name for name in values if name != "rows"))
    return {keys.get(name, name): values[name] for name in names}


def _read_holdout(content: dict[str, Any] | None) -> HoldOut | None:
    if content is None:
        return None
    numbers = ("mean_relative_error", "error", "rms", "low", "high")
    points = tuple(tuple(_number(value) for value in point) for point in content["points"])
    return HoldOut(
        what=content["what"],
        rows=content["n"],
        trunks=content["trunks"],
        inside=content["inside"],
        covered=content["covered"],
        by_group=_numbers(content["by_group"]),
        baselines=_numbers(content["naive"]),
        points=cast("Any", points),
        **{name: _number(content[name]) for name in numbers},
    )


def _influence(found: Influence) -> dict[str, Any]:
    def effects(many: tuple[LeaveOneOut, ...]) -> list[dict[str, Any]]:
        return [asdict(effect) for effect in many]

    return {
        "quantity": found.quantity,
        "value": found.value,
        "rows": effects(found.rows),
        "trunks": effects(found.trunks),
    }


def _read_influence(content: dict[str, Any] | None) -> Influence | None:
    if content is None:
        return None

    def effects(many: list[dict[str, Any]]) -> tuple[LeaveOneOut, ...]:
        return tuple(
            LeaveOneOut(each["label"], _number(each["value_without"]), _number(each["shift"]))
            for each in many
        )

    return Influence(
        content["quantity"],
        _number(content["value"]),
        effects(content["rows"]),
        effects(content["trunks"]),
    )


def _rule(rule: ExactRule) -> dict[str, Any]:
    return {
        "log_params": rule.log_params,
        "log_excess": rule.log_excess,
        "flop_factor": rule.flop_factor,
    }


def _read_rule(content: dict[str, Any]) -> ExactRule:
    return ExactRule(
        np.array(content["log_params"], np.float64),
        np.array(content["log_excess"], np.float64),
        content["flop_factor"],
    )


def _rounded(values: Floats) -> list[list[float]]:
    return [[float(f"{number:.{DRAW_DIGITS}g}") for number in row] for row in values.tolist()]


def _array(rows: list[list[Any]], width: int) -> Floats:
    numbers = [[as_number(value) for value in row] for row in rows]
    return np.asarray(numbers, np.float64).reshape(-1, width)


def _span(span: Any) -> tuple[float, float]:
    low, high = (as_number(value) for value in span)
    return low, high


def _number(value: Any) -> Any:
    """A number, also where JSON has none; others stay as they are written, for fingerprints."""
    return value if isinstance(value, int | float) else as_number(value)


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in values.items()}


def _optional(value: Any) -> Any:
    return None if value is None else _number(value)
