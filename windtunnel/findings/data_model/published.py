"""The data-model laws of others, for comparison: only their exponents compare with ours."""

import math
from typing import NamedTuple

from windtunnel.laws import Interval


class Published(NamedTuple):
    """A law of others: exponents, and the tokens per param that it wants at a budget."""

    name: str
    alpha: float
    beta: float
    ratio: float
    flops: float


PUBLISHED = (
    Published("MiniCPM", 0.29, 0.23, 192, 1e21),  # arXiv 2404.06395, the fit of the average loss
    Published("Chinchilla", 0.34, 0.28, 20, 5.8e23),  # arXiv 2203.15556, at 70B and 1.4T tokens
)


def beside_published(alpha: Interval, beta: Interval) -> str:
    """Whether the published exponents lie in the intervals, as a clause for each of them."""
    if math.isnan(alpha.low) or math.isnan(beta.low):
        return "without intervals they cannot be compared with the published ones"
    return ", ".join(
        f"{law.name}'s {law.alpha:g} and {law.beta:g} "
        f"{_verdict(alpha_agrees=law.alpha in alpha, beta_agrees=law.beta in beta)}"
        for law in PUBLISHED
    )


def _verdict(*, alpha_agrees: bool, beta_agrees: bool) -> str:
    match alpha_agrees, beta_agrees:
        case True, True:
            return "lie inside both intervals"
        case False, False:
            return "lie outside both intervals"
    return f"agree in {'alpha' if alpha_agrees else 'beta'} alone"
