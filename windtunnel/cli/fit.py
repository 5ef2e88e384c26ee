"""`windtunnel fit`: a study or a CSV table in, L(N, D) with intervals and warnings out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from rich.table import Table

from windtunnel.cli.text import print_json, say, si, terminal
from windtunnel.errors import ConfigError, FitError, did_you_mean
from windtunnel.laws import Runs

if TYPE_CHECKING:
    from windtunnel.laws import Fit, Interval

LAWS = ("chinchilla",)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns that a law reads."""

    params: str
    tokens: str
    loss: str
    trunk: str


def run_fit(
    source: Path,
    *,
    law: str,
    columns: Columns,
    experiment: str | None,
    objective: str,
    delta: float | None,
    bootstrap: int,
    level: float,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Fit, print, and write where asked.

    Raises:
        ConfigError: An unknown law, objective, column or file.
        FitError: The table cannot carry the law.
    """
    from windtunnel.laws import fit_chinchilla
    from windtunnel.laws.chinchilla_solver import ObjectiveName

    if law not in LAWS:
        raise ConfigError(f"--law {law}: allowed are {', '.join(LAWS)}{did_you_mean(law, LAWS)}")
    if objective not in get_args(ObjectiveName):
        allowed = get_args(ObjectiveName)
        hint = did_you_mean(objective, allowed)
        raise ConfigError(f"--objective {objective}: allowed are {', '.join(allowed)}{hint}")
    if not 0 < level < 1:
        raise ConfigError(f"--level {level:g}: between 0 and 1, for example 0.9")
    runs, warnings = _read(source, columns, experiment)
    fit = fit_chinchilla(
        runs,
        objective=cast("ObjectiveName", objective),
        delta=delta,
        level=level,
        bootstrap=bootstrap or 1,
        seed=seed,
        intervals="two-level" if bootstrap else "none",
    )
    if out is not None:
        try:
            fit.to_json(out)
        except OSError as refused:
            raise ConfigError(f"--out {out}: cannot be written: {refused.strerror}") from None
    if as_json:
        written = json.loads(fit.to_json(draws=0))
        print_json(written | {"warnings": [*warnings, *written["warnings"]]})
    else:
        _print(fit, warnings)


def _read(source: Path, columns: Columns, experiment: str | None) -> tuple[Runs, tuple[str, ...]]:
    if source.suffix in {".yaml", ".yml"}:
        from windtunnel.report.collect import execution_warnings
        from windtunnel.trials.forecast import as_runs, law_rows
        from windtunnel.trials.gather import gather
        from windtunnel.trials.study import open_study

        study = open_study(source)
        names = [each.name for each in study.config.experiments]
        if experiment is not None and experiment not in names:
            raise ConfigError(
                f"--experiment {experiment}: the study has {', '.join(names)}"
                f"{did_you_mean(experiment, names)}"
            )
        rows = law_rows(gather(study.store, study.plan), experiment=experiment)
        return as_runs(rows, filters=("decayed", "finished")), execution_warnings(study)
    if source.suffix == ".csv":
        return _read_csv(source, columns), ()
    raise ConfigError(f"{source}: give a study (.yaml) or a table (.csv)")


def _read_csv(source: Path, columns: Columns) -> Runs:
    import numpy as np
    import pandas as pd

    try:
        table = pd.read_csv(source)
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file") from None
    except (OSError, ValueError) as broken:
        raise ConfigError(f"{source}: not a CSV table: {broken}") from None
    filters: list[str] = []
    for name in ("params", "tokens", "loss"):
        wanted = getattr(columns, name)
        if wanted not in table:
            known = [str(column) for column in table.columns]
            raise ConfigError(
                f"{source}: no column {wanted!r}; name it with --{name}. "
                f"There are: {', '.join(known)}{did_you_mean(wanted, known)}"
            )
        if not pd.api.types.is_numeric_dtype(table[wanted]):
            raise ConfigError(f"{source}: column {wanted!r} is not all numbers")
    if "decayed" in table:
        table = _keep(table, table["decayed"].astype(str).str.lower() == "true", "decayed", filters)
    table = _keep(table, table[columns.loss].notna(), f"{columns.loss} is known", filters)
    if table.empty:
        raise FitError(f"{source}: no row is left after the filters: {'; '.join(filters)}")
    trunk = table[columns.trunk] if columns.trunk in table else pd.Series(range(len(table)))
    return Runs(
        params=table[columns.params].to_numpy(float),
        tokens=table[columns.tokens].to_numpy(float),
        loss=table[columns.loss].to_numpy(float),
        trunk=trunk.to_numpy().astype(np.str_),
        filters=tuple(filters),
    )


def _keep(table: Any, mask: Any, why: str, filters: list[str]) -> Any:
    dropped = int((~mask).sum())
    if dropped:
        filters.append(f"{why} ({dropped} rows dropped)")
    return table[mask]


def _print(fit: "Fit", warnings: tuple[str, ...]) -> None:
    console = terminal()
    say(
        console,
        f"L = E + A N^-alpha + B D^-beta over {fit.rows} rows of {fit.trunks} trunks; "
        f"{fit.loss_unit}, N {fit.params_convention}, C = {fit.flop_rule}",
    )
    table = Table(box=None)
    for name in ("", "value", f"{fit.level:.0%} interval"):
        table.add_column(name, justify="right")
    for name, value in fit.coefficients.items():
        low, high = fit.intervals.get(name, (float("nan"), float("nan")))
        table.add_row(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}" if fit.intervals else "none")
    console.print(table)
    seeds = f", seeds {fit.sigma_seed:.2%}" if fit.sigma_seed is not None else ""
    say(
        console,
        f"noise of ln loss: trunk {fit.sigma_trunk:.2%}, branch {fit.sigma_branch:.2%}{seeds}",
    )
    delta = f", delta {fit.delta:.2g}" if fit.delta is not None else ""
    agree = f"{fit.starts_agreeing} of {fit.starts} starts agree"
    say(console, f"objective {fit.objective}{delta}; {agree}")
    if (held := fit.holdout) is not None:
        verdict = "inside" if held.inside else "outside"
        say(
            console,
            f"hold-out ({held.what}): mean error {held.error:+.2%}, rms {held.rms:.2%}, {verdict} "
            f"the {fit.level:.0%} interval",
        )
    if fit.form.A > 0 and fit.form.B > 0:
        console.print(_optima(fit))
    for warning in (*warnings, *fit.warnings):
        say(console, warning, label="warning:")


def _optima(fit: "Fit") -> Table:
    table = Table(box=None, title="compute-optimal", title_justify="left")
    for name in ("FLOPs", "tokens/param", "params", "tokens", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    low, high = fit.domain.flops
    for budget in ((low * high) ** 0.5, high, 10 * high):
        best = fit.optimum(budget)
        table.add_row(
            f"{budget:.2e}",
            _interval(best.ratio),
            _interval(best.params),
            _interval(best.tokens),
            f"{best.loss.value:.3f}",
        )
    return table


def _interval(found: "Interval") -> str:
    return f"{si(found.value)} ({si(found.low)} to {si(found.high)})"
