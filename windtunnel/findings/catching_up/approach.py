"""How one size's decayed loss approaches its floor: as a power of compute, or exponentially.

MiniCPM (arXiv 2404.06395) section 4.3, figure 16, fits both to decayed ends of one small model and
finds the power law better.
"""

from dataclasses import dataclass

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws import Fit, Table, fit
from windtunnel.laws.table import Floats

FORMS = ("power-offset", "exp-offset")
COEFFICIENTS = 3
CLEAR_AIC = 2.0
"""AIC differences below this do not tell two forms apart (Burnham and Anderson 2002)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """One form through the ends, loss against 6ND.

    Attributes:
        fitted: y = c + ..., y in nats per token, x in FLOPs.
        rms: misfit of ln loss, over the means of all lengths.
        aic: Akaike's criterion; it counts lengths, for seeds miss a form together.
        last_third_rms: error of ln loss in the last third of ln compute, told by the rest; nan
            where too few lengths are left.
    """

    fitted: Fit
    rms: float
    aic: float
    last_third_rms: float


def approach(table: Table) -> dict[str, Form]:
    """Both forms through the rows of one size; empty where the table cannot carry them."""
    ends = Table(x=table.budget, y=table.loss, trunk=table.trunk)
    lengths, index = np.unique(ends["x"], return_inverse=True)
    if lengths.size <= COEFFICIENTS:
        return {}
    means = np.bincount(index, np.log(ends["y"])) / np.bincount(index)
    split = np.log(lengths[0]) + 2 / 3 * np.log(lengths[-1] / lengths[0])
    early = np.log(lengths) < split
    try:
        return {name: _form(name, ends, lengths, means, early) for name in FORMS}
    except FitError:
        return {}


def _form(name: str, ends: Table, lengths: Floats, means: Floats, early: Floats) -> Form:
    # Only the power law's floor is told, and with its interval.
    told = name == "power-offset"
    fitted = fit(ends, name, holdout=None, intervals="two-level" if told else "none")
    rms = _rms(fitted, lengths, means)
    held = np.nan
    if early.sum() > COEFFICIENTS and not early.all():
        rest = ends.subset(np.isin(ends["x"], lengths[np.asarray(early, bool)]))
        late = ~np.asarray(early, bool)
        held = _rms(fit(rest, name, holdout=None, intervals="none"), lengths[late], means[late])
    aic = lengths.size * float(np.log(max(rms**2, 1e-30))) + 2 * (COEFFICIENTS + 1)
    return Form(fitted=fitted, rms=rms, aic=aic, last_third_rms=held)


def _rms(fitted: Fit, lengths: Floats, means: Floats) -> float:
    return float(np.sqrt(np.mean((np.log(fitted.form(lengths)) - means) ** 2)))
