"""What MLflow shows of a store's experiment: the columns of its run list, and its description.

MLflow 3 keeps a shared view of the run list as an experiment tag, which `viewStateShareKey` in the
address opens. The description links the runs and the report of every study.
"""

import hashlib
import json
from collections.abc import Mapping
from urllib.parse import quote

VIEW = "mlflow.sharedViewState."
NOTE = "mlflow.note.content"
WRITTEN = "windtunnel.note"
"""Tag with the hash of the description that we wrote: one that a user has edited stays."""
REPORT_RUN = "windtunnel.report."
"""Tag of a study's run with the report, behind it the name of the study."""

COLUMNS = (
    "metrics.`loss`",
    "params.`params`",
    "metrics.`tokens`",
    "metrics.`gflops`",
    "params.`recipe.lr`",
    "params.`recipe.batch_tokens`",
)
"""Columns of the run list: loss at the end, N, D, 6 N D, learning rate, batch."""


LONGEST_KEY = 200

TRAINING_PAGES = "workflowType=machine_learning"
"""Makes MLflow's pages those of training, not of traces; earlier versions ignore it."""


def view_key(study: str) -> str:
    """The name of a study's view, within MLflow's limit of a tag's name."""
    return study if len(study) <= LONGEST_KEY else hashed(study)


def view_query(study: str) -> str:
    """The query of an address that opens the run list with a study's view."""
    return f"viewStateShareKey={quote(view_key(study), safe='')}&{TRAINING_PAGES}"


def view_tags(study: str, search: str) -> dict[str, str]:
    """The tag of a study's view of the run list, by the study's name."""
    state = {
        "searchFilter": search,
        "selectedColumns": list(COLUMNS),
        "columnOrder": [],
        "columnWidths": {},
        "runsHidden": [],
        "runsPinned": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
    }
    return {f"{VIEW}{view_key(study)}": json.dumps(state)}


def note_tags(tags: Mapping[str, str], experiment: str, study: str, run: str) -> dict[str, str]:
    """The tags that put a study's report into the experiment's description.

    Args:
        tags: those that the experiment has.
        experiment: MLflow's id of it.
        study: the name of the study.
        run: MLflow's id of the run with the report.
    """
    reports = {
        name.removeprefix(REPORT_RUN): value
        for name, value in tags.items()
        if name.startswith(REPORT_RUN)
    } | {view_key(study): run}
    runs = f"#/experiments/{experiment}/runs"
    note = "\n".join(
        f"- **{name}**: [report]({runs}/{reports[name]}/artifacts/report.html), "
        f"[runs]({runs}?{view_query(name)})"
        for name in sorted(reports)
    )
    found = {f"{REPORT_RUN}{view_key(study)}": run}
    if NOTE in tags and tags.get(WRITTEN) != hashed(tags[NOTE]):
        return found
    return found | {NOTE: note, WRITTEN: hashed(note)}


def hashed(text: str) -> str:
    """16 hex digits of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
