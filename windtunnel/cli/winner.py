"""`windtunnel winner`: the winner of each search of a study, its rivals and its noise."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from windtunnel.cli.options import AsJson, StudyFile, check_choice
from windtunnel.cli.output import check_output, write_output
from windtunnel.cli.text import flops, print_json, say, terminal
from windtunnel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windtunnel.config.search import SearchExperiment
    from windtunnel.runs.search.noise import Difference
    from windtunnel.runs.search.trials import TrialResult
    from windtunnel.runs.search.winner import Finalist, SearchOutcome
    from windtunnel.runs.study import Study


def winner(
    study: StudyFile,
    every: Annotated[
        bool, typer.Option("--all", help="Also list every trial with its values and its loss.")
    ] = False,
    search: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show this search alone.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the recipe of the winner as YAML; a study takes it by `extends: FILE`.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the winner of each search and how certain it is.

    The best trials were repeated on new seeds, which decide between them.
    """
    from windtunnel.runs.study import open_study

    check_output("--out", out, study=study)
    opened = open_study(study)
    if out is not None:
        write_output("--out", out, recipe_text(opened, _the_winner(opened, search)))
    print_winner(opened, as_json=as_json, every=every, search=search)
    if out is not None and not as_json:
        print(f"wrote {out}")


def print_winner(
    study: "Study", *, as_json: bool, every: bool = False, search: str | None = None
) -> None:
    """Print every search of a study, or one; with `every`, also all of its trials.

    Raises:
        ConfigError: The study has no search, or none of that name.
    """
    from windtunnel.runs.search.summary import outcome_json

    outcomes = _outcomes(study, search)
    if as_json:
        print_json([outcome_json(study, outcome) for outcome in outcomes])
        return
    console = terminal()
    for place, outcome in enumerate(outcomes):
        if place:
            console.print()
        _print(console, study, outcome, every=every)


def recipe_text(study: "Study", outcome: "SearchOutcome") -> str:
    """The recipe of a winner as a study file that others extend: recipe, schedule, searched shape.

    The recipe is whole, since a rate holds for its base width, batch and schedule.
    """
    from ruamel.yaml import YAML

    from windtunnel.config.axes import varied
    from windtunnel.runs.points import search_size

    assert outcome.winner is not None
    experiment, trial = outcome.experiment, outcome.winner.result.trial
    own = study.study_context.of(experiment).config
    _, recipe, schedule = varied(own, trial.values)
    sections = {
        "model": outcome.winner_values().get("model", {}),
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "schedule": schedule.model_dump(mode="json", exclude_none=True),
    }
    size = search_size(study.study_context, experiment)
    text = io.StringIO()
    text.write(
        f"# The winner of search {experiment.name} of study {study.config.study}: trial "
        f"{trial.number}, {_objective(experiment)} {_loss(outcome.winner.mean)}"
        f"{_interval(outcome)},\n# tuned at {size} and {experiment.horizon}. In a study file: "
        "`extends: ` and the path of this one.\n"
    )
    YAML().dump({name: fields for name, fields in sections.items() if fields}, text)
    return text.getvalue()


def _the_winner(study: "Study", search: str | None) -> "SearchOutcome":
    """The search whose winner is written.

    Raises:
        ConfigError: There are several and none is named, or it has no winner yet.
    """
    from windtunnel.runs.search.summary import missing

    outcomes = _outcomes(study, search)
    names = [each.experiment.name for each in outcomes]
    if len(outcomes) > 1:
        raise ConfigError(
            "missing-option",
            f"--out: the study has {len(outcomes)} searches; name one with --search "
            f"{' or --search '.join(names)}",
            option="--search",
            known=names,
        )
    if outcomes[0].winner is None:
        lacks = missing(outcomes[0])
        raise ConfigError(
            "no-winner",
            f"{study.file}: search {names[0]!r} has no winner yet: {'; '.join(lacks)}; "
            "`windtunnel sweep` finds it",
            experiment=names[0],
            missing=lacks,
        )
    return outcomes[0]


