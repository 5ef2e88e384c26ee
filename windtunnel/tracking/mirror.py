"""The MLflow mirror of a store: one run for each segment, idempotent, live, and never blocking.

A pass logs the rows beyond each run's high-water mark with their own timestamps. A repeated or
interrupted pass logs the same rows again, and MLflow keeps one of equal rows. One process mirrors a
store at a time. Where two mirrors of older versions made two runs of a segment, the one that is
further is kept.

Names and values are brought to what MLflow accepts before they are compared: MLflow would cut a
long value and refuse an illegal name together with the rest of its request. Tags list the
measurements that are already mirrored.
"""

import hashlib
import logging
import posixpath
import re
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from windtunnel.config import Branch, ScheduleChange
from windtunnel.config.segment import flops_6nd_at, tokens_at
from windtunnel.errors import StoreError, TrackingError, cause_of
from windtunnel.redact import redacted
from windtunnel.runs.lease import Lease, LeaseHeld
from windtunnel.runs.measured import run_of
from windtunnel.runs.plan import PlannedSegment
from windtunnel.runs.progress import name_of
from windtunnel.runs.store import Store
from windtunnel.runs.streams import mixture_of
from windtunnel.runs.study import Study
from windtunnel.runs.table import join
from windtunnel.tracking.experiment_page import note_tags, view_tags
from windtunnel.tracking.mlflow import Location, answers, connect, create_database, refuse_deleted

WAIT_SECONDS = 20.0
"""Waiting time for another mirror's pass, which usually takes a second or two."""

GLANCE_SECONDS = 0.2


class Turn:
    """The right of one process to mirror a store, acquired for every pass."""

    def __init__(self, store: Store) -> None:
        self._folder = store.root / "tracking"
        self._token = uuid.uuid4().hex

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Hold the turn while the body runs; yields whether another process had it in between.

        A read-only store has no turns.

        Raises:
            TrackingError: Another process keeps mirroring.
        """
        lease = self._lease()
        try:
            yield self._holder_changed()
        finally:
            if lease is not None:
                lease.__exit__(None, None, None)

    def _lease(self) -> Lease | None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return Lease(
                    self._folder / "lease.json", what="the mirror of this store"
                ).__enter__()
            except LeaseHeld as held:
                if time.monotonic() > deadline:
                    raise TrackingError(
                        held.code,
                        f"{held}; `windtunnel sync` fills the gap afterwards",
                        **held.values,
                    ) from None
                time.sleep(GLANCE_SECONDS)
            except StoreError:
                return None

    def _holder_changed(self) -> bool:
        """Record the turn as ours; whether the last one was another process's."""
        last = self._folder / "last"
        with suppress(OSError):
            if last.read_text() == self._token:
                return False
        with suppress(OSError):
            last.write_text(self._token)
        return True


LONGEST_NAME = 250
LONGEST_VALUE = 5000
"""Characters of a tag or parameter (MLflow 3 takes 8000 and 6000, its older servers 5000)."""

ILLEGAL = re.compile(r"[^/\w.\- :]")
DIGEST = 8
"""Hex digits that keep two names apart which would be shortened to the same."""


def legal_name(text: str) -> str:
    """The name of a metric, parameter or tag, changed only where MLflow would refuse it."""
    name = ILLEGAL.sub("_", text)
    if posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        name = name.replace("/", "_").lstrip(".")
    if name == text and 0 < len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:DIGEST]
    return f"{name[: LONGEST_NAME - DIGEST - 1]}.{digest}"


def legal_value(text: str) -> str:
    """The value of a tag or parameter, shortened and without secrets."""
    text = redacted(text.encode("utf-8", "backslashreplace").decode())
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 3]}..."


def legal(values: Mapping[str, str]) -> dict[str, str]:
    """Tags or parameters with legal names and values."""
    return {legal_name(name): legal_value(text) for name, text in values.items()}


def run_tags(study: Study, planned: PlannedSegment, *, parent_run: str | None) -> dict[str, str]:
    """Study, kind, parent, data and commit; `parent_run` is the MLflow run to nest it under."""
    segment = planned.segment
    tags = {
        "study": study.config.study,
        "kind": segment.kind,
        "parent": segment.parent.id if isinstance(segment, Branch) else "",
        "data": segment.stream,
        "mlflow.runName": name_of(planned),
        "mlflow.source.name": "windtunnel",
    }
    if commit := git_commit(study.file.resolve().parent):
        tags["mlflow.source.git.commit"] = commit
    if parent_run:
        tags["mlflow.parentRunId"] = parent_run
    return legal(tags) | tags_of_study(study, planned)


