"""`windtunnel break-even`: the new tokens from which, and up to which, upcycling is ahead."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windtunnel.cli.options import AsJson, check_choice, count, tokens_for
from windtunnel.cli.text import print_json
from windtunnel.errors import FitError

if TYPE_CHECKING:
    from windtunnel.laws import BreakEven, Fit, Interval

SCRATCH_TOKENS = ("new", "total")


def break_even(
    upcycling: Annotated[
        Path,
        typer.Argument(metavar="FIT.json", help="Fit of law upcycling, from `windtunnel fit`."),
    ],
    params: Annotated[
        float, count("--params", "Active parameters N of the mixture of experts, such as 2.4B.")
    ],
    sunk_tokens: Annotated[
        float,
        count(
            "--sunk-tokens",
            "Tokens of the dense model before it is upcycled, such as 1T or 20N.",
            per_param=True,
        ),
    ],
    dense: Annotated[
        Path | None,
        typer.Option(metavar="FIT.json", help="Fit of dense models: auto, chinchilla or coupled."),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="FIT.json",
            help="Fit of mixtures of experts from scratch: moe-data, auto, chinchilla or coupled.",
        ),
    ] = None,
    dense_params: Annotated[
        float | None,
        count("--dense-params", "Parameters of the dense model; default: those of --params."),
    ] = None,
    experts: Annotated[
        float | None, typer.Option(help="Number of experts, if the --scratch fit is of moe-data.")
    ] = None,
    scratch_tokens: Annotated[
        str,
        typer.Option(
            help="Tokens of the model from scratch: new (those after upcycling alone) or total "
            "(the sunk ones too).",
        ),
    ] = "new",
    reach: Annotated[
        float, typer.Option(help="Look up to this factor beyond the fitted new tokens.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Compute when upcycling beats the dense model, and a mixture of experts from scratch.

    Prints the new tokens from which and up to which it has the lower loss, with intervals.
    """
    check_choice("--scratch-tokens", scratch_tokens, SCRATCH_TOKENS)
    size = params if dense_params is None else dense_params
    run_break_even(
        upcycling,
        {"dense": dense, "scratch": scratch},
        {
            "params": params,
            "dense_params": dense_params,
            "sunk_tokens": tokens_for(sunk_tokens, size, "--sunk-tokens"),
            "experts": experts,
            "scratch_tokens": scratch_tokens,
            "reach": reach,
        },
        as_json=as_json,
    )


def run_break_even(
    upcycling: Path,
    rivals: Mapping[str, Path | None],
    options: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Print the leads of upcycling over the rivals whose fits are given.

    Raises:
        FitError: A file holds no fit of a law that is compared, or a number is out of range.
    """
    from windtunnel.cli.predict import naming_options
    from windtunnel.cli.print_fit import warning_codes
    from windtunnel.laws import break_even as computed
    from windtunnel.laws.schema import plain

    fits: dict[str, Any] = {name: _read(path) for name, path in rivals.items() if path is not None}
    mine = _read(upcycling)
    with naming_options():
        found = computed(mine, **fits, **options)
    if not as_json:
        _print(found)
        return
    codes = {name: warning_codes(fit) for name, fit in {"upcycling": mine, **fits}.items()}
    print_json(plain({**document(found), "fit_warnings": codes}))


def _read(path: Path) -> "Fit":
    from windtunnel.cli.predict import read_fit
    from windtunnel.laws.mixture import MixtureFit

    fitted = read_fit(path)
    if isinstance(fitted, MixtureFit):
        raise FitError(
            "wrong-law",
            f"{path}: a mixture law holds for one size and one number of tokens, and says nothing "
            "about upcycling",
            path=path,
            law=fitted.law,
        )
    return fitted


def document(found: "BreakEven") -> dict[str, Any]:
    """The leads as plain data; every number has its interval beside it."""
    inputs = ("params", "dense_params", "sunk_tokens", "experts", "scratch_tokens")
    leads: dict[str, Any] = {
        lead.over: {
            "start": lead.start.value,
            "start_interval": [lead.start.low, lead.start.high],
            "end": lead.end.value,
            "end_interval": [lead.end.low, lead.end.high],
            "ever": lead.ever,
        }
        for lead in found.leads
    }
    return {
        "inputs": {name: getattr(found, name) for name in inputs},
        "compared": list(found.span),
        "level": found.level,
        "pairs": found.pairs,
        **leads,
        "warnings": [warning.document() for warning in found.warnings],
    }


def _print(found: "BreakEven") -> None:
    from rich.table import Table

    from windtunnel.cli.print_fit import print_warnings
    from windtunnel.cli.text import say, terminal
    from windtunnel.laws.breakeven import RIVALS
    from windtunnel.quantities import write_count

    console = terminal()
    compared = " to ".join(write_count(end) for end in found.span)
    say(
        console,
        f"upcycled with {write_count(found.params)} active params after "
        f"{write_count(found.sunk_tokens)} sunk tokens; {compared} new tokens compared",
    )
    table = Table(box=None)
    for name in ("has the lower loss than", "from new tokens", "up to new tokens", "ever"):
        table.add_column(name, justify="left" if name.startswith("has") else "right")
    for lead in found.leads:
        spans = (_tokens(each, found.span[1]) for each in (lead.start, lead.end))
        ever = "" if math.isnan(lead.ever) else f"{lead.ever:.0%}"
        table.add_row(RIVALS[lead.over], *spans, ever)
    console.print(table)
    known = f"{found.level:.0%} intervals over {found.pairs} pairs of draws"
    say(console, known if found.pairs else "no intervals: a fit has no draws")
    print_warnings(console, found.warnings)


def _tokens(found: "Interval", most: float) -> str:
    value, *ends = (_end(each, most) for each in (found.value, found.low, found.high))
    known = not math.isnan(found.low) and set(ends) != {value}
    return f"{value} ({ends[0]} to {ends[1]})" if known else value


def _end(value: float, most: float) -> str:
    """New tokens, or in words that they lie beyond those compared."""
    from windtunnel.quantities import write_count

    if math.isinf(value):
        return f"beyond {write_count(most)}"
    return write_count(value) if value else "0"