def _outcomes(study: "Study", search: str | None) -> "tuple[SearchOutcome, ...]":
    from windtunnel.runs.search.winner import search_outcomes

    outcomes = search_outcomes(study)
    if not outcomes:
        kinds = list(dict.fromkeys(each.kind for each in study.config.experiments))
        raise ConfigError(
            "no-experiment",
            f"{study.file}: no experiment of kind search, only {', '.join(kinds)}; add one "
            "(docs/search.md), or read a scaling experiment with `windtunnel fit`",
            study=str(study.file),
            kinds=kinds,
        )
    if search is None:
        return outcomes
    check_choice("--search", search, [each.experiment.name for each in outcomes])
    return tuple(each for each in outcomes if each.experiment.name == search)


def winner_line(outcome: "SearchOutcome") -> str:
    """One sentence: the winner, its loss and values, the rivals within noise, values on an edge."""
    from windtunnel.runs.search.summary import missing, value_text

    name, winner = outcome.experiment.name, outcome.winner
    if winner is None:
        text = f"search {name}: no winner yet: {'; '.join(missing(outcome))}"
        best = outcome.leaders[:1]
        return text + "".join(
            f"; best so far, not repeated yet: trial {each.trial.number} with "
            f"{_objective(outcome.experiment)} {_loss(each.value)}"
            for each in best
        )
    values = ", ".join(f"{axis} {value_text(v)}" for axis, v in winner.result.trial.values.items())
    edges = ", ".join(f"{axis} on its {side} edge" for axis, side in outcome.edges.items())
    return (
        f"search {name}: trial {winner.result.trial.number} wins with "
        f"{_objective(outcome.experiment)} {_loss(winner.mean)}{_interval(outcome)}: "
        f"{values}{_rivals(outcome)}" + (f"; warning: {edges}" if edges else "")
    )


def _rivals(outcome: "SearchOutcome") -> str:
    others = [each for each in outcome.finalists if each is not outcome.winner]
    if not others:
        return ""
    if outcome.noise is None:
        return "; noise not measured"
    close = sum(1 for each in others if each.behind and each.behind.within_noise)
    if len(others) == 1:
        return f"; {'the' if close else 'no'} other finalist within noise"
    return f"; {close} of {len(others)} other finalists within noise"


def _print(console: Console, study: "Study", outcome: "SearchOutcome", *, every: bool) -> None:
    from windtunnel.runs.points import search_size
    from windtunnel.runs.search.summary import missing, searched

    experiment = outcome.experiment
    size = search_size(study.study_context, experiment)
    say(console, f"search {experiment.name}, {size}: {searched(outcome)}")
    if experiment.objective != "mean":
        say(console, f"every loss is that on {experiment.objective}")
    cost = f"trials cost {flops(outcome.flops_spent)}"
    if outcome.flops_without_stopping > outcome.flops_spent:
        saved = 1 - outcome.flops_spent / outcome.flops_without_stopping
        cost += f"; early stopping saved {saved:.0%} of {flops(outcome.flops_without_stopping)}"
    if outcome.results:
        say(console, cost)
    for sentence in missing(outcome):
        say(console, sentence, label="missing:")
    if outcome.winner is None and outcome.leaders:
        say(
            console,
            "not repeated yet: the best so far by losses of the search, which are low partly by "
            "luck; only repeats on new seeds name a winner",
            label="provisional:",
        )
    if outcome.finalists:
        console.print(_table(outcome))
    elif outcome.leaders and not every:
        console.print(_trials(outcome, outcome.leaders))
    if outcome.results and every:
        console.print(_trials(outcome, outcome.results))
    if outcome.winner is not None:
        _print_winner(console, outcome)
    for warning in outcome.warnings:
        say(console, warning.message, label=f"warning ({warning.code}):")
    if outcome.winner is not None:
        say(console, "its values, for a study file:")
        print(_fragment(outcome), end="")


