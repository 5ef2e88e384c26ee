"""The figures of a finding; each kind has a file of its own."""

from windtunnel.findings import Finding
from windtunnel.report.figures.sheet import Drawing


def drawings(finding: Finding) -> list[Drawing]:
    """Every figure of one finding, the most telling first; none for a kind without figures."""
    match finding:
        case _:
            return []
