"""The full-size run that a study is for: a size and an amount of training, or one of them."""

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from windtunnel.config.units import Misfit, Size, Strict, WrittenCount, checked_path
from windtunnel.quantities import read_ratio

SIZES = ("params", "shape", "model")
"""What gives the target's size; one of them."""

DATA = ("flops", "tokens", "tokens_per_param")
"""What gives its amount of training; one of them."""

Amount = Annotated[float, Field(gt=0), WrittenCount]
Whole = Annotated[int, Field(ge=1), WrittenCount]


class TargetConfig(Strict):
    """The full-size run that the study is for: what `answer`, `export` and the report answer for.

    What is left out follows from the law. It changes no run of the study.
    """

    params: Annotated[
        Amount | None, Field(description="Non-embedding parameters N, such as 2.4B")
    ] = None
    shape: Annotated[Size | None, Field(description="In place of params: WIDTHxDEPTH")] = None
    model: Annotated[
        str | None,
        AfterValidator(lambda path: path if path is None else checked_path(path)),
        Field(description="In place of params: a YAML file with a `model:` section of one size"),
    ] = None
    tokens: Annotated[Amount | None, Field(description="Training tokens D, such as 1T or 20N")] = (
        None
    )
    tokens_per_param: Annotated[Amount | None, Field(description="In place of tokens: D / N")] = (
        None
    )
    flops: Annotated[
        Amount | None, Field(description="In place of tokens, or of the size: compute, 6 N D")
    ] = None
    context: Annotated[Whole | None, Field(description="Default: the study's")] = None
    vocab_size: Annotated[Whole | None, Field(description="Default: the tokenizer's")] = None
    head_dim: Annotated[Whole | None, Field(description="Default: the study's")] = None
    heads_per_kv: Annotated[Whole | None, Field(description="Default: the study's")] = None
    batch_tokens: Annotated[
        Whole | None, Field(description="Default: by the batch law of the study, or the study's")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _tokens_in_params(cls, fields: Any) -> Any:
        """`tokens: 20N` as `tokens_per_param: 20`."""
        tokens = fields.get("tokens") if isinstance(fields, dict) else None
        ratio = read_ratio(tokens) if isinstance(tokens, str) else None
        if ratio is None or "tokens_per_param" in fields:
            return fields
        return {**fields, "tokens": None, "tokens_per_param": ratio}

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Self:
        for names in (SIZES, DATA):
            given = self.given(names)
            if len(given) > 1:
                raise Misfit(
                    "contradiction",
                    f"{' and '.join(given)} say the same in two ways: write one of them",
                    given[1],
                    given=given,
                )
        if not self.given((*SIZES, *DATA)):
            raise Misfit(
                "missing-key",
                "say what to train: a size (params, shape or model), an amount of training "
                "(tokens, tokens_per_param or flops), or one of each, such as "
                "`{params: 2.4B, tokens: 1T}`",
                needed=[*SIZES, *DATA],
            )
        return self

    def given(self, names: Iterable[str]) -> list[str]:
        """Those of these fields that the file gives."""
        return [name for name in names if getattr(self, name) is not None]
