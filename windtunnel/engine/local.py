"""The local engine: the whole graph in this process, one segment at a time."""

from pathlib import Path

from windtunnel.engine.graph import Graph
from windtunnel.engine.worker import Worker
from windtunnel.trials.run import fail


def run(graph: Graph, orders: Path, *, retries: int) -> dict[str, str]:
    """Run every segment that becomes ready; the last error of each that failed, by id."""
    errors: dict[str, str] = {}
    worker = Worker(orders)
    try:
        while (planned := graph.next_ready()) is not None:
            outcome = _run_one(worker, graph, planned.id, retries, errors)
            graph.report(planned.id, outcome)
    finally:
        worker.close()
    return errors


def _run_one(
    worker: Worker, graph: Graph, segment_id: str, retries: int, errors: dict[str, str]
) -> str:
    for attempt in range(retries + 1):
        try:
            while True:
                report = worker.run(segment_id)
                if report["outcome"] is not None:
                    break
        except Exception as problem:
            errors[segment_id] = f"{type(problem).__name__}: {problem}"
            if attempt == retries:
                fail(graph.store.segment(segment_id), problem)
            continue
        if report["outcome"] == "interrupted":
            graph.stopping = True
        if "error" in report:
            errors[segment_id] = report["error"]
        return str(report["outcome"])
    return "failed"
