"""The rows that a law is fitted to: of a study or of a table, selected and checked.

A mixture law compares variants that differ in their mixture alone. A table has columns for some of
what a stage changes; segments have all of it, with defaults filled in.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from windtunnel.cli.options import check_choice, numbered, pairs
from windtunnel.config import Branch, ScheduleChange, Segment
from windtunnel.errors import ConfigError, FitError
from windtunnel.runs.law_rows import (
    MIXTURE,
    OF_SIZE_AND_DATA,
    fitted_experiments,
    law_rows,
    of_variants,
    rows_file,
)
from windtunnel.runs.plan import PlannedSegment

if TYPE_CHECKING:
    from windtunnel.laws import Diagnostic
    from windtunnel.tables.file import TableFile
    from windtunnel.tables.read import ReadTable


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of `fit`, as typed."""

    law: str
    columns: Mapping[str, str] = field(default_factory=dict)
    scale: tuple[str, ...] = ()
    flop_rule: str = "6ND"
    where: tuple[str, ...] = ()
    drop_highest: int = 0
    experiment: tuple[str, ...] = ()
    holdout: str = "largest"
    fix: tuple[str, ...] = ()
    tie: tuple[str, ...] = ()
    objective: str | None = None
    delta: str | None = None
    noise: str | None = None
    intervals: str = "two-level"
    bootstrap: int = 1000
    seed: int = 0
    level: float = 0.9
    interpolate: str = "akima"
    over: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    default: tuple[str, ...] = ()


def read_source(source: Path, options: FitOptions) -> "ReadTable":
    """The selected and checked table of a study or of a file.

    Raises:
        ConfigError: A column, a condition or an option cannot be used.
        FitError: No run of the study is finished.
    """
    from windtunnel.tables.law_table import in_its_units, law_table

    file, diagnostics, inputs = source_file(source, options)
    read = law_table(
        file,
        options.law,
        columns={name: column for name, column in options.columns.items() if column},
        where=options.where,
        drop_highest=options.drop_highest,
        flop_rule=options.flop_rule,
        holdout=options.holdout,
        scale=pairs("--scale", options.scale, numbered),
        over=options.over,
    )
    if is_study_file(source):
        from windtunnel.runs.imported import imported_diagnostics

        kept, runs = set(read.table.labels["run"].tolist()), file.columns["run"]
        sources = zip(runs, file.columns.get("source", [None] * len(runs)), strict=True)
        diagnostics += imported_diagnostics(
            [None if source is None else str(source) for run, source in sources if run in kept]
        )
    else:
        read = in_its_units(read)
    return read._replace(diagnostics=(*diagnostics, *read.diagnostics), inputs=inputs)


def is_study_file(source: Path) -> bool:
    """Whether a source is a study file and not a table."""
    return source.suffix in {".yaml", ".yml"}


def source_file(
    source: Path, options: FitOptions
) -> "tuple[TableFile, tuple[Diagnostic, ...], dict[str, str]]":
    """The raw cells of a study or of a file, their warnings, and `Fit.inputs`."""
    from windtunnel.tables.formats import read_file

    if is_study_file(source):
        return _study_file(source, options)
    if options.experiment:
        raise ConfigError(
            "no-study",
            f"--experiment {options.experiment[0]}: only a study has experiments",
            option="--experiment",
            path=source,
        )
    return read_file(source), (), {}


def _changing_options(options: FitOptions) -> dict[str, str]:
    """The options that change the columns or the rows of a fit, as `Fit.inputs` has them."""
    columns = [f"--{name} {column}" for name, column in options.columns.items() if column]
    columns += [f"--scale {each}" for each in options.scale]
    columns += [f"--flop-rule {options.flop_rule}"] if options.flop_rule != "6ND" else []
    rows = [f"--where {each!r}" for each in options.where]
    rows += [f"--drop-highest {options.drop_highest}"] if options.drop_highest else []
    rows += [f"--fix {each}" for each in options.fix] + [f"--tie {each}" for each in options.tie]
    rows += [f"--objective {options.objective}"] if options.objective else []
    rows += [f"--noise {options.noise}"] if options.noise else []
    rows += [f"--over {each!r}" for each in options.over]
    texts = {"columns": " ".join(columns), "options": " ".join(rows)}
    return {name: text for name, text in texts.items() if text}


