"""What was handed over stays with the study: a copy of every Handoff, for the report and MLflow."""

import json
from pathlib import Path

from windtunnel.export.handoff import Handoff
from windtunnel.trials.store import append_line
from windtunnel.trials.study import Study

LOG = "handoffs.jsonl"


def keep_handoff(study: Study, handoff: Handoff, *, target: str) -> Path:
    """Append the Handoff to the study's log, which is never rewritten; where that is.

    Raises:
        StoreError: Disk full, or no permission.
    """
    path = study.folder / LOG
    append_line(path, {"target": target, "handoff": json.loads(handoff.to_json())})
    return path
