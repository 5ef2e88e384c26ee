"""Which units params and tokens are in, where together they are no language models'."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

SCALES = (1.0, 1e3, 1e6, 1e9)
# People write millions and billions: thousands must fit that much better, in decades.
THOUSANDS = 0.5
# Assumed, of runs that laws are fitted to: 0.3 to 30,000 tokens a parameter, and 40 in the middle
# (Chinchilla's 20, and what is trained for inference); models of 3e4 to 1e13 parameters. Wider
# bounds would let more than one unit through.
USUAL_RATIO, RATIOS = 40.0, (0.3, 3e4)
USUAL_PARAMS, SIZES = 3e8, (3e4, 1e13)
Candidate = tuple[float, float, float]
"""How far from the usual, and the factors of params and of tokens."""


def likely_scale(params: ArrayLike, tokens: ArrayLike) -> Mapping[str, float] | None:
    """Factors by name, of 1e3, 1e6 and 1e9, that make the two most usual; None where none do."""
    found = min(_plausible(params, tokens), default=None)
    if found is None:
        return None
    return {name: by for name, by in zip(("params", "tokens"), found[1:], strict=True) if by != 1}


def are_swapped(params: ArrayLike, tokens: ArrayLike) -> bool:
    """Whether each is more usual in the place of the other than in any unit of its own."""
    other = [off for off, *factors in _plausible(tokens, params) if factors == [1, 1]]
    return bool(other) and (other[0],) < min(_plausible(params, tokens), default=(np.inf,))


def written(factor: float) -> str:
    """A factor as one types it: 1e6."""
    return f"{factor:g}".replace("e+0", "e").replace("e+", "e")


def _plausible(params: ArrayLike, tokens: ArrayLike) -> Iterator[Candidate]:
    size, data = (float(np.median(np.asarray(each, np.float64))) for each in (params, tokens))
    if not (0 < size < np.inf and 0 < data < np.inf):
        return
    for of_params, of_tokens in product(SCALES, SCALES):
        scaled, ratio = size * of_params, data * of_tokens / (size * of_params)
        if SIZES[0] <= scaled <= SIZES[1] and RATIOS[0] <= ratio <= RATIOS[1]:
            off = abs(np.log10(ratio / USUAL_RATIO)) + abs(np.log10(scaled / USUAL_PARAMS)) / 2
            off += THOUSANDS * [of_params, of_tokens].count(1e3)
            yield off, of_params, of_tokens
