"""`windtunnel sync` and `windtunnel ui`."""

import json
import signal
from pathlib import Path

from windtunnel.errors import TrackingError
from windtunnel.redact import HIDDEN
from windtunnel.runs.files import read_json, write_if_changed
from windtunnel.runs.schemas import COORDINATE_CHECK
from windtunnel.runs.search.summary import outcome_json
from windtunnel.runs.search.winner import SearchOutcome, search_outcomes
from windtunnel.runs.study import Study, open_study
from windtunnel.runs.study_files import FILE as HANDOFFS
from windtunnel.runs.study_files import read_handoffs
from windtunnel.tracking import Location, Mirror, locate, serve
from windtunnel.tracking.mlflow import kind_of
from windtunnel.tracking.server import link, stop, wait_until_ready


def mirror_of(study: Study) -> Mirror:
    """The mirror that a study file asks for."""
    return Mirror(study, locate(study.store, study.config.tracking))


def log_results(mirror: Mirror) -> None:
    """Put report, forecasts, fits, checks, searches, handoffs and records into runs of their own.

    A notebook loads the records by the study's name (`windtunnel.findings.load_records`).
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
    """All Handoffs of the study in one run, with the last one's size and forecast."""
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
    """A site's slope under a name that MLflow takes."""
    return f"slope/{site.replace(',', '')}"


def _log_search(mirror: Mirror, outcome: SearchOutcome) -> None:
    """One search: losses and noise as metrics, the winner's values as tags, all of it as JSON.

    The file is rewritten only when it changes, for its time is that of the metrics.
    """
    name = f"search.{outcome.experiment.name}"
    path = mirror.study.folder / f"winner.{outcome.experiment.name}.json"
    found = json.loads(json.dumps(outcome_json(mirror.study, outcome)))
    write_if_changed(path, found, seal=False)
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


def sync_study(file: Path) -> None:
    """Mirror everything that is missing, and say how much that was."""
    mirror = mirror_of(open_study(file))
    done = mirror.sync()
    log_results(mirror)
    print(f"{mirror.location.shown}: {done.runs} new runs, {done.metrics} new metrics")


def serve_study(file: Path, *, port: int) -> None:
    """Serve the database on loopback until interrupted; a server of the user's is linked to."""
    study = open_study(file)
    mirror = mirror_of(study)
    experiment = mirror.experiment_id()
    location = mirror.location
    match kind_of(location.uri):
        case "http":
            base = location.shown.replace(f"{HIDDEN}@", "").rstrip("/")
            print(link(base, experiment, study.config.study))
        case "other":
            print(f"{location.shown} has pages of its own: open experiment {location.experiment}")
        case _:
            _serve(location, link(f"http://127.0.0.1:{port}", experiment, study.config.study), port)


def _serve(location: Location, address: str, port: int) -> None:
    server = serve(location, port=port)
    try:
        wait_until_ready(server, port=port)
    except TrackingError:
        stop(server)
        raise
    print(address, flush=True)
    print("Ctrl-C ends the server", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        stop(server)
