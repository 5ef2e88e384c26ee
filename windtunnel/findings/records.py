"""Records of a study: what it measured, as a few small text files to commit, send or plot.

    study.yaml              the study with every default in place
    runs.csv                one row per segment: the columns of `windtunnel runs`, size and axes
    imported.csv            runs of other tools that its law takes, where there are any
    curves.csv              training loss of every segment, down-sampled
    dynamics.csv            gradients and steps, where the study records them, in bins of updates
    routing.csv             of mixtures of experts: load and routers by layer, in bins of updates
    searches.json           searches with their trials, repeats, winner and importances
    coordinate_checks.json  what `windtunnel check mup` found
    forecasts.json          as they were written before the largest size was trained
    provenance.json         versions, machine, executions of the trunks, seconds

Records need no store and no data: figures, notebooks and fits start from them alone.
"""

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.config import Branch, FamilySpec, StudyConfig, load_study
from windtunnel.config.load import resolved_text
from windtunnel.config.search import SearchExperiment
from windtunnel.config.study import GridExperiment
from windtunnel.errors import ConfigError, did_you_mean
from windtunnel.findings.files import (
    WRITE_AGAIN,
    csv_text,
    json_text,
    read_list,
    read_object,
    read_rows,
    read_rows_if_any,
)
from windtunnel.laws import Table
from windtunnel.runs import routing as routings
from windtunnel.runs.curves import Curve, read_curve
from windtunnel.runs.dynamics import SERIES, SegmentDynamics, as_rows, from_rows, read_dynamics
from windtunnel.runs.forecast import as_table, law_runs, read_forecasts
from windtunnel.runs.imported import imported_runs
from windtunnel.runs.measured import gather
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.points import search_size
from windtunnel.runs.routing import RoutingBin, read_routing
from windtunnel.runs.run import Run
from windtunnel.runs.schemas import ANYTHING, COORDINATE_CHECK, FORECAST
from windtunnel.runs.search.summary import outcome_json
from windtunnel.runs.search.winner import search_outcomes
from windtunnel.runs.study import Study
from windtunnel.runs.study_files import read_checks
from windtunnel.runs.table import COLUMNS, Row, as_row, as_run
from windtunnel.version import __version__

if TYPE_CHECKING:
    from pandas import DataFrame


def provenance(study: Study) -> dict[str, Any]:
    """Plain facts for a reader; nothing here decides a number."""
    runs = gather(study.store, study.plan)
    executions: Counter[str] = Counter()
    for planned in study.plan.trunks:
        record = study.store.segment(planned.id).execution
        if record is not None:
            known = [key for key in ("device", "precision", "kernels", "threads") if key in record]
            settings = (f"{key}={record[key]}" for key in known)
            executions[" ".join(settings)] += 1
    return {
        "windtunnel": __version__,
        "torch": version("torch"),
        "python": platform.python_version(),
        "processor": _processor(),
        "stream": study.dataset.fingerprint if study.dataset else None,
        "trunks_by_execution": dict(executions),
        "segments": len(runs),
        "training_seconds": round(sum(run.seconds for run in runs), 1),
        "flops_spent": sum(run.flops_spent for run in runs),
    }


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


MARK = "provenance.json"
"""The file by which a folder of records is known; its `files` are those that were written."""
FILES = frozenset(
    {"study.yaml", "runs.csv", "imported.csv", "curves.csv", "dynamics.csv", "routing.csv",
     "searches.json",
     "coordinate_checks.json", "forecasts.json", MARK}
)  # fmt: skip
"""Every file that records may have."""

MOST_CURVE_ROWS = 6000
"""Of all segments together; a file of some 300 kB."""
FEWEST_POINTS, MOST_POINTS = 8, 100
"""Of one segment."""

