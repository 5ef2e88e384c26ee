"""Every law by its name: a new one is a small file in `forms` or `staged`, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.forms.chinchilla import Chinchilla
from windtunnel.laws.forms.data_constrained import DataConstrained
from windtunnel.laws.forms.formula import Formula
from windtunnel.laws.forms.law import Law
from windtunnel.laws.forms.power import ExpOffset, Power, PowerOffset
from windtunnel.laws.forms.power2 import Power2
from windtunnel.laws.forms.sigmoid import Sigmoid
from windtunnel.laws.staged import batch, envelope, isoflop, lr_valley
from windtunnel.laws.staged.stages import StagedLaw, Stages
from windtunnel.laws.table import Table

FORMULAS: Mapping[str, type[Law]] = {
    law.name: law
    for law in (Chinchilla, Power, PowerOffset, ExpOffset, Power2, DataConstrained, Sigmoid)
}


@dataclass(frozen=True)
class Staged:
    """One law of this kind: its class, and what takes a table apart."""

    law: type[StagedLaw]
    stages: Callable[[Table], Stages]


STAGED: Mapping[str, Staged] = {
    each.law.name: each
    for each in (
        Staged(isoflop.Isoflop, isoflop.stages),
        Staged(envelope.PowerEnvelope, envelope.stages),
        Staged(lr_valley.LrValley, lr_valley.stages),
        Staged(batch.BatchLaw, batch.stages),
    )
}
LAWS = (*FORMULAS, *STAGED)
# Laws of whole curves, which read undecayed rows too.
OF_CURVES = ("batch", "envelope")


def needs_of(name: str) -> tuple[str, ...]:
    """Columns of numbers that a law reads."""
    return STAGED[name].law.columns() if name in STAGED else law_named(name).columns()


def law_named(name: str) -> type[Law]:
    """The formula called `name`.

    Raises:
        FitError: there is none.
    """
    if name == "mixture":
        raise FitError(
            "law 'mixture' is no formula of size and data: windtunnel.laws.mixture.fit_mixture "
            "fits it"
        )
    if name not in FORMULAS:
        raise FitError(f"law {name!r}: one of {', '.join(LAWS)}{did_you_mean(name, LAWS)}")
    return FORMULAS[name]


def written_law(name: Any, details: Any) -> type[Formula]:
    """The law of a written fit; which form an envelope has is in its details.

    Raises:
        FitError: there is none of that name.
    """
    if not isinstance(name, str):
        raise FitError(f"law: {name!r:.60}, allowed: {', '.join(LAWS)}")
    if name not in STAGED:
        return law_named(name)
    if name == "envelope":
        form = details.get("form") if isinstance(details, dict) else None
        if not isinstance(form, str) or form not in envelope.FORMS:
            raise FitError(f"details.form: {form!r:.60}, allowed: {', '.join(envelope.FORMS)}")
        return envelope.FORMS[form][1]
    return STAGED[name].law
