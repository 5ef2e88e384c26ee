"""The MixtureFit: losses predicted for a mixture, the best mixture, and its JSON document.

The document holds the table (docs/fit.md). Reading it fits the chosen regressions and their
resamples again and checks that they give the numbers in the document.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from windtunnel.errors import Diagnostic, FitError, did_you_mean
from windtunnel.laws.interval import NO_INTERVAL, Interval, quantiles
from windtunnel.laws.mixture.best import LAW, Best, Forecast, Gain, Score
from windtunnel.laws.mixture.codec import (
    DRAW_DIGITS,
    REPRODUCES,
    SCHEMA,
    best_document,
    check_counts,
    check_mixture_fit,
    interval_document,
    interval_of,
    is_mixture,
    read_forecast,
    read_interval,
    read_runs,
    read_selection,
)
from windtunnel.laws.mixture.models import KINDS
from windtunnel.laws.mixture.runs import (
    SUM_WITHIN,
    WEIGHT,
    MixtureRuns,
    Points,
    as_rows,
    named,
    points_of,
)
from windtunnel.laws.mixture.search import covers, distances, never_left_out
from windtunnel.laws.mixture.selection import Ensemble, ModelSelection, ensemble
from windtunnel.laws.schema import (
    EDITED,
    as_number,
    as_written,
    is_edited,
    json_text,
    parse,
    read_warnings,
    wrong_version,
)
from windtunnel.laws.table import Floats

Found = TypeVar("Found")
# A mixture that counts for less than half is one that the law may miss.
HALF = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureFit:
    """A fitted law from the mixture of a decay to each validation loss.

    Attributes:
        runs: what it was fitted to.
        choices: by set, the regressions tried and the one taken.
        laws: the regressions taken, and their resamples.
        coefficients: by set and name, of a regression that has any: ln loss of each source alone
            (above `c`, where there is one), and of products of two shares.
        target: what is minimised: weights of the sets, sum 1.
        score: of the target, on mixtures left out.
        best: the answer.
        inputs: of a study's fit, the `study`, its `experiments` and a fingerprint of its `runs`.
    """

    runs: MixtureRuns
    choices: Mapping[str, ModelSelection]
    laws: Ensemble
    coefficients: Mapping[str, Mapping[str, Interval]]
    target: Mapping[str, float]
    score: Score
    best: Best
    warnings: tuple[Diagnostic, ...]
    bootstrap: int
    seed: int
    level: float
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def law(self) -> str:
        """The law's name."""
        return LAW

    @cached_property
    def points(self) -> Points:
        """The mixtures, on the average trunk."""
        return points_of(self.runs)

    @property
    def target_weights(self) -> Floats:
        """Of the sets in their order, shape (S,)."""
        return np.array([self.target.get(name, 0.0) for name in self.runs.sets])

    def losses(self, mixtures: Floats) -> Floats:
        """Predicted losses (P, S) in nats for mixtures (P, K)."""
        return np.exp(self.laws.log_loss(mixtures))

    def target_at(self, mixtures: Floats) -> Floats:
        """Predicted targets (P,) for mixtures (P, K)."""
        return self.losses(mixtures) @ self.target_weights

    def drawn_losses(self, mixtures: Floats) -> Floats:
        """Losses (B, P, S) of the resampled laws for mixtures (P, K), without noise of runs."""
        log_loss = self.laws.log_loss(mixtures)
        if not self.laws.resampled:
            return np.empty((0, *log_loss.shape))
        drawn = np.stack([model(mixtures).T for model in self.laws.resampled], axis=2)
        return np.exp(2 * log_loss - drawn)

    @overload
    def predict(self, mixture: Mapping[str, float]) -> dict[str, Forecast]: ...

    @overload
    def predict(self, mixture: Sequence[Mapping[str, float]]) -> list[dict[str, Forecast]]: ...

    def predict(
        self, mixture: Mapping[str, float] | Sequence[Mapping[str, float]]
    ) -> dict[str, Forecast] | list[dict[str, Forecast]]:
        """The loss on each set of a new run with this mixture, a source not named being 0.

        Several mixtures, as a list or as the rows of a DataFrame whose columns are sources (or
        `weight_SOURCE`), give a list. Beyond the mixtures that the design covers, the numbers have
        a warning.

        Raises:
            FitError: an unknown source, or shares that are negative or do not sum to 1; of several
                the row is told.
        """
        if not isinstance(mixture, Mapping):
            with_rows = enumerate(mixtures_of(mixture))
            return [_of_row(row, each, self.predict) for row, each in with_rows]
        shares = shares_of(mixture, self.runs.sources)
        beyond = self.extrapolation(shares)
        found = forecasts(self.laws, shares, shares[None], self.level)
        return {
            name: Forecast(dataclasses.replace(each.loss, warnings=beyond), each.another_trunk)
            for name, each in zip(self.runs.sets, found, strict=True)
        }

    @overload
    def predict_target(self, mixture: Mapping[str, float]) -> Forecast: ...

    @overload
    def predict_target(self, mixture: Sequence[Mapping[str, float]]) -> list[Forecast]: ...

    def predict_target(
        self, mixture: Mapping[str, float] | Sequence[Mapping[str, float]]
    ) -> Forecast | list[Forecast]:
        """As `predict`, of the target that the best mixture minimises."""
        if not isinstance(mixture, Mapping):
            with_rows = enumerate(mixtures_of(mixture))
            return [_of_row(row, each, self.predict_target) for row, each in with_rows]
        shares = shares_of(mixture, self.runs.sources)
        found = forecast_of_target(self.laws, shares, shares[None], self.target_weights, self.level)
        loss = dataclasses.replace(found.loss, warnings=self.extrapolation(shares))
        return Forecast(loss, found.another_trunk)

    def extrapolation(self, shares: Floats) -> tuple[Diagnostic, ...]:
        """Warnings where the mixtures tried say little of shares (K,), or the law misses them."""
        return (*self._beyond(shares), *self._missed(shares))

    def _beyond(self, shares: Floats) -> Iterator[Diagnostic]:
        design, sources = self.points.weights, self.runs.sources
        words = named(sources, shares)
        if not covers(design, shares):
            yield Diagnostic(
                "extrapolates",
                f"{words} lies outside the mixtures tried, so the law is extrapolated: decay a "
                "branch there",
                mixture=dict(zip(sources, shares.tolist(), strict=True)),
            )
        elif less := never_left_out(design, shares, sources):
            reads = " and ".join(f"{name} {share:.2f}" for name, share in less.items())
            yield Diagnostic(
                "extrapolates",
                f"{words} reads less than any mixture tried, whose least shares are {reads}: "
                "single sources alone leave more out, and a loss rises steeply where a share nears "
                "0; decay a branch there",
                mixture=dict(zip(sources, shares.tolist(), strict=True)),
                least=dict(less),
            )

    def _missed(self, shares: Floats) -> Iterator[Diagnostic]:
        points = self.points
        near = int(distances(points.weights, shares).argmin())
        law = self.laws.log_loss(points.weights[[near]])[0]
        for s, name in enumerate(self.runs.sets):
            measured, sigma = points.log_loss[near, s], self.laws.sigma[s]
            if points.emphasis[near, s] < HALF and abs(law[s] - measured) > 2 * sigma:
                yield Diagnostic(
                    "law-misses",
                    f"loss on {name}: {np.exp(measured):.4f} was measured at {points.names[near]} "
                    f"({named(self.runs.sources, points.weights[near])}), the mixture tried that "
                    f"is nearest, where the law says {np.exp(law[s]):.4f}: it follows low losses",
                    set=name,
                    mixture=points.names[near],
                    measured=float(np.exp(measured)),
                    predicted=float(np.exp(law[s])),
                )

    def to_json(self, path: Path | str | None = None) -> str:
        """This fit as JSON text (docs/fit.md), also written to `path`."""
        text = write(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @staticmethod
    def from_json(text: str) -> "MixtureFit":
        """The fit that `to_json` wrote, its regressions fitted again.

        Raises:
            FitError: not such a text, of another version, or the regressions differ.
        """
        return read(text)

    def made_from(self, inputs: Mapping[str, str]) -> "MixtureFit":
        """This fit, saying which runs of which study it was made from."""
        return dataclasses.replace(self, inputs=inputs)

    def warned(self, *more: Diagnostic) -> "MixtureFit":
        """This fit with further warnings, first."""
        return dataclasses.replace(self, warnings=(*more, *self.warnings)) if more else self


def forecasts(laws: Ensemble, shares: Floats, at: Floats, level: float) -> list[Forecast]:
    """Forecasts of each set at shares (K,), with the errors of the resampled laws at `at`.

    That is the mixture itself, (1, K), or what each resample would have taken for it, (B, K).
    """
    draws, other = _drawn(laws, shares, at)
    value = np.exp(laws.log_loss(shares[None])[0])
    return [
        Forecast(
            Interval(float(value[s]), *quantiles(draws[:, s], level)), quantiles(other[:, s], level)
        )
        for s in range(value.size)
    ]


def forecast_of_target(
    laws: Ensemble, shares: Floats, at: Floats, target: Floats, level: float
) -> Forecast:
    """The forecast of the weighted mean of losses, for weights (S,) and shares (K,)."""
    draws, other = (each @ target for each in _drawn(laws, shares, at))
    value = float(np.exp(laws.log_loss(shares[None])[0]) @ target)
    return Forecast(
        Interval(value, *quantiles(draws, level)),
        quantiles(other, level) if other.size else NO_INTERVAL,
    )


def mixtures_of(given: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Shares by source of several mixtures; `weight_` before a source and missing cells go.

    Raises:
        FitError: neither rows nor columns.
    """
    return [
        {name.removeprefix(WEIGHT): share for name, share in row.items() if share is not None}
        for row in as_rows(given)
    ]


def _of_row(
    row: int, mixture: Mapping[str, float], predict: Callable[[Mapping[str, float]], Found]
) -> Found:
    """The forecast of one of several mixtures.

    Raises:
        FitError: as of one, with its row.
    """
    try:
        return predict(mixture)
    except FitError as wrong:
        raise FitError(wrong.code, f"row {row}: {wrong}", **wrong.values, row=row) from None


def shares_of(mixture: Mapping[str, float], sources: tuple[str, ...]) -> Floats:
    """Shares (K,) in the order of the sources, with sum 1.

    Raises:
        FitError: an unknown source, or no shares.
    """
    for name, share in mixture.items():
        if name not in sources:
            raise FitError(
                "unknown-source",
                f"mixture: no source {name!r}; the law knows {', '.join(sources)}"
                f"{did_you_mean(name, sources)}",
                source=name,
                known=list(sources),
            )
        if not share >= 0:
            raise FitError(
                "out-of-range",
                f"mixture: {name} = {share:g}: a share is 0 or more",
                source=name,
                share=share,
            )
    shares = np.array([float(mixture.get(name, 0.0)) for name in sources])
    if abs(shares.sum() - 1) > SUM_WITHIN:
        total = shares.sum()
        parts = ", ".join(f"{name}={share / total:.4g}" for name, share in mixture.items() if total)
        hint = f"; in proportion, {parts}" if parts else ""
        raise FitError(
            "wrong-sum",
            f"mixture: the shares sum to {total:.4g}: they are parts of 1{hint}",
            sum=float(total),
        )
    return np.asarray(shares / shares.sum())


def _drawn(laws: Ensemble, shares: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Losses (B, S) that a new run may have, off the same trunks and off another one."""
    log_loss = laws.log_loss(shares[None]) - laws.errors(at) + laws.noise
    if not laws.trunk_noise.size:
        return np.exp(log_loss), np.empty((0, log_loss.shape[1]))
    return np.exp(log_loss), np.exp(log_loss + laws.trunk_noise)


def write(fit: MixtureFit) -> str:
    """The fit as JSON with one key per line."""
    return json_text(document(fit))


def document(fit: MixtureFit) -> dict[str, Any]:
    """The fit as plain data, in the order of docs/fit.md."""
    runs, points = fit.runs, fit.points
    return {
        "law": LAW,
        "schema": SCHEMA,
        "n": runs.rows,
        "n_mixtures": len(points.weights),
        "n_trunks": runs.trunks,
        "dropped": [{"reason": reason, "rows": rows} for reason, rows in runs.dropped],
        "filters": list(runs.filters),
        "convention": {"loss": runs.loss_unit, "weights": "shares, sum 1"},
        "same": runs.same,
        "sets": {name: _set(fit, s, name) for s, name in enumerate(runs.sets)},
        "target": fit.target,
        "score": {"rms": fit.score.rms, **interval_document("rank", fit.score.rank)},
        "best": best_document(fit.best),
        "level": fit.level,
        "bootstrap": fit.bootstrap,
        "resamples": len(fit.laws.noise),
        "seed": fit.seed,
        "warnings": [warning.document() for warning in fit.warnings],
        "inputs": fit.inputs,
        "table": {
            "sources": runs.sources,
            "sets": runs.sets,
            "weights": runs.weights,
            "losses": runs.losses,
            "trunk": runs.trunk,
            "variant": runs.variant,
        },
        "fitted": fit.losses(points.weights),
        "best_draws": [
            [round(share, DRAW_DIGITS) for share in row] for row in fit.best.draws.tolist()
        ],
    }


def read(text: str) -> MixtureFit:
    """The fit in `text`.

    Raises:
        FitError: no such text, another schema version, fields that are missing, or regressions
            that come out otherwise.
    """
    return of_document(parse(text, "write one with windtunnel fit --out FIT.json"))


def of_document(content: Any) -> MixtureFit:
    """The fit of a parsed document.

    Raises:
        FitError: as `read`.
    """
    if not is_mixture(content) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise wrong_version("mixture fit", found, SCHEMA)
    with as_written("mixture fit", "put back what stood there, or fit the table again"):
        check_mixture_fit(content)
        runs = read_runs(content)
        check_counts(content, len(points_of(runs).weights))
        fit = _rebuilt(content, runs)
        written = np.array(content["fitted"], np.float64)
        found = fit.losses(fit.points.weights)
    if not np.allclose(found, written, rtol=REPRODUCES, atol=0):
        raise FitError(
            "not-reproduced",
            "a mixture fit that does not come out again from its own table: the file was edited, "
            "or scikit-learn has changed; fit the table again",
        )
    return fit.warned(EDITED) if is_edited(content) else fit


def _set(fit: MixtureFit, which: int, name: str) -> dict[str, Any]:
    choice = fit.choices[name]
    return {
        "chosen": choice.chosen,
        "why": choice.why,
        "formula": KINDS[choice.chosen].formula,
        "candidates": [
            {
                "kind": each.kind,
                "needs": each.needs,
                "refused": each.refused,
                "rms": each.rms,
                "relative": each.relative,
                **interval_document("rank", each.rank),
                "predicted": each.predicted,
            }
            for each in choice.candidates
        ],
        "coefficients": {
            key: [value.value, value.low, value.high]
            for key, value in fit.coefficients[name].items()
        },
        "noise": {"run": fit.laws.sigma[which], "trunk": fit.laws.sigma_trunk[which]},
    }


def _rebuilt(content: dict[str, Any], runs: MixtureRuns) -> MixtureFit:
    sets = {name: content["sets"][name] for name in runs.sets}
    choices = {name: read_selection(each) for name, each in sets.items()}
    best = content["best"]
    return MixtureFit(
        runs=runs,
        choices=choices,
        laws=ensemble(
            points_of(runs),
            [choice.chosen for choice in choices.values()],
            np.stack([choice.taken.predicted for choice in choices.values()], axis=1),
            bootstrap=content["bootstrap"],
            seed=content["seed"],
        ),
        coefficients={
            name: {key: interval_of(*values) for key, values in each["coefficients"].items()}
            for name, each in sets.items()
        },
        target=content["target"],
        score=Score(as_number(content["score"]["rms"]), read_interval("rank", content["score"])),
        best=Best(
            shares={
                name: interval_of(share, *best["intervals"][name])
                for name, share in best["mixture"].items()
            },
            target=read_forecast(best["target"]),
            losses={name: read_forecast(each) for name, each in best["losses"].items()},
            gains=tuple(
                Gain(each["over"], each["mixture"], read_interval("nats", each), each["none"])
                for each in best["gains"]
            ),
            draws=np.array(content["best_draws"], np.float64).reshape(-1, len(runs.sources)),
        ),
        warnings=read_warnings(content["warnings"]),
        bootstrap=content["bootstrap"],
        seed=content["seed"],
        level=content["level"],
        inputs=content["inputs"],
    )
