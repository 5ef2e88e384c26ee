"""Forecast first, then run: the law fitted before the held-out size is trained, and kept as it was.

Forecasts are appended, never rewritten; each holds its time and a fingerprint of its rows.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws import Fit, Table, compute_line, fit, nearest_size
from windtunnel.runs.files import append_line, read_lines
from windtunnel.runs.plan import Plan, PlannedSegment
from windtunnel.runs.run import Run
from windtunnel.runs.schemas import FORECAST
from windtunnel.runs.store import Store
from windtunnel.runs.table import join


def law_runs(runs: Iterable[Run]) -> list[Run]:
    """The runs that may feed a law: decayed and finished."""
    return [run for run in runs if run.decayed and run.loss is not None]


def as_table(runs: Sequence[Run], *, filters: tuple[str, ...] = ()) -> Table:
    """Runs as the arrays that a fit takes; loss in nats per token.

    Raises:
        FitError: There are none.
    """
    if not runs:
        raise FitError(
            "too-few-rows",
            "no finished, decayed segment yet: a law needs at least 6; run the sweep",
            rows=0,
            needed=6,
        )
    numbers = ("params", "tokens", "loss", "flops", "flops_exact", "lr", "batch_tokens")
    names = (*numbers, "trunk", "segment", "decayed")
    column = {name: [getattr(run, name) for run in runs] for name in names}
    known = (name for name in numbers if None not in column[name])  # imported runs lack some
    return Table(
        {name: np.array(column[name], dtype=float) for name in known},
        trunk=np.array(column["trunk"]),
        labels={"run": np.array(column["segment"])},
        decayed=np.array(column["decayed"], dtype=bool),
        copying=np.array([[run.copy_gain, run.copy_gain_se] for run in runs], dtype=float),
        filters=filters,
    )


def write_forecasts(
    folder: Path, store: Store, plan: Plan, runs: Sequence[Run]
) -> tuple[tuple[dict[str, Any], ...], dict[str, str]]:
    """Forecast what each experiment holds out, and append; the forecasts, and why others have none.

    The same inputs give the same forecast, which is then written only once.
    """
    experiments: dict[str, list[PlannedSegment]] = {}
    for planned in plan.branches:
        if planned.held_out:
            for label in planned.labels:
                experiments.setdefault(label.experiment, []).append(planned)
    found, problems = [], {}
    for experiment, held_out in experiments.items():
        try:
            found.append(_written(folder, store, experiment, held_out, runs))
        except FitError as problem:
            problems[experiment] = str(problem)
    return tuple(found), problems


def _written(
    folder: Path,
    store: Store,
    experiment: str,
    held_out: Sequence[PlannedSegment],
    runs: Sequence[Run],
) -> dict[str, Any]:
    """The forecast of one experiment's held-out runs by its other runs, appended if it is new.

    Raises:
        FitError: The runs cannot carry the law.
    """
    fitted = [run for run in law_runs(runs) if run.is_of(experiment) and not run.held_out]
    fingerprint = inputs_fingerprint(fitted)
    for known in read_forecasts(folder):
        same_points = {p["segment"] for p in known["points"]} == {p.id for p in held_out}
        if known["inputs"] == fingerprint and same_points:
            return known
    table = as_table(fitted, filters=("decayed", "finished", "not held out"))
    law = fit(table)
    params = np.array([planned.segment.model.params for planned in held_out], dtype=float)
    tokens = np.array([planned.tokens_at_end for planned in held_out], dtype=float)
    naive = {
        "nearest size at that D/N": nearest_size(table, params, tokens),
        "power law in compute": compute_line(table, params, tokens),
    }
    seen = [p.id for p in held_out if store.segment(p.segment.root.id).curve.exists()]
    forecast = {
        "written": time.time(),
        "experiment": experiment,
        "inputs": fingerprint,
        "rows": len(fitted),
        "largest": {name: law.domain[name][1] for name in ("params", "tokens")},
        "held_out_trained_before": bool(seen),
        "sigma": law.sigma_seed or float(np.hypot(law.sigma_trunk, law.sigma_branch)),
        "level": law.level,
        "fit": json.loads(law.to_json(draws=0)),
        "points": [
            _point(law, planned.id, n, d, {name: float(v[i]) for name, v in naive.items()})
            for i, (planned, n, d) in enumerate(zip(held_out, params, tokens, strict=True))
        ],
    }
    append_line(folder / "forecasts.jsonl", forecast)
    return forecast


def read_forecasts(folder: Path) -> list[dict[str, Any]]:
    """Every forecast of a study, oldest first.

    Raises:
        StoreError: A line is damaged.
    """
    return read_lines(folder / "forecasts.jsonl", FORECAST)


def law_inputs(study: str, runs: Iterable[Run], experiments: Collection[str]) -> dict[str, str]:
    """What a fit says it was made from: the study, its experiments, a hash of their law runs."""
    taken = law_runs(run for run in runs if run.is_of(*experiments))
    return {
        "study": study,
        "experiments": join(sorted(experiments)),
        "runs": inputs_fingerprint(taken),
    }


def inputs_fingerprint(runs: Iterable[Run]) -> str:
    """A hash of the runs behind a fit: which segments, how large, how long, what loss."""
    lines = sorted(json.dumps([run.segment, run.params, run.tokens, run.loss]) for run in runs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _point(
    law: Fit, segment: str, params: float, tokens: float, naive: dict[str, float]
) -> dict[str, Any]:
    predicted = law.predict(params, tokens)
    return {
        "segment": segment,
        "params": params,
        "tokens": tokens,
        "loss": predicted.value,
        "low": predicted.low,
        "high": predicted.high,
        "naive": naive,
    } | ({} if predicted.transition is None else {"transition": asdict(predicted.transition)})
