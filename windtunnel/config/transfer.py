"""Transfer rules of a study: how its recipe follows batch, length and depth.

`scaling` and `forecast` experiments carry the recipe by these rules, and so does the export. Grids
and searches measure, so they take every value as written.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from windtunnel.config.units import Misfit, Size, Strict, WrittenCount
from windtunnel.errors import Refused, did_you_mean
from windtunnel.transfer import MEASURED, NONE, POWERS, TABLE, Along, Cell, Rule, Setting

MOST_POWER = 4.0
"""Largest exponent in either direction (assumed)."""


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """A rule of one cell: its name, a power of one's own, or the experiment that measures it.

    Attributes:
        name: `none`, a published rule, or `measured`; empty for a power of one's own.
        power: of one's own, or as measured; None before the measurement.
        experiment: that measures it; None where the study has only one that does.
    """

    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string"},
            {"type": "number", "minimum": -MOST_POWER, "maximum": MOST_POWER},
            {
                "type": "object",
                "properties": {"measured": {"type": "string"}, "power": {"type": "number"}},
                "required": ["measured"],
                "additionalProperties": False,
            },
        ],
        "examples": ["measured"],
    }

    name: str = NONE
    power: float | None = None
    experiment: str | None = None

    @property
    def is_measured(self) -> bool:
        """Whether an experiment measures the power."""
        return self.name == MEASURED

    @classmethod
    def parse(cls, value: object) -> Self:
        """The rule of `sqrt`, `-0.3`, `measured` or `{measured: EXPERIMENT}`.

        Raises:
            Refused: None of these.
        """
        match value:
            case cls():
                return value
            case str():
                return cls(name=value)
            case bool():
                pass
            case int() | float():
                return cls(name="", power=_checked_power(float(value)))
            case {"measured": str(experiment), **rest} if set(rest) <= {"power"}:
                power = rest.get("power")
                if power is None or (isinstance(power, int | float) and power is not True):
                    checked = None if power is None else _checked_power(float(power))
                    return cls(name=MEASURED, power=checked, experiment=experiment)
        raise Refused(
            "wrong-type",
            f"{value!r}: expected the name of a rule, a power such as -0.3, `measured`, or "
            "{measured: EXPERIMENT}",
            value=value,
        )

    def plain(self) -> str | float | dict[str, Any]:
        """The value as a study file has it."""
        if self.experiment is not None:
            power = {} if self.power is None else {"power": self.power}
            return {"measured": self.experiment, **power}
        return self.power if self.power is not None else self.name

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda rule: rule.plain()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(cls.json_schema)


def _checked_power(power: float) -> float:
    if not -MOST_POWER <= power <= MOST_POWER:
        raise Refused(
            "out-of-range",
            f"a power of {power:g}: from {-MOST_POWER:g} to {MOST_POWER:g} are allowed",
            value=power,
            least=-MOST_POWER,
            most=MOST_POWER,
        )
    return power


def _described(setting: Setting, along: Along) -> Any:
    """Description of a cell: the names of its rules, from the table."""
    names = [NONE, *TABLE[setting, along]]
    if (setting, along) in POWERS:
        names += [MEASURED, "or a power"]
    return Field(description=", ".join(names))


NO_RULE = RuleChoice()


class LRRules(Strict):
    """How the peak rate follows batch, length and depth."""

    batch: Annotated[RuleChoice, _described("lr", "batch")] = NO_RULE
    length: Annotated[RuleChoice, _described("lr", "length")] = NO_RULE
    depth: Annotated[RuleChoice, _described("lr", "depth")] = NO_RULE


class WeightDecayRules(Strict):
    """How weight decay follows batch and length."""

    batch: Annotated[RuleChoice, _described("weight_decay", "batch")] = NO_RULE
    length: Annotated[RuleChoice, _described("weight_decay", "length")] = NO_RULE


class Beta2Rules(Strict):
    """How beta2 follows the batch."""

    batch: Annotated[RuleChoice, _described("beta2", "batch")] = NO_RULE


class EpsRules(Strict):
    """How eps follows the batch."""

    batch: Annotated[RuleChoice, _described("eps", "batch")] = NO_RULE


class Tuned(Strict):
    """Where the recipe was tuned, which is where every rule is the identity."""

    tokens: Annotated[float, Field(ge=1, le=1e18, description="Tokens of training"), WrittenCount]
    size: Annotated[Size, Field(description="WIDTHxDEPTH; one of model.sizes")]


class TransferConfig(Strict):
    """Rules by which rate, weight decay, beta2 and eps follow batch, length and depth."""

    tuned: Annotated[
        Tuned | None,
        Field(
            description="Where `recipe` was tuned. A recipe taken from a search was tuned at its "
            "horizon and size"
        ),
    ] = None
    lr: LRRules = LRRules()
    weight_decay: WeightDecayRules = WeightDecayRules()
    beta2: Beta2Rules = Beta2Rules()
    eps: EpsRules = EpsRules()

    @model_validator(mode="after")
    def _rules_are_known(self) -> Self:
        for (setting, along), rule in self.cells():
            allowed = [NONE, *TABLE[setting, along]]
            if (setting, along) in POWERS:
                allowed.append(MEASURED)
            elif rule.experiment is not None or not rule.name:
                raise Misfit(
                    "rule-not-measured",
                    f"nothing measures how {setting} follows {along}; allowed: "
                    f"{', '.join(allowed)}",
                    setting,
                    along,
                    known=allowed,
                )
            if rule.name and rule.name not in allowed:
                raise Misfit(
                    "unknown-value",
                    f"{rule.name!r} is no rule of {setting} over {along}"
                    f"{did_you_mean(rule.name, allowed)}; allowed: {', '.join(allowed)}"
                    + (", or a power" if (setting, along) in POWERS else ""),
                    setting,
                    along,
                    known=allowed,
                )
        return self

    def cells(self) -> list[tuple[Cell, RuleChoice]]:
        """Every cell with the rule chosen for it."""
        return [
            ((setting, along), getattr(getattr(self, setting), along)) for setting, along in TABLE
        ]

    @property
    def chosen(self) -> dict[Cell, RuleChoice]:
        """The cells with a rule other than `none`."""
        return {cell: rule for cell, rule in self.cells() if rule.name != NONE}

    def rules(self) -> dict[Cell, Rule]:
        """The chosen rules as powers; a power not measured yet is 0."""
        return {
            cell: TABLE[cell][rule.name]
            if rule.name in TABLE[cell]
            else Rule(power=rule.power or 0.0)
            for cell, rule in self.chosen.items()
        }

    def with_power(self, cell: Cell, experiment: str, power: float) -> Self:
        """The same rules with the measured power of one cell."""
        setting, along = cell
        rule = RuleChoice(name=MEASURED, power=power, experiment=experiment)
        rules = getattr(self, setting).replace(**{along: rule})
        return self.model_copy(update={setting: rules})
