"""The entry points `fit` and `predict`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from windtunnel.errors import ColumnError, ConfigError, Diagnostic, FitError, did_you_mean
from windtunnel.laws.auto.needs import require_rows
from windtunnel.laws.band import Fixed, band_of, middle_of
from windtunnel.laws.conditions import Condition, whole_trunks
from windtunnel.laws.forms import Law
from windtunnel.laws.interval import Interval, Intervals
from windtunnel.laws.powers import Power2
from windtunnel.laws.registry import OF_CURVES, TWO_STEP, law_named, needs_of
from windtunnel.laws.regression import METHODS, Method, Settings, fit_optima, regress
from windtunnel.laws.result import Fit
from windtunnel.laws.solver import ObjectiveName
from windtunnel.laws.table import COPYING, NUMBERS, Floats, Table, mixed_decay
from windtunnel.laws.transition import CopyTrend, within
from windtunnel.laws.two_step.fitting import fit_two_step
from windtunnel.laws.two_step.isoflop import Reading
from windtunnel.laws.validation import Chosen

MIN_DRAWS = 50
"""Of law `auto`: fewer have no 90% interval."""

OF_LOSS = (
    "auto",
    "chinchilla",
    "coupled",
    "data-constrained",
    "moe",
    "moe-data",
    "upcycling",
)
"""Laws whose rows are losses of single runs, which a seed noise of ln loss is about."""


def fit(
    table: Table | Mapping[str, ArrayLike],
    law: str | None = None,
    *,
    objective: ObjectiveName | None = None,
    delta: float | Literal["auto"] | None = None,
    fix: Mapping[str, Fixed] | None = None,
    tie: Mapping[str, str] | None = None,
    intervals: Method = "two-level",
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    holdout: Chosen = "largest",
    interpolate: Reading = "akima",
    over: Sequence[str] | None = None,
    noise: float | None = None,
) -> Fit:
    """The law that minimises `objective` on all rows, with its intervals and its warnings.

    Args:
        table: a Table, or columns by the law's names (a dict of arrays, a DataFrame); text columns
            `trunk`, `run`, `execution` and the flag `decayed` are taken as what they are.
        law: one of `LAWS`; None: see `default_law`.
        objective: `huber-log` or `mse-log` of ln(predicted / measured), `huber` or `mse` of the
            difference. Sums over rows. None: `huber-log`, or `huber` where noise is additive.
        delta: where Huber turns linear, in the residual's unit. `auto`: 1.345 sigma, measured from
            seed replicates or else from the residuals. None: `auto` where seeds measure it and for
            `power2`, which is of no loss; else 1e-3 of ln loss as Hoffmann et al. 2022.
        fix: raw values of coefficients that are not fitted; for one of them (low, high), which
            fixes it in the middle and refits the law at both ends, into `details["band"]`.
        tie: name -> the coefficient that it must equal, such as `{"beta": "alpha"}`.
        intervals: `two-level` (see `bootstrap`), `case`, `profile`, or `none`; those of `auto` are
            always of its posterior.
        bootstrap: number of resamples; of draws for `auto`.
        seed: of the resamples and of the noise in predictions.
        level: of every interval.
        holdout: what a second fit leaves out and predicts: the `largest` first input, a condition
            such as `flops>=1e21` (widened to whole trunks), a row mask or trunk labels, or None.
            The returned coefficients always use every row.
        interpolate: how `isoflop` reads the optimum of a budget: `akima`, `parabola` or
            `parametric`.
        over: columns of the other axes swept, over which `power2` takes the lowest loss of each y.
            None: the columns that look swept, with a warning; empty: all rows of one (x, z, y) are
            seeds, and are averaged.
        noise: known standard deviation of ln loss between seeds, for a table without them: it
            stands for the measured one in `delta`, in two-level intervals, and in `auto`.

    Raises:
        FitError: the table cannot carry the law (the message says what to add), or a bad argument.
    """
    if not (0 < level < 1 and bootstrap >= 0):
        raise FitError(
            "out-of-range",
            f"level = {level}, bootstrap = {bootstrap}: want a level between 0 and 1, such as 0.9, "
            "and bootstrap of at least 0",
            level=level,
            bootstrap=bootstrap,
        )
    if intervals not in METHODS:
        raise FitError(
            "unknown-value",
            f"intervals = {intervals!r}: one of {', '.join(METHODS)}"
            f"{did_you_mean(str(intervals), METHODS)}",
            option="intervals",
            value=intervals,
            known=list(METHODS),
        )
    if law is None:
        options = {"objective": objective, "delta": delta, "fix": fix, "tie": tie}
        law = default_law(intervals=intervals, bootstrap=bootstrap, **options)
    over = (over,) if isinstance(over, str) else over
    known, kept, incomplete = as_table(table, needs=needs_of(law), categories=over or ())
    if over is not None and (law != Power2.name or "loss" not in known):
        raise FitError(
            "contradicting-options",
            f"over: only {Power2.name} with a column loss takes a lowest loss over other axes",
            options=["over", "law"],
            law=law,
        )
    rows, mixed = (known, ()) if law in OF_CURVES else decayed_only(known)
    if mixed and known.decayed is not None:
        kept[kept] = known.decayed
    held, cut = _held(rows, holdout, kept)
    _require_loss_law(law, noise)
    diagnostics = (*incomplete, *cut, *mixed)
    fixed, band = middle_of(fix or {})
    settings = Settings(
        objective=objective or "huber-log",
        delta=delta,
        fixed=fixed,
        tied=tie or {},
        intervals=intervals,
        bootstrap=bootstrap,
        seed=seed,
        level=level,
        noise=noise,
    )
    # These matrices are small: more threads of BLAS would only wait for each other.
    with threadpool_limits(1, "blas"):
        if law in TWO_STEP:
            _require_none(law, objective=objective, delta=delta)
            found = fit_two_step(rows, law, settings, held, interpolate)
        elif law == "auto":
            method = None if intervals == METHODS[0] else intervals
            _require_none(law, objective=objective, delta=delta, fix=fix, tie=tie, intervals=method)
            if bootstrap < MIN_DRAWS:
                raise FitError(
                    "out-of-range",
                    f"bootstrap = {bootstrap}: law auto needs at least {MIN_DRAWS} draws, since "
                    "its forecasts are made of them",
                    option="bootstrap",
                    value=bootstrap,
                    low=MIN_DRAWS,
                )
            require_rows(rows)
            from windtunnel.laws.auto.fitting import fit_auto  # loads scipy's optimizer

            found = fit_auto(rows, settings, held)
        else:
            found = _regressed(
                rows, law_named(law), settings, held, objective, delta, band=band, over=over
            )
    found = dataclasses.replace(_with_copying(found, rows), table=rows)
    return found.warned(*diagnostics)


def _with_copying(found: Fit, table: Table) -> Fit:
    """The fit with the trend of its rows' copy gain, where its law is of size and tokens."""
    if table.copying is None or found.form.inputs[:2] != ("params", "tokens"):
        return found
    trend, warning = CopyTrend.of(table), within(table)
    if trend is not None:
        found = found.detailed({"copy_gain": trend.document()})
    return found if warning is None else found.warned(warning)


