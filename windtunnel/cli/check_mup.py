"""`windtunnel check mup`: the muP coordinate check as a table and a figure."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from windtunnel.cli import EXIT_SOME_FAILED
from windtunnel.cli.options import AsJson, check_choice
from windtunnel.cli.output import check_output
from windtunnel.cli.text import print_json, say, terminal
from windtunnel.errors import ConfigError

if TYPE_CHECKING:
    from windtunnel.config import ModelSpec, Recipe
    from windtunnel.config.study import ModelFamily
    from windtunnel.runs.coordcheck import CoordinateCheck

VOCABULARY = 256
"""Vocabulary without a study, or before its data is known: bytes."""


FIGURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".eps", ".ps", ".tif", ".tiff")
"""Formats that Matplotlib writes."""


def mup(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY.yaml]", help="Study whose model and recipe are checked."),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(help="Comma-separated widths, at least a factor of 8 apart."),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Number of layers; default: the study's.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of updates.")] = 16,
    parametrization: Annotated[
        str | None, typer.Option(help="mup or standard; default: the study's.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a figure to this file (.png, .svg or .pdf).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the muP coordinate check: activations must not scale with width.

    Trains several widths for a few updates. Exits 3 if the check fails.
    """
    passed = run_check(
        study,
        widths=widths,
        depth=depth,
        steps=steps,
        parametrization=parametrization,
        plot=plot,
        as_json=as_json,
    )
    if not passed:
        raise typer.Exit(EXIT_SOME_FAILED)


def run_check(
    study: Path | None,
    *,
    widths: str | None,
    depth: int | None,
    steps: int,
    parametrization: str | None,
    plot: Path | None,
    as_json: bool,
) -> bool:
    """Check the model of a study, or a small default model; return whether it passed.

    The check of a study is kept with its other results.

    Raises:
        ConfigError: The widths are not numbers, or cannot be compared.
    """
    from windtunnel.config import load_study
    from windtunnel.runs.coordcheck import coordinate_check
    from windtunnel.runs.study import open_study
    from windtunnel.runs.study_files import keep_check

    check_output("--plot", plot, study=study)
    if plot is not None and plot.suffix.lower() not in FIGURES:
        raise ConfigError(
            "unknown-format",
            f"--plot {plot}: allowed are {', '.join(FIGURES)}",
            path=plot,
            allowed=list(FIGURES),
        )
    (family, recipe), vocabulary = defaults(), VOCABULARY
    if study is not None:
        config = load_study(study)
        family, recipe = config.model, config.recipe
        vocabulary = config.data.vocab_size or VOCABULARY
    if parametrization is not None:
        check_choice("--parametrization", parametrization, ("mup", "standard"))
        recipe = recipe.replace(parametrization=parametrization)
    smallest = family.spec(min(family.sizes, key=lambda size: size.width), vocab_size=vocabulary)
    chosen = _widths(widths) or [smallest.width * factor for factor in (1, 2, 4, 8)]
    models = [_model(family, width, depth or smallest.depth, vocabulary) for width in chosen]
    result = coordinate_check(models, recipe, steps=steps)
    check = asdict(result) | {"passed": result.passed}
    if study is not None:
        opened = open_study(study)
        opened.store.open_for_writing()
        keep_check(opened.folder, check)
    if plot is not None:
        from windtunnel.report.figures.coordcheck import by_update

        by_update(result).write(plot)
    if as_json:
        print_json(check)
    else:
        _print(result, plot)
    return result.passed


def defaults() -> "tuple[ModelFamily, Recipe]":
    """The model and the recipe that are checked where no study is given."""
    from windtunnel.config import Recipe, Size
    from windtunnel.config.study import ModelFamily

    family = ModelFamily(sizes=(Size(32, 2),), head_dim=16, context=64)
    return family, Recipe(lr=1e-2, base_width=32, batch_tokens=64, warmup_steps=1)


def _model(family: "ModelFamily", width: int, depth: int, vocabulary: int) -> "ModelSpec":
    from windtunnel.config import Size
    from windtunnel.config.errors import reason

    try:
        return family.spec(Size(width, depth), vocab_size=vocabulary)
    except ValueError as refused:
        raise ConfigError(
            "invalid-value",
            f"--widths {width}: {reason(refused)}",
            width=width,
            cause=reason(refused),
        ) from None


def _widths(text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            "not-a-number",
            f"--widths {text}: write whole numbers, as in 32,64,128,256",
            option="--widths",
            value=text,
        ) from None


def _print(check: "CoordinateCheck", plot: Path | None) -> None:
    console = terminal()
    table = Table(box=None, title="change from initialisation", title_justify="left")
    table.add_column("", no_wrap=True)
    for width in check.widths:
        table.add_column(f"width {width}", justify="right")
    table.add_column("slope", justify="right")
    table.add_column("")
    for verdict in (*check.sites, *check.decays):
        last = verdict.changes[-1]
        mark = "[green]pass[/]" if verdict.passed else "[red]FAIL[/]"
        table.add_row(
            verdict.name,
            *(f"{value:.3g}" for value in last),
            f"{verdict.slope:+.2f}",
            mark if verdict.judged else "not judged",
        )
    console.print(table)
    say(
        console,
        f"slope of ln(change) against ln(width), {check.parametrization}; "
        f"allowed: {-check.tolerance:+.2f} to {check.tolerance:+.2f}, logits from "
        f"{check.lowest_logits_slope:+.2f}",
    )
    if not all(verdict.judged for verdict in check.decays):
        say(console, "weight decay is judged under weight_decay_rule: scaled, and above zero")
    if plot is not None:
        say(console, f"figure: {plot}")
    console.print("[green]passed[/]" if check.passed else "[red]failed[/]: see the lines above")
