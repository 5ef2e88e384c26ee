"""Who computed a study: versions, machine, the executions of its trunks, and how long it took."""

import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from windtunnel import __version__
from windtunnel.trials.gather import gather
from windtunnel.trials.study import Study


def provenance(study: Study) -> dict[str, Any]:
    """Plain facts for a reader; nothing here decides a number."""
    rows = gather(study.store, study.plan)
    executions: Counter[str] = Counter()
    for planned in study.plan.trunks:
        record = study.store.segment(planned.id).execution
        if record is not None:
            known = [key for key in ("device", "precision", "kernels", "threads") if key in record]
            said = (f"{key}={record[key]}" for key in known)
            executions[" ".join(said)] += 1
    return {
        "windtunnel": __version__,
        "torch": version("torch"),
        "python": platform.python_version(),
        "processor": _processor(),
        "stream": study.dataset.fingerprint if study.dataset else None,
        "trunks_by_execution": dict(executions),
        "segments": len(rows),
        "training_seconds": round(sum(row["seconds"] for row in rows), 1),
        "flops_spent": sum(row["flops_spent"] for row in rows),
    }


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
