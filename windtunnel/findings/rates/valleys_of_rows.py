"""From the rows of a grid to valleys: cells, what diverged, and the law `lr-valley` on the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from windtunnel.errors import FitError
from windtunnel.findings.rates.valleys import Along, Valley, Valleys, fit_pair
from windtunnel.findings.rates.variants import Variant
from windtunnel.findings.records import Records
from windtunnel.laws import Fit, Interval, Table, fit
from windtunnel.laws.interval import quantiles
from windtunnel.parametrization import Role, role_scale
from windtunnel.spec.experiments import GridExperiment
from windtunnel.trials.forecast import law_rows
from windtunnel.trials.gather import Row

MIN_RATES = 3
"""Of a valley: the lowest one needs a neighbour to each side."""


def valleys_of(records: Records, rows: Sequence[Row], *, name: str, along: Along) -> Valleys:
    """One variant's valleys.

    A rate at which some seed diverged is no rate to use: it counts as diverged, and the seeds that
    survived do not enter the fit.

    Raises:
        FitError: fewer than two places have three rates that trained.
    """
    runs = law_rows(list(rows))
    blown = [row for row in rows if row["outcome"] == "diverged"]
    places = sorted({row[along] for row in runs})
    gone = {at: _diverged(runs, blown, along=along, at=at) for at in places}
    sound = [row for row in runs if row["lr"] not in gone[row[along]]]
    kept = [at for at in places
            if len({row["lr"] for row in sound if row[along] == at}) >= MIN_RATES]  # fmt: skip
    diverged = len({row["trunk"] for row in blown})
    if len(kept) < 2:
        raise FitError(
            f"{name or 'no valley'}: fewer than two places along {along} have {MIN_RATES} rates "
            f"that trained; {diverged} runs diverged"
        )
    sound = [row for row in sound if row[along] in kept]
    table = Table(
        params=[row[along] for row in sound],
        lr=[row["lr"] for row in sound],
        loss=[row["loss"] for row in sound],
        trunk=[row["trunk"] for row in sound],
    )
    fitted, why_not = None, ""
    try:
        fitted = fit(table, "lr-valley", holdout=None)
    except FitError as refused:
        why_not = str(refused)
    best = {} if fitted is None else _optima(table, fitted)
    details = {} if fitted is None else {float(s["params"]): s for s in fitted.details["sizes"]}
    return Valleys(
        name=name,
        along=along,
        table=table,
        valleys=tuple(
            _valley(
                records,
                [row for row in runs if row[along] == at],
                along=along,
                diverged=gone[at],
                best=best.get(at),
                details=details.get(at, {}),
            )
            for at in kept
        ),
        fitted=fitted,
        why_not=why_not,
        runs_diverged=diverged,
        left_out=tuple(
            _label(next(row for row in runs if row[along] == at), along)
            for at in places
            if at not in kept
        ),
    )


def read_variants(
    records: Records, variants: Sequence[Variant], *, along: Along
) -> tuple[tuple[Valleys, ...], tuple[str, ...]]:
    """The valleys of those that have any, and why the others have none."""
    found, left_out = [], []
    for each in variants:
        try:
            found.append(valleys_of(records, each.rows, name=each.name, along=along))
        except FitError as refused:
            left_out.append(str(refused))
    return tuple(found), tuple(left_out)


def missing_runs(records: Records, experiment: GridExperiment) -> int:
    """How many planned runs have no row yet: neither a loss nor a divergence."""
    sizes = experiment.sizes_named or records.config.model.sizes
    axes = [values for axis, values in experiment.axes.items() if axis != "size"]
    cells = int(np.prod([len(sizes), *map(len, axes)]))
    planned = cells * len(experiment.seeds) * len(experiment.horizons)
    rows = records.of(experiment.name, decayed=False)
    diverged = {row["trunk"] for row in rows if row["outcome"] == "diverged"}
    done = [row for row in law_rows(rows) if row["trunk"] not in diverged]
    return max(planned - len(done) - len(diverged) * len(experiment.horizons), 0)


def _diverged(
    runs: Sequence[Row], blown: Sequence[Row], *, along: Along, at: float
) -> frozenset[float]:
    """Rates at which some run of this valley diverged.

    Along tokens a trunk that diverged takes with it every length that it had not finished.
    """
    if along != "tokens":
        return frozenset(row["lr"] for row in blown if row[along] == at)
    done = {row["trunk"] for row in runs if row["tokens"] == at}
    return frozenset(row["lr"] for row in blown if row["trunk"] not in done and row["tokens"] <= at)


def _optima(table: Table, fitted: Fit) -> dict[float, Interval]:
    """The optimum of every valley that has one, with an interval of its own."""
    used = [size for size in fitted.details["sizes"] if size["used"]]
    places = [float(size["params"]) for size in used]
    found = {}
    for k, at in enumerate(places):
        pair = fit_pair(table, at, places[k + 1 if k + 1 < len(places) else k - 1])
        drawn = pair.form.values(pair.draws, np.array([[at]]))[:, 0]
        found[at] = Interval(float(used[k]["optimum"]), *quantiles(drawn, fitted.level))
    return found


def _valley(
    records: Records,
    rows: Sequence[Row],
    *,
    along: Along,
    diverged: frozenset[float],
    best: Interval | None,
    details: Mapping[str, Any],
) -> Valley:
    lr, loss = np.array([[row["lr"], row["loss"]] for row in rows], np.float64).T
    rates = np.unique([rate for rate in lr if rate not in diverged])
    means = np.array([loss[lr == rate].mean() for rate in rates])
    place = int(np.argmin(means))
    edges = {0: "at most", rates.size - 1: "at least"}
    first, base = rows[0], records.config.recipe
    ratio = first["width"] / first.get("recipe.base_width", base.base_width)
    hidden = role_scale(
        Role.HIDDEN,
        width_ratio=ratio,
        parametrization=first.get("recipe.parametrization", base.parametrization),
        weight_decay_rule=base.weight_decay_rule,
    )
    used = best is not None
    return Valley(
        at=float(first[along]),
        label=_label(first, along),
        params=float(first["params"]),
        tokens=float(first["tokens"]),
        hidden_scale=hidden.lr,
        width_ratio=ratio,
        lr=lr,
        loss=loss,
        rates=rates,
        means=means,
        diverged=tuple(sorted(diverged)),
        # The law's cells are these rates: both leave out where a run diverged.
        near=rates[np.array(details["near_minimum"], bool)] if used else np.empty(0),
        best=best,
        bound=None if used else edges.get(place),
        lowest=float(details["lowest_loss"]) if used else float(means[place]),
        curvature=float(details["curvature"]) if used else np.nan,
    )


def _label(row: Row, along: Along) -> str:
    match along:
        case "params":
            return str(row["size"])
        case "tokens":
            return str(row["horizon"])
        case "batch_tokens":
            return f"batch {row['batch_tokens']}"
    return f"{along} {row[along]}"
