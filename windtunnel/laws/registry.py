"""Every law by its name.

A new law is one class in `powers`, `chinchilla`, `experts`, `upcycling` or `two_step`, and one line
in a table here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from windtunnel.errors import FitError, did_you_mean
from windtunnel.laws.chinchilla import Auto, Chinchilla, Coupled, DataConstrained
from windtunnel.laws.experts import Moe, MoeData
from windtunnel.laws.forms import Formula, Law
from windtunnel.laws.powers import ExpOffset, Power, Power2, PowerOffset, Sigmoid
from windtunnel.laws.table import Table
from windtunnel.laws.two_step import batch, envelope, isoflop, lr
from windtunnel.laws.two_step.base import TwoStepLaw, TwoStepProblem
from windtunnel.laws.upcycling import Upcycling

FORMULAS: Mapping[str, type[Law]] = {
    law.name: law
    for law in (
        Chinchilla,
        Coupled,
        Power,
        PowerOffset,
        ExpOffset,
        Power2,
        DataConstrained,
        Sigmoid,
        Moe,
        MoeData,
        Upcycling,
    )
}


@dataclass(frozen=True)
class TwoStepEntry:
    """One two-step law: its class, and the function that prepares a table for it."""

    law: type[TwoStepLaw]
    prepare: Callable[[Table], TwoStepProblem]


TWO_STEP: Mapping[str, TwoStepEntry] = {
    each.law.name: each
    for each in (
        TwoStepEntry(isoflop.Isoflop, isoflop.two_step_problem),
        TwoStepEntry(envelope.PowerEnvelope, envelope.two_step_problem),
        TwoStepEntry(lr.LrCurve, lr.two_step_problem),
        TwoStepEntry(batch.BatchLaw, batch.two_step_problem),
    )
}
LAWS = ("auto", *FORMULAS, *TWO_STEP)
# Laws of whole curves also read undecayed rows.
OF_CURVES = ("batch", "envelope")


def needs_of(name: str) -> tuple[str, ...]:
    """Columns of numbers that a law reads."""
    if name == "auto":
        return Auto.columns()
    return TWO_STEP[name].law.columns() if name in TWO_STEP else law_named(name).columns()


def law_named(name: str) -> type[Law]:
    """The formula called `name`.

    Raises:
        FitError: there is none.
    """
    if name == "mixture":
        raise FitError(
            "wrong-law",
            "law 'mixture' is no formula of size and data: windtunnel.laws.mixture.fit_mixture "
            "fits it",
            law=name,
        )
    if name not in FORMULAS:
        raise FitError(
            "unknown-law",
            f"law {name!r}: one of {', '.join(LAWS)}{did_you_mean(name, LAWS)}",
            law=name,
            known=list(LAWS),
        )
    return FORMULAS[name]


def written_law(name: Any, details: Any) -> type[Formula]:
    """The law of a written fit; the form of an envelope is in its details.

    Raises:
        FitError: there is none of that name.
    """
    if not isinstance(name, str):
        raise FitError(
            "unknown-law",
            f"law: {name!r:.60}, allowed: {', '.join(LAWS)}",
            law=repr(name)[:60],
            known=list(LAWS),
        )
    if name == "auto":
        return Auto
    if name not in TWO_STEP:
        return law_named(name)
    if name == "envelope":
        form = details.get("form") if isinstance(details, dict) else None
        if not isinstance(form, str) or form not in envelope.FORMS:
            raise FitError(
                "unknown-law",
                f"details.form: {form!r:.60}, allowed: {', '.join(envelope.FORMS)}",
                place="details.form",
                law=repr(form)[:60],
                known=list(envelope.FORMS),
            )
        return envelope.FORMS[form][1]
    return TWO_STEP[name].law
