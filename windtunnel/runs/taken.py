"""recipes.json: what the experiments of a study have taken from earlier ones, and on what evidence.

It is written once, before the first run that rests on it. A later sweep reads it, so that the same
study has the same runs, even if the search has gone on since.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from windtunnel.config import StudyConfig
from windtunnel.config.own_values import source_of, taken_values
from windtunnel.config.settled import settled
from windtunnel.config.transfer import MOST_POWER
from windtunnel.config.units import Strict
from windtunnel.errors import Refused
from windtunnel.runs.files import DamagedFile, read_json, write_json
from windtunnel.runs.json_schema import Schema
from windtunnel.transfer import Along, Setting

FILE = "recipes.json"


class TakenWinner(Strict):
    """The winner that an experiment has taken.

    Attributes:
        source: the search.
        trial: its number there.
        values: by axis, such as `recipe.lr`; with the search's own beside those of the trial.
        loss: mean over the repeats, nats per token, with its interval where it has one.
        taken: Unix time.
    """

    source: str
    trial: int
    values: dict[str, Any]
    loss: float
    low: float | None = None
    high: float | None = None
    taken: float


class MeasuredPower(Strict):
    """The power of a transfer rule as an experiment has measured it, with its interval."""

    setting: Setting
    along: Along
    source: str
    power: Annotated[float, Field(ge=-MOST_POWER, le=MOST_POWER)]
    low: float | None = None
    high: float | None = None
    taken: float


class Taken(Strict):
    """Winners by the experiment that took them, and the measured powers of transfer rules."""

    winners: dict[str, TakenWinner] = Field(default_factory=dict)
    powers: tuple[MeasuredPower, ...] = ()

    def of(self, study: StudyConfig) -> "Taken":
        """What still is as the study asks for it; the rest is taken again."""
        sources = {each.name: source_of(each) for each in study.experiments}
        return Taken(
            winners={
                name: winner
                for name, winner in self.winners.items()
                if sources.get(name) == winner.source
            },
            powers=tuple(
                power
                for power in self.powers
                if study.measuring(power.setting, power.along) == power.source
            ),
        )

    def settle(self, study: StudyConfig) -> StudyConfig:
        """The study with everything that has been taken."""
        return settled(
            study,
            {name: winner.values for name, winner in self.winners.items()},
            {(each.setting, each.along): each.power for each in self.powers},
        )


TAKEN: Schema[Taken] = Schema(
    TypeAdapter(Taken),
    "put back a copy, or remove the file: the next sweep takes the same values from the same "
    "results again",
)


def read_taken(folder: Path, study: StudyConfig) -> Taken:
    """What the experiments of the study in `folder` have taken, as far as it still asks for it.

    Raises:
        StoreError: The file is damaged, or no search of this study has such a winner.
    """
    taken = (read_json(folder / FILE, TAKEN) or Taken()).of(study)
    for name, winner in taken.winners.items():
        try:
            taken_values(study, winner.values)
        except Refused as refused:
            raise DamagedFile(
                refused.code,
                f"{folder / FILE}: damaged: winners.{name}.values: {refused}; {TAKEN.fix}",
                **refused.values | {"file": folder / FILE, "place": f"winners.{name}.values"},
            ) from None
    return taken


def write_taken(folder: Path, taken: Taken) -> None:
    """Write what has been taken, before the first run that rests on it."""
    write_json(folder / FILE, taken.model_dump(mode="json"))
