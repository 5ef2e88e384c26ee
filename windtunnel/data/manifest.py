"""What the manifests of prepared data must hold, checked where they are read.

A manifest may hold more than is named here, and those of older versions lack what is not required.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from windtunnel.laws.shape import SHORT
from windtunnel.spec.wording import expected

_STRICT = ConfigDict(strict=True, extra="allow")
_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Share = Annotated[float, Field(ge=0, le=1)]


@with_config(_STRICT)
class _Side(TypedDict):
    tokens: _Count
    documents: _Count
    bytes: _Count | None
    sha256: _Sha256
    mask_sha256: NotRequired[_Sha256]
    completion_tokens: NotRequired[_Count]
    completion_bytes: NotRequired[_Count]


class _HeldOut(_Side):
    residue: _Share | None


@with_config(_STRICT)
class _LeftOut(TypedDict):
    count: _Count
    bytes: NotRequired[_Count | None]
    examples: NotRequired[list[str]]


@with_config(_STRICT)
class _Account(TypedDict):
    files: NotRequired[_Count | None]
    file_bytes: NotRequired[_Count]
    left_out: NotRequired[dict[str, _LeftOut]]


@with_config(_STRICT)
class _Recipe(TypedDict):
    builtin: NotRequired[str]
    tokenizer: NotRequired[dict[str, str]]
    files: NotRequired[list[Annotated[list[Any], Field(min_length=3, max_length=3)]]]


@with_config(_STRICT)
class _Source(TypedDict):
    recipe: _Recipe
    vocab_size: Annotated[int, Field(gt=0, le=1 << 32)]
    dtype: Literal["<u2", "<u4"]
    documents_dropped: _Count
    account: NotRequired[_Account]
    train: _Side
    validation: _HeldOut


@with_config(_STRICT)
class _Entry(TypedDict):
    name: str
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    folder: _Name


@with_config(_STRICT)
class _Dataset(TypedDict):
    vocab_size: Annotated[int, Field(gt=0, le=1 << 32)]
    sources: Annotated[list[_Entry], Field(min_length=1)]


_SCHEMAS: dict[str, TypeAdapter[Any]] = {
    "source": TypeAdapter(_Source),
    "dataset": TypeAdapter(_Dataset),
}


def check_content(manifest: Any, kind: str) -> None:
    """Whether a manifest holds what is read of it.

    Raises:
        ValueError: With the place, what stands there and what is expected.
    """
    try:
        _SCHEMAS[kind].validate_python(manifest)
    except ValidationError as wrong:
        error: Any = wrong.errors()[0]
        place = ".".join(map(str, error["loc"]))
        if error["type"] == "missing":
            raise ValueError(f"{place}: is missing") from None
        raise ValueError(f"{place}: {SHORT.repr(error['input'])}: {expected(error)}") from None
    if kind == "dataset":
        return
    for name in ("train", "validation"):
        side = manifest[name]
        if "mask_sha256" in side and not {"completion_tokens", "completion_bytes"} <= side.keys():
            raise ValueError(f"{name}: has a mask, but tells no completion_tokens or _bytes")
    for name, size, digest in manifest["recipe"].get("files", ()):
        if [type(name), type(size), type(digest)] != [str, int, str]:
            raise ValueError("recipe.files: expected a name, a size and a hash for each")
