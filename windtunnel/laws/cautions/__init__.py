"""When each warning of a fit fires: a figure against a threshold. docs/fit.md lists the codes."""

from windtunnel.laws.cautions.answer import of_influence, of_intervals, of_search, of_use
from windtunnel.laws.cautions.design import of_rows, of_table
from windtunnel.laws.cautions.noise import of_noise, of_sizes

__all__ = [
    "of_influence",
    "of_intervals",
    "of_noise",
    "of_rows",
    "of_search",
    "of_sizes",
    "of_table",
    "of_use",
]
