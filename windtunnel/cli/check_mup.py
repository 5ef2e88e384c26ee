"""`windtunnel check mup`: the muP coordinate check as tables and a figure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
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
    from rich.console import Console

    from windtunnel.config import ModelSpec, Recipe
    from windtunnel.config.study import ModelFamily
    from windtunnel.runs.coordcheck import CoordinateCheck, DepthCheck, SiteResult

VOCABULARY = 256
"""Vocabulary without a study, or before its data is known: bytes."""

PARAMETRIZATIONS = ("mup", "completep", "standard")
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
        int | None,
        typer.Option(min=1, help="Layers of every width; default: those of the smallest size."),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            help="Also check depths, comma-separated, at least a factor of 8 apart, at the "
            "smallest width."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of updates.")] = 16,
    parametrization: Annotated[
        str | None, typer.Option(help="mup, completep or standard; default: the study's.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a figure to this file (.png, .svg or .pdf).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the muP coordinate check: activations must not scale with width, or with depth.

    Trains several widths for a few updates, and several depths if told so. Exits 3 if the check
    fails.
    """
    passed = run_check(
        study,
        widths=widths,
        depth=depth,
        depths=depths,
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
    depths: str | None,
    steps: int,
    parametrization: str | None,
    plot: Path | None,
    as_json: bool,
) -> bool:
    """Check the model of a study, or a small default model; return whether it passed.

    The check of a study is kept with its other results.

    Raises:
        ConfigError: The widths or depths are not numbers, or cannot be compared.
    """
    from windtunnel.config import load_study
    from windtunnel.runs.coordcheck import coordinate_check, depth_check
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
    smallest = family.spec(min(family.sizes, key=lambda size: size.width), vocab_size=vocabulary)
    if parametrization is not None:
        check_choice("--parametrization", parametrization, PARAMETRIZATIONS)
        base_depth = recipe.base_depth or smallest.depth
        recipe = recipe.replace(parametrization=parametrization, base_depth=base_depth)
    layers = depth or smallest.depth
    chosen = _numbers("--widths", widths) or [smallest.width * factor for factor in (1, 2, 4, 8)]
    models = [_model(family, width, layers, vocabulary, "--widths") for width in chosen]
    deep = [
        _model(family, smallest.width, count, vocabulary, "--depths")
        for count in _numbers("--depths", depths)
    ]
    check = coordinate_check(models, recipe, steps=steps)
    if deep:
        check = replace(check, depth=depth_check(deep, recipe, steps=steps))
    if study is not None:
        opened = open_study(study)
        opened.store.open_for_writing()
        keep_check(opened.folder, check.document())
    if plot is not None:
        from windtunnel.report.figures.coordcheck import by_update

        by_update(check).write(plot)
    if as_json:
        print_json(check.document())
    else:
        _print(check, plot)
    return check.all_passed


def defaults() -> "tuple[ModelFamily, Recipe]":
    """The model and the recipe that are checked where no study is given."""
    from windtunnel.config import Recipe, Size
    from windtunnel.config.study import ModelFamily

    family = ModelFamily(sizes=(Size(32, 2),), head_dim=16, context=64)
    return family, Recipe(lr=1e-2, base_width=32, batch_tokens=64, warmup_steps=1)


def _model(
    family: "ModelFamily", width: int, depth: int, vocabulary: int, option: str
) -> "ModelSpec":
    from windtunnel.config import Size
    from windtunnel.config.errors import reason

    try:
        return family.spec(Size(width, depth), vocab_size=vocabulary)
    except ValueError as refused:
        size = f"{width}x{depth}"
        raise ConfigError(
            "invalid-value",
            f"{option} {size}: {reason(refused)}",
            option=option,
            width=width,
            depth=depth,
            cause=reason(refused),
        ) from None


def _numbers(option: str, text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            "not-a-number",
            f"{option} {text}: write whole numbers, as in 32,64,128,256",
            option=option,
            value=text,
        ) from None


def _print(check: "CoordinateCheck", plot: Path | None) -> None:
    console = terminal()
    console.print(_changes("width", check.widths, (*check.sites, *check.decays)))
    console.print(_updates("width", check.widths, check.effective, check.propagated))
    low, high = -check.tolerance, check.tolerance
    say(
        console,
        f"slopes of ln(change) against ln(width), {check.parametrization}; allowed: {low:+.2f} to "
        f"{high:+.2f}, logits from {check.lowest_logits_slope:+.2f}, own updates of matrices and "
        f"what reaches the readout from {check.lowest_sum_slope:+.2f}",
    )
    if check.depth is not None:
        _print_depths(console, check.depth)
    if not all(each.judged for each in check.decays):
        say(console, "weight decay is judged under weight_decay_rule: scaled, and above zero")
    if check.unseen:
        names = ", ".join(check.unseen)
        say(console, f"not judged, because the network reads them without a call: {names}")
    if plot is not None:
        say(console, f"figure: {plot}")
    failed = "[red]failed[/]: see the lines above"
    console.print("[green]passed[/]" if check.all_passed else failed)


def _print_depths(console: "Console", check: "DepthCheck") -> None:
    console.print(_changes("depth", check.depths, check.sites))
    console.print(_updates("depth", check.depths, check.effective, check.propagated))
    say(
        console,
        f"slopes against ln(depth) at width {check.width}, means over the layers; allowed: "
        f"{-check.tolerance:+.2f} to {check.tolerance:+.2f}",
    )


def _changes(axis: str, sizes: Sequence[int], results: "Iterable[SiteResult]") -> Table:
    table = Table(box=None, title="change from initialisation", title_justify="left")
    table.add_column("", no_wrap=True)
    for size in sizes:
        table.add_column(f"{axis} {size}", justify="right")
    table.add_column("slope", justify="right")
    table.add_column("")
    for each in results:
        values = (f"{value:.3g}" for value in each.changes[-1])
        table.add_row(each.name, *values, f"{each.slope:+.2f}", _mark(each))
    return table


def _updates(
    axis: str,
    sizes: Sequence[int],
    effective: "Sequence[SiteResult]",
    propagated: "Sequence[SiteResult]",
) -> Table:
    """Of every kind of layer the one with the steepest slope: its two parts side by side."""
    from windtunnel.runs.coordcheck import steepest_by_kind

    title = f"change of each layer's output, {axis} {sizes[0]} to {sizes[-1]}"
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("steepest layer of each kind", no_wrap=True)
    for part in ("by its own update", "by earlier layers"):
        table.add_column(part, justify="right", no_wrap=True)
        table.add_column("slope", justify="right")
        table.add_column("")
    parts = {each.name: each for each in propagated}
    for own in steepest_by_kind(effective, propagated):
        earlier = parts.get(own.name)
        cells = [] if earlier is None else _cells(earlier)
        table.add_row(own.name, *_cells(own), *cells)
    return table


def _cells(result: "SiteResult") -> list[str]:
    last = result.changes[-1]
    return [f"{last[0]:.3g} to {last[-1]:.3g}", f"{result.slope:+.2f}", _mark(result)]


def _mark(result: "SiteResult") -> str:
    mark = "[green]pass[/]" if result.passed else "[red]FAIL[/]"
    return mark if result.judged else "not judged"
