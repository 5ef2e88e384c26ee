"""`windtunnel data`: what was read of each source, what was left out, and the held-out sets."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from rich.table import Table

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.cli.text import data_progress, print_json, say, size_of, terminal
from windtunnel.quantities import write_count

if TYPE_CHECKING:
    from windtunnel.runs.data_facts import DataFacts, Exclusion
    from windtunnel.runs.study import Study

MOST_KINDS = 8
"""Most suffixes that are listed; `--json` has all of them."""


def data(study: StudyFile, as_json: AsJson = False) -> None:
    """Show what is read of the data, what is left out, and what overlaps.

    Prepares the data as `sweep` would, unless that is done. Nothing is trained, and the study may
    still take other data.
    """
    from windtunnel.runs.study import open_study

    with data_progress(terminal(), quiet=as_json) as tell:
        opened = open_study(study, prepared=True, progress=tell, locks=False)
    print_data(opened, as_json=as_json)


def print_data(study: "Study", *, as_json: bool) -> None:
    """Print the data of a study whose data is prepared."""
    from windtunnel.runs.data_facts import data_facts

    facts = data_facts(study)
    assert facts is not None
    if as_json:
        warnings = [warning.document() for warning in study.data_diagnostics]
        print_json({"study": study.config.study, **asdict(facts), "warnings": warnings})
        return
    console = terminal()
    say(console, f"study {study.config.study}: prepared in {study.store.data}")
    console.print(_sources(facts))
    for source in facts.sources:
        for each in source.exclusions:
            say(console, f"{source.name}: {_text(each)}", label=_label(each), style="cyan")
    console.print(_sets(facts))
    for warning in study.data_diagnostics:
        say(console, warning.message, label=f"warning ({warning.code}):")


def _sources(facts: "DataFacts") -> Table:
    """One row per source: what was read and what training reads of it."""
    table = _table("training", "source", "share of rows", "read", "documents", "tokens", "text")
    table.add_column("epochs of the longest run", justify="right")
    for each in facts.sources:
        suffixes = ", ".join(f"{n:,} {suffix}" for suffix, n in each.suffixes.items())
        table.add_row(
            each.name,
            f"{each.share:.1%}",
            suffixes or (each.path if each.files is None else f"{each.files:,} files"),
            f"{each.documents:,}",
            write_count(each.tokens),
            "unknown" if each.bytes is None else size_of(each.bytes),
            f"{each.epochs:.2f}",
        )
    return table


def _sets(facts: "DataFacts") -> Table:
    """One row per validation set."""
    table = _table("validation", "set", "documents", "tokens", "measured", "also in training")
    for each in facts.validation:
        share = each.contamination
        table.add_row(
            each.name,
            f"{each.documents:,}",
            write_count(each.tokens),
            write_count(each.measured),
            "not measured" if share is None else f"{share:.1%}",
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, title=title, title_justify="left")
    for column in columns:
        side: Literal["left", "right"] = "left" if column in {"source", "set", "read"} else "right"
        table.add_column(column, justify=side)
    return table


def _label(exclusion: "Exclusion") -> str:
    return "replaced:" if exclusion.replaced else "left out:"


def _text(exclusion: "Exclusion") -> str:
    """`12 near-duplicates (1.2%): a.txt, b.txt, ...; set data.dedup: off, ...`."""
    share = "" if exclusion.share is None else f" ({exclusion.share:.1%})"
    named = "; ".join(_kinds(exclusion)) or _named(exclusion.count, exclusion.examples)
    parts = [f"{exclusion.count:,} {exclusion.what}{share}", *filter(None, [named])]
    remedy = f"; {exclusion.remedy}" if exclusion.remedy else ""
    return ": ".join(parts) + remedy


def _kinds(exclusion: "Exclusion") -> Iterator[str]:
    """`120 .py (a.py, b.py, c.py, ...)` for each suffix, most first."""
    for name, kind in list(exclusion.kinds.items())[:MOST_KINDS]:
        yield f"{kind['count']:,} {name} ({_named(kind['count'], kind['examples'])})"
    if (more := len(exclusion.kinds) - MOST_KINDS) > 0:
        yield f"{more} more suffixes"


def _named(count: int, examples: "tuple[str, ...] | list[str]") -> str:
    names = ", ".join(examples)
    return f"{names}, ..." if names and count > len(examples) else names