def _study_file(
    source: Path, options: FitOptions
) -> "tuple[TableFile, tuple[Diagnostic, ...], dict[str, str]]":
    """The runs of a study as a table: finished segments, or whole curves for laws of curves."""
    from windtunnel.laws import OF_CURVES
    from windtunnel.report.collect import study_warnings
    from windtunnel.runs.curves import curve_diagnostics, read_curve
    from windtunnel.runs.forecast import law_inputs
    from windtunnel.runs.imported import study_runs
    from windtunnel.runs.measured import gather
    from windtunnel.runs.study import open_study
    from windtunnel.runs.table import as_row

    study = open_study(source)
    for asked in options.experiment:
        check_choice("--experiment", asked, [each.name for each in study.config.experiments])
    experiments = set(options.experiment) or fitted_experiments(study.config, options.law)
    imports = options.law in OF_SIZE_AND_DATA and options.law not in OF_CURVES
    runs = study_runs(study) if imports else gather(study.store, study.plan)
    runs = [run for run in runs if run.is_of(*experiments)]
    ended = {run.segment for run in runs}
    if options.law == MIXTURE:
        runs = of_variants(runs, study.config, experiments)
    inputs = law_inputs(study.config.study, runs, experiments) | _changing_options(options)
    runs = law_rows(runs, options.law, options.where)
    rows = [{**as_row(run), "run": run.segment} for run in runs]
    if options.law == "envelope":
        wanted = {run.segment for run in runs}
        of_curves = [p for p in study.plan.segments if p.id in wanted]
        curves = (read_curve(study.store, p) for p in of_curves)
        rows = [
            {"run": c.segment, "trunk": c.trunk, "params": c.params, "tokens": t, "loss": value}
            for c in curves
            if c is not None
            for t, value in zip(c.tokens.tolist(), c.loss.tolist(), strict=True)
        ]
    if not experiments:
        kind = "branch" if options.law == MIXTURE else "scaling or grid"
        there = ", ".join(f"{each.name} ({each.kind})" for each in study.config.experiments)
        raise FitError(
            "no-experiment",
            f"{source}: law {options.law} takes a {kind} experiment, and the study has {there}; "
            "add one, or name one of these with --experiment",
            path=source,
            law=options.law,
            needs=kind,
            experiments=[each.name for each in study.config.experiments],
        )
    if not rows:
        raise FitError(
            "too-few-rows",
            f"{source}: no finished segment yet of {', '.join(sorted(experiments))}: a law needs "
            "at least 6; run the sweep, or name another experiment with --experiment",
            path=source,
            rows=0,
            experiments=sorted(experiments),
        )
    diagnostics = study_warnings(study, ended, experiments)
    if options.law == "envelope":
        diagnostics += curve_diagnostics(study.store, of_curves)
    return rows_file(source, rows), diagnostics, inputs


Chain = tuple[Branch, ...]
"""The stages of a variant, first to last."""
Settings = Mapping[str, str]
"""The settings of a variant apart from its mixture, by name."""


