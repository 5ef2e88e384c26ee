"""The table of runs: what each column shows, and its value for sorting and for the CSV file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from windtunnel.findings.lr_curves import RATE
from windtunnel.report.formatting import (
    NONE,
    count,
    duration,
    loss,
    place_name,
    run_name,
    scientific,
    short,
    significant,
)
from windtunnel.report.inputs import ReportInputs
from windtunnel.runs.run import Run
from windtunnel.runs.search.summary import value_text
from windtunnel.runs.table import LOSS, WEIGHT, join, variant_name

SHOWN = 5e-4
"""Of all that is read: a smaller share would stand there as 0.0%."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        name: In the CSV file; as `windtunnel runs --csv` calls it where that has it.
        title: On the page, `unit` below it.
        value: For sorting and the CSV file; None where a run has none.
        text: On the page; a dash where there is no value.
        look: CSS class: `n` of numbers, which stand right.
    """

    name: str
    title: str
    value: Callable[[Run], object]
    text: Callable[[Run], str]
    unit: str = ""
    look: str = "n"


def reading_order(run: Run) -> tuple[int, int, bool, int]:
    """By size, then seed: the trunk first, then its branches from short to long."""
    return run.params, run.init_seed or 0, run.kind != "trunk", run.tokens


def segment_names(inputs: ReportInputs) -> dict[str, str]:
    """What a reader calls each segment: by size and seed, and by length once it has run."""
    names = {each.segment: place_name(each.size, each.seed, None) for each in inputs.states}
    return names | {run.segment: run_name(run) for run in inputs.runs}


def columns(inputs: ReportInputs) -> list[Column]:
    """The columns of a study, the loss early; one that tells nothing of its runs is left out."""
    runs = inputs.runs
    return [
        _number("init_seed", "Seed", lambda run: run.init_seed, str),
        _number("tokens", "Tokens", lambda run: run.tokens, short, "from update 0"),
        _number("loss", "Loss", lambda run: run.loss, loss, "nats per token"),
        _number("params", "Params", lambda run: run.params, count, "non-embedding"),
        _number("lr", "Learning rate", lambda run: run.lr, significant, "peak, base width"),
        *_searched(runs),
        _word("kind", "Kind", lambda run: run.kind),
        *_where_any(
            runs, _word("variant", "Variant", lambda run: variant_name(run.variants), "names")
        ),
        *_mixtures(runs),
        _number("ratio", "Tokens per param", lambda run: run.tokens / run.params, significant),
        _number("flops_6nd", "FLOPs", lambda run: run.flops_6nd, scientific, "6ND"),
        _number("epochs", "Epochs", lambda run: run.epochs, "{:.2f}".format),
        _number("bits_per_byte", "Bits per byte", lambda run: run.bits_per_byte, loss),
        *_of_sets(runs),
        *_where_any(
            runs,
            _number("copy_gain", "Copy gain", lambda run: run.copy_gain, "{:.3f}".format,
                    "nats per token"),
        ),
        _word("outcome", "Outcome", _outcome),
        _number("tokens_per_second", "Tokens/s", lambda run: run.tokens_per_second, count),
        _number("seconds", "Time", lambda run: run.seconds, duration),
        _word("experiment", "Experiment", lambda run: join(run.experiments), "names"),
        *_where_any(runs, _word("source", "Imported from", lambda run: run.source, "names")),
    ]  # fmt: skip


def validation_sets(runs: Sequence[Run]) -> list[str]:
    """Names of the sets that any run was measured on, in the table's order."""
    return list(dict.fromkeys(name for run in runs for name in run.losses))


def mixture(run: Run) -> str:
    """`code 90.0%, docs 10.0%`: what a branch reads at its end, the most first; a dash for none."""
    shares = {name: share for name, share in run.mixture.items() if share >= SHOWN}
    ordered = sorted(shares, key=lambda name: -shares[name])
    return ", ".join(f"{name} {shares[name]:.1%}" for name in ordered) or NONE


def _number(
    name: str,
    title: str,
    value: Callable[[Run], float | None],
    write: Callable[[float], str],
    unit: str = "",
) -> Column:
    def text(run: Run) -> str:
        found = value(run)
        return NONE if found is None else write(found)

    return Column(name=name, title=title, value=value, text=text, unit=unit)


def _word(name: str, title: str, value: Callable[[Run], str | None], look: str = "line") -> Column:
    return Column(
        name=name, title=title, value=value, text=lambda run: value(run) or NONE, look=look
    )


def _where_any(runs: Sequence[Run], column: Column) -> Iterator[Column]:
    """The column, where any run has something in it."""
    if any(column.value(run) for run in runs):
        yield column


def _searched(runs: Sequence[Run]) -> Iterator[Column]:
    """What some search or grid varies, but the rate and the size, which every study has."""
    for axis in dict.fromkeys(axis for run in runs for axis in run.axes):
        values = {repr(run.axes.get(axis)) for run in runs}
        if axis != RATE and len(values) > 1:
            numbers = all(_is_number(run.axes.get(axis)) for run in runs)
            yield _axis(axis, look="n" if numbers else "line")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _axis(axis: str, look: str) -> Column:
    section, _, field = axis.rpartition(".")

    def text(run: Run) -> str:
        value = run.axes.get(axis)
        return NONE if value is None else value_text(value)

    return Column(
        name=axis,
        title=field,
        unit=section,
        value=lambda run: run.axes.get(axis),
        text=text,
        look=look,
    )


def _mixtures(runs: Sequence[Run]) -> Iterator[Column]:
    """What branches read at their end; only where it differs from the trunks."""
    if any(run.mixture for run in runs):
        yield Column(name=WEIGHT.rstrip("_"), title="Mixture", unit="at its end", value=mixture,
                     text=mixture, look="line")  # fmt: skip


def _of_sets(runs: Sequence[Run]) -> Iterator[Column]:
    """The loss on each of several validation sets; of one alone it is the loss."""
    sets = validation_sets(runs)
    for name in sets if len(sets) > 1 else ():
        yield _number(LOSS + name, name, lambda run, name=name: run.losses.get(name), loss,  # type: ignore[misc]
                      "nats per token")  # fmt: skip


def _outcome(run: Run) -> str:
    return f"{run.outcome}, held out" if run.held_out else run.outcome
