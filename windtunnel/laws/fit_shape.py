"""The schema of a written fit (docs/fit.md): every key that is read, and what goes together."""

import math
from itertools import pairwise
from typing import Any

from windtunnel.errors import FitError
from windtunnel.laws.forms.formula import Formula
from windtunnel.laws.shape import (
    Check,
    anything,
    fields,
    flag,
    listed,
    loose,
    maybe,
    named,
    number,
    refused,
    span,
    text,
    whole,
)

POSITIVE = number(0, inside=True)
SHARE = number(0, 1)
LEVEL = number(0, 1, inside=True)
WARNINGS = listed(fields({"code": text, "message": text}))
DROPPED = listed(fields({"reason": text, "rows": whole()}))
PULLS = listed(fields({"label": text, "value_without": loose, "shift": loose}))
OF_ALLOCATION = ("a", "b", "ratio")
"""What intervals name besides the coefficients, where a law splits budgets."""

HOLDOUT = fields(
    {
        "what": text,
        "n": whole(),
        "trunks": whole(),
        "mean_relative_error": loose,
        "error": loose,
        "rms": loose,
        "low": loose,
        "high": loose,
        "inside": maybe(flag),
        "covered": maybe(SHARE),
        "by_group": named(loose),
        "naive": named(loose),
        "points": listed(listed(loose, count=4)),
    }
)
ANY_LAW = fields(
    {
        "n": whole(1),
        "n_trunks": whole(),
        "dropped": DROPPED,
        "columns": named(text),
        "filters": listed(text),
        "convention": fields({"params": text, "flop_factor": POSITIVE, "loss": text}),
        "objective": fields({"name": text, "delta": loose, "value": loose, "gradient_norm": loose}),
        "level": LEVEL,
        "method": text,
        "resamples_failed": whole(),
        "starts": whole(),
        "starts_agreeing": whole(),
        "converged": flag,
        "holdout": maybe(HOLDOUT),
        "influence": maybe(
            fields({"quantity": text, "value": loose, "rows": PULLS, "trunks": PULLS})
        ),
        "residuals": fields(
            {"rms_log": loose, "worst": listed(fields({"row": text, "residual": loose}))}
        ),
        "noise": fields(
            {
                "branch": loose,
                "trunk": loose,
                "seed": loose,
                "lack_of_fit_p": maybe(SHARE),
                "seeds_per_cell": listed(whole(), count=2),
            }
        ),
        "correlation": loose,
        "warnings": WARNINGS,
        "details": named(anything),
        "seed": whole(),
        "exact_rule": maybe(
            fields(
                {
                    "log_params": listed(number(), least=1),
                    "log_excess": listed(number(), least=1),
                    "flop_factor": POSITIVE,
                }
            )
        ),
    },
    {"inputs": named(text), "digest": text},  # fits of version 0.1 have no inputs
)


def check_fit(content: Any, law: type[Formula]) -> None:
    """Refuse a document that no fit of `law` is written as.

    Raises:
        FitError: With the place, what stands there, and what is allowed.
    """
    names = law.names()
    ANY_LAW(content, "")
    _of_law(law, names)(content, "")
    for name, ends in content["domain"].items():
        low, high = ends
        if not (low * high > 0 and math.isfinite(low * high)):  # their middle on a log scale
            raise refused(f"domain.{name}", ends, "numbers above 0 that a product can hold")
    draws, noise = content["draws"], content["noise_draws"]
    if len(draws) != len(noise):
        raise FitError(
            f"noise_draws: {len(noise)} entries, allowed: {len(draws)}, as many as in draws"
        )
    if content["starts_agreeing"] > content["starts"]:
        raise refused(
            "starts_agreeing",
            content["starts_agreeing"],
            f"no more than {content['starts']} starts",
        )
    if (rule := content["exact_rule"]) is not None:
        if len(rule["log_excess"]) != len(rule["log_params"]):
            raise FitError("exact_rule.log_excess: allowed: as many entries as in log_params")
        if any(low >= high for low, high in pairwise(rule["log_params"])):
            raise refused("exact_rule.log_params", rule["log_params"], "numbers that increase")


def _of_law(law: type[Formula], names: tuple[str, ...]) -> Check:
    """What follows from the law's formula: its coefficients and its inputs."""
    allocates = ("flops", "ratio") if law.allocates else ()
    inputs = dict.fromkeys((*law.inputs, *allocates), span(POSITIVE))
    return fields(
        {
            "coefficients": named(number(), names),
            "scaled": fields({"coefficients": named(loose, names), "scales": named(loose)}),
            "intervals": named(span(), among=(*names, *OF_ALLOCATION)),
            "domain": _both(named(span(POSITIVE)), fields(inputs)),
            "draws": listed(listed(loose, count=len(names))),
            "noise_draws": listed(listed(loose, count=3)),
        }
    )


def _both(first: Check, second: Check) -> Check:
    def check(value: Any, place: str) -> None:
        first(value, place)
        second(value, place)

    return check
