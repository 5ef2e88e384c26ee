"""A study's records: what it measured, as a few small text files to commit, send or plot.

    runs.csv          a row a segment: every column of `windtunnel runs`, and every axis that varied
    curves.csv        training loss of every segment, down-sampled
    coordinate_checks.json   what `windtunnel check mup` found
    dynamics.csv      gradients and steps, where the study records them, in bins of updates
    searches.json     searches with their trials, repeats, winner and importances
    forecasts.json    forecasts as they were written before the largest size was trained
    study.yaml        the study with every default in place
    provenance.json   who computed it: versions, machine, executions, seconds

Records need no store and no data: figures, notebooks and fits start from them alone.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from windtunnel.errors import ConfigError
from windtunnel.findings.provenance import provenance
from windtunnel.laws import Table
from windtunnel.spec import Branch, StudyConfig, load_study
from windtunnel.spec.experiments import GridExperiment
from windtunnel.spec.search import SearchExperiment
from windtunnel.spec.yaml_file import resolved_text
from windtunnel.trials.curves import Curve, read_curve
from windtunnel.trials.dynamics import SegmentDynamics, as_rows, from_rows, read_dynamics
from windtunnel.trials.forecast import as_table, law_rows, read_forecasts
from windtunnel.trials.gather import Row, gather
from windtunnel.trials.kept_checks import read_checks
from windtunnel.trials.plan import PlannedSegment
from windtunnel.trials.points import search_size
from windtunnel.trials.search_json import outcome_json
from windtunnel.trials.study import Study
from windtunnel.trials.winner import search_outcomes

MOST_CURVE_ROWS = 6000
"""Of all segments together; a file of some 300 kB."""
FEWEST_POINTS, MOST_POINTS = 8, 100
"""Of one segment."""

TEXT = frozenset({"segment", "kind", "parent", "trunk", "experiment", "outcome", "horizon", "size"})
"""Columns that are never numbers, whatever they look like: an id may be all digits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Everything that a study measured, without its store.

    `runs` are the rows of `windtunnel runs` with `size` and a column for each axis that some grid
    or search varied, such as `recipe.lr` or `schedule.shape`; of a trunk the schedule's are None.
    """

    study: str
    config: StudyConfig
    runs: tuple[Row, ...]
    curves: tuple[Curve, ...]
    searches: tuple[dict[str, Any], ...]
    forecasts: tuple[dict[str, Any], ...]
    coordinate_checks: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    dynamics: tuple[SegmentDynamics, ...] = ()

    def of(self, experiment: str, *, decayed: bool = True) -> list[Row]:
        """The rows of one experiment: by default finished, decayed ones, with a loss.

        With `decayed=False` all of them, trunks and diverged runs too.
        """
        if decayed:
            return law_rows(list(self.runs), experiment=experiment)
        return [row for row in self.runs if experiment in row["experiment"].split("+")]

    def table(self, experiment: str) -> Table:
        """The rows of one experiment as a law takes them.

        Raises:
            FitError: There are none.
        """
        filters = ("decayed", "finished", f"experiment {experiment}")
        return as_table(self.of(experiment), filters=filters)


def records_of(study: Study) -> Records:
    """What the store holds of a study now; a half-done sweep has records too.

    Raises:
        StoreError: A file of the store is damaged.
    """
    axes = axes_of(study.config)
    planned = {each.id: each for each in study.plan.segments}
    runs = tuple(
        row
        | {"size": f"{row['width']}x{row['depth']}"}
        | {axis: axis_value(planned[row["segment"]], axis) for axis in axes}
        for row in gather(study.store, study.plan)
    )
    points = int(np.clip(MOST_CURVE_ROWS // max(len(planned), 1), FEWEST_POINTS, MOST_POINTS))
    curves = (read_curve(study.store, each, points=points) for each in study.plan.segments)
    return Records(
        study=study.config.study,
        config=study.config,
        runs=runs,
        curves=tuple(curve for curve in curves if curve is not None),
        searches=tuple(_searches(study)),
        forecasts=tuple(read_forecasts(study.folder)),
        coordinate_checks=tuple(read_checks(study.folder)),
        provenance=provenance(study),
        dynamics=read_dynamics(study.store, study.plan.segments),
    )


def write_records(records: Records, folder: Path) -> list[Path]:
    """Write the files, those of an earlier call over; which they are.

    Raises:
        ConfigError: The folder cannot be written.
    """
    curves: list[dict[str, Any]] = [
        {"segment": curve.segment, "tokens": round(tokens), "loss": f"{loss:.4f}"}
        for curve in records.curves
        for tokens, loss in zip(curve.tokens.tolist(), curve.loss.tolist(), strict=True)
    ]
    texts = {
        "study.yaml": resolved_text(records.config),
        "runs.csv": _csv([_rounded(row) for row in records.runs]),
        "curves.csv": _csv(curves),
        "dynamics.csv": _csv(list(as_rows(records.dynamics))),
        "searches.json": _json(list(records.searches)),
        "coordinate_checks.json": _json(list(records.coordinate_checks)),
        "forecasts.json": _json([_without_draws(each) for each in records.forecasts]),
        "provenance.json": _json(records.provenance),
    }
    if not records.dynamics:
        del texts["dynamics.csv"]
    if not records.searches:
        del texts["searches.json"]
    if not records.forecasts:
        del texts["forecasts.json"]
    if not records.coordinate_checks:
        del texts["coordinate_checks.json"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            path = folder / name
            # An equal file keeps its time, which MLflow is told.
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
    except OSError as refused:
        raise ConfigError(f"{folder}: cannot be written: {refused.strerror}") from None
    return [folder / name for name in texts]


def read_records(folder: Path) -> Records:
    """What `write_records` wrote.

    Raises:
        ConfigError: The folder holds no records, or a file of them is damaged.
    """
    config = load_study(folder / "study.yaml")
    try:
        runs = tuple(_rows(folder / "runs.csv"))
        by_id = {row["segment"]: row for row in runs}
        curves: dict[str, list[tuple[float, float]]] = {}
        for point in _rows(folder / "curves.csv"):
            curves.setdefault(point["segment"], []).append((point["tokens"], point["loss"]))
        return Records(
            study=config.study,
            config=config,
            runs=runs,
            curves=tuple(
                _curve(by_id[segment], points)
                for segment, points in curves.items()
                if segment in by_id  # a segment that was not finished has a curve and no row
            ),
            searches=tuple(_read_json(folder / "searches.json", [])),
            forecasts=tuple(_read_json(folder / "forecasts.json", [])),
            coordinate_checks=tuple(_read_json(folder / "coordinate_checks.json", [])),
            provenance=_read_json(folder / "provenance.json", {}),
            dynamics=from_rows(_rows_if_any(folder / "dynamics.csv"), by_id),
        )
    except (OSError, ValueError, KeyError, TypeError) as broken:  # a torn row lacks its last cells
        raise ConfigError(
            f"{folder}: no whole records: {type(broken).__name__}: {broken}; "
            "`windtunnel records STUDY.yaml --out FOLDER` writes them"
        ) from None


def axes_of(config: StudyConfig) -> list[str]:
    """Every axis that some experiment varies, in the order of the file."""
    found: dict[str, None] = {}
    for experiment in config.experiments:
        if isinstance(experiment, GridExperiment):
            found |= dict.fromkeys(experiment.axes)
        elif isinstance(experiment, SearchExperiment):
            found |= dict.fromkeys(experiment.space)
    found.pop("size", None)
    return list(found)


def axis_value(planned: PlannedSegment, axis: str) -> Any:
    """What a segment has on an axis; None for a trunk's schedule."""
    segment = planned.segment
    section, _, field = axis.partition(".")
    if section == "recipe":
        return getattr(segment.recipe, field)
    if section == "model":
        if field == "heads_per_kv":
            return segment.model.width // segment.model.head_dim // segment.model.kv_heads
        return getattr(segment.model, field, None)
    decay = segment.schedule.decay
    if decay is None or not isinstance(segment, Branch):
        return None
    if field == "decay_fraction":
        return segment.steps / segment.end
    return getattr(decay, field)


