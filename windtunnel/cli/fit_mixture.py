"""The mixture law in `windtunnel fit` and `windtunnel predict`: fit, prediction and tables."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from windtunnel.cli.fit_rows import FitOptions, is_study_file, refuse_unlike, source_file
from windtunnel.cli.options import numbered, once, pairs
from windtunnel.cli.output import write_output
from windtunnel.cli.text import print_json, say, terminal
from windtunnel.errors import ConfigError, FitError
from windtunnel.laws import Interval
from windtunnel.laws.interval import Span
from windtunnel.laws.mixture import Forecast, MixtureFit
from windtunnel.laws.mixture.models import KINDS

if TYPE_CHECKING:
    from windtunnel.laws.table import Table as RunTable
    from windtunnel.tables.file import TableFile

UNUSED = ("fix", "tie", "objective", "delta", "drop_highest", "over", "noise")
"""Options that the mixture law has no use for."""


def run_fit_mixture(
    source: Path, options: FitOptions, *, out: Path | None, figures: Path | None, as_json: bool
) -> None:
    """Fit the mixture law, print it, and write the files that were requested.

    Raises:
        ConfigError: An option of other laws, a wrong value, a column or a file.
        FitError: The law cannot be fitted to the table.
    """
    fitted = fit_mixture_source(source, options)
    written = []
    if out is not None:
        write_output("--out", out, fitted.to_json())
        written = [out]
    if figures is not None:
        from windtunnel.report.figures.mixture import write_figures

        written += write_figures(fitted, figures)
    if as_json:
        print_json(json.loads(fitted.to_json()))
        return

    print_mixture(fitted)
    for path in written:
        print(f"wrote {path}")


def fit_mixture_source(source: Path, options: FitOptions) -> "MixtureFit":
    """The mixture law of the branches of a study, or of the rows of a table."""
    from windtunnel.laws import Diagnostic
    from windtunnel.laws.mixture import fit_mixture
    from windtunnel.laws.mixture.runs import LOSS, SAME, WEIGHT
    from windtunnel.tables.law_table import naming_source
    from windtunnel.tables.read import read_table

    _refuse(options)
    file, diagnostics, inputs = source_file(source, options)
    weights = [name for name in file.columns if name.startswith(WEIGHT)]
    losses = [name for name in file.columns if name.startswith(LOSS)]
    if len(weights) < 2 or not losses:
        raise ConfigError(
            "missing-column",
            f"{source}: a mixture law reads two columns {WEIGHT}SOURCE or more, the shares of the "
            f"data, and a column {LOSS}SET for each validation set. There are: {file.names}. "
            "Of a study, those of branches whose mixtures differ are read (docs/branches.md)",
            path=source,
            weights=weights,
            losses=losses,
        )
    read = read_table(
        _with_zeros(file, weights),
        columns={name: column for name, column in options.columns.items() if column},
        needs=(*weights, *losses),
        optional=SAME,
        where=options.where,
        holdout="none",
        decayed_only=True,
        scale=pairs("--scale", options.scale, numbered),
    )
    if options.holdout != "largest":
        read = read._replace(
            diagnostics=(
                *read.diagnostics,
                Diagnostic(
                    "no-holdout",
                    f"--holdout {options.holdout} is not followed: a mixture law leaves out every "
                    "mixture in turn",
                    holdout=options.holdout,
                ),
            )
        )
    if is_study_file(source):
        _refuse_unlike(source, read.table, options.experiment)
    target = _target_weights(options.target)
    default = pairs("--default", options.default, numbered) or None
    with naming_source(source, read.table):
        fitted = fit_mixture(
            read.table,
            target=target,
            default=default,
            bootstrap=0 if options.intervals == "none" else options.bootstrap,
            seed=options.seed,
            level=options.level,
        )
    return fitted.warned(*diagnostics, *read.diagnostics).made_from(inputs)


def run_predict_mixture(fitted: "MixtureFit", weights: Sequence[str], *, as_json: bool) -> None:
    """Print the loss on each validation set at the given weights, with prediction intervals.

    Raises:
        ConfigError: No weights, or a source has two.
        FitError: An unknown source, or weights that do not sum to 1.
    """
    from windtunnel.laws.schema import plain

    if not weights:
        first, second, *_ = fitted.runs.sources
        raise ConfigError(
            "missing-input",
            "a mixture law predicts from shares of the sources: give each with --weight, such as "
            f"--weight {first}=0.6 --weight {second}=0.4; a source not named is 0",
            law=fitted.law,
            option="--weight",
            sources=list(fitted.runs.sources),
        )
    mixture = pairs("--weight", weights, numbered)
    losses, target = fitted.predict(mixture), fitted.predict_target(mixture)
    if as_json:
        print_json(plain(_prediction(fitted, mixture, losses, target)))
        return
    print_mixture_prediction(fitted, mixture, {"target": target, **losses})


def run_predict_mixtures(fitted: "MixtureFit", path: Path, *, as_json: bool) -> None:
    """Print the target and the losses of every mixture of a table; as JSON a list of predictions.

    Raises:
        ConfigError: The file, a column or a cell cannot be used as it is.
        FitError: Shares of a row do not sum to 1.
    """
    from windtunnel.laws.schema import plain

    mixtures, places = _mixtures_of(path, fitted.runs.sources)
    try:
        losses, targets = fitted.predict(mixtures), fitted.predict_target(mixtures)
    except FitError as wrong:
        place = places[int(str(wrong.values["row"]))]
        text = str(wrong).partition(": ")[2]
        values = {**wrong.values, "path": path, "place": place}
        raise FitError(wrong.code, f"{path}, {place}: {text}", **values) from None
    rows = list(zip(mixtures, losses, targets, strict=True))
    if as_json:
        found = [
            {"row": place, **_prediction(fitted, *row)}
            for place, row in zip(places, rows, strict=True)
        ]
        print_json(plain(found))
        return
    console = terminal()
    table = _table(f"target: {_target(fitted)}; {fitted.level:.0%} prediction intervals")
    for heading in ("", *fitted.runs.sources, "target", "interval", *fitted.runs.sets, "warnings"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, (mixture, by_set, target) in zip(places, rows, strict=True):
        codes = dict.fromkeys(each.code for each in target.loss.warnings)
        table.add_row(
            place,
            *(f"{mixture.get(name, 0.0):.4g}" for name in fitted.runs.sources),
            f"{target.loss.value:.4f}",
            _span((target.loss.low, target.loss.high), 4),
            *(f"{each.loss.value:.4f}" for each in by_set.values()),
            ", ".join(codes),
        )
    console.print(table)
    _print_fit_codes(fitted)


def _mixtures_of(path: Path, sources: Sequence[str]) -> tuple[list[dict[str, float]], list[str]]:
    """Shares by source of every row of a table, and the places of the rows.

    Raises:
        ConfigError: A column is no source of the law, or none is.
    """
    from windtunnel.laws.mixture.runs import WEIGHT
    from windtunnel.tables.formats import read_file
    from windtunnel.tables.read import read_table

    file = read_file(path)
    named = {name: column for name in sources for column in (name, f"{WEIGHT}{name}")
             if column in file.columns}  # fmt: skip
    unknown = [name for name in file.columns if name.startswith(WEIGHT)
               and name.removeprefix(WEIGHT) not in sources]  # fmt: skip
    if unknown or not named:
        raise ConfigError(
            "unknown-source" if unknown else "missing-column",
            f"{path}: "
            + (f"column {unknown[0]} is no source of the law" if unknown else "no column of shares")
            + f": it knows {', '.join(sources)}",
            path=path,
            source=unknown[0] if unknown else None,
            known=list(sources),
        )
    read = read_table(
        _with_zeros(file, list(named.values())),
        columns={f"{WEIGHT}{name}": column for name, column in named.items()},
        needs=[f"{WEIGHT}{name}" for name in named],
        holdout="none",
    )
    columns = {name: read.table[f"{WEIGHT}{name}"].tolist() for name in named}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return rows, read.table.places.tolist()


def _prediction(
    fitted: "MixtureFit",
    mixture: Mapping[str, float],
    losses: Mapping[str, Forecast],
    target: Forecast,
) -> dict[str, Any]:
    """One prediction as plain data."""
    from windtunnel.laws.mixture.codec import forecast_document

    warnings = next(iter(losses.values())).loss.warnings
    return {
        "law": fitted.law,
        "inputs": mixture,
        "target": forecast_document(target),
        "losses": {name: forecast_document(each) for name, each in losses.items()},
        "level": fitted.level,
        "warnings": [warning.document() for warning in warnings],
        "fit_warnings": list(dict.fromkeys(each.code for each in fitted.warnings)),
    }


def _target_weights(texts: Sequence[str]) -> Mapping[str, float]:
    """Weights of validation sets; a name alone has weight 1."""
    return once(
        "--target", (numbered("--target", text) if "=" in text else (text, 1.0) for text in texts)
    )


def _with_zeros(file: "TableFile", weights: Sequence[str]) -> "TableFile":
    """The table with weight 0 for each source that a row leaves blank while naming another."""
    from windtunnel.tables.check import is_missing

    rows = list(zip(*(file.columns[name] for name in weights), strict=True))
    known = [not all(map(is_missing, row)) for row in rows]
    filled: dict[str, list[Any]] = {
        name: [
            0.0 if is_missing(row[k]) and any_known else row[k]
            for row, any_known in zip(rows, known, strict=True)
        ]
        for k, name in enumerate(weights)
    }
    return replace(file, columns={**file.columns, **filled})


def _refuse_unlike(study: Path, table: "RunTable", experiments: Sequence[str]) -> None:
    """Check that the runs of a study differ only in their mixture."""
    from windtunnel.runs.study import open_study

    planned = open_study(study).plan.by_id()
    ends = [planned[segment] for segment in table.labels["run"].tolist()]
    refuse_unlike(study, ends, experiments)


def _refuse(options: FitOptions) -> None:
    for name in UNUSED:
        if getattr(options, name):
            raise ConfigError(
                "contradicting-options",
                f"--{name.replace('_', '-')}: not an option of the mixture law, whose regressions "
                "have objectives of their own",
                options=["--law", f"--{name.replace('_', '-')}"],
                law=options.law,
            )
    if options.columns.get("loss"):
        raise ConfigError(
            "contradicting-options",
            f"--loss {options.columns['loss']}: the mixture law reads every loss_SET; --target SET "
            "says which of them is to be low",
            options=["--law", "--loss"],
            law=options.law,
        )
    if options.intervals not in {"two-level", "none"}:
        raise ConfigError(
            "unknown-value",
            f"--intervals {options.intervals}: the mixture law draws residuals of whole mixtures; "
            "allowed are two-level, its default, and none",
            option="--intervals",
            value=options.intervals,
            allowed=["two-level", "none"],
        )


def print_mixture(fitted: MixtureFit) -> None:
    """Print a mixture law: its data, its regressions, its noise, its best mixture, its warnings."""
    console, runs = terminal(), fitted.runs
    if fitted.inputs:
        several = "s" * ("+" in fitted.inputs["experiments"])
        read = fitted.inputs["experiments"].replace("+", ", ")
        say(console, f"study {fitted.inputs['study']}, experiment{several} {read}")
    say(
        console,
        f"mixtures of {', '.join(runs.sources)} to losses on {', '.join(runs.sets)}: "
        f"{len(fitted.points.weights)} mixtures, {runs.rows} runs of {runs.trunks} "
        f"trunk{'s' * (runs.trunks > 1)}; {runs.loss_unit}",
    )
    if runs.same:
        say(console, "all at " + ", ".join(f"{k} = {v:.6g}" for k, v in runs.same.items()))
    for line in runs.filters:
        say(console, line, label="filter:")
    for why, rows in runs.dropped:
        say(console, f"{rows} rows: {why}", label="left out:")
    console.print(_tried(fitted))
    for name, choice in fitted.choices.items():
        say(console, f"{name}: {choice.chosen}, {KINDS[choice.chosen].formula}: {choice.why}")
    for name, sigma, trunk in zip(runs.sets, fitted.laws.sigma, fitted.laws.sigma_trunk,
                                  strict=True):  # fmt: skip
        of_trunks = "not known" if math.isnan(trunk) else f"{trunk:.2%}"
        say(console, f"noise of ln loss on {name}: runs {sigma:.2%}, trunks {of_trunks}")
    _print_best(fitted)
    for warning in fitted.warnings:
        say(console, str(warning), label="warning:")


def print_mixture_prediction(
    fitted: MixtureFit, mixture: Mapping[str, float], losses: Mapping[str, Forecast]
) -> None:
    """Print the loss on each set with its intervals."""
    console = terminal()
    at = ", ".join(f"{name} = {share:g}" for name, share in mixture.items())
    console.print(_losses(f"loss at {at}", losses, fitted.level))
    say(console, f"target: {_target(fitted)}")
    for warning in next(iter(losses.values())).loss.warnings:
        say(console, str(warning), label="warning:")
    _print_fit_codes(fitted)


def _print_fit_codes(fitted: MixtureFit) -> None:
    if codes := dict.fromkeys(each.code for each in fitted.warnings):
        say(terminal(), f"{', '.join(codes)} (docs/fit.md)", label="the fit itself warns:")


def _tried(fitted: MixtureFit) -> Table:
    """Every regression of every set, with its errors on held-out mixtures."""
    table = _table("on mixtures left out")
    for heading in ("loss on", "regression", "error, nats", "of the spread", "rank correlation"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, choice in fitted.choices.items():
        for each in choice.candidates:
            first = name if each is choice.candidates[0] else ""
            kind = f"* {each.kind}" if each.kind == choice.chosen else each.kind
            if each.refused:
                table.add_row(first, kind, f"needs {each.needs} mixtures", "", "")
            else:
                table.add_row(first, kind, f"{each.rms:.4f}", f"{each.relative:.2f}",
                              _number(each.rank, 2))  # fmt: skip
    score = fitted.score
    table.add_row("target", "", f"{score.rms:.4f}", "", _number(score.rank, 2))
    return table


def _print_best(fitted: MixtureFit) -> None:
    console, best = terminal(), fitted.best
    say(console, f"target: {_target(fitted)}")
    say(console, "the mixture of lowest target:")
    table = Table(box=None)
    for heading in ("", "share", f"{fitted.level:.0%} interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, share in best.shares.items():
        table.add_row(name, f"{share.value:.3f}", _span((share.low, share.high), 3))
    console.print(table)
    console.print(_losses("loss there", {"target": best.target, **best.losses}, fitted.level))
    for gain in best.gains:
        if gain.none:
            say(console, f"the best mixture is {gain.over}")
        else:
            say(console, f"lower than at {gain.over}, by {_number(gain.nats, 4)} nats")


def _losses(title: str, losses: Mapping[str, Forecast], level: float) -> Table:
    table = _table(title)
    for heading in ("", "loss", f"{level:.0%} prediction interval", "off another trunk"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, each in losses.items():
        same, other = (each.loss.low, each.loss.high), each.another_trunk
        table.add_row(name, f"{each.loss.value:.4f}", _span(same, 4), _span(other, 4))
    return table


def _target(fitted: MixtureFit) -> str:
    """The target in words: `mean loss on docs and code`, or each loss with its weight."""
    names, weights = list(fitted.target), list(fitted.target.values())
    if len(names) == 1:
        return f"loss on {names[0]}"
    if max(weights) - min(weights) < 1e-9:
        return f"mean loss on {', '.join(names[:-1])} and {names[-1]}"
    return " + ".join(f"{weight:.2f} x loss on {name}" for name, weight in fitted.target.items())


def _table(title: str) -> Table:
    return Table(box=None, title=title, title_justify="left")


def _number(interval: Interval, digits: int) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} ({_span((interval.low, interval.high), digits)})"


def _span(span: Span, digits: int) -> str:
    low, high = span
    return "none" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"
