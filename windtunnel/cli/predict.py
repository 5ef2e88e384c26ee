"""`windtunnel predict`: the output of a fitted law at given inputs, with a prediction interval."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from windtunnel.cli.options import AsJson, FitFile, count, tokens_for
from windtunnel.cli.text import print_json
from windtunnel.errors import FitError

if TYPE_CHECKING:
    from windtunnel.laws import Fit
    from windtunnel.laws.mixture import MixtureFit


def predict(
    fit: FitFile,
    params: Annotated[float | None, count("--params", "Parameters N, such as 2.4B.")] = None,
    tokens: Annotated[
        float | None, count("--tokens", "Training tokens D, such as 1T or 20N.", per_param=True)
    ] = None,
    unique_tokens: Annotated[
        float | None,
        count("--unique-tokens", "Unique tokens (data-constrained), such as 300B.", per_param=True),
    ] = None,
    experts: Annotated[
        float | None, typer.Option(help="Number of experts (moe, moe-data); 1: a dense model.")
    ] = None,
    sunk_tokens: Annotated[
        float | None,
        count(
            "--sunk-tokens", "Tokens before upcycling (upcycling), such as 100B.", per_param=True
        ),
    ] = None,
    flops: Annotated[
        float | None,
        count(
            "--flops",
            "Training compute C in FLOPs (envelope, isoflop), such as 1e23.",
            example="1e23",
        ),
    ] = None,
    loss: Annotated[float | None, typer.Option(help="Loss (sigmoid, batch).")] = None,
    x: Annotated[float | None, count("--x", "x of a power law.")] = None,
    z: Annotated[float | None, count("--z", "z of power2.")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=SHARE", help="Share of a source in the mixture (mixture). Repeatable."
        ),
    ] = None,
    weights_from: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Table of mixtures, one a row, with columns weight_SOURCE or SOURCE (mixture); "
            "--json prints a list.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict a run from a fit, with a prediction interval."""
    inputs = {
        "params": params, "tokens": tokens_for(tokens, params),
        "unique_tokens": tokens_for(unique_tokens, params, "--unique-tokens"),
        "experts": experts,
        "sunk_tokens": tokens_for(sunk_tokens, params, "--sunk-tokens"), "flops": flops,
        "loss": loss, "x": x, "z": z,
    }  # fmt: skip
    run_predict(fit, inputs, tuple(weight or ()), weights_from, as_json=as_json)


def run_predict(
    path: Path,
    inputs: Mapping[str, float | None],
    weights: Sequence[str] = (),
    weights_from: Path | None = None,
    *,
    as_json: bool,
) -> None:
    """Print the output at the given inputs or mixture weights.

    Raises:
        FitError: The file holds no fit, or its law does not take these inputs.
    """
    from windtunnel.cli.fit_mixture import run_predict_mixture, run_predict_mixtures
    from windtunnel.cli.print_fit import print_prediction, warning_codes
    from windtunnel.laws import predict as predicted
    from windtunnel.laws.mixture import MixtureFit
    from windtunnel.laws.schema import plain

    fitted = read_fit(path)
    given = {name: value for name, value in inputs.items() if value is not None}
    if isinstance(fitted, MixtureFit):
        if given:
            raise FitError(
                "unknown-input",
                f"{path}: a mixture law holds for the size and the data it was fitted at, and does "
                f"not read {', '.join(given)}: give shares with --weight SOURCE=SHARE",
                path=path,
                law=fitted.law,
                inputs=list(given),
            )
        if weights and weights_from is not None:
            raise FitError(
                "contradicting-options",
                f"{path}: give --weight or --weights-from {weights_from}, not both",
                path=path,
                options=["--weight", "--weights-from"],
            )
        if weights_from is not None:
            run_predict_mixtures(fitted, weights_from, as_json=as_json)
            return
        with naming(path):
            run_predict_mixture(fitted, weights, as_json=as_json)
        return
    if weights or weights_from is not None:
        raise FitError(
            "unknown-input",
            f"{path}: law {fitted.law} reads no shares (--weight): it predicts from "
            f"{', '.join(fitted.form.inputs)}",
            path=path,
            law=fitted.law,
            inputs=["weight"],
            allowed=list(fitted.form.inputs),
        )
    with naming(path), naming_options():
        output = predicted(fitted, **given)
    if not as_json:
        print_prediction(fitted, given, output)
        return
    print_json(
        plain(
            {
                "law": fitted.law,
                "inputs": given,
                fitted.form.output: output.value,
                "interval": [output.low, output.high],
                **({} if output.transition is None else {"transition": vars(output.transition)}),
                "level": fitted.level,
                "warnings": [warning.document() for warning in output.warnings],
                "fit_warnings": warning_codes(fitted),
            }
        )
    )


def read_fit(path: Path) -> "Fit | MixtureFit":
    """The fit in a file that `windtunnel fit --out` or `--json` wrote.

    Raises:
        ConfigError: There is no such file, or it is not text.
        FitError: It holds no fit, or one of another version.
    """
    from windtunnel.laws.codec import WRITE_ONE
    from windtunnel.laws.fit_document import of_document
    from windtunnel.laws.mixture.codec import is_mixture
    from windtunnel.laws.mixture.result import of_document as mixture_of
    from windtunnel.laws.schema import parse, text_of

    text = text_of(path, WRITE_ONE)
    with naming(path):
        content = parse(text, WRITE_ONE)
        return mixture_of(content) if is_mixture(content) else of_document(content)


@contextmanager
def naming_options() -> Iterator[None]:
    """Name the options of what the body's law misses, each with a good value."""
    try:
        yield
    except FitError as error:
        missing = error.values.get("missing")
        if not isinstance(missing, list):
            raise
        options = [f"--{name.replace('_', '-')} {INPUTS.get(name, '1e6')}" for name in missing]
        raise FitError(
            error.code, f"{error}: add {' '.join(options)}, say", **error.values
        ) from None


INPUTS = {
    "params": "2.4B",
    "tokens": "1T",
    "unique_tokens": "300B",
    "experts": "8",
    "sunk_tokens": "100B",
    "dense": "dense.json",
    "scratch": "scratch.json",
    "flops": "1e23",
    "loss": "2.31",
    "lr": "8e-3",
}
"""Good values of a law's inputs."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file of a fit in every FitError of the body."""
    try:
        yield
    except FitError as error:
        values = {"path": path} | error.values
        raise FitError(error.code, f"{path}: {error}", **values) from None
