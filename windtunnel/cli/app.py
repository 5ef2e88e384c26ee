"""The tree of commands. A command's module is imported when that command is called for.

`windtunnel --help` needs only the summaries below, so it imports no command.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as command_of

from windtunnel.cli.options import example_of


class Entry(NamedTuple):
    """Module and name of a command's function, and its line in the help of its group."""

    module: str
    function: str
    summary: str
    panel: str


RUN, READ, LAW, HAND_OVER = "Run a study", "Read the results", "Fit a law", "Hand over"

COMMANDS: Mapping[str, Entry] = {
    "init": Entry("init", "init", "Write a commented study file to start from.", RUN),
    "plan": Entry(
        "plan", "plan", "Show what a sweep would run and cost, without running anything.", RUN
    ),
    "data": Entry(
        "data", "data", "Show what is read of the data, what is left out, and what overlaps.", RUN
    ),
    "sweep": Entry("sweep", "sweep", "Run a study, or resume it.", RUN),
    "status": Entry("status", "status", "Show progress.", RUN),
    "gc": Entry("gc", "gc", "List checkpoints that are no longer needed, and delete them.", RUN),
    "probe": Entry(
        "probe",
        "probe",
        "Measure the copy gain of finished runs that have none, from their last checkpoints.",
        RUN,
    ),
    "answer": Entry(
        "answer",
        "answer",
        "Answer for a full-size run: recipe, tokens per parameter, loss, cost, and how sure.",
        READ,
    ),
    "runs": Entry(
        "runs", "runs", "List runs: one row per finished, diverged or imported run.", READ
    ),
    "winner": Entry(
        "winner", "winner", "Show the winner of each search and how certain it is.", READ
    ),
    "report": Entry("report", "report", "Write a self-contained HTML report of a study.", READ),
    "records": Entry(
        "records", "records", "Write the measurements of a study as small files for analysis.", READ
    ),
    "sync": Entry(
        "sync", "sync", "Copy everything that MLflow lacks from the store to MLflow.", READ
    ),
    "ui": Entry("ui", "ui", "Open a study in the MLflow UI.", READ),
    "fit": Entry("fit", "fit", "Fit a scaling law to the runs of a study or of a table.", LAW),
    "predict": Entry(
        "predict", "predict", "Predict a run from a fit, with a prediction interval.", LAW
    ),
    "optimum": Entry(
        "optimum", "optimum", "Compute the optimal split of a budget into params and tokens.", LAW
    ),
    "break-even": Entry(
        "break_even",
        "break_even",
        "Compute when upcycling beats the dense model, and a mixture of experts from scratch.",
        LAW,
    ),
    "import-runs": Entry(
        "import_runs", "import_runs", "Import finished runs of other tools into a study.", LAW
    ),
    "export": Entry(
        "export",
        "export",
        "Export the recipe and the loss forecast for a full-size run.",
        HAND_OVER,
    ),
}
CHECKS: Mapping[str, Entry] = {
    "family": Entry(
        "check_family",
        "family",
        "Check the model family of a study: counts, roles, causality, exact forks, FLOPs.",
        "",
    ),
    "mup": Entry(
        "check_mup",
        "mup",
        "Run the muP coordinate check: activations must not scale with width, or with depth.",
        "",
    ),
}
FORECASTS: Mapping[str, Entry] = {
    "check": Entry(
        "forecast_check", "check", "Compare the loss of the large run with its forecast.", ""
    ),
}


class Command(TyperCommand):
    """A command whose refusal of an argument or an option shows a good one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; Typer's refusals get an example."""
        try:
            return list(super().parse_args(ctx, args))
        except typer.BadParameter as refused:  # one that is missing is a kind of it
            if refused.param is not None and (example := example_of(ctx, refused.param)):
                start = f"{refused.message}; for" if refused.message else "For"
                refused.message = f"{start} example {example}"
            raise


class LazyGroup(TyperGroup):
    """A group that imports the module of a command when that command is called."""

    entries: Mapping[str, Entry] = COMMANDS

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        stubs = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel or None)
            for name, entry in self.entries.items()
        }
        self.commands = {**stubs, **self.commands}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command itself, not the stub that stands for it in the help of the group."""
        entry = self.entries.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else _load(cmd_name, entry)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of the group from the stubs."""
        listing = TyperGroup(
            name=self.name,
            commands=dict(self.commands),
            help=self.help,
            params=self.params,
            rich_markup_mode=self.rich_markup_mode,
        )
        listing.format_help(ctx, formatter)


class CheckGroup(LazyGroup):
    """`windtunnel check`."""

    entries = CHECKS


class ForecastGroup(LazyGroup):
    """`windtunnel forecast`."""

    entries = FORECASTS


def _load(name: str, entry: Entry) -> Any:
    function = getattr(import_module(f"windtunnel.cli.{entry.module}"), entry.function)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, cls=Command)(function)
    return command_of(alone)


app = typer.Typer(
    name="windtunnel",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(
    typer.Typer(cls=CheckGroup, no_args_is_help=True, callback=lambda: None),
    name="check",
    help="Check a model family, and that hyperparameters transfer across widths.",
    rich_help_panel=RUN,
)
app.add_typer(
    typer.Typer(cls=ForecastGroup, no_args_is_help=True, callback=lambda: None),
    name="forecast",
    help="Check the forecasts of exported recipes.",
    rich_help_panel=HAND_OVER,
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Scaling-law experiments on small muP models, before the full-size run."""
    if version:
        from windtunnel.version import __version__

        print(f"windtunnel {__version__}")
        raise typer.Exit
