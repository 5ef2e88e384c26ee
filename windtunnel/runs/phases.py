"""The phases of a study's experiments: runs, then the forecast, then the size that was held out."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from windtunnel.runs.forecast import read_forecasts
from windtunnel.runs.study import Study

State = Literal["waits", "runs", "held-out runs", "done"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """How far one experiment is.

    Attributes:
        experiment: Its name.
        kind: Its kind.
        state: `waits` for another experiment, `runs`, `held-out runs` once only runs that were
            held out are left, or `done`.
        ended: Number of runs that ended; without those held out.
        planned: Number of runs, those that a search is yet to suggest included.
        held_out_ended: Number of held-out runs that ended.
        held_out: Number of held-out runs.
        forecast: Unix time at which the held-out runs were forecast; None before.
    """

    experiment: str
    kind: str
    state: State
    ended: int
    planned: int
    held_out_ended: int
    held_out: int
    forecast: float | None

    def text(self) -> str:
        """`law: 24 of 40 runs; no forecast yet; held out: 0 of 10 runs`."""
        parts = [f"{self.experiment}: {self.ended} of {self.planned} runs"]
        if self.held_out:
            written = self.forecast and time.strftime("%H:%M", time.localtime(self.forecast))
            parts.append(f"forecast written {written}" if written else "no forecast yet")
            parts.append(f"held out: {self.held_out_ended} of {self.held_out} runs")
        return "; ".join(parts)


def phases(study: Study, ended: Collection[str]) -> tuple[Phase, ...]:
    """The phase of each experiment, in the order of the study.

    Args:
        study: With the plan of all projected trials.
        ended: Ids of the segments that finished or diverged.
    """
    # By their runs and not by the experiment's name, which the first versions did not write.
    forecasts = [
        ({point["segment"] for point in each["points"]}, float(each["written"]))
        for each in read_forecasts(study.folder)
    ]
    found = []
    for experiment in study.config.experiments:
        name = experiment.name
        held, others = list[str](), list[str]()
        for branch in study.expected_plan.branches:
            labels = [label for label in branch.labels if label.experiment == name]
            if any(not label.stage for label in labels):
                (held if all(label.held_out for label in labels) else others).append(branch.id)
        done, held_done = (sum(each in ended for each in ids) for ids in (others, held))
        state: State = "runs"
        if name in study.waits_for:
            state = "waits"
        elif done == len(others):
            state = "done" if held_done == len(held) else "held-out runs"
        found.append(
            Phase(
                experiment=name,
                kind=experiment.kind,
                state=state,
                ended=done,
                planned=len(others),
                held_out_ended=held_done,
                held_out=len(held),
                forecast=max(
                    (written for runs, written in forecasts if held and runs.issuperset(held)),
                    default=None,
                ),
            )
        )
    return tuple(found)


def current(found: Collection[Phase]) -> tuple[Phase, ...]:
    """The phases that are neither done nor waiting."""
    return tuple(each for each in found if each.state not in {"done", "waits"})
