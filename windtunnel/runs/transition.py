"""A transition to copying between the runs of a ladder and what it forecasts, and what to do."""

from collections.abc import Iterable, Sequence

import numpy as np

from windtunnel.config.study import LadderExperiment
from windtunnel.errors import Diagnostic
from windtunnel.laws.table import Floats
from windtunnel.laws.transition import CopyTrend, after, before, within
from windtunnel.runs.forecast import as_table, law_runs
from windtunnel.runs.plan import Plan
from windtunnel.runs.run import Run

AXES = ("params", "tokens")
Point = tuple[float, float]
"""Params and tokens of a run."""


def transition_of(
    ladder: Sequence[Run], targets: Sequence[Run], points: Iterable[Point] = ()
) -> Diagnostic | None:
    """The warning that a ladder lies on both sides of a transition, or its targets on the other.

    Args:
        ladder: Runs that a law is fitted to.
        targets: Runs that it forecasts, as far as they are finished. If one has a copy gain, it
            decides; else the trend of the ladder does.
        points: Where it forecasts.
    """
    if not ladder:
        return None
    table = as_table(ladder)
    if table.copying is None:
        return None
    if (found := within(table)) is not None:
        return found
    if measured := [run for run in targets if run.copy_gain is not None]:
        return _beyond(table.copying, as_table(measured).copying)
    trend = CopyTrend.of(table)
    if trend is None:
        return None
    domain = {name: (float(table[name].min()), float(table[name].max())) for name in AXES}
    found_ahead = (each for point in points for each in trend.ahead(domain, *point))
    return next(found_ahead, None)


def _beyond(ladder: Floats, targets: Floats | None) -> Diagnostic | None:
    """The warning that targets lie after a transition and their ladder before it."""
    if targets is None or not before(ladder).any() or not after(targets).any():
        return None
    return Diagnostic(
        "transition",
        f"{after(targets).sum()} of {len(targets)} forecast runs lie after the transition to "
        f"copying (copy gain up to {np.nanmax(targets[:, 0]):.3f} nats) and their ladder before it "
        f"(up to {np.nanmax(ladder[:, 0]):.3f}): the loss falls faster between them than by its "
        "law",
        where="target",
        before=int(before(ladder).sum()),
        after=int(after(targets).sum()),
        rows=len(ladder),
        highest=float(np.nanmax(ladder[:, 0])),
        target=float(np.nanmax(targets[:, 0])),
    )


def ladder_warnings(
    experiments: Iterable[LadderExperiment], plan: Plan, runs: Iterable[Run]
) -> tuple[Diagnostic, ...]:
    """What the runs so far tell of the ladder of each experiment, with the ladder to choose."""
    finished = law_runs(runs)
    found = []
    for experiment in experiments:
        own = [run for run in finished if run.is_of(experiment.name)]
        held_out = [
            (float(planned.segment.model.params), float(planned.tokens_at_end))
            for planned in plan.branches
            if planned.held_out
            and any(label.experiment == experiment.name for label in planned.labels)
        ]
        ladder = [run for run in own if not run.held_out]
        warning = transition_of(ladder, [run for run in own if run.held_out], held_out)
        if warning is not None:
            found.append(_advised(experiment.name, warning, own))
    return tuple(found)


def _advised(experiment: str, warning: Diagnostic, runs: Sequence[Run]) -> Diagnostic:
    """The warning of one experiment with the horizons at which all runs so far lie on one side."""
    known = [run for run in runs if run.copy_gain is not None]
    gains = as_table(known).copying
    assert gains is not None  # the warning rests on them
    tokens = np.array([run.tokens for run in known])
    earlier, later = tokens[before(gains)], tokens[after(gains)]
    up_to = earlier[earlier < later.min()] if later.size else earlier
    onward = later[later > earlier.max()] if earlier.size else later
    values = {
        "last_before": int(up_to.max()) if up_to.size else None,
        "first_after": int(onward.min()) if onward.size else None,
    }
    first = "longer" if values["first_after"] is None else f"{values['first_after']:.3g} tokens on"
    last = "shorter" if values["last_before"] is None else f"up to {values['last_before']:.3g}"
    advice = (
        f"Choose a ladder on one side: with its target before the transition (horizons {last}), or "
        f"with every run after it: horizons {first}, a longer context, subwords in place of bytes, "
        "or more layers, with which copying forms earlier (docs/fit.md)"
    )
    advised = Diagnostic("transition", f"{warning.message}. {advice}", **warning.values, **values)
    return advised.at(f"experiment {experiment!r}", experiment=experiment)