def _searches(study: Study) -> Iterator[dict[str, Any]]:
    """Every search of a study; loads optuna only where there is one."""
    for outcome in search_outcomes(study):
        from windtunnel.engine.search.importance import importances

        shares = importances(study.config, outcome.experiment, outcome.results)
        space = outcome.experiment.model_dump(mode="json")["space"]
        size = str(search_size(study.ground, outcome.experiment))
        yield outcome_json(study, outcome) | {"size": size, "space": space, "importances": shares}


def _without_draws(forecast: dict[str, Any]) -> dict[str, Any]:
    """A forecast without its whole fit, which can be made again from the rows."""
    return {key: value for key, value in forecast.items() if key != "fit"}


def _curve(row: Row, points: list[tuple[float, float]]) -> Curve:
    tokens, loss = np.array(points, np.float64).T
    return Curve(
        segment=row["segment"],
        trunk=row["trunk"],
        kind=row["kind"],
        params=row["params"],
        seed=row["init_seed"],
        tokens=tokens,
        loss=loss,
    )


def _rounded(row: Row) -> Row:
    """Seven digits: a thousandth of the noise between seeds."""
    return {
        key: float(f"{value:.7g}") if isinstance(value, float) else value
        for key, value in row.items()
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {name: _parsed(name, text) for name, text in row.items()}


def _rows_if_any(path: Path) -> Iterator[Row]:
    return _rows(path) if path.exists() else iter(())


def _parsed(name: str, text: str) -> Any:
    if name in TEXT:
        return text or None
    if text in {"", "True", "False"}:
        return None if not text else text == "True"
    for read in (int, float):
        try:
            return cast("Any", read)(text)
        except ValueError:
            continue
    return text


def _json(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _read_json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
