"""The three verbs: fit a law to a table, predict from a fit, and the best split of a budget."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from windtunnel.errors import ConfigError, FitError, did_you_mean
from windtunnel.laws.caution import Caution, mixed_decay
from windtunnel.laws.conditions import Condition, whole_trunks
from windtunnel.laws.forms.chinchilla import Chinchilla
from windtunnel.laws.forms.data_constrained import DataConstrained
from windtunnel.laws.forms.law import Law
from windtunnel.laws.forms.power import ExpOffset, Power, PowerOffset
from windtunnel.laws.forms.power2 import Power2
from windtunnel.laws.forms.sigmoid import Sigmoid
from windtunnel.laws.interval import Interval, Optimum, beyond
from windtunnel.laws.regression import METHODS, Method, Settings, regress
from windtunnel.laws.regret import fit_optima
from windtunnel.laws.repeated import repeated_optimum
from windtunnel.laws.result import Fit
from windtunnel.laws.solver.objective import ObjectiveName
from windtunnel.laws.staged.isoflop import Reading
from windtunnel.laws.staging import STAGED, fit_staged
from windtunnel.laws.table import Floats, Table
from windtunnel.laws.validation import Chosen

FORMULAS: dict[str, type[Law]] = {
    law.name: law
    for law in (Chinchilla, Power, PowerOffset, ExpOffset, Power2, DataConstrained, Sigmoid)
}
LAWS = (*FORMULAS, *STAGED)
# Laws of whole curves, which read undecayed rows too.
OF_CURVES = ("batch", "envelope")
# Columns that must be numbers; others that are not are left aside.
NUMBERS = ("params", "tokens", "loss", "flops", "x", "y", "z", "lr", "batch_tokens", "score")
# A budget so far from the fitted ones is no answer but a slope too flat to turn around.
MOST_DECADES = 12


def fit(
    table: Table | Mapping[str, ArrayLike],
    law: str = "chinchilla",
    *,
    objective: ObjectiveName | None = None,
    delta: float | Literal["auto"] | None = None,
    fix: Mapping[str, float] | None = None,
    tie: Mapping[str, str] | None = None,
    intervals: Method = "two-level",
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    holdout: Chosen = "largest",
    interpolate: Reading = "akima",
) -> Fit:
    """The law that minimises `objective` on all rows, with its intervals and its warnings.

    Args:
        table: a Table, or columns by the law's names (a dict of arrays, a DataFrame); text columns
            `trunk`, `run`, `execution` and the flag `decayed` are taken as what they are.
        law: one of `LAWS`.
        objective: `huber-log` or `mse-log` of ln(predicted / measured), `huber` or `mse` of the
            difference. Sums over rows. None: `huber-log`, or `huber` where noise is additive.
        delta: where Huber turns linear, in the residual's unit. `auto`: 1.345 sigma, measured from
            seed replicates or else from the residuals. None: `auto` where seeds measure it, else
            1e-3 of ln loss as Hoffmann et al. 2022.
        fix: raw values of coefficients that are not fitted.
        tie: name -> the coefficient that it must equal, such as `{"beta": "alpha"}`.
        intervals: `two-level` (see `uncertainty`), `case`, `profile`, or `none`.
        bootstrap: number of resamples.
        seed: of the resamples and of the noise in predictions.
        level: of every interval.
        holdout: what a second fit leaves out and predicts: the `largest` first input, a condition
            such as `flops>=1e21` (widened to whole trunks), a row mask or trunk labels, or None.
            The returned coefficients always use every row.
        interpolate: how `isoflop` reads the optimum of a budget: `akima`, `parabola` or
            `parametric`.

    Raises:
        FitError: the table cannot carry the law (the message says what to add), or a bad argument.
    """
    if not (0 < level < 1 and bootstrap >= 0):
        raise FitError(
            f"level = {level}, bootstrap = {bootstrap}: want a level between 0 and 1, such as 0.9, "
            "and bootstrap of at least 0"
        )
    if intervals not in METHODS:
        raise FitError(
            f"intervals = {intervals!r}: one of {', '.join(METHODS)}"
            f"{did_you_mean(str(intervals), METHODS)}"
        )
    known, said = as_table(table)
    held, cut = _held(known, holdout)
    rows, mixed = (known, ()) if law in OF_CURVES else decayed_only(known)
    if mixed and isinstance(held, np.ndarray) and held.dtype == np.bool_:
        held = held[known.decayed]
    cautions = (*said, *cut, *mixed)
    settings = Settings(
        objective=objective or "huber-log",
        delta=delta,
        fixed=fix or {},
        tied=tie or {},
        intervals=intervals,
        bootstrap=bootstrap,
        seed=seed,
        level=level,
    )
    if law in STAGED:
        if objective is not None or delta is not None:
            raise FitError(f"{law} is found in stages: it has no objective and no delta to choose")
        return fit_staged(rows, law, settings, held, interpolate).warned(*cautions)
    form = law_named(law)
    if objective is None and not form.multiplicative:
        settings = dataclasses.replace(settings, objective="huber")
    if form is Power2 and "loss" in rows:
        return fit_optima(rows, settings).warned(*cautions)
    return regress(rows, form, settings, held).warned(*cautions)


def predict(fitted: Fit, *inputs: float, trunks: float = 1, **named: float) -> Interval:
    """Output of a new run with its prediction interval; inputs in order or by name.

    >>> predict(fitted, params=2.4e9, tokens=1e12)  # doctest: +SKIP

    Raises:
        FitError: an input that the law does not read, or one that is missing.
    """
    return fitted.predict(*inputs, trunks=trunks, **named)


def optimum(
    fitted: Fit,
    *,
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    tokens_per_param: float | None = None,
    unique_tokens: float | None = None,
) -> Optimum:
    """The best split of `flops`; or of the budget for which this size, data or ratio is best.

    With `flops` and one of the others, the split is not the best one but that: its loss then comes
    with `excess`, the loss above the best split. With `flops` and `unique_tokens`, the best split
    of a data-constrained law where no more than so many tokens are fresh.

    Raises:
        FitError: no or too many constraints, or no budget makes the given number optimal.
    """
    others = {"params": params, "tokens": tokens, "ratio": tokens_per_param}
    given = {name: value for name, value in others.items() if value is not None}
    for name, value in {**given, "flops": flops, "unique_tokens": unique_tokens}.items():
        if value is not None and not value > 0:
            raise FitError(f"optimum: {name} = {value}, must be above 0")
    if unique_tokens is not None:
        if flops is None or given:
            raise FitError("optimum: unique_tokens goes with flops and with nothing else")
        return repeated_optimum(fitted, flops, unique_tokens)
    if (flops is None and not given) or len(given) > 1:
        raise FitError(
            "optimum: give flops, or one of params, tokens and tokens_per_param, or flops and one "
            "of them"
        )
    if not given:
        return fitted.optimum(cast("float", flops))
    ((name, value),) = given.items()
    if flops is None:
        return fitted.optimum(_budget_for(fitted, name, value))
    return _forced(fitted, flops, name, value)


def needs_of(name: str) -> tuple[str, ...]:
    """Columns of numbers that a law reads."""
    return STAGED[name].law.columns() if name in STAGED else law_named(name).columns()


def law_named(name: str) -> type[Law]:
    """The formula called `name`.

    Raises:
        FitError: there is none.
    """
    if name not in FORMULAS:
        raise FitError(f"law {name!r}: one of {', '.join(LAWS)}{did_you_mean(name, LAWS)}")
    return FORMULAS[name]


def as_table(given: Table | Mapping[str, ArrayLike]) -> tuple[Table, tuple[Caution, ...]]:
    """A Table from columns by name, without the rows where a number is nan: those are counted.

    Raises:
        FitError: not columns by name, text where numbers belong, or an infinite number.
    """
    if isinstance(given, Table):
        return given, ()
    if not hasattr(given, "keys"):
        raise FitError(
            f"fit takes a Table, a dict of arrays or a DataFrame, not {type(given).__name__}: read "
            "a file with pandas first, or use windtunnel fit on the command line"
        )
    columns = {str(name): np.asarray(given[name]) for name in given}
    trunk, decayed = columns.pop("trunk", None), columns.pop("decayed", None)
    names = [name for name in ("run", "execution") if name in columns]
    labels: dict[str, ArrayLike] = {name: columns.pop(name) for name in names}
    numbers: dict[str, Floats] = {}
    for name, values in columns.items():
        if values.dtype.kind not in "fiub" and name not in NUMBERS:
            continue
        try:
            numbers[name] = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise FitError(f"column {name!r} is not all numbers: {error}") from None
    missing = np.any([np.isnan(values) for values in numbers.values()], axis=0)
    whole = {name: np.where(missing, 1.0, values) for name, values in numbers.items()}
    table = Table(whole, trunk=trunk, decayed=decayed, labels=labels)
    if not np.any(missing):
        return table, ()
    gone = int(np.sum(missing))
    if gone == table.rows:
        raise FitError("every row of the table has a number missing")
    said = f"{gone} of {table.rows} rows have a number missing and are left out"
    return table.subset(~missing, why="a number is missing"), (Caution("incomplete-rows", said),)


def decayed_only(table: Table) -> tuple[Table, tuple[Caution, ...]]:
    """The decayed rows where both kinds are there: a decay is worth more than most effects."""
    if table.decayed is None or table.decayed.all() or not table.decayed.any():
        return table, ()
    gone = int(np.sum(~table.decayed))
    return table.subset(table.decayed, why="not decayed"), (mixed_decay(gone, table.rows),)


def _held(table: Table, holdout: Chosen) -> tuple[Chosen, tuple[Caution, ...]]:
    """A condition as the mask of the whole trunks that it touches; anything else as it is."""
    if not isinstance(holdout, str) or holdout == "largest":
        return holdout, ()
    if holdout == "none":
        return None, ()
    try:
        condition = Condition.parse(holdout)
    except ConfigError as error:
        raise FitError(
            f"holdout = {holdout!r}: 'largest', a mask, trunk labels, None, or a {error}"
        ) from None
    return whole_trunks(condition, condition.mask(_column(table, condition.column)), table.trunk)


def _column(table: Table, name: str) -> NDArray[Any]:
    spelled = {column: law for law, column in table.names.items()}
    own = spelled.get(name, name)
    if own == "flops" and own not in table and "params" in table and "tokens" in table:
        return table.budget
    known: dict[str, NDArray[Any]] = {**table.columns, **table.labels, "trunk": table.trunk}
    if own not in known:
        raise FitError(
            f"holdout: no column {name!r}; there are {', '.join(sorted(known))}"
            f"{did_you_mean(name, known)}"
        )
    return known[own]


def _budget_for(fitted: Fit, name: str, value: float) -> float:
    """The budget whose optimum has this size, data or ratio: each is a power of C."""
    law, vector = fitted.form, fitted.form.vector
    log_n, log_d = law.log_optimum(vector, 1.0, flop_factor=fitted.flop_factor)
    a, b = law.split(vector)
    at_one, slope = {
        "params": (log_n, a),
        "tokens": (log_d, b),
        "ratio": (log_d - log_n, b - a),
    }[name]
    log_flops = (math.log(value) - float(at_one)) / float(slope) if slope else math.inf
    middle = math.log(math.prod(fitted.domain["flops"])) / 2
    if not abs(log_flops - middle) < MOST_DECADES * math.log(10):
        word = "tokens per param" if name == "ratio" else name
        raise FitError(
            f"optimum: no sensible budget makes {word} = {value:.4g} optimal under this fit: the "
            "optimal D/N hardly changes with compute. Give flops as well"
        )
    return math.exp(log_flops)


def _forced(fitted: Fit, flops: float, name: str, value: float) -> Optimum:
    """The loss of a split that is given, against the best one."""
    cells = flops / fitted.flop_factor
    params = {"params": value, "tokens": cells / value, "ratio": math.sqrt(cells / value)}[name]
    tokens = cells / params
    loss, best = fitted.loss_at(params, tokens), fitted.optimum(flops)
    outside = beyond("flops", flops, fitted.domain["flops"])
    return Optimum(
        flops=flops,
        params=_known(params),
        tokens=_known(tokens),
        ratio=_known(tokens / params),
        loss=loss,
        extrapolates=best.extrapolates,
        excess=loss.value - best.loss.value,
        warnings=tuple(dict.fromkeys((*([outside] if outside else []), *loss.warnings))),
    )


def _known(value: float) -> Interval:
    return Interval(value, value, value)
