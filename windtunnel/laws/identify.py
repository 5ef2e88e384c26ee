"""Can this table carry this law at all? Asked before a fit, and before a trunk is left out."""

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws.forms.law import Law
from windtunnel.laws.solver.problem import Problem
from windtunnel.laws.table import Table

# Above this, two inputs are one variable and their terms cannot be told apart at all.
MAX_CORRELATION = 0.999
WORDS = {"params": "model sizes", "tokens": "horizons"}


def correlation(law: type[Law], table: Table) -> float | None:
    """Pearson r of the logs of the first two inputs; 1 or -1 means one variable, not two."""
    if len(law.inputs) < 2:
        return None
    first, second = (np.log(table[name]) for name in law.inputs[:2])
    return float(np.corrcoef(first, second)[0, 1])


def enough(law: type[Law], table: Table, keep: NDArray[np.bool_], coefficients: int) -> bool:
    """Whether the kept rows still have the distinct values and the rows that the law needs."""
    wide = all(np.unique(table[name][keep]).size >= least for name, least in law.distinct.items())
    return wide and int(keep.sum()) > coefficients


def require_identified(problem: Problem, table: Table) -> None:
    """Refuse a table that cannot carry the law, and say what to add.

    Raises:
        FitError: too few rows or distinct values, or two inputs that are one.
    """
    law, coefficients = problem.law, len(problem.coordinates.free)
    for name, least in law.distinct.items():
        distinct = np.unique(table[name]).size
        if distinct < least:
            words = WORDS.get(name, f"values of {name}")
            raise FitError(
                f"{law.formula} needs at least {least} distinct values of {name}; this table has "
                f"{distinct}: add {least - distinct} or more {words}"
            )
    if table.rows <= coefficients:
        raise FitError(
            f"{law.formula} has {coefficients} coefficients to fit and needs at least "
            f"{coefficients + 1} rows; this table has {table.rows}: add runs, or fix a coefficient"
        )
    r = correlation(law, table)
    if r is not None and abs(r) > MAX_CORRELATION:
        first, second = law.inputs[:2]
        raise FitError(
            f"ln {first} and ln {second} are one variable in this table (r = {r:.4f}): the two "
            "terms cannot be told apart. Give every size several horizons, and let the smallest "
            "run the longest"
        )
