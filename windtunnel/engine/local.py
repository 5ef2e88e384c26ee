"""The local engine: runs the whole graph in this process, one segment at a time."""

import time
from pathlib import Path

from windtunnel.engine.graph import Graph
from windtunnel.engine.worker import Report, Worker
from windtunnel.runs.plan import PlannedSegment

IDLE_SECONDS = 0.2
"""Poll interval while the graph waits for another process."""


def run(graph: Graph, config_path: Path) -> None:
    """Run every ready segment until the graph is idle."""
    worker = Worker(config_path)
    try:
        while not graph.idle:
            planned = graph.next_ready()
            if planned is not None:
                _run_one(worker, graph, planned)
            elif not graph.idle:
                time.sleep(IDLE_SECONDS)
    finally:
        worker.close()


def _run_one(worker: Worker, graph: Graph, planned: PlannedSegment) -> None:
    """Make one attempt at a segment, from its last checkpoint."""
    try:
        report = _run_to_end(worker, graph, planned)
    except Exception as problem:
        graph.attempt_failed(planned.id, f"{type(problem).__name__}: {problem}")
        return
    graph.report(planned.id, report["outcome"], report.get("error"), halt=report.get("halt"))


def _run_to_end(worker: Worker, graph: Graph, planned: PlannedSegment) -> Report:
    while True:
        report = worker.run(planned, trunk_tokens=graph.trunk_tokens(planned))
        if report["outcome"] is not None:
            return report
        graph.forked(planned.id, report["step"])
