"""`windtunnel optimum`: the optimal split of a compute budget by a fitted law."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli.options import AsJson, FitFile, count, data_options
from windtunnel.cli.text import print_json
from windtunnel.errors import FitError


def optimum(
    fit: FitFile,
    flops: Annotated[
        float | None, count("--flops", "Compute budget C in FLOPs, such as 1e23.", example="1e23")
    ] = None,
    params: Annotated[
        float | None,
        count("--params", "Parameters N, such as 2.4B: find the budget they are optimal for."),
    ] = None,
    tokens: Annotated[
        float | None,
        count(
            "--tokens",
            "Tokens D, such as 1T or 20N: find the budget they are optimal for.",
            per_param=True,
        ),
    ] = None,
    tokens_per_param: Annotated[
        float | None, typer.Option(help="D / N: find the budget it is optimal for.")
    ] = None,
    unique_tokens: Annotated[
        float | None,
        count("--unique-tokens", "With --flops: number of unique tokens available, such as 300B."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute the optimal split of a budget into params and tokens.

    With --flops and one of the others, prints the loss of that split against the optimal one.
    """
    tokens, tokens_per_param = data_options(tokens, tokens_per_param)
    constraints = {
        "flops": flops, "params": params, "tokens": tokens, "tokens_per_param": tokens_per_param,
        "unique_tokens": unique_tokens,
    }  # fmt: skip
    run_optimum(fit, constraints, as_json=as_json)


def run_optimum(path: Path, constraints: Mapping[str, float | None], *, as_json: bool) -> None:
    """Print the optimal split under the given constraints.

    Raises:
        FitError: The file holds no fit, or its law splits no budget.
    """
    from windtunnel.cli.predict import naming, read_fit
    from windtunnel.cli.print_fit import print_optimum, warning_codes
    from windtunnel.laws import optimum as best_split
    from windtunnel.laws.codec import optimum_document
    from windtunnel.laws.mixture import MixtureFit
    from windtunnel.laws.schema import plain

    fitted = read_fit(path)
    if isinstance(fitted, MixtureFit):
        raise FitError(
            "no-optimum",
            f"{path}: a mixture law splits no budget; its best mixture is in the file (`best`), "
            "and windtunnel predict FIT --weight SOURCE=SHARE says what any other would give",
            path=path,
            law=fitted.law,
        )
    with naming(path):
        best = best_split(fitted, **constraints)
    if not as_json:
        print_optimum(fitted, best)
        return
    warnings = [each.document() for each in dict.fromkeys((*best.warnings, *best.loss.warnings))]
    facts = {"level": fitted.level, "warnings": warnings, "fit_warnings": warning_codes(fitted)}
    print_json(plain({**optimum_document(best), **facts}))
