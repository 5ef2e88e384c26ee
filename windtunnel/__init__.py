"""Scaling-law experiments on small muP models.

A Study (one YAML file) expands into Segments: trunks that warm up and hold, and branches that leave
a trunk and decay. Segments leave measurements; a Fit of a law explains them. These names are the
public API of notebooks and scripts. Each is imported when it is first used.

Examples:
    >>> import windtunnel
    >>> study = windtunnel.open_study("study.yaml")  # doctest: +SKIP
    >>> study.runs  # a DataFrame; also curves, fits, winners, forecasts  # doctest: +SKIP
    >>> fitted = windtunnel.fit("runs.csv")  # or a DataFrame, or study.fit()  # doctest: +SKIP
    >>> fitted.optimum(flops=1e23).ratio  # doctest: +SKIP
    >>> fitted.plot()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from windtunnel.version import __version__

if TYPE_CHECKING:
    from windtunnel.config.load import load_study
    from windtunnel.errors import Diagnostic, WindtunnelError
    from windtunnel.export.build import build_handoff
    from windtunnel.export.check import check_forecast
    from windtunnel.findings import findings_of, load_records, read_records, write_records
    from windtunnel.laws import Fit, Interval, Table, optimum, predict
    from windtunnel.laws.mixture import MixtureFit, fit_mixture
    from windtunnel.opened import OpenStudy, open_study
    from windtunnel.report import write_report
    from windtunnel.runs.run import Run
    from windtunnel.tables.law_table import fit
    from windtunnel.tables.read import read_table

_ROOMS = {
    "config.load": ("load_study",),
    "errors": ("Diagnostic", "WindtunnelError"),
    "export.build": ("build_handoff",),
    "export.check": ("check_forecast",),
    "findings": ("findings_of", "load_records", "read_records", "write_records"),
    "laws": ("Fit", "Interval", "Table", "optimum", "predict"),
    "laws.mixture": ("MixtureFit", "fit_mixture"),
    "opened": ("OpenStudy", "open_study"),
    "report": ("write_report",),
    "runs.run": ("Run",),
    "tables.law_table": ("fit",),
    "tables.read": ("read_table",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Diagnostic",
    "Fit",
    "Interval",
    "MixtureFit",
    "OpenStudy",
    "Run",
    "Table",
    "WindtunnelError",
    "__version__",
    "build_handoff",
    "check_forecast",
    "findings_of",
    "fit",
    "fit_mixture",
    "load_records",
    "load_study",
    "open_study",
    "optimum",
    "predict",
    "read_records",
    "read_table",
    "write_records",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "plots":
        return import_module("windtunnel.plots")
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'windtunnel' has no attribute {name!r}")
    return getattr(import_module(f"windtunnel.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
