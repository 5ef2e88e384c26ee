"""The command that takes in finished runs of other tools."""

from typing import Annotated

import typer

from windtunnel.cli.options import AsJson, StudyFile
from windtunnel.errors import ConfigError

imports = typer.Typer()


@imports.command("import-runs")
def import_runs(
    study: StudyFile,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A table (.csv, .tsv, .json, .jsonl or .parquet), mlflow:EXPERIMENT, the CSV of a "
            "W&B runs table, or a wandb/ folder.",
        ),
    ] = None,
    asked: Annotated[
        str | None, typer.Option("--format", help="csv, mlflow or wandb. Default: what it is.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's. Default: MLFLOW_TRACKING_URI.")
    ] = None,
    params: Annotated[
        str, typer.Option(metavar="COL|NUMBER", help="N, non-embedding parameters.")
    ] = "",
    tokens: Annotated[str, typer.Option(metavar="COL|NUMBER", help="D, from update 0.")] = "",
    loss: Annotated[str, typer.Option(metavar="COL", help="The validation loss.")] = "",
    flops: Annotated[str, typer.Option(metavar="COL|NUMBER", help="Compute C.")] = "",
    run: Annotated[str, typer.Option(metavar="COL", help="Labels. Default: the run's name.")] = "",
    trunk: Annotated[
        str, typer.Option(metavar="COL", help="Label that runs with shared noise have in common.")
    ] = "",
    batch_tokens: Annotated[
        str, typer.Option(metavar="COL|NUMBER", help="The batch, in tokens.")
    ] = "",
    lr: Annotated[str, typer.Option(metavar="COL|NUMBER", help="The peak learning rate.")] = "",
    loss_of: Annotated[
        list[str] | None,
        typer.Option(metavar="SET=COL", help="Loss on one validation set. Repeatable."),
    ] = None,
    decayed: Annotated[
        str | None,
        typer.Option(
            metavar="COL|true|false",
            help="Whether the rate was decayed at the loss. Required without a column `decayed`.",
        ),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="COL=FACTOR", help="Multiply a column, as params=1e9. Repeatable."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="nats-per-token (taken if not given), bits-per-token, nats-per-byte or "
            "bits-per-byte."
        ),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Whose law takes them. Default: the only scaling experiment.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Keep runs with 'column OP value'. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Leave such runs out. Repeatable."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the new numbers of labels that are known.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print; write nothing.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show what is imported.")] = False,
    remove: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Take a run out again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in finished runs of other tools as measurements for a study's law."""
    asks = [source is not None, listed, remove is not None]
    if sum(asks) != 1:
        raise ConfigError(
            "import-runs: give one of SOURCE (a table, mlflow:EXPERIMENT or a wandb folder), "
            "--list, and --remove LABEL"
        )
    from windtunnel.cli.import_runs import list_imported, remove_imported, run_import
    from windtunnel.cli.import_runs_columns import ImportOptions

    if listed:
        list_imported(study, as_json=as_json)
    elif remove is not None:
        remove_imported(study, remove)
    elif source is not None:
        options = ImportOptions(
            columns={
                "params": params, "tokens": tokens, "loss": loss, "flops": flops, "run": run,
                "trunk": trunk, "batch_tokens": batch_tokens, "lr": lr,
            },
            loss_of=tuple(loss_of or ()),
            decayed=decayed,
            scale=tuple(scale or ()),
            unit=unit,
            experiment=experiment,
            where=tuple(where or ()),
            exclude=tuple(exclude or ()),
        )  # fmt: skip
        run_import(
            study,
            source,
            options,
            asked=asked,
            tracking_uri=tracking_uri,
            replace=replace,
            dry_run=dry_run,
            as_json=as_json,
        )
