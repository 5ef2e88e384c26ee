"""The options that say what a full-size run is: its size, its length, and what it inherits."""

from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli.options import count

SIZE, LENGTH = "Size of the run (one of)", "Length of the run (one of)"
SHAPE = "What the run otherwise has from the small models"
"""Panels of the help."""

Params = Annotated[
    float | None, count("--params", "Non-embedding parameters N, such as 2.4B.", SIZE)
]
Shape = Annotated[
    str | None, typer.Option(metavar="WxD", help="Width x depth.", rich_help_panel=SIZE)
]
ModelFile = Annotated[
    Path | None, typer.Option(help="YAML file with a `model:` section.", rich_help_panel=SIZE)
]
Flops = Annotated[
    float | None,
    count("--flops", "Training compute C = 6 N D, such as 1e23.", LENGTH, example="1e23"),
]
Tokens = Annotated[
    float | None,
    count("--tokens", "Training tokens D, such as 1T or 20N.", LENGTH, per_param=True),
]
TokensPerParam = Annotated[
    float | None, typer.Option(help="Tokens per parameter, D / N.", rich_help_panel=LENGTH)
]
Context = Annotated[int | None, typer.Option(min=2, help="Tokens per row.", rich_help_panel=SHAPE)]
VocabSize = Annotated[
    int | None,
    count(
        "--vocab-size", "Tokens of the vocabulary, such as 128k.", SHAPE, whole=True, example="128k"
    ),
]
HeadDim = Annotated[int | None, typer.Option(min=1, help="Size of a head.", rich_help_panel=SHAPE)]
HeadsPerKv = Annotated[
    int | None, typer.Option(min=1, help="Query heads for each kv head.", rich_help_panel=SHAPE)
]
BatchTokens = Annotated[
    int | None,
    count(
        "--batch-tokens",
        "Tokens per update, such as 4M; default: from the batch law of the study.",
        SHAPE,
        whole=True,
        example="4M",
    ),
]