def tags_of_study(study: Study, planned: PlannedSegment) -> dict[str, str]:
    """The experiments of a study that need a segment, and its variant in each."""
    name = study.config.study
    experiments = dict.fromkeys(label.experiment for label in planned.labels)
    tags = {study_tag(name): "yes", f"experiment.{name}": join(experiments)}
    for experiment, variant in planned.variants.items():
        tags[f"variant.{name}.{experiment}"] = variant
    return legal(tags)


def study_tag(study: str) -> str:
    """The tag of every run of a study; its value is `yes`."""
    return legal_name(f"study.{study}")


def study_filter(study: str) -> str:
    """MLflow's search for the runs of a study."""
    return f'tags."{study_tag(study)}" = "yes"'


def run_params(planned: PlannedSegment) -> dict[str, str]:
    """Size, horizon, seed, what a branch changes, and every field of model and recipe."""
    segment, label = planned.segment, planned.labels[0]
    params: dict[str, object] = {
        "size": segment.model.size,
        "seed": label.seed,
        "params": segment.model.params,
        "fork_step": segment.fork_step,
    }
    if isinstance(segment, Branch):
        params |= {"horizon": label.horizon, "updates": planned.steps}
        mixture = mixture_of(segment) or {}
        whole = sum(mixture.values())  # one branch, however its weights were written
        params |= {f"mixture.{name}": f"{mixture[name] / whole:.4g}" for name in sorted(mixture)}
        if segment.objective != "full":
            params["objective"] = segment.objective
        if rate := segment.change(ScheduleChange):
            params |= {f"schedule.{key}": value for key, value in rate.model_dump().items()}
            del params["schedule.kind"]
        if segment.mixture and segment.mixture.ramp:
            params["ramp"] = segment.mixture.ramp
    if (hold := segment.root.hold) is not None:
        params |= {f"hold.{key}": value for key, value in hold.model_dump().items()}
    params |= {f"model.{key}": value for key, value in segment.model.model_dump().items()}
    params |= {f"recipe.{key}": value for key, value in segment.recipe.model_dump().items()}
    return legal({key: str(value) for key, value in params.items()})


@cache
def git_commit(folder: Path) -> str | None:
    """The commit of the repository around `folder`, or None outside one."""
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


TAG = "windtunnel.measured"


def entry(step: int, name: str, of: str = "") -> str:
    """The entry of one validation set's losses after one update, or of a further measurement."""
    return f"{step}:{name}:{of}" if of else f"{step}:{name}"


BY_GFLOPS = "_by_gflops"
"""The end of a metric's name that is logged over compute."""


def _by_entry(
    step: int, name: str, values: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, float]]]:
    """The entries of what one validation set has after one update, with their metrics."""
    nats, bits = values["nats_per_token"], values["bits_per_byte"]
    losses = {f"val/loss_{name}": nats, f"val/loss_{name}{BY_GFLOPS}": nats}
    yield entry(step, name), losses | ({} if bits is None else {f"val/bits_per_byte_{name}": bits})
    if (copying := values.get("copy_gain")) is not None:
        gain, error = copying["gain"], copying["standard_error"]
        gains = {f"val/copy_gain_{name}": gain}
        yield (
            entry(step, name, "copy_gain"),
            gains | ({} if error is None else {f"val/copy_gain_se_{name}": error}),
        )


def known_measurements(tags: Mapping[str, str]) -> set[str]:
    """The entries listed in a run's tags; one that MLflow has cut counts as missing."""
    return {each for text in _parts(tags) for each in text.split(",")}


def with_more(tags: Mapping[str, str], more: Iterable[str]) -> dict[str, str]:
    """The tags to set in order to list more entries."""
    parts = _parts(tags)
    found: dict[str, str] = {}
    number, text = max(len(parts) - 1, 0), parts[-1] if parts else ""
    for each in more:
        if text and len(text) + 1 + len(each) > LONGEST_VALUE:
            number, text = number + 1, ""
        text = f"{text},{each}" if text else each
        found[_name(number)] = text
    return found


def _parts(tags: Mapping[str, str]) -> list[str]:
    parts: list[str] = []
    while (text := tags.get(_name(len(parts)))) is not None:
        parts.append(text)
    return parts


def _name(number: int) -> str:
    return TAG if number == 0 else f"{TAG}.{number}"


