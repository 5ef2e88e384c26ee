"""Two made-up domains of text, and the branches of studies on them."""

import numpy as np


def write_domains(made):
    """Two domains of made-up words that share no character."""
    rng = np.random.default_rng(0)
    for name, alphabet in (("letters", "abcdefghij"), ("digits", "0123456789")):
        words = ["".join(rng.choice(list(alphabet), 4)) for _ in range(60)]
        documents = [" ".join(rng.choice(words, 60)) for _ in range(300)]
        (made / f"{name}.txt").write_text("\n\n".join(documents))
    return made


def branch_of(study, variant):
    (found,) = (
        planned
        for planned in study.plan.branches
        if variant in [label.variant for label in planned.labels if not label.stage]
    )
    return found