OF_RUNS = {
    **dict.fromkeys(("segment", "kind", "trunk", "decayed", "experiment", "held_out"), True),
    **dict.fromkeys(("width", "depth", "size", "params", "tokens", "flops"), True),
    **dict.fromkeys(("batch_tokens", "lr", "init_seed", "outcome"), True),
    **dict.fromkeys(("flops_exact", "horizon", "loss"), False),
}
OF_CURVES = dict.fromkeys(("segment", "tokens", "loss"), True)
OF_DYNAMICS = dict.fromkeys(("segment", "after", "step"), True) | dict.fromkeys(SERIES, False)
OF_ROUTING = dict.fromkeys(("segment", "layer", "after", "step"), True) | dict.fromkeys(
    routings.SERIES, False
)
OF_IMPORTED = dict.fromkeys(("segment", "kind", "trunk", "decayed", "params", "tokens"), True) | {
    "loss": False
}
"""Columns that each table must have, and whether every row has a value there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Everything that a study measured, without its store.

    Attributes:
        runs: With their values on each axis that some grid or search varied, such as `recipe.lr`
            or `schedule.shape`; of a trunk the schedule's are None.
        imported: Runs of other tools, which no finding reads: they are no part of a design.
        lacking: Columns of runs that an earlier version did not write.
    """

    study: str
    config: StudyConfig
    runs: tuple[Run, ...]
    curves: tuple[Curve, ...]
    searches: tuple[dict[str, Any], ...]
    forecasts: tuple[dict[str, Any], ...]
    coordinate_checks: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    dynamics: tuple[SegmentDynamics, ...] = ()
    routing: tuple[RoutingBin, ...] = ()
    imported: tuple[Run, ...] = ()
    lacking: tuple[str, ...] = ()

    def of(self, experiment: str, *, decayed: bool = True) -> list[Run]:
        """The runs of one experiment: by default finished, decayed ones, with a loss.

        With `decayed=False` all of them, trunks and diverged runs too. Their `variants` are this
        experiment's alone.

        Raises:
            ConfigError: The study has no experiment of that name.
        """
        names = [each.name for each in self.config.experiments]
        if experiment not in names:
            raise ConfigError(
                "unknown-experiment",
                f"study {self.study!r} has no experiment {experiment!r}"
                f"{did_you_mean(experiment, names) or '.'} It has: {', '.join(names)}",
                study=self.study,
                experiment=experiment,
                known=names,
            )
        runs = [run for run in self.runs if run.is_of(experiment)]
        return [
            replace(run, variants={k: v for k, v in run.variants.items() if k == experiment})
            for run in (law_runs(runs) if decayed else runs)
        ]

    def table(self, experiment: str) -> Table:
        """The runs of one experiment as a law takes them.

        Raises:
            FitError: There are none.
        """
        filters = ("decayed", "finished", f"experiment {experiment}")
        return as_table(self.of(experiment), filters=filters)

    def rows(self, experiment: str | None = None) -> list[Row]:
        """The rows of runs.csv: all, or those of the decayed runs of one experiment.

        Raises:
            ConfigError: The study has no experiment of that name.
        """
        runs = self.runs if experiment is None else self.of(experiment)
        rows = (as_row(run) | {"size": run.size} | dict(run.axes) for run in runs)
        return [{k: value for k, value in row.items() if k not in self.lacking} for row in rows]

    def frame(self, experiment: str | None = None) -> "DataFrame":
        """The same rows as a DataFrame.

        Raises:
            ConfigError: The study has no experiment of that name.
        """
        from pandas import DataFrame

        return DataFrame(self.rows(experiment))


def records_of(study: Study) -> Records:
    """What the store holds of a study now; a half-done sweep has records too.

    Raises:
        StoreError: A file of the store is damaged.
    """
    axes = axes_of(study.config)
    planned = {each.id: each for each in study.plan.segments}
    runs = tuple(
        replace(run, axes={axis: axis_value(planned[run.segment], axis) for axis in axes})
        for run in gather(study.store, study.plan)
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
        routing=read_routing(study.store, study.plan.segments),
        imported=tuple(imported_runs(study.folder)),
    )


def write_records(records: Records, folder: Path) -> list[Path]:
    """Write the files, those of an earlier call over; which they are.

    Raises:
        ConfigError: The folder cannot be written, or holds files of these names that are no
            records.
    """
    curves: list[dict[str, Any]] = [
        {"segment": curve.segment, "tokens": round(tokens), "loss": f"{loss:.4f}"}
        for curve in records.curves
        for tokens, loss in zip(curve.tokens.tolist(), curve.loss.tolist(), strict=True)
    ]
    imported = [rounded(as_row(run)) for run in records.imported]
    routed = list(routings.as_rows(records.routing))
    parts: dict[str, str | None] = {
        "study.yaml": resolved_text(records.config),
        "runs.csv": csv_text([rounded(row) for row in records.rows()]),
        "imported.csv": csv_text(imported) if imported else None,
        "curves.csv": csv_text(curves),
        "dynamics.csv": csv_text(list(as_rows(records.dynamics))) if records.dynamics else None,
        "routing.csv": csv_text(routed) if routed else None,
        "searches.json": _listed(records.searches),
        "coordinate_checks.json": _listed(records.coordinate_checks),
        "forecasts.json": _listed([_without_draws(each) for each in records.forecasts]),
    }
    texts = {name: text for name, text in parts.items() if text is not None}
    texts[MARK] = json_text(records.provenance | {"files": [*texts, MARK]})
    ours = _written_before(folder)
    if others := [name for name in texts if name not in ours and (folder / name).exists()]:
        raise ConfigError(
            "not-records",
            f"{folder / others[0]}: is there already, and was not written as records (by "
            f"{folder / MARK}), so that it would be lost; give a new folder",
            path=folder / others[0],
            mark=folder / MARK,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MARK).exists():
            (folder / MARK).write_text(texts[MARK], encoding="utf-8")  # first, as it is the mark
        for name in ours & FILES - texts.keys():
            (folder / name).unlink(missing_ok=True)
        for name, text in texts.items():
            path = folder / name
            # An equal file keeps its time, which is logged to MLflow.
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
    except OSError as refused:
        raise ConfigError(
            "cannot-write",
            f"{folder}: cannot be written: {refused.strerror}",
            path=folder,
            cause=refused.strerror,
        ) from None
    return [folder / name for name in texts]


