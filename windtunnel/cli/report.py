"""`windtunnel report`: the HTML page about a study."""

from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli.options import StudyFile
from windtunnel.cli.output import check_output


def report(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: report.html beside the results.")
    ] = None,
) -> None:
    """Write a self-contained HTML report of a study."""
    from windtunnel.report import write_report
    from windtunnel.runs.study import open_study

    check_output("--out", out, study=study, allowed="report.html")
    print(f"report: {write_report(open_study(study), out)}")
