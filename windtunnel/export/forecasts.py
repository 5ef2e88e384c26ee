"""What loss to expect of the target: by validation set, and at ends that come earlier."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from windtunnel.errors import ConfigError, FitError
from windtunnel.export.estimate import Estimate
from windtunnel.export.fitted import unless_failed
from windtunnel.export.handoff import Kept, Steps, Warned
from windtunnel.laws import Fit, fit
from windtunnel.spec.config import ScheduleConfig
from windtunnel.trials.forecast import as_table, law_rows
from windtunnel.trials.gather import Row

MEAN = "mean"
"""The unweighted mean over the validation sets: the loss that a study's law is fitted to."""
EARLY = (0.25, 0.5)
"""Shares of the run at which a decay branch checks the forecast before the run is over."""


@dataclass(frozen=True, eq=False)
class SetFits:
    """The fit of each validation set beside that of their mean, and why others have none."""

    fits: Mapping[str, Fit]
    warnings: list[Warned]


def fits_by_set(mean: Fit, rows: list[Row], *, accept: tuple[str, ...]) -> SetFits:
    """The law of the mean's fit, fitted to each validation set of the same experiments.

    One set alone is the mean. Of a fit that was made with options of its own the mean alone is
    known.

    Raises:
        ConfigError: A set is called as the mean is.
        FitError: A set's fit has failed, and `accept` does not name how.
    """
    names = sorted({name for row in rows for name in row if name.startswith("loss_")})
    if f"loss_{MEAN}" in names:
        raise ConfigError(
            f"a validation set is called {MEAN!r}, as the mean over the sets is: give its source "
            "another `name:` in the study file"
        )
    if mean.inputs.get("options"):
        return SetFits({MEAN: mean}, [])
    experiments = set(mean.inputs["experiments"].split("+"))
    fits, warnings = {MEAN: mean}, []
    for column in names:
        name = column.removeprefix("loss_")
        if len(names) == 1:
            fits[name] = mean
            continue
        chosen = [
            row | {"loss": row[column]}
            for row in law_rows(rows)
            if experiments & set(row["experiment"].split("+")) and row.get(column) is not None
        ]
        try:
            fits[name] = fit(as_table(chosen), level=mean.level).made_from(mean.inputs)
        except FitError as refused:
            warnings.append(
                Warned(code="set-not-forecast", message=f"validation set {name}: {refused}")
            )
            continue
        what = f"validation set {name}"
        warnings += unless_failed(fits[name], what=what, accept=accept, said=f"{what}: ")
    return SetFits(fits, warnings)


def forecast_of(fits: Mapping[str, Fit], *, params: int, tokens: int) -> dict[str, Estimate]:
    """Prediction interval of one new run, by validation set; the mean first."""
    return {name: Estimate.of(each.predict(params, tokens)) for name, each in fits.items()}


def kept_of(
    schedule: ScheduleConfig, steps: Steps, mean: Fit, *, params: int, batch_tokens: int
) -> tuple[Kept, ...]:
    """Checkpoints to keep: where early decays leave the trunk, where the decay starts, the end."""
    found = []
    for share in EARLY:
        end = math.ceil(share * steps.end)
        start = end - max(1, round(schedule.decay_share * end))
        if schedule.decay_share == 1.0 or start < steps.warmup:
            continue  # too early to decay
        loss = mean.predict(params, end * batch_tokens)
        found.append(
            Kept(
                step=start,
                tokens=start * batch_tokens,
                why=f"a decay from here ends at {share:.0%} of the run: an early check of the "
                "forecast",
                horizon_tokens=end * batch_tokens,
                horizon_step=end,
                loss=Estimate.of(loss),
            )
        )
    found.append(
        Kept(
            step=steps.decay_start,
            tokens=steps.decay_start * batch_tokens,
            why="the decay starts: a longer run, other data or another decay leave from here",
        )
    )
    found.append(Kept(step=steps.end, tokens=steps.end * batch_tokens, why="the end"))
    return tuple(sorted(found, key=lambda kept: kept.step))
