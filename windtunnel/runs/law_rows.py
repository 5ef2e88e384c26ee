"""Which runs of a study a law is fitted to, and these as the cells of a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from windtunnel.config import StudyConfig
from windtunnel.config.branch import BranchExperiment
from windtunnel.config.search import SearchExperiment
from windtunnel.config.study import LadderExperiment
from windtunnel.laws import OF_CURVES
from windtunnel.runs.run import Run
from windtunnel.tables.file import TableFile

OF_SIZE_AND_DATA = {
    "auto",
    "chinchilla",
    "coupled",
    "isoflop",
    "envelope",
    "data-constrained",
    "moe",
    "moe-data",
}
OF_EXPERTS = {"moe", "moe-data"}
MIXTURE = "mixture"
"""The law of losses over mixture weights, at one size and one number of tokens."""
UPCYCLING = "upcycling"
"""The law of sunk and new tokens."""


def fitted_experiments(config: StudyConfig, law: str) -> set[str]:
    """The experiments whose runs a law is fitted to by default.

    Trials of a search differ in their recipe and variants of a branch experiment in their data or
    model, so only the laws of mixtures and of upcycling take variants.
    """
    scaling = {e.name for e in config.experiments if isinstance(e, LadderExperiment)}
    if scaling and law in OF_SIZE_AND_DATA:
        return scaling
    if law == UPCYCLING:
        return {e.name for e in config.experiments if isinstance(e, BranchExperiment)}
    if law == MIXTURE:
        branching = [e for e in config.experiments if isinstance(e, BranchExperiment)]
        designed = {e.name for e in branching if e.design is not None}
        return designed or {e.name for e in branching}
    others = (SearchExperiment, BranchExperiment)
    return {e.name for e in config.experiments if not isinstance(e, others)}


def law_rows(runs: Iterable[Run], law: str, where: Iterable[str]) -> list[Run]:
    """The decayed runs; all of them for a law of curves, or where a condition decides.

    Of upcycled runs a law reads the new tokens, those after the dense model's. A dense model is one
    expert.
    """
    if law == UPCYCLING:
        runs = [
            replace(run, tokens=run.tokens - run.sunk_tokens)
            for run in runs
            if run.sunk_tokens is not None
        ]
    if law in OF_EXPERTS:
        runs = [replace(run, experts=run.experts or 1) for run in runs]
    if law in OF_CURVES or any("decayed" in text for text in where):
        return list(runs)
    return [run for run in runs if run.decayed]


def rows_file(source: Path, rows: Sequence[Mapping[str, Any]]) -> TableFile:
    """Rows with a column `run` as the cells of a file."""
    names = dict.fromkeys(name for row in rows for name in row)
    return TableFile(
        path=source,
        columns={name: [row.get(name) for row in rows] for name in names},
        places=[f"segment {row['run']}" for row in rows],
    )


def of_variants(runs: list[Run], config: StudyConfig, experiments: set[str]) -> list[Run]:
    """The last segments of variants; of a mixture design, only its mixtures."""
    ends = {
        each.name: each.design.mixtures() if each.design else each.variants
        for each in config.experiments
        if isinstance(each, BranchExperiment) and each.name in experiments
    }
    if not ends:
        return runs
    return [run for run in runs if any(run.variants.get(name) in ends[name] for name in ends)]