def refuse_unlike(
    source: Path, ends: Iterable[PlannedSegment], experiments: Collection[str]
) -> None:
    """Check that variants of one size and fork step differ only in their mixture.

    Args:
        source: The study file.
        ends: The last segments of the variants.
        experiments: The experiments to compare; all if empty.

    Raises:
        ConfigError: Some differ in more.
    """
    cells: dict[tuple[int, int], dict[str, Chain]] = {}
    variant_names: dict[str, str] = {}
    for end in ends:
        names = {e: n for e, n in end.variants.items() if not experiments or e in experiments}
        if not names:  # of no branch experiment
            continue
        chain = _chain(end.segment)
        cell = end.segment.model.params, chain[0].fork_step
        name = " or ".join(dict.fromkeys(names.values()))
        if len(experiments) != 1:
            name = " or ".join(f"{experiment}:{name}" for experiment, name in names.items())
        cells.setdefault(cell, {}).setdefault(name, chain)
        variant_names[name] = str(end.variant)
    for variants in cells.values():
        shared = _mixtures_told_apart(list(variants.values()))
        settings = {name: dict(_settings(chain, shared)) for name, chain in variants.items()}
        unlike = min((_unlike(settings, base) for base in settings), key=len)
        if not unlike:
            continue
        alike = [name for name in settings if name not in unlike]
        kept = dict.fromkeys(variant_names[name] for name in alike)
        keep = f"Keep those that agree: --where 'variant in {','.join(kept)}'"
        if any(variant_names[name] in kept for name in unlike):  # of another experiment
            keep = "Name one experiment with --experiment"
        raise ConfigError(
            "unlike-variants",
            f"{source}: a mixture law compares variants that differ in their mixture alone. Unlike "
            f"{alike[0]!r}, {'; '.join(unlike.values())}. {keep}",
            path=source,
            variant=alike[0],
            unlike=list(unlike),
            keep=list(kept),
        )


def _unlike(settings: Mapping[str, Settings], base: str) -> dict[str, str]:
    """The variants with other settings than `base`, each with the differences in words."""
    unlike, theirs = {}, settings[base]
    for name, mine in settings.items():
        parts = [
            f"{what} {mine[what]}, not {theirs[what]}"
            for what in mine
            if what in theirs and mine[what] != theirs[what]
        ]
        if parts:
            unlike[name] = f"{name!r} has {' and '.join(parts)}"
    return unlike


def _settings(chain: Chain, mixtures: Iterable[int]) -> Iterator[tuple[str, str]]:
    """The settings of a chain; of its mixtures only those of the stages `mixtures`."""
    yield "stages", str(len(chain))
    for number, branch in enumerate(chain):
        of = f" of stage {number + 1}" if len(chain) > 1 else ""
        rate = branch.change(ScheduleChange) or ScheduleChange(shape="constant")
        yield f"length{of}", f"{branch.steps} updates"
        yield f"shape{of}", "stable" if rate.shape == "constant" else rate.shape
        if rate.shape != "constant":
            yield f"final_factor{of}", f"{rate.final_factor:g}"
        yield f"rate{of}", f"{rate.rate:g}"
        yield f"warmup{of}", f"{rate.warmup} updates"
        yield f"ramp{of}", f"{branch.mixture.ramp if branch.mixture else 0} updates"
        yield f"batch_tokens{of}", str(branch.recipe.batch_tokens)
        yield f"lr{of}", f"{branch.recipe.lr:.6g}"
        yield f"context{of}", str(branch.model.context)
        if branch.model.rotary_base is not None:
            yield f"rope_base{of}", f"{branch.model.rotary_base:g}"
        yield f"loss{of}", branch.objective
        if number in mixtures:
            at_end = branch.stream == chain[-1].stream
            yield f"mixture{of}", "that of its end" if at_end else _mixture(branch)


def _mixtures_told_apart(chains: list[Chain]) -> list[int]:
    """The stages, counted from 0, whose mixture differs between variants."""
    shortest = min(map(len, chains))
    return [k for k in range(shortest) if len({chain[k].stream for chain in chains}) > 1]


def _mixture(segment: Segment) -> str:
    """The mixture of a segment in words: `docs 0.9, code 0.1`."""
    if not isinstance(segment, Branch):
        return "the trunk's"
    if segment.mixture is None or segment.mixture.mixture is None:
        return _mixture(segment.parent)
    weights = segment.mixture.mixture
    total = sum(weights.values())
    return ", ".join(f"{name} {weight / total:.4g}" for name, weight in weights.items() if weight)


def _chain(segment: Segment) -> Chain:
    return (*_chain(segment.parent), segment) if isinstance(segment, Branch) else ()
