"""The Fit: a law, how sure we are of it, where it holds, and everything it was made from."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from windtunnel.errors import FitError
from windtunnel.laws.chinchilla import COEFFICIENTS, Chinchilla, log_optimum
from windtunnel.laws.interval import (
    Domain,
    HoldOut,
    Influence,
    Interval,
    Optimum,
    beyond,
    quantiles,
)
from windtunnel.laws.runs import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A fitted L(N, D). Raw units; sigmas are standard deviations of ln loss.

    Attributes:
        form: the law with its coefficients.
        intervals: (low, high) at `level` of every coefficient, of `exponent` (eta) and of `ratio`,
            the compute-optimal D/N at the largest fitted budget `domain.flops[1]`; empty if none.
        objective: what was minimised, with `delta` in the residual's unit (None: least squares).
        objective_value: its sum at the optimum; `gradient` is 0 there (scale-free cosine).
        starts_agreeing: how many of the `starts` reached it.
        seeds_per_cell: fewest and most trunks over the (N, D) cells.
        sigma_trunk: between trunks, from the fit's residuals; lack of fit counts as trunk noise.
        sigma_branch: between branches of one trunk.
        sigma_seed: both together, from cells with several trunks alone; None without any.
        lack_of_fit_p: chance of misfits this large by seed noise alone; None without seeds.
        correlation: Pearson r of ln N and ln D over the rows.
        warnings: what a reader must know before trusting a number of this fit.
        draws: coefficients of the resamples, shape (resamples, 5), in the order of `COEFFICIENTS`.
        sigma_draws: their (sigma_trunk, sigma_branch), shape (resamples, 2).
    """

    form: Chinchilla
    intervals: dict[str, tuple[float, float]]
    level: float
    objective: str
    delta: float | None
    objective_value: float
    gradient: float
    starts: int
    starts_agreeing: int
    converged: bool
    rows: int
    trunks: int
    seeds_per_cell: tuple[int, int]
    sigma_trunk: float
    sigma_branch: float
    sigma_seed: float | None
    lack_of_fit_p: float | None
    correlation: float
    domain: Domain
    loss_unit: str
    params_convention: str
    flop_factor: float
    filters: tuple[str, ...]
    holdout: HoldOut | None
    influence: Influence | None
    warnings: tuple[str, ...]
    seed: int
    draws: Floats
    sigma_draws: Floats
    law: str = "chinchilla"

    @property
    def coefficients(self) -> dict[str, float]:
        """E, A, B, alpha and beta by name, raw units."""
        return dict(zip(COEFFICIENTS, self.form.coefficients.tolist(), strict=True))

    @property
    def flop_rule(self) -> str:
        """The compute convention of every budget here, such as `6ND`."""
        return f"{self.flop_factor:g}ND"

    def predict(self, params: float, tokens: float, *, trunks: float = 1) -> Interval:
        """Loss of a new run at (params, tokens), in `loss_unit`, with its prediction interval.

        The interval covers the mean of `trunks` new runs of one branch each: uncertain
        coefficients plus trunk and branch noise. `trunks=math.inf` leaves the law's own
        uncertainty. Beyond the fitted domain the interval still assumes that the law holds, and a
        warning says how many decades beyond it is.

        Raises:
            FitError: a size, token count or number of trunks that is not positive.
        """
        for name, value in (("params", params), ("tokens", tokens), ("trunks", trunks)):
            if not value > 0:
                raise FitError(f"predict: {name} = {value}, must be above 0")
        draws = self._law_draws(params, tokens) * np.exp(self._noise() / np.sqrt(trunks))
        return Interval(
            float(self.form.predict(params, tokens)),
            *quantiles(draws, self.level),
            self._extrapolation(params, tokens),
        )

    def optimum(self, flops: float) -> Optimum:
        """Compute-optimal params, tokens, D/N and loss at `flops` = k N D, each with its interval.

        Raises:
            FitError: `flops` is not positive, or the fit left out one of the two terms.
        """
        if not flops > 0:
            raise FitError(f"optimum: flops = {flops}, must be above 0")
        if not (self.form.A > 0 and self.form.B > 0):
            absent = "A N^-alpha" if self.form.A == 0 else "B D^-beta"
            raise FitError(
                f"optimum: the fit gave the term {absent} no weight, so no optimum exists. The "
                f"table does not show it: widen the range of {'N' if self.form.A == 0 else 'D'}"
            )
        log_params, log_tokens = log_optimum(
            np.concatenate([self.form.coefficients[None], self.draws]),
            flops,
            flop_factor=self.flop_factor,
        )
        params, tokens, ratio = (
            _exp_interval(float(log[0]), *quantiles(log[1:], self.level))
            for log in (log_params, log_tokens, log_tokens - log_params)
        )
        found = (
            beyond("flops", flops, self.domain.flops),
            beyond("optimal D/N", ratio.value, self.domain.ratio),
        )
        loss = self.predict(params.value, tokens.value)
        warnings = tuple(w for w in found if w)
        return Optimum(float(flops), params, tokens, ratio, loss, warnings)

    def to_json(self, path: Path | None = None, *, draws: int | None = None) -> str:
        """This fit as JSON text, also written to `path`; keeps the first `draws` resamples."""
        from windtunnel.laws.record import write

        thinned = dataclasses.replace(
            self, draws=self.draws[:draws], sigma_draws=self.sigma_draws[:draws]
        )
        text = write(thinned)
        if path is not None:
            path.write_text(text)
        return text

    @staticmethod
    def from_json(text: str) -> "Fit":
        """The fit that `to_json` wrote.

        Raises:
            FitError: not such a text, or of another schema version.
        """
        from windtunnel.laws.record import read

        return read(text)

    def _law_draws(self, params: float, tokens: float) -> Floats:
        e, a, b, alpha, beta = self.draws.T
        return np.asarray(e + a * params**-alpha + b * tokens**-beta)

    def _noise(self) -> Floats:
        """Noise of ln loss for one new run per draw, the same at every call and every point."""
        rng = np.random.default_rng([self.seed, 1])
        normal = rng.standard_normal(self.sigma_draws.shape)
        return np.asarray(np.sum(self.sigma_draws * normal, axis=1))

    def _extrapolation(self, params: float, tokens: float) -> tuple[str, ...]:
        flops = self.flop_factor * params * tokens
        found = (
            beyond("params", params, self.domain.params),
            beyond("tokens", tokens, self.domain.tokens),
            beyond("flops", flops, self.domain.flops),
            beyond("D/N", tokens / params, self.domain.ratio),
        )
        return tuple(w for w in found if w)


def _exp_interval(value: float, low: float, high: float) -> Interval:
    with np.errstate(over="ignore"):
        return Interval(*np.exp([value, low, high]).tolist())