def _require_loss_law(law: str, noise: float | None) -> None:
    """Check that a known noise is one, and of a law that it says something about.

    Raises:
        FitError: a noise that is no share of the loss, or a law that is no regression of a loss.
    """
    if noise is None:
        return
    if not 0 < noise < 1:
        raise FitError(
            "out-of-range",
            f"noise = {noise:g}: the standard deviation of ln loss between seeds, such as 0.002 "
            "(0.2%)",
            option="noise",
            value=noise,
            above=0,
            below=1,
        )
    if law not in OF_LOSS:
        raise FitError(
            "contradicting-options",
            f"noise = {noise:g}: law {law} takes none; it is of the ln loss of runs, for "
            f"{', '.join(OF_LOSS)}",
            law=law,
            options=["noise"],
            known=list(OF_LOSS),
        )


def default_law(*, intervals: str, bootstrap: int, **options: object) -> str:
    """The law where none is named: `auto`, or `chinchilla` for options that `auto` does not take.

    These are `objective`, `delta`, `fix`, `tie`, other `intervals` than two-level, and a
    `bootstrap` below `MIN_DRAWS`.
    """
    takes = not any(options.values()) and intervals == METHODS[0] and bootstrap >= MIN_DRAWS
    return "auto" if takes else "chinchilla"


def _require_none(law: str, **options: object) -> None:
    """Refuse options that a law would ignore.

    Raises:
        FitError: one of them is given.
    """
    if given := [name for name, value in options.items() if value]:
        raise FitError(
            "contradicting-options",
            f"law {law} takes no {given[0]}: "
            + (
                "its forms and intervals are its own; --law coupled or chinchilla takes it"
                if law == "auto"
                else "it is found in stages, and has none to choose"
            ),
            law=law,
            options=given,
        )


