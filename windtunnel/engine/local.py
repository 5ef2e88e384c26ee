"""The local engine: the whole graph in this process, one segment at a time."""

import time
from pathlib import Path

from windtunnel.engine.graph import Graph
from windtunnel.engine.worker import Report, Worker
from windtunnel.trials.plan import PlannedSegment

IDLE_SECONDS = 0.2
"""Between two questions to a graph that waits for another process."""


def run(graph: Graph, orders: Path, *, retries: int) -> None:
    """Run every segment that becomes ready, until the graph is idle."""
    worker = Worker(orders)
    try:
        while not graph.idle:
            planned = graph.next_ready()
            if planned is not None:
                _run_one(worker, graph, planned, retries)
            elif not graph.idle:
                time.sleep(IDLE_SECONDS)
    finally:
        worker.close()


def _run_one(worker: Worker, graph: Graph, planned: PlannedSegment, retries: int) -> None:
    """One segment to its end, every attempt from what the store holds."""
    for attempt in range(retries + 1):
        try:
            report = _to_its_end(worker, graph, planned)
        except Exception as problem:
            if attempt == retries:
                graph.give_up(planned.id, f"{type(problem).__name__}: {problem}")
            continue
        graph.report(planned.id, report["outcome"], report.get("error"), halt=report.get("halt"))
        return


def _to_its_end(worker: Worker, graph: Graph, planned: PlannedSegment) -> Report:
    while True:
        report = worker.run(planned, trunk_tokens=graph.trunk_tokens(planned))
        if report["outcome"] is not None:
            return report
        graph.forked(planned.id, report["step"])
