"""The JSON document of a Fit: docs/fit.md has its keys, `codec` writes and reads its parts."""

from typing import Any

from windtunnel.errors import FitError
from windtunnel.laws.codec import (
    FIT_AGAIN,
    SCHEMA,
    WRITE_ONE,
    holdout_document,
    influence_document,
    misfit_document,
    optimum_document,
    read_draws,
    read_holdout,
    read_influence,
    read_misfit,
    read_number,
    read_numbers,
    read_optional,
    read_rule,
    read_span,
    rounded,
    rule_document,
)
from windtunnel.laws.forms import Formula
from windtunnel.laws.registry import written_law
from windtunnel.laws.result import Fit, optima
from windtunnel.laws.schema import (
    EDITED,
    as_written,
    check_fit,
    is_edited,
    json_text,
    parse,
    read_warnings,
    wrong_version,
)


def write(fit: Fit, *, draws: int | None = None, with_digest: bool = True) -> str:
    """The fit as JSON with one key per line and the first `draws` resamples (None: all)."""
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
        "holdout": None if fit.holdout is None else holdout_document(fit.holdout),
        **(
            {}
            if fit.holdout_by_compute is None
            else {"holdout_by_compute": holdout_document(fit.holdout_by_compute)}
        ),
        "influence": None if fit.influence is None else influence_document(fit.influence),
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
        "exact_rule": None if fit.exact is None else rule_document(fit.exact),
        "draws": rounded(fit.draws[:draws]),
        "noise_draws": rounded(fit.sigma_draws[:draws]),
        **({} if fit.misfit is None else {"misfit": misfit_document(fit.misfit, draws)}),
    }


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
        intervals={name: read_span(span) for name, span in content["intervals"].items()},
        level=content["level"],
        method=content["method"],
        resamples_failed=content["resamples_failed"],
        scaled=read_numbers(content["scaled"]["coefficients"]),
        scales=read_numbers(content["scaled"]["scales"]),
        objective=objective["name"],
        delta=read_optional(objective["delta"]),
        objective_value=read_number(objective["value"]),
        gradient_norm=read_number(objective["gradient_norm"]),
        starts=content["starts"],
        starts_agreeing=content["starts_agreeing"],
        converged=content["converged"],
        rows=content["n"],
        trunks=content["n_trunks"],
        seeds_per_cell=(noise["seeds_per_cell"][0], noise["seeds_per_cell"][1]),
        sigma_trunk=read_number(noise["trunk"]),
        sigma_branch=read_number(noise["branch"]),
        sigma_seed=read_optional(noise["seed"]),
        lack_of_fit_p=noise["lack_of_fit_p"],
        correlation=read_optional(content["correlation"]),
        residual_rms=read_number(content["residuals"]["rms_log"]),
        worst=tuple(
            (each["row"], read_number(each["residual"])) for each in content["residuals"]["worst"]
        ),
        domain={name: read_span(span) for name, span in content["domain"].items()},
        columns=content["columns"],
        loss_unit=convention["loss"],
        params_convention=convention["params"],
        flop_factor=convention["flop_factor"],
        filters=tuple(content["filters"]),
        dropped=tuple((each["reason"], each["rows"]) for each in content["dropped"]),
        holdout=read_holdout(content["holdout"]),
        holdout_by_compute=read_holdout(content.get("holdout_by_compute")),
        influence=read_influence(content["influence"]),
        warnings=read_warnings(content["warnings"]),
        seed=content["seed"],
        exact=None if rule is None else read_rule(rule),
        draws=read_draws(content["draws"], width),
        sigma_draws=read_draws(content["noise_draws"], 3),
        misfit=read_misfit(content["misfit"]) if "misfit" in content else None,
        details=content["details"],
        inputs=content.get("inputs", {}),  # fits of version 0.1 have none
    )


def _exponents(fit: Fit) -> dict[str, Any] | None:
    if not fit.form.allocates:
        return None
    a, b = fit.exponents
    return {
        "a": a.value,
        "a_interval": fit.intervals.get("a"),
        "b": b.value,
        "b_interval": fit.intervals.get("b"),
    }
