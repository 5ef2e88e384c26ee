"""The forecast check: whether the loss of the large run lies in the exported interval."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from windtunnel.errors import ConfigError, Diagnostic, FitError, StoreError, did_you_mean
from windtunnel.export.fits import MEAN, fingerprint_of, fingerprint_of_text
from windtunnel.export.handoff import EDITED, FILE, Estimate, Handoff
from windtunnel.export.write import FITS
from windtunnel.laws import Fit
from windtunnel.laws.fit_document import write
from windtunnel.runs.files import append_line

Unit = Literal["nats-per-token", "nats-per-byte", "bits-per-byte"]
UNITS: tuple[Unit, ...] = ("nats-per-token", "nats-per-byte", "bits-per-byte")
SAME = 0.005
"""Tokens and params up to so far from the Handoff's are its own: a last step more or less."""
LOG = "forecast-checks.jsonl"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One validation set: the forecast, and what was measured; nats per token.

    `inside` is None where the forecast has no interval; `log_error` is ln(forecast / measured).
    """

    name: str
    forecast: float
    low: float | None
    high: float | None
    measured: float
    inside: bool | None
    log_error: float


@dataclass(frozen=True, kw_only=True)
class ForecastCheck:
    """Every set that a loss was given of; `params` and `tokens` are those of the run.

    `warnings` are those of a Handoff that was edited, and of a forecast that was made anew.
    """

    params: float
    tokens: float
    level: float
    sets: tuple[Compared, ...]
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def inside(self) -> bool:
        """Whether no measured loss lies outside its interval."""
        return all(each.inside is not False for each in self.sets)

    def as_json(self) -> dict[str, Any]:
        """The check for `--json` and the log."""
        return {
            "params": self.params,
            "tokens": self.tokens,
            "level": self.level,
            "sets": [asdict(each) for each in self.sets],
            "warnings": [str(each) for each in self.warnings],
            "inside": self.inside,
        }


def check_forecast(
    path: Path,
    losses: Mapping[str, float],
    *,
    params: float | None = None,
    tokens: float | None = None,
    unit: Unit = "nats-per-token",
) -> ForecastCheck:
    """Compare measured losses, by validation set, with the forecast; `mean` is that over the sets.

    For a run of another size or length the forecast is made anew from the fits that were handed
    over with it, never from newer ones.

    Raises:
        ConfigError: No Handoff, a set that it does not know, or a unit that cannot be converted.
    """
    handoff = Handoff.read(path)
    folder = path if path.is_dir() else path.parent
    known = list(handoff.forecast)
    for name in losses:
        if name not in known:
            raise ConfigError(
                "unknown-set",
                f"--loss {name}=...: {folder / FILE} has forecasts of {', '.join(known)}"
                f"{did_you_mean(name, known)}",
                set=name,
                known=known,
            )
    at = (params or handoff.counts.params, tokens or handoff.counts.tokens)
    own = all(
        abs(mine / theirs - 1) <= SAME
        for mine, theirs in zip(at, (handoff.counts.params, handoff.counts.tokens), strict=True)
    )
    forecasts = {name: handoff.forecast[name] for name in losses}
    warnings = [each for each in handoff.warnings if each.code == EDITED]
    if not own:
        for name in losses:
            found = _fit_of(folder, handoff, name).predict(*at)
            forecasts[name] = Estimate.of(found)
            warnings += found.warnings
    return ForecastCheck(
        params=at[0],
        tokens=at[1],
        level=handoff.level,
        sets=tuple(
            _compared(name, forecasts[name], _in_nats_per_token(handoff, name, loss, unit))
            for name, loss in losses.items()
        ),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def log_check(path: Path, check: ForecastCheck) -> Path:
    """Append the check to the log beside the Handoff, with the time, and return the log's path.

    Raises:
        ConfigError: Disk full, or no permission.
    """
    log = (path if path.is_dir() else path.parent) / LOG
    try:
        append_line(log, {"time": time.time()} | check.as_json())
    except StoreError as refused:
        raise ConfigError(
            "cannot-write",
            f"{log}: the comparison is not kept: {refused.__cause__ or 'it cannot be written'}; "
            "make the folder writable and check again",
            path=log,
            cause=str(refused.__cause__ or refused),
        ) from None
    return log


def _compared(name: str, forecast: Estimate, measured: float) -> Compared:
    bounded = forecast.low is not None or forecast.high is not None
    return Compared(
        name=name,
        forecast=forecast.value,
        low=forecast.low,
        high=forecast.high,
        measured=measured,
        inside=measured in forecast if bounded else None,
        log_error=math.log(forecast.value / measured),
    )


def _fit_of(folder: Path, handoff: Handoff, name: str) -> Fit:
    """The exported fit of one set, unchanged."""
    file = folder / FITS / f"{name}.json"
    written = handoff.inputs.fits.get(name)
    if written is None:
        raise ConfigError(
            "set-without-fit",
            f"{folder / FILE}: inputs.fits: has no fit of {name!r}, so that no other size or "
            "length can be forecast; check the run at the size and tokens of the Handoff",
            path=folder / FILE,
            set=name,
        )
    try:
        fitted = Fit.read(file)
    except (ConfigError, FitError) as problem:
        raise ConfigError(
            "unreadable",
            f"{problem}. It is needed to forecast another size or length than was handed over: "
            "give the whole folder that `windtunnel export` wrote",
            path=file,
            cause=str(problem),
        ) from None
    as_it_lies = fingerprint_of_text(file.read_text(encoding="utf-8-sig"))
    # Fits were handed over before they had a digest.
    without_digest = fingerprint_of_text(write(fitted, with_digest=False))
    if written not in {as_it_lies, fingerprint_of(fitted), without_digest}:
        raise ConfigError(
            "other-fit",
            f"{file}: not the fit that was handed over ({written}); restore it, "
            "or check the run at the size and tokens of the Handoff",
            path=file,
            expected=written,
        )
    return fitted


def _in_nats_per_token(handoff: Handoff, name: str, loss: float, unit: Unit) -> float:
    if unit == "nats-per-token":
        return loss
    sets = handoff.bytes_per_token
    of = next(iter(sets)) if name == MEAN and len(sets) == 1 else name
    bytes_per_token = sets.get(of)
    if bytes_per_token is None:
        raise ConfigError(
            "unknown-bytes",
            f"--unit {unit}: the bytes per token of {name!r} are not known; give the loss of a "
            f"single set of text ({', '.join(sets)}), or in nats per token",
            unit=unit,
            set=name,
            known=list(sets),
        )
    return loss * bytes_per_token * (math.log(2) if unit == "bits-per-byte" else 1.0)
