"""Losses of other tools in the study's unit: nats per token, the mean over its validation sets."""

import math

from windtunnel.errors import ConfigError, did_you_mean
from windtunnel.runs.study import Study

UNITS = ("nats-per-token", "nats-per-byte", "bits-per-byte", "bits-per-token")


class LossUnit:
    """What losses of a unit are multiplied by to be nats per token of a study.

    Raises:
        ConfigError: No such unit, or one per byte where the study's bytes are not known.
    """

    def __init__(self, study: Study, unit: str) -> None:
        if unit not in UNITS:
            raise ConfigError(
                f"--unit {unit}: allowed are {', '.join(UNITS)}{did_you_mean(unit, UNITS)}"
            )
        self.unit = unit
        self._nats = math.log(2) if unit.startswith("bits") else 1.0
        self._bytes = {each.name: each.bytes_per_token for each in study.validation}
        if self._is_per_token:
            return
        if study.dataset is None:
            raise self._refused("its data is not prepared yet: `windtunnel sweep` does it")
        if unknown := [name for name, known in self._bytes.items() if known is None]:
            raise self._refused(
                f"the bytes per token of its validation set {unknown[0]!r} are not known, which "
                "came as tokens"
            )

    @property
    def _is_per_token(self) -> bool:
        return self.unit.endswith("per-token")

    def of_set(self, name: str) -> float:
        """The factor for a loss on one validation set."""
        return self._nats if self._is_per_token else self._nats * (self._bytes[name] or math.nan)

    def of_mean(self) -> float:
        """The factor for a mean over sets.

        Raises:
            ConfigError: Sets differ in bytes per token, so that a mean per byte tells none per
                token.
        """
        if self._is_per_token:
            return self._nats
        known = {round(each or math.nan, 6) for each in self._bytes.values()}
        if len(known) != 1:
            each = ", ".join(f"{name} {value:.4g}" for name, value in self._bytes.items())
            raise self._refused(
                f"its validation sets differ in bytes per token ({each}): give the loss on each of "
                "them with --loss-of SET=COL"
            )
        return self.of_set(next(iter(self._bytes)))

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(
            f"--unit {self.unit}: cannot be turned into the study's nats per token: {why}"
        )