def _regressed(
    table: Table,
    law: type[Law],
    settings: Settings,
    holdout: Chosen,
    objective: ObjectiveName | None,
    delta: float | Literal["auto"] | None,
    *,
    band: tuple[str, float, float] | None,
    over: Sequence[str] | None,
) -> Fit:
    if objective is None and not law.multiplicative:
        settings = dataclasses.replace(settings, objective="huber")
    if law is Power2 and delta is None:  # 1e-3 is of a loss, and this is of a rate or a batch
        settings = dataclasses.replace(settings, delta="auto")
    if law is Power2 and "loss" in table:
        if band is not None:
            raise FitError(
                "contradicting-options",
                f"fix {band[0]}: law power2 with a loss goes through the best y of each cell, and "
                "takes no band: fix a number",
                options=["fix"],
                coefficients=[band[0]],
            )
        return fit_optima(table, settings, over)
    found = regress(table, law, settings, holdout)
    if band is None:
        return found
    return found.detailed({"band": band_of(table, law, settings, band)})


@overload
def predict(fitted: Fit, *inputs: float, trunks: float = 1, **named: float) -> Interval: ...


@overload
def predict(
    fitted: Fit, *inputs: ArrayLike, trunks: float = 1, **named: ArrayLike
) -> Interval | Intervals: ...


def predict(fitted: Fit, *inputs: Any, trunks: float = 1, **named: Any) -> Interval | Intervals:
    """Output of a new run with its prediction interval; inputs in order or by name.

    Of arrays, `Intervals` of their shape.

    >>> predict(fitted, params=2.4e9, tokens=1e12)  # doctest: +SKIP

    Raises:
        FitError: an input that the law does not read, or one that is missing.
    """
    found: Interval | Intervals = fitted.predict(*inputs, trunks=trunks, **named)
    return found


def as_table(
    given: Table | Mapping[str, ArrayLike],
    *,
    needs: Sequence[str],
    categories: Sequence[str] = (),
) -> tuple[Table, NDArray[np.bool_], tuple[Diagnostic, ...]]:
    """A Table from columns by name, which rows it keeps, and warnings about what is left out.

    Rows that lack a number of `needs` are left out. So are other columns of `NUMBERS` with a number
    missing; of columns that no law names, which may be axes, a missing number is a value of its
    own. Text columns in `categories` become numbers, one a distinct text.

    Raises:
        FitError: not columns by name, text where numbers belong, or an infinite number.
    """
    if isinstance(given, Table):
        return given, np.ones(given.rows, bool), ()
    if not hasattr(given, "keys"):
        raise FitError(
            "wrong-type",
            f"fit takes a Table, a dict of arrays or a DataFrame, not {type(given).__name__}: read "
            "a file with pandas first, or use windtunnel fit on the command line",
            type=type(given).__name__,
        )
    columns = {str(name): np.asarray(given[name]) for name in given}
    trunk, decayed = columns.pop("trunk", None), columns.pop("decayed", None)
    names = [name for name in ("run", "execution") if name in columns]
    labels: dict[str, ArrayLike] = {name: columns.pop(name) for name in names}
    copying = _copying(columns)
    numbers: dict[str, Floats] = {}
    for name, values in columns.items():
        if values.dtype.kind not in "fiub" and name not in (*NUMBERS, *needs):
            if name in categories:
                texts = values.astype(np.str_)
                numbers[name] = np.unique(texts, return_inverse=True)[1].astype(np.float64)
            continue
        try:
            numbers[name] = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ColumnError("not-a-number", f"is not all numbers: {error}", name) from None
    # Where C = k N D gives a column that is needed, any of the others may be read.
    needed = [name for name in needs if name in numbers] if set(needs) <= set(numbers) else NUMBERS
    numbers, left_out = _complete(numbers, needed)
    gaps = [np.isnan(numbers[name]) for name in needed if name in numbers]
    first = next(iter(numbers.values()), ())
    missing = np.any(gaps, axis=0) if gaps else np.zeros(np.shape(first), bool)
    whole = {name: np.where(missing, 1.0, values) for name, values in numbers.items()}
    table = Table(whole, trunk=trunk, decayed=decayed, labels=labels, copying=copying)
    if not np.any(missing):
        return table, np.ones(table.rows, bool), left_out
    gone = int(np.sum(missing))
    if gone == table.rows:
        raise FitError(
            "too-few-rows",
            "every row of the table has a number missing",
            rows=table.rows,
            missing=gone,
        )
    message = f"{gone} of {table.rows} rows have a number missing and are left out"
    return (
        table.subset(~missing, why="a number is missing"),
        ~missing,
        (*left_out, Diagnostic("incomplete-rows", message, rows=table.rows, missing=gone)),
    )