def rounded(row: Row) -> Row:
    """The row with seven digits: a thousandth of the noise between seeds."""
    return {
        key: float(f"{value:.7g}") if isinstance(value, float) else value
        for key, value in row.items()
    }


def read_records(folder: Path | str) -> Records:
    """What `write_records` wrote.

    Raises:
        ConfigError: The folder holds no records, or a file of them is damaged.
    """
    folder = Path(folder)
    if not (folder / "study.yaml").exists():
        raise ConfigError(
            "missing-records",
            f"{folder}: no records here; `windtunnel records STUDY.yaml --out FOLDER` writes them",
            path=folder,
        )
    config = load_study(folder / "study.yaml")
    rows = list(read_rows(folder / "runs.csv", OF_RUNS))
    runs = tuple(map(as_run, rows))
    by_id = {run.segment: run for run in runs}
    if len(by_id) < len(runs):
        (twice, _), *_ = Counter(run.segment for run in runs).most_common(1)
        raise ConfigError(
            "duplicate-row",
            f"{folder / 'runs.csv'}: segment {twice} has two rows; {WRITE_AGAIN}",
            path=folder / "runs.csv",
            segment=twice,
        )
    curves: dict[str, list[tuple[float, float]]] = {}
    for point in read_rows(folder / "curves.csv", OF_CURVES):
        curves.setdefault(point["segment"], []).append((point["tokens"], point["loss"]))
    dynamics = list(read_rows_if_any(folder / "dynamics.csv", OF_DYNAMICS))
    return Records(
        study=config.study,
        config=config,
        runs=runs,
        curves=tuple(
            _curve(by_id[segment], points)
            for segment, points in curves.items()
            if segment in by_id  # a segment that was not finished has a curve and no row
        ),
        searches=tuple(read_list(folder / "searches.json", ANYTHING)),
        forecasts=tuple(read_list(folder / "forecasts.json", FORECAST)),
        coordinate_checks=tuple(read_list(folder / "coordinate_checks.json", COORDINATE_CHECK)),
        provenance={
            key: value for key, value in read_object(folder / MARK).items() if key != "files"
        },
        dynamics=from_rows(dynamics, by_id),
        routing=routings.from_rows(read_rows_if_any(folder / "routing.csv", OF_ROUTING)),
        imported=tuple(map(as_run, read_rows_if_any(folder / "imported.csv", OF_IMPORTED))),
        lacking=tuple(name for name in COLUMNS if rows and name not in rows[0]),
    )


def _written_before(folder: Path) -> frozenset[str]:
    """Files of a folder that an earlier call has written: `study.yaml` may be the user's own."""
    mark = folder / MARK
    if not mark.exists():
        return frozenset()
    with suppress(ConfigError):
        listed = read_object(mark).get("files")
        if isinstance(listed, list):
            return frozenset(map(str, listed))
    return FILES  # older ones do not say


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
        if isinstance(segment.model, FamilySpec):
            return segment.model.given.get(field.removeprefix("shape."))
        if field == "heads_per_kv":
            return int(segment.model.kv_group)
        return getattr(segment.model, field, None)
    decay = segment.schedule.decay
    if decay is None or not isinstance(segment, Branch):
        return None
    if field == "decay_fraction":  # as configured: updates are whole, 1 leaves after warmup
        whole = segment.fork_step == segment.recipe.warmup_steps
        return 1.0 if whole else round(segment.steps / segment.end, 3)
    if field == "final_factor" and segment.root.hold is not None:
        return round(decay.final_factor / decay.rate, 9)  # as configured: of the rate at the fork
    return getattr(decay, field)


def _searches(study: Study) -> Iterator[dict[str, Any]]:
    """Every search of a study; loads optuna only where there is one."""
    for outcome in search_outcomes(study):
        from windtunnel.engine.samplers import importances

        shares = importances(study.config, outcome.experiment, outcome.results)
        space = outcome.experiment.model_dump(mode="json")["space"]
        size = str(search_size(study.study_context, outcome.experiment))
        yield outcome_json(study, outcome) | {"size": size, "space": space, "importances": shares}


def _listed(found: Sequence[dict[str, Any]]) -> str | None:
    return json_text(list(found)) if found else None


def _without_draws(forecast: dict[str, Any]) -> dict[str, Any]:
    """A forecast without its whole fit, which can be made again from the rows."""
    return {key: value for key, value in forecast.items() if key != "fit"}


def _curve(run: Run, points: list[tuple[float, float]]) -> Curve:
    tokens, loss = np.array(points, np.float64).T
    return Curve(
        segment=run.segment,
        trunk=run.trunk,
        kind="trunk" if run.kind == "trunk" else "branch",
        params=run.params,
        seed=run.init_seed,
        tokens=tokens,
        loss=loss,
    )
