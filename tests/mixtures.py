"""Planted laws of a mixture, and branches that follow them."""

import numpy as np

SOURCES = ("docs", "code", "math")
SLOPES = np.array([[1.0, 1.2, 1.3], [1.3, 0.9, 1.1]])
CENTRES = np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3]])


def linear(shares):
    return shares @ SLOPES.T


def bowl(shares):
    """Of both sets, with one optimum of their mean inside the triangle."""
    return 1 + 0.3 * ((shares[..., None, :] - CENTRES) ** 2).sum(axis=-1)


def flat(shares):
    return np.ones((*shares.shape[:-1], 2))


def design(mixtures, sources=3, seed=0):
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.ones(sources), mixtures - sources - 1)
    return np.concatenate([np.eye(sources), np.full((1, sources), 1 / sources), drawn])


def rows_of(law, *, mixtures=16, trunks=2, noise=0.003, seed=0, apart=0.01):
    """Branches as a study has them: every trunk decays on every mixture."""
    rng = np.random.default_rng(seed)
    rows = []
    for trunk in range(trunks):
        shared = apart * rng.standard_normal(2)
        for number, shares in enumerate(design(mixtures)):
            loss = np.exp(law(shares) + shared + noise * rng.standard_normal(2))
            rows.append(
                {
                    **{
                        f"weight_{name}": share for name, share in zip(SOURCES, shares, strict=True)
                    },
                    "loss_docs": loss[0],
                    "loss_code": loss[1],
                    "trunk": f"t{trunk}",
                    "variant": f"mix{number:02}",
                    "params": 1e5,
                    "tokens": 1e7,
                    "decayed": True,
                }
            )
    return rows


def codes(fitted):
    return {warning.code for warning in fitted.warnings}
