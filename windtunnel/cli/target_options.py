"""The options that say what a full-size run is: its size, its length, and what it inherits."""

from pathlib import Path
from typing import Annotated

import typer

SIZE, LENGTH = "Size of the run (one of)", "Length of the run (one of)"
SHAPE = "What the run otherwise has from the small models"
"""Panels of the help."""

Params = Annotated[
    float | None, typer.Option(help="Non-embedding parameters N.", rich_help_panel=SIZE)
]
Shape = Annotated[
    str | None, typer.Option(metavar="WxD", help="Width x depth.", rich_help_panel=SIZE)
]
ModelFile = Annotated[
    Path | None, typer.Option(help="YAML file with a `model:` section.", rich_help_panel=SIZE)
]
Flops = Annotated[
    float | None, typer.Option(help="Training compute C = 6 N D.", rich_help_panel=LENGTH)
]
Tokens = Annotated[float | None, typer.Option(help="Training tokens D.", rich_help_panel=LENGTH)]
TokensPerParam = Annotated[
    float | None, typer.Option(help="Tokens per parameter, D / N.", rich_help_panel=LENGTH)
]
Context = Annotated[int | None, typer.Option(help="Tokens per row.", rich_help_panel=SHAPE)]
VocabSize = Annotated[
    int | None, typer.Option(help="Tokens of the vocabulary.", rich_help_panel=SHAPE)
]
HeadDim = Annotated[int | None, typer.Option(help="Size of a head.", rich_help_panel=SHAPE)]
HeadsPerKv = Annotated[
    int | None, typer.Option(help="Query heads for each kv head.", rich_help_panel=SHAPE)
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        help="Tokens per update; default: from the batch law of the study.", rich_help_panel=SHAPE
    ),
]
