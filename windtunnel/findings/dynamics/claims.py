"""The six findings of MiniCPM on the decay (arXiv 2404.06395, section 4.4), each held to numbers.

A finding held where all of the interval says so, did not hold where all of it says otherwise, and
is told from noise in neither case. Where one seed gives no interval its number stands for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from windtunnel.findings.finding import Quantity

TRACKS = 0.9
"""Correlation, in the worst matrix, from which a change of weights tracks the rate (assumed)."""
ALIGNED = 0.5
"""Exponent from which D1 falls aligned with the rate; 1 would be in proportion (assumed)."""
ORDER_OF_MAGNITUDE = 10**0.5
"""A rise from half a decade on is about an order of magnitude (assumed)."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What was seen here, in a clause, and whether it is what was claimed; None: not told."""

    said: str
    held: bool | None


def claims_of(found: Mapping[str, Quantity]) -> tuple[Claim, ...]:
    """Those of the six whose numbers were found, in the paper's order."""
    made = (_change, _gradient, _cosine, _first, _second, _curvature)
    claims = []
    for claim in made:
        try:
            claims.append(claim(found))
        except KeyError:  # its number could not be made of these rows
            continue
    return tuple(claims)


def _change(found: Mapping[str, Quantity]) -> Claim:
    lowest = found["correlation of ln change with ln rate, lowest matrix"]
    exponent = found["exponent of change on rate"]
    held = _above(lowest, TRACKS)
    verb = _verb(held, "tracked the rate in every matrix", "did not track the rate in every matrix")
    return Claim(
        said=f"the largest change of a weight {verb} (correlation {_span(lowest)} in the worst, "
        f"exponent {_span(exponent)})",
        held=held,
    )


def _gradient(found: Mapping[str, Quantity]) -> Claim:
    ratio = found["gradient norm, end of decay over stable"]
    held = _not(_above(ratio, 1.0))
    return Claim(
        said=f"the gradient norm {_verb(held, 'diminished', 'did not diminish')} ({_times(ratio)})",
        held=held,
    )


def _cosine(found: Mapping[str, Quantity]) -> Claim:
    share = found["share of positive cosines in decay"]
    stable = found["share of positive cosines in stable"]
    more = found["share of positive cosines, decay less stable"]
    mostly, rose = _above(share, 0.5), _above(more, 0.0)
    held = False if False in (mostly, rose) else (None if None in (mostly, rose) else True)
    verb = _verb(held, "became more often positive", "did not become more often positive")
    return Claim(
        said=f"the cosine between gradients {verb} (in {share.value:.0%} of the decay's updates, "
        f"in {stable.value:.0%} before)",
        held=held,
    )


def _first(found: Mapping[str, Quantity]) -> Claim:
    exponent = found["exponent of the size of D1 on rate"]
    held = _above(exponent, ALIGNED)
    verb = _verb(held, "fell with the rate", "did not fall with the rate")
    mean = found["mean of D1, end of decay over stable"]
    return Claim(
        said=f"the size of D1 {verb} (exponent {_span(exponent)}; the mean of D1, in which batches "
        f"cancel, came to {_span(mean)} times what it was)",
        held=held,
    )


def _second(found: Mapping[str, Quantity]) -> Claim:
    ratio = found["size of D2, end of decay over stable"]
    held = _above(ratio, 1.0)
    return Claim(said=f"the size of D2 {_verb(held, 'rose', 'did not rise')} ({_times(ratio)})",
                 held=held)  # fmt: skip


def _curvature(found: Mapping[str, Quantity]) -> Claim:
    ratio = found["curvature, end of decay over stable"]
    exponent = found["exponent of curvature on rate"]
    held = _above(ratio, ORDER_OF_MAGNITUDE)
    verb = _verb(held, "rose by about an order of magnitude", "rose by less than half a decade")
    return Claim(
        said=f"curvature {verb} ({_times(ratio)}; exponent {_span(exponent)} on the rate, where "
        "gradients that change alike over ever smaller steps give -1)",
        held=held,
    )


def _above(found: Quantity, bound: float) -> bool | None:
    """Whether a number lies above a bound; None where its interval has the bound inside."""
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    return True if low > bound else (False if high < bound else None)


def _not(said: bool | None) -> bool | None:
    return None if said is None else not said


def _verb(held: bool | None, yes: str, no: str) -> str:
    """A clause for each answer."""
    return {True: yes, False: no, None: f"perhaps {yes}"}[held]


def _times(found: Quantity) -> str:
    return f"times {_span(found)}"


def _span(found: Quantity) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f}"
