"""The MLflow mirror of a study: its results as runs, and the thread that updates it in a sweep."""

import json
import sys
import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from windtunnel.errors import TrackingError, WindtunnelError, boundary
from windtunnel.redact import redacted
from windtunnel.runs.files import read_json, write_if_changed
from windtunnel.runs.schemas import COORDINATE_CHECK
from windtunnel.runs.search.summary import outcome_json
from windtunnel.runs.search.winner import SearchOutcome, search_outcomes
from windtunnel.runs.study import Study
from windtunnel.runs.study_files import FILE as HANDOFFS
from windtunnel.runs.study_files import read_handoffs
from windtunnel.tracking import Mirror, locate

if TYPE_CHECKING:
    from collections.abc import Callable


def mirror_of(study: Study) -> Mirror:
    """The mirror that a study configures."""
    return Mirror(study, locate(study.store, study.config.tracking))


def log_results(mirror: Mirror) -> None:
    """Log report, forecasts, fits, checks, searches, handoffs and records, each as a run.

    `windtunnel.findings.load_records` loads the records by the name of the study.
    """
    from windtunnel.findings import records_of, write_records
    from windtunnel.laws import Fit

    folder = mirror.study.folder
    for kind, name in (("report", "report.html"), ("forecast", "forecasts.jsonl")):
        if (folder / name).exists():
            mirror.log_result(kind, [folder / name], {})
    for path in sorted(folder.glob("fit*.json")):
        fit = Fit.read(path)
        metrics = dict(fit.coefficients)
        for name, (low, high) in fit.intervals.items():
            metrics |= {f"{name}_low": low, f"{name}_high": high}
        mirror.log_result(path.stem, [path], metrics)
    for path in sorted(folder.glob("coordinate-check.*.json")):
        check = read_json(path, COORDINATE_CHECK) or {}
        slopes = {_metric(site["name"]): site["slope"] for site in check["sites"]}
        mirror.log_result(path.stem, [path], slopes, {"passed": str(check["passed"])})
    for outcome in search_outcomes(mirror.study):
        _log_search(mirror, outcome)
    log_handoffs(mirror)
    records = write_records(records_of(mirror.study), folder / "records")
    mirror.log_result("records", records, {})


def log_handoffs(mirror: Mirror) -> None:
    """Log all Handoffs of a study as one run, with the size and the forecast of the last."""
    folder = mirror.study.folder
    handed = read_handoffs(folder)
    if not handed:
        return
    last = handed[-1]["handoff"]
    metrics = {name: float(last["counts"][name]) for name in ("params", "tokens", "flops_6nd")}
    for name, estimate in last["forecast"].items():
        ends = (("", "value"), ("_low", "low"), ("_high", "high"))
        metrics |= {
            f"loss_{name}{end}": estimate[key] for end, key in ends if estimate[key] is not None
        }
    mirror.log_result("handoff", [folder / HANDOFFS], metrics, {"target": handed[-1]["target"]})


def _metric(site: str) -> str:
    """The metric name of the slope of a site; MLflow allows no comma."""
    return f"slope/{site.replace(',', '')}"


def _log_search(mirror: Mirror, outcome: SearchOutcome) -> None:
    """Log a search: losses and noise as metrics, the values of the winner as tags, all as JSON.

    The file is rewritten only if it changes, because its time is the time of the metrics.
    """
    name = f"search.{outcome.experiment.name}"
    path = mirror.study.folder / f"winner.{outcome.experiment.name}.json"
    document = json.loads(json.dumps(outcome_json(mirror.study, outcome)))
    write_if_changed(path, document, seal=False)
    metrics = {"trials": float(len(outcome.results)), "flops_spent": outcome.flops_spent}
    metrics |= {f"trials_{each}": float(count) for each, count in outcome.counts.items()}
    tags = {}
    if outcome.winner is not None and outcome.winner.mean is not None:
        metrics["loss"] = outcome.winner.mean
        if ends := outcome.winner_interval():
            metrics |= {"loss_low": ends[0], "loss_high": ends[1]}
        if outcome.winner.longer_mean is not None:
            metrics["loss_longer"] = outcome.winner.longer_mean
        if outcome.noise is not None:
            metrics["noise"] = outcome.noise
        values = outcome.winner.result.trial.values
        tags = {"winner": str(outcome.winner.result.trial.number)}
        tags |= {f"winner.{axis}": str(value) for axis, value in values.items()}
    mirror.log_result(name, [path], metrics, tags)


MIRROR_SECONDS = 20.0
"""Between two passes, so that the cores are left to training."""

EXIT_SECONDS = 30.0
"""Most time to wait for the running pass when training has ended."""


class TrackerThread(AbstractContextManager["TrackerThread"]):
    """Mirrors `study()` to MLflow in a thread while the body runs, if there is a mirror.

    An offline server is reported once and not waited for. A pass ends at its first failed request,
    and the last pass is skipped if the one before it failed.
    """

    def __init__(self, mirror: "Mirror | None", study: "Callable[[], Study]") -> None:
        self.mirror, self.study = mirror, study
        self._is_offline = self._is_reported = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._passes, name="mirror", daemon=True)

    def __enter__(self) -> Self:
        if self.mirror is not None:
            self._thread.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._ended.set()
        if self.mirror is not None:
            self._thread.join(timeout=EXIT_SECONDS)
            if self._thread.is_alive():
                self._report(f"{self.mirror.location.shown} is slow; `windtunnel sync` continues")

    def finish(self) -> None:
        """Mirror what is missing, and the results."""
        if self.mirror is not None and not self._is_offline:
            self._pass(results=True)

    def _passes(self) -> None:
        while not self._ended.wait(MIRROR_SECONDS):
            self._pass(results=False)

    def _pass(self, *, results: bool) -> None:
        assert self.mirror is not None
        self.mirror.study = self.study()
        try:
            with boundary(self.mirror.location.shown, "`windtunnel sync` continues", TrackingError):
                self.mirror.sync()
                if results:
                    log_results(self.mirror)
            self._is_offline = False
        except WindtunnelError as error:  # training continues
            self._report(str(error))

    def _report(self, text: str) -> None:
        if not self._is_reported:
            print(f"tracking: {redacted(text)}", file=sys.stderr)
        self._is_offline = self._is_reported = True