log = logging.getLogger(__name__)

POINTS_PER_SEGMENT = 100
"""Mirrored rows of a curve; the whole curve is an artifact. MLflow is slow beyond this."""

BATCH = 1000
"""MLflow's limit of metrics a request."""

GFLOP = 1e9
"""MLflow's steps are whole numbers: compute is logged in GFLOPs."""

TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's pages then show runs and charts first, not traces."""

PARAMS = 100
"""MLflow's limit of parameters a request."""

SEGMENT, MARK = "windtunnel.segment", "windtunnel.synced_step"
OUTCOME, STRIDE = "windtunnel.outcome", "windtunnel.stride"

PARENT = "mlflow.parentRunId"

SUMMARY = "windtunnel.summary"
"""Tag of the numbers that stand in the run list, by study: their mean is over its own sets."""

REPORT = "report"
"""The kind of the run that holds the report."""

GAP = "training is not touched, and `windtunnel sync` fills the gap once it answers"


@dataclass
class Synced:
    """Numbers of runs and metrics that one pass logged."""

    runs: int = 0
    metrics: int = 0


class Mirror:
    """The runs of one study at one location."""

    def __init__(self, study: Study, location: Location) -> None:
        self.study, self.location = study, location
        self._turn = Turn(study.store)
        self._client: Any = None
        self._experiment = ""
        self._experiment_tags: dict[str, str] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._run_of: dict[str, str] = {}

    def sync(self) -> Synced:
        """Log everything in the store that the server lacks.

        Raises:
            TrackingError: The server does not answer, or refuses.
        """
        done = Synced()
        with self._speaking():
            for planned in self.study.plan.segments:
                if self.study.store.segment(planned.id).curve.exists():
                    self._mirror(planned, done)
        return done

    def log_result(
        self,
        kind: str,
        artifacts: list[Path],
        metrics: dict[str, float],
        tags: dict[str, str] | None = None,
    ) -> None:
        """Log one kind of result of the study, such as its report, fit, forecasts or searches.

        The metrics have the modification time of the first artifact, so that a repeated call adds
        nothing.

        Raises:
            TrackingError: The server does not answer, or refuses.
        """
        from mlflow.entities import Metric

        with self._speaking():
            at = int(artifacts[0].stat().st_mtime * 1000)
            run_id = self._run_of.get(kind) or self._create_result_run(kind, at)
            logged = [Metric(legal_name(name), value, at, 0) for name, value in metrics.items()]
            self._log_metrics(run_id, logged)
            for name, text in legal(tags or {}).items():
                if self._tags[kind].get(name) != text:
                    self._tag(kind, name, text)
            for path in artifacts:
                self._client.log_artifact(run_id, str(path))
            self._client.set_terminated(run_id, end_time=at)
            if kind == REPORT:
                self._tag_experiment(
                    note_tags(self._experiment_tags, self._experiment, self._study_name, run_id)
                )

    def experiment_id(self) -> str:
        """MLflow's id of the store's experiment.

        Raises:
            TrackingError: The server does not answer, or refuses.
        """
        with answers(self.location.uri, GAP):
            self._connect()
            return self._experiment

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Hold the turn and a connection; every failure becomes a TrackingError."""
        try:
            with self._turn.taken() as changed_hands, answers(self.location.uri, GAP):
                if changed_hands or self._client is None:
                    self._connect()
                    self._read_runs()
                yield
        except TrackingError:
            self._client = None
            raise

    def _connect(self) -> None:
        create_database(self.location)
        client = connect(self.location.uri)
        experiment = client.get_experiment_by_name(self.location.experiment)
        if experiment is None:
            self._experiment_tags = dict(TRAINING)
            self._experiment = client.create_experiment(
                self.location.experiment,
                artifact_location=self.location.artifacts,
                tags=TRAINING,
            )
        elif not experiment.experiment_id:
            raise TrackingError(
                "not-mlflow",
                f"{self.location.shown}: no MLflow server answers there; {GAP}",
                uri=self.location.shown,
            )
        else:
            refuse_deleted(experiment, self.location.uri)
            self._experiment = experiment.experiment_id
            self._experiment_tags = dict(experiment.tags)
        self._client = client
        self._tag_experiment(view_tags(self._study_name, study_filter(self._study_name)))

    @property
    def _study_name(self) -> str:
        return self.study.config.study

    def _tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set the experiment's tags that differ."""
        for name, value in tags.items():
            if self._experiment_tags.get(name) != value:
                self._client.set_experiment_tag(self._experiment, name, value)
                self._experiment_tags[name] = value

    def _read_runs(self) -> None:
        """Find the run of each segment and result; of several, keep the one that is further."""
        self._run_of, self._tags = {}, {}
        runs: dict[str, list[Any]] = {}
        for run in self._runs():
            tags = run.data.tags
            key = tags.get(SEGMENT)
            if key is None and tags.get("study") == self.study.config.study:
                key = tags.get("kind")
            if key:
                runs.setdefault(key, []).append(run)
        kept_for: dict[str, str] = {}
        for key, same in runs.items():
            run, *doubled = sorted(same, key=_progress, reverse=True)
            self._run_of[key], self._tags[key] = run.info.run_id, dict(run.data.tags)
            kept_for |= {each.info.run_id: run.info.run_id for each in doubled}
        if kept_for:
            self._heal(kept_for)

    def _heal(self, kept_for: dict[str, str]) -> None:
        """Delete duplicate runs, once no run has one of them as its parent."""
        for key, tags in self._tags.items():
            if (parent := tags.get(PARENT)) in kept_for:
                self._tag(key, PARENT, kept_for[parent])
        for run_id in kept_for:
            try:
                self._client.delete_run(run_id)
            except Exception as refused:  # some servers allow writing and not deleting
                log.warning(
                    "%s: %d runs stand there twice and cannot be deleted (%s); the ones that are "
                    "further are mirrored",
                    self.location.shown,
                    len(kept_for),
                    cause_of(refused),
                )
                return
        log.warning(
            "%s: %d runs stood there twice and were deleted in MLflow, which keeps them until "
            "`mlflow gc`",
            self.location.shown,
            len(kept_for),
        )

    def _runs(self) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _mirror(self, planned: PlannedSegment, done: Synced) -> None:
        run_id = self._run_of.get(planned.id)
        if run_id is None:
            run_id = self._create(planned)
            done.runs += 1
        tags = self._tags[planned.id]
        for name, text in tags_of_study(self.study, planned).items():
            if tags.get(name) != text:
                self._tag(planned.id, name, text)
        record = self.study.store.segment(planned.id).record
        if record is None or tags.get(OUTCOME) != _end_mark(record):
            done.metrics += self._mirror_curve(planned, run_id, tags)
        measured = self._mirror_measurements(planned, run_id, tags)
        if measured or legal_name(f"{SUMMARY}.{self._study_name}") not in tags:
            measured += self._mirror_summary(planned, run_id, tags)
        done.metrics += measured
        self._mirror_end(planned, run_id, tags)

    def _create(self, planned: PlannedSegment) -> str:
        from mlflow.entities import Param

        segment = planned.segment
        parent = self._run_of.get(segment.parent.id) if isinstance(segment, Branch) else None
        first = next(self.study.store.segment(planned.id).curve_rows(), None)
        tags = run_tags(self.study, planned, parent_run=parent) | {
            SEGMENT: planned.id,
            MARK: "0",
            STRIDE: str(max(1, planned.steps // POINTS_PER_SEGMENT)),
        }
        started = int(first["time"] * 1000) if first else None
        run = self._client.create_run(self._experiment, start_time=started, tags=tags)
        run_id = str(run.info.run_id)
        params = (Param(key, value) for key, value in run_params(planned).items())
        while some := list(islice(params, PARAMS)):
            self._client.log_batch(run_id, params=some)
        self._run_of[planned.id], self._tags[planned.id] = run_id, tags
        return run_id

    def _mirror_curve(self, planned: PlannedSegment, run_id: str, tags: dict[str, str]) -> int:
        mark, stride = int(tags[MARK]), int(tags[STRIDE])
        folder = self.study.store.segment(planned.id)
        fresh = (row for row in folder.curve_rows() if row["step"] > mark)
        kept = (row for row in fresh if row["step"] % stride == 0 and row["loss"] is not None)
        count = 0
        while rows := list(islice(kept, BATCH // 4)):
            metrics = [metric for row in rows for metric in self._curve_metrics(planned, row)]
            self._client.log_batch(run_id, metrics=metrics)
            self._tag(planned.id, MARK, str(rows[-1]["step"]))
            count += len(metrics)
        return count

    def _curve_metrics(self, planned: PlannedSegment, row: dict[str, Any]) -> list[Any]:
        from mlflow.entities import Metric

        at, tokens = int(row["time"] * 1000), row["tokens"]
        gflops = round(flops_6nd_at(planned.segment, row["step"]) / GFLOP)
        return [
            Metric("train/loss", row["loss"], at, tokens),
            Metric("train/loss_by_gflops", row["loss"], at, gflops),
            Metric("train/lr", row["lr"], at, tokens),
            Metric("train/grad_norm", row["grad_norm"] or 0.0, at, tokens),
        ]

    def _mirror_measurements(
        self, planned: PlannedSegment, run_id: str, tags: dict[str, str]
    ) -> int:
        from mlflow.entities import Metric

        folder = self.study.store.segment(planned.id)
        known = known_measurements(tags)
        fresh = {
            key: (step, numbers)
            for step, sets in folder.measurements.items()
            for name, values in sets.items()
            for key, numbers in _by_entry(step, name, values)
            if key not in known
        }
        if not fresh:
            return 0
        at = int((folder.root / "measurements.json").stat().st_mtime * 1000)
        metrics = []
        for step, numbers in fresh.values():
            tokens = tokens_at(planned.segment, step)
            gflops = round(flops_6nd_at(planned.segment, step) / GFLOP)
            metrics += [
                Metric(legal_name(name), value, at, gflops if name.endswith(BY_GFLOPS) else tokens)
                for name, value in numbers.items()
            ]
        self._log_metrics(run_id, metrics)
        for tag, text in with_more(tags, fresh).items():
            self._tag(planned.id, tag, text)
        return len(metrics)

    def _mirror_summary(self, planned: PlannedSegment, run_id: str, tags: dict[str, str]) -> int:
        """Log the numbers of the run list: the loss at the end, tokens, and 6 N D in GFLOPs.

        They are rounded, since MLflow's list shows every digit.
        """
        from mlflow.entities import Metric

        run = run_of(self.study.store, planned, self.study.plan.sets)
        if run is None or run.loss is None:
            return 0
        numbers = {
            "loss": round(run.loss, 5),
            "tokens": float(run.tokens),
            "gflops": float(f"{run.flops / GFLOP:.4g}"),
        }
        summary = " ".join(map(repr, numbers.values()))
        name = legal_name(f"{SUMMARY}.{self._study_name}")
        if tags.get(name) == summary:
            return 0
        at = int((self.study.store.segment(planned.id).record or {})["written"] * 1000)
        metrics = [Metric(key, value, at, run.tokens) for key, value in numbers.items()]
        self._log_metrics(run_id, metrics)
        self._tag(planned.id, name, summary)
        return len(metrics)

    def _log_metrics(self, run_id: str, metrics: Iterable[Any]) -> None:
        metrics = iter(metrics)
        while some := list(islice(metrics, BATCH)):
            self._client.log_batch(run_id, metrics=some)

    def _mirror_end(self, planned: PlannedSegment, run_id: str, tags: dict[str, str]) -> None:
        folder = self.study.store.segment(planned.id)
        record = folder.record
        if record is None or tags.get(OUTCOME) == _end_mark(record):
            return
        self._client.log_artifact(run_id, str(folder.curve))
        self._client.log_artifact(run_id, str(folder.root / "spec.json"))
        status = "FAILED" if record["outcome"] == "failed" else "FINISHED"
        self._client.set_terminated(run_id, status, end_time=int(record["written"] * 1000))
        self._tag(planned.id, "outcome", record["outcome"])
        self._tag(planned.id, OUTCOME, _end_mark(record))

    def _create_result_run(self, kind: str, at: int) -> str:
        name = self.study.config.study
        found = {"kind": kind, "study": name, "mlflow.runName": f"{name}: {kind}"}
        tags = legal(found) | {study_tag(name): "yes"}
        run = self._client.create_run(self._experiment, start_time=at, tags=tags)
        self._run_of[kind], self._tags[kind] = str(run.info.run_id), tags
        return self._run_of[kind]

    def _tag(self, key: str, name: str, value: str) -> None:
        self._client.set_tag(self._run_of[key], name, value)
        self._tags[key][name] = value


def _progress(run: Any) -> tuple[bool, int, int]:
    """Sort key of how far a run is mirrored; of equals, the older run is greater."""
    tags = run.data.tags
    return OUTCOME in tags, int(tags.get(MARK, 0)), -(run.info.start_time or 0)


def _end_mark(record: dict[str, Any]) -> str:
    return f"{record['outcome']} {record['reached']}"
