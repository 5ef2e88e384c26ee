"""A transition within a ladder of runs, or between it and its target, told by copy gains.

While a copying circuit forms (induction heads, Olsson et al. 2022, arXiv 2209.11895) the loss falls
faster than before or after, and a law that was fitted on one side does not hold on the other. The
copy gain of a run (`Table.copying`) tells its side. Before the transition it grows slowly with size
and tokens; that trend says whether a target beyond the ladder lies on the ladder's side.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic
from windtunnel.laws.interval import Interval, Span, Widening, decades_beyond
from windtunnel.laws.table import Floats, Table

BEFORE, AFTER = 0.05, 0.08
"""Copy gains in nats per token: a run below the first lies before the transition, one above the
second after it. Measured on 144x3 over 3, 6 and 13M tokens (docs/fit.md): up to 0.059 the loss
gains less from the second doubling of tokens than from the first, at 0.10 and above as much or
more."""

SURE = 3.0
"""Standard errors by which a gain differs from 0 before it counts as copying."""

EFFECT = 0.03
"""Share of the loss by which a run after the transition may lie below a law fitted before it.
Measured: 2.3 to 3.0% in three runs of 128x3 at twice their ladders' tokens, two corpora (docs/
fit.md). Assumed for other models, data and distances."""

FEWEST = 4
"""Runs with a copy gain that a trend in size and tokens needs."""


def before(copying: Floats) -> NDArray[np.bool_]:
    """Which rows of copy gains and standard errors (R, 2) lie before the transition."""
    return np.asarray(copying[:, 0] < BEFORE)


def after(copying: Floats) -> NDArray[np.bool_]:
    """Which rows lie after it; one without a standard error is not sure to."""
    return np.asarray((copying[:, 0] > AFTER) & (copying[:, 0] > SURE * copying[:, 1]))


def within(table: Table) -> Diagnostic | None:
    """The warning that some rows lie before a transition and some after it."""
    if table.copying is None:
        return None
    first, second = before(table.copying), after(table.copying)
    if not (first.any() and second.any()):
        return None
    return Diagnostic(
        "transition",
        f"{first.sum()} of {table.rows} rows lie before the transition to copying (copy gain below "
        f"{BEFORE} nats) and {second.sum()} after it (above {AFTER}): between them the loss falls "
        "faster than by the law of either side. Fit one side: --where "
        f"'copy_gain<{BEFORE}' or --where 'copy_gain>{AFTER}'",
        where="ladder",
        before=int(first.sum()),
        after=int(second.sum()),
        rows=table.rows,
    )


@dataclass(frozen=True, kw_only=True)
class CopyTrend:
    """How the copy gain of a ladder grows: a power of size times a power of tokens.

    The powers are of the slow growth before a transition. Those of four ladders of 9 to 80 thousand
    parameters put the gain of 144x3 (716 thousand) at two to eight times their tokens within 25%
    in 8 of 8 runs below `BEFORE`, and above it in both that lay after the transition (measured,
    docs/fit.md).

    Attributes:
        rows: Runs with a copy gain.
        before: Of them, how many lie before the transition.
        after: How many lie after it.
        highest: The largest gain, nats per token.
        log_gain: Ln of the gain in the middle of the ladder, on log scales.
        middle: Ln N and ln D there.
        powers: Of N and of D.
    """

    rows: int
    before: int
    after: int
    highest: float
    log_gain: float
    middle: tuple[float, float]
    powers: tuple[float, float]

    @classmethod
    def of(cls, table: Table) -> Self | None:
        """The trend of a table; None where fewer than `FEWEST` rows have a copy gain.

        Gains below their standard error count as that large. A power of N or D that the rows do
        not tell apart from the other is shared between both.
        """
        if table.copying is None or not {"params", "tokens"} <= table.columns.keys():
            return None
        known = np.isfinite(table.copying).all(axis=1) & (table.copying[:, 1] > 0)
        if known.sum() < FEWEST:
            return None
        gain, error = table.copying[known].T
        at = np.log(np.stack([table.params[known], table.tokens[known]], axis=1))
        middle = at.mean(axis=0)
        floored = np.maximum(gain, error)
        weight = floored / error  # one over the standard error of ln gain
        design = np.column_stack([np.ones(len(at)), at - middle]) * weight[:, None]
        found, *_ = np.linalg.lstsq(design, np.log(floored) * weight, rcond=1e-6)
        return cls(
            rows=int(known.sum()),
            before=int(before(table.copying[known]).sum()),
            after=int(after(table.copying[known]).sum()),
            highest=float(gain.max()),
            log_gain=float(found[0]),
            middle=(float(middle[0]), float(middle[1])),
            powers=(float(found[1]), float(found[2])),
        )

    @classmethod
    def read(cls, document: Mapping[str, Any] | None) -> Self | None:
        """The trend that `document` wrote."""
        if document is None:
            return None
        pairs = {name: tuple(document[name]) for name in ("middle", "powers")}
        return cls(**{**document, **pairs})

    def document(self) -> dict[str, Any]:
        """The trend as plain data."""
        return asdict(self)

    def gain(self, params: float, tokens: float) -> float:
        """The copy gain that the trend puts at (params, tokens), nats per token."""
        log_ratio = np.log([params, tokens]) - self.middle
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_gain + log_ratio @ self.powers))

    def crossing(self, params: float) -> float | None:
        """The tokens at which a model of this size passes `BEFORE` by the trend; None if never."""
        power = self.powers[1]
        if power <= 0:
            return None
        log_gain = self.log_gain + (np.log(params) - self.middle[0]) * self.powers[0]
        with np.errstate(over="ignore"):
            found = float(np.exp(self.middle[1] + (np.log(BEFORE) - log_gain) / power))
        return found if np.isfinite(found) else None

    def ahead(
        self, domain: Mapping[str, Span], params: float, tokens: float
    ) -> tuple[Diagnostic, ...]:
        """The warning that a transition lies between the ladder and a target beyond it, if any.

        Args:
            domain: Smallest and largest `params` and `tokens` of the ladder.
            params: Of the target.
            tokens: Of the target.
        """
        target = {"params": params, "tokens": tokens}
        if not any(decades_beyond(target[name], domain[name]) > 0 for name in target):
            return ()
        if self.after:
            lies = f"{self.before} of {self.rows} runs lie before it and {self.after} after it"
            is_ahead = self.before > 0
        else:
            lies = (
                f"the copy gain of the {self.rows} runs, at most {self.highest:.3f} nats, passes "
                f"{BEFORE} before this target by its trend"
            )
            is_ahead = self.gain(params, tokens) > BEFORE
        if not is_ahead:
            return ()
        return (
            Diagnostic(
                "transition",
                f"a transition to copying lies before this target: {lies}. The loss falls faster "
                f"across it than by the law, so that the lower end holds {EFFECT:.0%} of the loss "
                "more",
                where="ladder" if self.after else "trend",
                before=self.before,
                after=self.after,
                rows=self.rows,
                highest=self.highest,
                threshold=BEFORE,
                crossing=self.crossing(params),
                share=EFFECT,
            ),
        )


def widened(found: Interval, warnings: tuple[Diagnostic, ...]) -> Interval:
    """The interval with the warnings of `ahead`; its lower end then holds the transition."""
    if not warnings:
        return found
    return replace(
        found,
        low=found.low * (1 - EFFECT),
        warnings=(*found.warnings, *warnings),
        transition=Widening(share=EFFECT, low=found.low),
    )
