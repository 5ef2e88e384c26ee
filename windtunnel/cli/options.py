"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
