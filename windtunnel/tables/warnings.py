"""Warnings about a readable table: curves, repeated data, experts, other units."""

import re
from collections.abc import Iterator, Mapping
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic
from windtunnel.laws.conditions import Mask
from windtunnel.laws.table import Floats, name_words
from windtunnel.laws.table_warnings import repeated_data
from windtunnel.tables.check import floats, is_missing, label, number
from windtunnel.tables.columns import column_like, is_active, plain_name
from windtunnel.tables.file import TableFile
from windtunnel.tables.numbers import as_numbers

RUN_IDS = ("runid", "jobid", "trialid", "id", "uuid")
RUN_NAMES = ("name", "label", "run", "exp", "experiment", "config", "job", "trial")
"""Endings of column names that may name runs, or families of runs."""
OTHER_EXPERTS = frozenset({"active", "activated", "act", "per", "shared", "top", "topk"})
STEPS = ("step", "globalstep", "trainstep", "steps", "iteration", "iter")
FEWEST_OF_A_CURVE = 8
"""Rows of one size at even distances that look like a curve. Designs space their horizons evenly in
the logarithm, and have fewer."""
FEWEST_WITHOUT_STEPS = 12
"""The same, if no column numbers the rows by steps."""


def loss_unit(column: str) -> str | None:
    """The unit in the name of a loss column, if it is not nats per token."""
    name = plain_name(column, last=False)
    if re.search(r"bitspertok|bpt", name):
        return "bits per token"
    if re.search(r"bpb|bitsperbyte", name):
        return "bits per byte"
    if re.search(r"bpc|bitsperchar", name):
        return "bits per character"
    return "nats per byte" if "natsperbyte" in name else None


def of_unit(column: str) -> Iterator[Diagnostic]:
    """A warning about losses in another unit than nats per token."""
    if unit := loss_unit(column):
        yield Diagnostic(
            "loss-unit",
            f"column {column!r} is in {unit} by its name, and so are E, A, B and every loss here; "
            "exponents and optima do not depend on the unit",
            column=column,
            unit=unit,
        )


def of_repetition(
    file: TableFile, names: Mapping[str, str], kept: Mask, tokens: Floats
) -> tuple[Diagnostic, ...]:
    """Warnings about rows that read their data more than once."""
    passes = np.full(tokens.size, np.nan)
    unread = []
    for name in ("epochs", "unique_tokens"):
        column = names.get(name) or column_like(name, file)
        if column is not None:
            cells = as_numbers(file, {name: column}).columns[column]
            cells = list(compress(map(_times, cells) if name == "epochs" else cells, kept))
            values = floats(cells)
            found = values if name == "epochs" else tokens / np.where(values > 0, values, np.nan)
            passes = np.fmax(passes, found)
            if odd := [cell for cell in cells if number(cell) is None and not is_missing(cell)]:
                unread.append(
                    Diagnostic(
                        "column-left-out",
                        f"{len(odd)} cells of column {column!r}, such as {label(odd[0])!r}, are no "
                        "numbers: whether those rows read their data more than once is not known",
                        column=column,
                        cells=len(odd),
                        example=label(odd[0]),
                    )
                )
    return (*repeated_data(passes), *unread)


def _times(cell: object) -> object:
    """A number of passes without the text around it: `4x`, `x4`, `4 epochs`."""
    if not isinstance(cell, str):
        return cell
    match = re.fullmatch(
        r"(?:x|\u00d7)?\s*([\d.]+)\s*(?:x|\u00d7|ep|epochs?|passes|times)?", cell.strip().lower()
    )
    return match[1] if match else cell


def of_experts(
    file: TableFile, names: Mapping[str, str], kept: Mask, params: Floats
) -> Iterator[Diagnostic]:
    """A warning if another column counts the parameters that are active for a token."""
    chosen = names.get("params")
    for column in file.own:
        if chosen is None or is_active(chosen) or not is_active(column):
            continue
        active = floats(file.columns[column])[kept]
        if np.any(active < 0.99 * params):
            yield Diagnostic(
                "total-params",
                f"params is column {chosen!r}, and {column!r} counts fewer, those active for a "
                "token: C = 6ND and tokens per param are of active ones. To fit those: "
                f"--params {column!r}",
                column=chosen,
                active=column,
            )
        return
    if chosen is None or is_active(chosen):
        return
    for column in file.own:
        if not plain_name(column).endswith("experts") or OTHER_EXPERTS & {*name_words(column)}:
            continue
        if np.nanmax(floats(file.columns[column])[kept], initial=0) > 1:
            yield Diagnostic(
                "total-params",
                f"column {column!r} says that these are mixtures of experts, and nothing says "
                f"whether column {chosen!r} counts all experts or those active for a token: "
                "C = 6ND and tokens per param are of active ones. Name such a column with --params",
                column=chosen,
                experts=column,
            )
            return


