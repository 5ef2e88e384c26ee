"""`windtunnel records`: the files that figures and notebooks start from."""

from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli.options import StudyFile
from windtunnel.cli.output import check_folder, check_output
from windtunnel.errors import ConfigError


def records(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write the measurements of a study as small files for analysis."""
    from windtunnel.findings import records_of, write_records
    from windtunnel.findings.records import FILES
    from windtunnel.runs.study import open_study

    check_folder("--out", out)
    for name in sorted(FILES):
        check_output("--out", out / name, study=study)
    found = records_of(open_study(study))
    if not found.runs and not found.imported:
        raise ConfigError(
            "no-runs",
            f"{study}: no run has finished yet, so there is nothing to write; `windtunnel sweep "
            f"{study}` runs the study",
            path=study,
        )
    for path in write_records(found, out):
        print(path)