def _complete(
    numbers: Mapping[str, Floats], needed: Sequence[str]
) -> tuple[dict[str, Floats], tuple[Diagnostic, ...]]:
    """The columns without a gap but for those `needed`, and a warning for each one left out."""
    kept, left_out = dict(numbers), []
    for name, values in numbers.items():
        gaps = int(np.sum(np.isnan(values)))
        if not gaps or name in needed:
            continue
        if gaps == values.size or name in NUMBERS:
            del kept[name]
        else:
            kept[name] = np.unique(values, return_inverse=True)[1].astype(np.float64)
        if name in NUMBERS:
            text = f"{name} is not used: it is missing in {gaps} of {values.size} rows"
            values_of = {"name": name, "column": name, "missing": gaps, "rows": values.size}
            left_out.append(Diagnostic("column-left-out", text, **values_of))
    return kept, tuple(left_out)


def _copying(columns: dict[str, NDArray[Any]]) -> Floats | None:
    """Copy gains and their standard errors (R, 2), taken out of the columns; nan where missing."""
    found = [columns.pop(name, None) for name in COPYING]
    if found[0] is None:
        return None
    gain, error = (np.full(found[0].shape, np.nan) if each is None else each for each in found)
    try:
        return np.stack([gain, error], axis=-1).astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise ColumnError("not-a-number", f"is not all numbers: {problem}", COPYING[0]) from None


def decayed_only(table: Table) -> tuple[Table, tuple[Diagnostic, ...]]:
    """The decayed rows of a table with both kinds: a decay outweighs most effects fitted here."""
    if table.decayed is None or table.decayed.all() or not table.decayed.any():
        return table, ()
    gone = int(np.sum(~table.decayed))
    return table.subset(table.decayed, why="not decayed"), (mixed_decay(gone, table.rows),)


def _held(
    table: Table, holdout: Chosen, kept: NDArray[np.bool_]
) -> tuple[Chosen, tuple[Diagnostic, ...]]:
    """A condition, or a mask of all rows, as a mask of the rows `kept`; others unchanged.

    Raises:
        FitError: no row or every one is held out, or the mask is of another table.
    """
    if holdout is None:
        return None, ()
    if not isinstance(holdout, str):
        given = np.asarray(holdout)
        return (_mask_of(given, kept) if given.dtype == np.bool_ else holdout), ()
    if holdout == "largest":
        return holdout, ()
    if holdout == "none":
        return None, ()
    try:
        condition = Condition.parse(holdout)
    except ConfigError as error:
        raise FitError(
            error.code,
            f"holdout = {holdout!r}: 'largest', a mask, trunk labels, None, or a {error}",
            **error.values,
        ) from None
    mask = condition.mask(_column(table, condition.column))
    return whole_trunks(condition, mask, table.trunk, of=kept.size)


def _mask_of(given: NDArray[np.bool_], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    held = given[kept] if given.shape == kept.shape else np.zeros(0, bool)
    if held.all() or not held.any():
        left = "" if kept.all() else f", also among the {kept.sum()} that are fitted"
        raise FitError(
            "empty-holdout",
            f"holdout: a mask over {kept.size} rows with some, not all, of them true{left}",
            held=int(held.sum()),
            kept=int(kept.sum()),
            rows=int(kept.size),
        )
    return held


def _column(table: Table, name: str) -> NDArray[Any]:
    spelled = {column: law for law, column in table.names.items()}
    column = spelled.get(name, name)
    if column == "flops" and column not in table and "params" in table and "tokens" in table:
        return table.budget
    known: dict[str, NDArray[Any]] = {**table.columns, **table.labels, "trunk": table.trunk}
    if column not in known:
        raise FitError(
            "unknown-column",
            f"holdout: no column {name!r}; there are {', '.join(sorted(known))}"
            f"{did_you_mean(name, known)}",
            column=name,
            known=sorted(known),
        )
    return known[column]
