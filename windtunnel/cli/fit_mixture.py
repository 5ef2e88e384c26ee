"""`windtunnel fit --law mixture` and what `windtunnel predict` says of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windtunnel.cli.fit_errors import of_source
from windtunnel.cli.fit_pairs import numbered, once, pairs
from windtunnel.cli.output import write_output
from windtunnel.cli.text import print_json
from windtunnel.errors import ConfigError

if TYPE_CHECKING:
    from windtunnel.cli.fit import FitOptions
    from windtunnel.config import StudyConfig
    from windtunnel.laws import Table
    from windtunnel.laws.mixture import MixtureFit
    from windtunnel.tables.file import TableFile

ELSEWHERE = ("fix", "tie", "objective", "delta", "drop_highest")
"""Options of other laws, which nothing here would follow."""


def run_fit_mixture(
    source: Path, options: "FitOptions", *, out: Path | None, figures: Path | None, as_json: bool
) -> None:
    """Fit, print, and write where asked.

    Raises:
        ConfigError: An option of other laws, a wrong value, a column or a file.
        FitError: The table cannot carry the law.
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
    from windtunnel.cli.mixture_text import print_mixture

    print_mixture(fitted)
    for path in written:
        print(f"wrote {path}")


def of_variants(
    rows: list[dict[str, Any]], config: "StudyConfig", taken: set[str]
) -> list[dict[str, Any]]:
    """Of branch experiments what variants end at; where there is a design, its mixtures alone."""
    from windtunnel.config.branch import BranchExperiment
    from windtunnel.runs.table import variant_of

    ends = {
        each.name: each.design.mixtures() if each.design else each.variants
        for each in config.experiments
        if isinstance(each, BranchExperiment) and each.name in taken
    }
    if not ends:
        return rows
    return [row for row in rows if any(variant_of(row, name) in ends[name] for name in ends)]


def fit_mixture_source(source: Path, options: "FitOptions") -> "MixtureFit":
    """The mixture law of a study's branches, or of a table's rows."""
    from windtunnel.cli.fit import is_study_file, source_file
    from windtunnel.laws import Diagnostic
    from windtunnel.laws.mixture import fit_mixture
    from windtunnel.laws.mixture.runs import LOSS, SAME, WEIGHT
    from windtunnel.tables.read import read_table

    _refuse(options)
    file, said, inputs = source_file(source, options)
    weights = [name for name in file.columns if name.startswith(WEIGHT)]
    losses = [name for name in file.columns if name.startswith(LOSS)]
    if len(weights) < 2 or not losses:
        raise ConfigError(
            f"{source}: a mixture law reads two columns {WEIGHT}SOURCE or more, the shares of the "
            f"data, and a column {LOSS}SET for each validation set. There are: {file.names}. "
            "Of a study, those of branches whose mixtures differ are read (docs/branches.md)"
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
                ),
            )
        )
    if is_study_file(source):
        _refuse_unlike(source, read.table, options.experiment)
    target = _target(options.target)
    default = pairs("--default", options.default, numbered) or None
    with of_source(source, read.table):
        fitted = fit_mixture(
            read.table,
            target=target,
            default=default,
            bootstrap=0 if options.intervals == "none" else options.bootstrap,
            seed=options.seed,
            level=options.level,
        )
    return fitted.warned(*said, *read.diagnostics).made_from(inputs)


def run_predict_mixture(fitted: "MixtureFit", weights: Sequence[str], *, as_json: bool) -> None:
    """Print the loss on each set at the given shares, with prediction intervals.

    Raises:
        ConfigError: No shares.
        FitError: An unknown source, or shares that do not sum to 1.
    """
    from windtunnel.cli.mixture_text import print_mixture_prediction
    from windtunnel.laws.mixture.codec import forecast_document
    from windtunnel.laws.schema import plain

    if not weights:
        first, second, *_ = fitted.runs.sources
        raise ConfigError(
            "a mixture law predicts from shares of the sources: give each with --weight, such as "
            f"--weight {first}=0.6 --weight {second}=0.4; a source not named is 0"
        )
    shares = [numbered("--weight", text) for text in weights]
    mixture = dict(shares)
    if len(mixture) < len(shares):
        names = [name for name, _ in shares]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"--weight {twice}: given twice; give each source one share")
    found, target = fitted.predict(mixture), fitted.predict_target(mixture)
    if not as_json:
        print_mixture_prediction(fitted, mixture, {"target": target, **found})
        return
    warnings = next(iter(found.values())).loss.warnings
    print_json(
        plain(
            {
                "law": fitted.law,
                "inputs": mixture,
                "target": forecast_document(target),
                "losses": {name: forecast_document(each) for name, each in found.items()},
                "level": fitted.level,
                "warnings": [warning.document() for warning in warnings],
                "fit_warnings": list(dict.fromkeys(each.code for each in fitted.warnings)),
            }
        )
    )


def _target(texts: Sequence[str]) -> Mapping[str, float]:
    """Weights of validation sets; a name alone counts 1."""
    return once(
        "--target", (numbered("--target", text) if "=" in text else (text, 1.0) for text in texts)
    )


def _with_zeros(file: "TableFile", weights: Sequence[str]) -> "TableFile":
    """A source that a row does not name, where it names another, has no share in it."""
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


def _refuse_unlike(study: Path, table: "Table", experiments: Sequence[str]) -> None:
    """Refuse a study's rows that differ in more than their mixture."""
    from windtunnel.cli.fit_variants import refuse_unlike
    from windtunnel.runs.study import open_study

    planned = open_study(study).plan.by_id()
    ends = [planned[segment] for segment in table.labels["run"].tolist()]
    refuse_unlike(study, ends, experiments)


def _refuse(options: "FitOptions") -> None:
    for name in ELSEWHERE:
        if getattr(options, name):
            raise ConfigError(
                f"--{name.replace('_', '-')}: not an option of the mixture law, whose regressions "
                "have objectives of their own"
            )
    if options.columns.get("loss"):
        raise ConfigError(
            f"--loss {options.columns['loss']}: the mixture law reads every loss_SET; --target SET "
            "says which of them is to be low"
        )
    if options.intervals not in {"two-level", "none"}:
        raise ConfigError(
            f"--intervals {options.intervals}: the mixture law draws residuals of whole mixtures; "
            "allowed are two-level, its default, and none"
        )