def _print_winner(console: Console, outcome: "SearchOutcome") -> None:
    from windtunnel.runs.search.summary import ranges
    from windtunnel.runs.search.winner import NEAR

    winner = outcome.winner
    assert winner is not None
    seeds = ", ".join(map(str, winner.losses))
    say(
        console,
        f"winner: trial {winner.result.trial.number}, {_objective(outcome.experiment)} "
        f"{_loss(winner.mean)}{_interval(outcome)}, of seeds {seeds}, which no choice of trials "
        "has seen",
    )
    if outcome.noise is None:
        return
    alike = ", after what a seed does to all finalists alike" if len(outcome.finalists) > 1 else ""
    say(
        console,
        f"noise of a run {outcome.noise:.2g} ({outcome.noise_dof} "
        f"{'degree' if outcome.noise_dof == 1 else 'degrees'} of freedom){alike}",
    )
    if outcome.near:
        taken = ranges(outcome.experiment, outcome.near)
        values = ", ".join(f"{axis} {text}" for axis, text in taken.items())
        others = len(outcome.results) - len(outcome.finalists)
        say(
            console,
            f"{len(outcome.near)} of the {others} trials that were not repeated "
            f"{'lies' if len(outcome.near) == 1 else 'lie'} within "
            f"{NEAR:g} noise units of it: {values}",
        )


def _table(outcome: "SearchOutcome") -> Table:
    """The finalists, best first, with their values, losses and differences."""
    from windtunnel.runs.search.noise import LEVEL
    from windtunnel.runs.search.summary import field_name, standing, value_text

    experiment = outcome.experiment
    table = Table(box=None)
    behind = f"behind ({LEVEL:.0%})"
    lacks = any(each.mean is None for each in outcome.finalists)
    heads = [*(field_name(experiment, axis) for axis in experiment.space)]
    heads += ["loss in search"] if lacks else []
    heads += [
        f"loss at {experiment.horizon}",
        behind,
        "",
        f"at {experiment.longer_horizon}",
        behind,
    ]
    for column in ("trial", *heads):
        side: Literal["left", "right"] = "left" if column == "" else "right"
        table.add_column(column, justify=side)
    for each in outcome.finalists:
        table.add_row(
            str(each.result.trial.number),
            *(value_text(each.result.trial.values[axis]) for axis in experiment.space),
            *([_loss(each.result.value)] if lacks else []),
            _loss(each.mean),
            _behind(outcome, each, each.behind),
            standing(outcome, each),
            _loss(each.longer_mean),
            _behind(outcome, each, each.behind_longer),
        )
    return table


def _trials(outcome: "SearchOutcome", results: "Sequence[TrialResult]") -> Table:
    """Trials, best first, then the stopped ones with the loss at their last rung."""
    from windtunnel.runs.points import trial_horizons
    from windtunnel.runs.search.summary import field_name, value_text

    experiment = outcome.experiment
    horizons = trial_horizons(experiment)
    order = sorted(
        results,
        key=lambda each: (-len(each.at), each.at[-1] is None, each.at[-1] or 0.0),
    )
    seeds = ", ".join(map(str, experiment.seeds))
    table = Table(box=None)
    for axis in ("trial", *(field_name(experiment, axis) for axis in experiment.space)):
        table.add_column(axis, justify="right")
    table.add_column(f"loss, {'seed' if len(experiment.seeds) == 1 else 'seeds'} {seeds}")
    table.add_column("at")
    table.add_column("")
    for each in order:
        table.add_row(
            str(each.trial.number),
            *(value_text(each.trial.values[axis]) for axis in experiment.space),
            _loss(each.at[-1]),
            str(horizons[len(each.at) - 1]),
            each.outcome,
        )
    return table


def _behind(outcome: "SearchOutcome", finalist: "Finalist", difference: "Difference | None") -> str:
    if difference is None or finalist is outcome.winner or outcome.winner is None:
        return ""
    half = "" if difference.high is None else f" ±{difference.high - difference.value:.4f}"
    return f"{difference.value:+.4f}{half}"


def _fragment(outcome: "SearchOutcome") -> str:
    """The values of the winner as YAML, in full precision: a study with them reuses its runs."""
    from ruamel.yaml import YAML

    text = io.StringIO()
    YAML().dump(outcome.winner_values(), text)
    return text.getvalue()


def _interval(outcome: "SearchOutcome") -> str:
    from windtunnel.runs.search.noise import LEVEL

    ends = outcome.winner_interval()
    return "" if ends is None else f" ({LEVEL:.0%} interval {ends[0]:.4f} to {ends[1]:.4f})"


def _objective(experiment: "SearchExperiment") -> str:
    """`loss` for the mean over the validation sets, `loss on code` for the loss on one."""
    return "loss" if experiment.objective == "mean" else f"loss on {experiment.objective}"


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
