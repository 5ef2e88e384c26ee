"""The report: what a study found, on one page that can be sent, printed and read on a phone.

>>> write_report(open_study(Path("study.yaml")))  # doctest: +SKIP
"""

from windtunnel.report.collect import collect
from windtunnel.report.inputs import ReportInputs
from windtunnel.report.page import render, write_report

__all__ = ["ReportInputs", "collect", "render", "write_report"]
