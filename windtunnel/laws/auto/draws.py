"""Draws of a law with its misfit and noise, from one form or weighted over several."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from windtunnel.laws.auto.model import FORMS, SAME_INTERVAL
from windtunnel.laws.auto.sampling import Mode, draw
from windtunnel.laws.chinchilla import Auto
from windtunnel.laws.codec import misfit_document, read_misfit, rounded
from windtunnel.laws.misfit import MisfitDraws
from windtunnel.laws.table import Floats
from windtunnel.laws.validation import row_draws

FIFTH = 0.2
"""Weight of a row 4.6 standard deviations off the others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """S draws of the posterior of one table.

    Attributes:
        coefficients: E, A, B, alpha, beta, k (S, 6) in raw units.
        misfit: draws of it.
        sigma: standard deviations of a normal between trunks and between runs, and 0, (S, 3): the
            power of size with which the first changes.
        best: coefficients (6,) at the mode.
        weighted_down: rows that count less than a fifth in the heaviest form.
    """

    coefficients: Floats
    misfit: MisfitDraws
    sigma: Floats
    best: Floats
    weighted_down: int

    @classmethod
    def of(
        cls, top: Mode, *, walkers: int, steps: int, kept: int, rng: np.random.Generator
    ) -> Self:
        """Draws of one form, `walkers * kept` of them; see `sampling.draw`."""
        model = top.model
        points = draw(top, walkers=walkers, steps=steps, kept=kept, rng=rng)
        mean, spread = model.prior
        sigma = [
            model.sigma(points, "sigma_trunk"),
            SAME_INTERVAL * model.sigma(points, "sigma_run"),
            np.zeros((len(points), 1)),
        ]
        return cls(
            coefficients=model.coefficients(points),
            misfit=MisfitDraws(
                basis=model.basis,
                weights=model.misfit_weights(points, rng),
                amplitude=model.sigma(points, "sigma_misfit")[:, 0],
                sigma_size=model.sigma(points, "sigma_size")[:, 0],
                form=np.full(len(points), list(FORMS).index(model.form)),
                forms=tuple(FORMS),
            ),
            sigma=np.concatenate(sigma, axis=1),
            best=model.coefficients((mean + spread * top.point)[None])[0],
            weighted_down=int(np.sum(model.weight < FIFTH)),
        )

    @classmethod
    def weighted(
        cls, parts: Sequence["Draws"], weights: Floats, count: int, rng: np.random.Generator
    ) -> "Draws":
        """`count` draws, of each part as many as its weight says; the best is the heaviest's."""
        share = np.floor(np.cumsum(weights) / np.sum(weights) * count + 0.5).astype(np.intp)
        picked = [
            part.picked(rng.choice(len(part.sigma), many, replace=many > len(part.sigma)))
            for part, many in zip(parts, np.diff(share, prepend=0), strict=True)
        ]
        return dataclasses.replace(
            parts[int(np.argmax(weights))],
            coefficients=np.concatenate([part.coefficients for part in picked]),
            misfit=MisfitDraws.joined([part.misfit for part in picked]),
            sigma=np.concatenate([part.sigma for part in picked]),
        )

    def picked(self, rows: NDArray[np.intp]) -> "Draws":
        """Only these draws."""
        return dataclasses.replace(
            self,
            coefficients=self.coefficients[rows],
            misfit=self.misfit.picked(rows),
            sigma=self.sigma[rows],
        )

    def calibrated(self, factor: Mapping[str, float], reach: float) -> "Draws":
        """The same draws, whose misfit says how much wider intervals are beyond the table."""
        misfit = dataclasses.replace(self.misfit, widening=factor, reach=reach)
        return dataclasses.replace(self, misfit=misfit)

    def as_written(self) -> "Draws":
        """The same draws with the digits that a document keeps, so that it forecasts the same."""
        misfit = read_misfit(misfit_document(self.misfit, None))
        coefficients, sigma = (np.array(rounded(each)) for each in (self.coefficients, self.sigma))
        return dataclasses.replace(self, misfit=misfit, coefficients=coefficients, sigma=sigma)

    def curve(self, params: Floats, tokens: Floats) -> Floats:
        """Ln loss (S, R) of the law with its misfit, without what sizes, trunks and runs add."""
        with np.errstate(all="ignore"):
            law = np.log(Auto.values(self.coefficients, np.stack([params, tokens])))
        return law + self.misfit.along(np.log(params), np.log(tokens))

    def predict(
        self, params: Floats, tokens: Floats, trunk: NDArray[np.intp], rng: np.random.Generator
    ) -> Floats:
        """Ln loss (S, R) of new runs; those of one `trunk` share its noise."""
        _, index = np.unique(trunk, return_inverse=True)
        return row_draws(
            Auto,
            self.coefficients,
            self.sigma,
            np.stack([params, tokens]),
            index,
            span=(float(params.min()), float(params.max())),
            rng=rng,
            misfit=self.misfit,
        )
