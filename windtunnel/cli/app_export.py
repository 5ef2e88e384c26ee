"""The commands of handing over: export a target, and check its forecast after the large run."""

from pathlib import Path
from typing import Annotated

import typer

from windtunnel.cli import EXIT_SOME_FAILED
from windtunnel.cli.options import AsJson, StudyFile

exports = typer.Typer()
forecast = typer.Typer(help="Forecasts that were handed over.", no_args_is_help=True)


@exports.command()
def export(
    study: StudyFile,
    to: Annotated[str, typer.Option(help="json, hf, megatron, torchtitan, nanotron or torch.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    params: Annotated[float | None, typer.Option(help="Size: N, non-embedding.")] = None,
    shape: Annotated[str | None, typer.Option(metavar="WxD", help="Size: width x depth.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Size: a YAML file with a `model:` section.")
    ] = None,
    flops: Annotated[float | None, typer.Option(help="Training: C = 6 N D.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Training: D.")] = None,
    tokens_per_param: Annotated[float | None, typer.Option(help="Training: D / N.")] = None,
    segment: Annotated[
        str | None,
        typer.Option(metavar="ID", help="hf: a trained segment of the store instead of a target."),
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens per update; default: by the study's batch law.")
    ] = None,
    lr_rule: Annotated[
        str | None,
        typer.Option(help="How the rate follows another batch: none, sqrt or measured."),
    ] = None,
    winner: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take the winning values of this search.")
    ] = None,
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="STUDY.yaml",
            help="A study on the same data whose batch law, batch rule and searches count too. "
            "Repeatable.",
        ),
    ] = None,
    fit: Annotated[
        Path | None, typer.Option(metavar="FIT.json", help="Of `windtunnel fit STUDY.yaml --out`.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="The scaling experiment, where the study has several.")
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Accept a target far beyond the fitted runs.")
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Accept this failing warning of the fit. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hand a study over to a full-size job: its recipe at the target's size, and a forecast."""
    from windtunnel.cli.export import check_target, run_export, run_export_segment

    check_target(to, lr_rule)
    options = {
        "params": params, "shape": shape, "model": model, "flops": flops, "tokens": tokens,
        "tokens_per_param": tokens_per_param, "fit": fit, "companions": tuple(with_ or ()),
        "experiment": experiment, "winner": winner, "batch_tokens": batch_tokens,
        "lr_rule": lr_rule, "extrapolate": extrapolate, "accept": tuple(accept or ()),
    }  # fmt: skip
    if segment is not None:
        run_export_segment(study, segment, options | {"json": as_json}, to=to, out=out)
    else:
        run_export(study, options, to=to, out=out, as_json=as_json)


@forecast.command()
def check(
    handoff: Annotated[Path, typer.Argument(metavar="DIR", help="What windtunnel export wrote.")],
    loss: Annotated[
        list[str],
        typer.Option(
            metavar="[SET=]LOSS",
            help="The measured loss: the mean over the validation sets, or of one set. Repeatable.",
        ),
    ],
    tokens: Annotated[
        float | None, typer.Option(help="Trained on so many; default: as handed over.")
    ] = None,
    params: Annotated[
        float | None, typer.Option(help="Of such a size; default: as handed over.")
    ] = None,
    unit: Annotated[
        str, typer.Option(help="nats-per-token, nats-per-byte or bits-per-byte.")
    ] = "nats-per-token",
    as_json: AsJson = False,
) -> None:
    """Compare the large run's loss with the forecast that was handed over. Exit 3 if outside."""
    from windtunnel.cli.forecast_check import run_forecast_check

    inside = run_forecast_check(
        handoff, loss, tokens=tokens, params=params, unit=unit, as_json=as_json
    )
    if not inside:
        raise typer.Exit(EXIT_SOME_FAILED)