def run_column(file: TableFile, names: Mapping[str, str], kept: Mask) -> str | None:
    """A column of run ids that makes rows points of curves, if no option names one.

    A name may be that of a family, so it counts only if rows are numbered by steps.
    """
    if {"run", "trunk"} & names.keys() or not {"params", "tokens"} <= names.keys():
        return None
    by_step = any(plain_name(column) in STEPS for column in file.own)
    params, tokens = (floats(file.columns[names[each]])[kept] for each in ("params", "tokens"))
    likely = [column for column in file.own if column not in names.values()]
    for column in sorted(likely, key=lambda column: not _names_runs(column)[0]):
        is_id, is_name = _names_runs(column)
        if not (is_id or is_name):
            continue
        is_id = is_id or (by_step and plain_name(column) in {"name", "runname"})
        ids = np.array([label(cell) for cell in compress(file.columns[column], kept)], np.str_)
        if _are_curves(ids, params, tokens) and (
            is_id or all(_is_even(tokens[ids == each]) for each in np.unique(ids))
        ):
            return column
    return None


def of_curves(
    file: TableFile, names: Mapping[str, str], kept: Mask, run: NDArray[np.str_] | None
) -> Iterator[Diagnostic]:
    """A warning if rows are points along runs, and not the ends of separate runs."""
    if "trunk" in names or "decayed" in names or not {"params", "tokens"} <= names.keys():
        return
    params, tokens = (floats(file.columns[names[each]])[kept] for each in ("params", "tokens"))
    advice = (
        "points along one schedule are not the ends of shorter runs, whose rate has decayed. Keep "
        "the last row of each run, or say which rows are ends in a column decayed"
    )
    if run is not None and _are_curves(run, params, tokens):
        runs = np.unique(run).size
        yield Diagnostic(
            "curve-rows",
            f"{params.size} rows are points of {runs} runs (column {names['run']!r}), and share "
            f"the noise of their run: {advice}",
            rows=params.size,
            runs=runs,
            column=names["run"],
        )
    elif run is None:
        by_step = any(plain_name(column) in STEPS for column in file.own)
        fewest = FEWEST_OF_A_CURVE if by_step else FEWEST_WITHOUT_STEPS
        sizes = np.unique(params)
        even = [size for size in sizes if _is_even(tokens[params == size], fewest)]
        if even:
            yield Diagnostic(
                "curve-rows",
                f"the rows of {len(even)} of {sizes.size} sizes have tokens at even distances, as "
                f"points of a curve have: {advice}, and name the column that tells runs apart "
                "(--run)",
                sizes=sizes.size,
                curves=len(even),
            )


def _are_curves(ids: NDArray[np.str_], params: Floats, tokens: Floats) -> bool:
    """Whether every id with several rows has one size, at several token counts."""
    labels, index, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if counts.max(initial=1) < 2 or "" in labels:
        return False
    groups = [index == k for k in np.flatnonzero(counts > 1)]
    return all(np.ptp(params[rows]) == 0 for rows in groups) and any(
        np.unique(tokens[rows]).size > 1 for rows in groups
    )


def _names_runs(column: str) -> tuple[bool, bool]:
    """Whether a column holds ids of runs by its name, and whether it may hold their names."""
    name = plain_name(column)
    of_run = {"run", "job", "trial", "wandb", "mlflow", "neptune", "comet"} & {*name_words(column)}
    is_id = name in RUN_IDS or name.endswith("run") or (bool(of_run) and name.endswith("id"))
    return is_id, name.endswith((*RUN_NAMES, "id"))


def _is_even(tokens: Floats, fewest: int = FEWEST_OF_A_CURVE) -> bool:
    """Whether nine of ten gaps between token counts are alike; a curve's ends may be cut."""
    gaps = np.diff(np.unique(tokens))
    if gaps.size + 1 < fewest:
        return False
    middle = np.median(gaps)
    return bool(np.mean(np.abs(gaps - middle) <= 0.05 * middle) >= 0.9)
