"""A mixture law as tables for people."""

import math
from collections.abc import Mapping

from rich.table import Table

from windtunnel.cli.text import say, terminal
from windtunnel.laws import Interval
from windtunnel.laws.interval import Span
from windtunnel.laws.mixture import Forecast, MixtureFit
from windtunnel.laws.mixture.models import KINDS


def print_mixture(fitted: MixtureFit) -> None:
    """Everything that a reader needs before using a number of it."""
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
    fitted: MixtureFit, mixture: Mapping[str, float], found: Mapping[str, Forecast]
) -> None:
    """The loss on each set with its intervals."""
    console = terminal()
    at = ", ".join(f"{name} = {share:g}" for name, share in mixture.items())
    console.print(_losses(f"loss at {at}", found, fitted.level))
    say(console, f"target: {_target(fitted)}")
    for warning in next(iter(found.values())).loss.warnings:
        say(console, str(warning), label="warning:")
    if codes := dict.fromkeys(each.code for each in fitted.warnings):
        say(console, f"{', '.join(codes)} (docs/fit.md)", label="the fit itself warns:")


def _tried(fitted: MixtureFit) -> Table:
    """Every regression of every set, judged on mixtures left out."""
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


def _losses(title: str, found: Mapping[str, Forecast], level: float) -> Table:
    table = _table(title)
    for heading in ("", "loss", f"{level:.0%} prediction interval", "off another trunk"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, each in found.items():
        own, other = (each.loss.low, each.loss.high), each.another_trunk
        table.add_row(name, f"{each.loss.value:.4f}", _span(own, 4), _span(other, 4))
    return table


def _target(fitted: MixtureFit) -> str:
    """`mean loss on docs and code`, or each loss with its weight."""
    names, weights = list(fitted.target), list(fitted.target.values())
    if len(names) == 1:
        return f"loss on {names[0]}"
    if max(weights) - min(weights) < 1e-9:
        return f"mean loss on {', '.join(names[:-1])} and {names[-1]}"
    return " + ".join(f"{weight:.2f} x loss on {name}" for name, weight in fitted.target.items())


def _table(title: str) -> Table:
    return Table(box=None, title=title, title_justify="left")


def _number(found: Interval, digits: int) -> str:
    if math.isnan(found.low):
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} ({_span((found.low, found.high), digits)})"


def _span(span: Span, digits: int) -> str:
    low, high = span
    return "none" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"
