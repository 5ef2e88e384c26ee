"""Which questions a study's experiments answer: a new kind of finding is one line here."""

from collections.abc import Callable

from windtunnel.findings.finding import Finding
from windtunnel.findings.records import Records

READERS: tuple[Callable[[Records], tuple[Finding, ...]], ...] = ()
"""Each looks for experiments of its own kind, told by their axes, and may find none."""


def findings_of(records: Records) -> tuple[Finding, ...]:
    """Every question that the records can answer, in the order of `READERS`."""
    return tuple(finding for read in READERS for finding in read(records))
