"""`windtunnel check family`: what a study believes of its model family, tried on one network."""

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from windtunnel.cli import EXIT_SOME_FAILED
from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.text import print_json, say, terminal

if TYPE_CHECKING:
    from windtunnel.runs.familycheck import FamilyCheck

VOCABULARY = 256
"""Before the data is known: bytes."""


def family(study: StudyFile, as_json: AsJson = False) -> None:
    """Check the model family of a study: counts, roles, causality, exact forks, FLOPs.

    Builds the smallest size and trains it for a few updates. Exits 3 if a line fails; then mend the
    class before anything is trained. `check mup` judges the scaling over widths.
    """
    from windtunnel.config import load_study
    from windtunnel.runs.familycheck import family_check

    config = load_study(study)
    sizes = config.model.sizes
    vocabulary = config.data.vocab_size or VOCABULARY
    models = [config.model.spec(size, vocab_size=vocabulary) for size in sizes]
    smallest = min(models, key=lambda model: model.params)
    check = family_check(config.model.family, smallest, config.recipe)
    if as_json:
        print_json(check.document())
    else:
        _print(check)
    if not check.passed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _print(check: "FamilyCheck") -> None:
    console = terminal()
    title = f"family {check.family}, size {check.size}"
    table = Table(box=None, title=title, title_justify="left")
    for column in ("", "found", "expected", ""):
        table.add_column(column)
    for each in check.findings:
        mark = "[green]pass[/]" if each.passed else "[red]FAIL[/]"
        table.add_row(each.name, each.found, each.expected, mark)
    console.print(table)
    for each in check.findings:
        if not each.passed:
            say(console, f"{each.name}: {each.remedy}", label="to mend:", style="red")
    console.print("[green]passed[/]" if check.passed else "[red]failed[/]")
