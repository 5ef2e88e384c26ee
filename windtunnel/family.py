"""The plug of a model family: what a study must know of an architecture, and where it is found.

`minicpm` is built in (`config.model`, `model.decoder`). Any other family is a class that a study
names: `hf:NAME` for a decoder of transformers, or `package.module:Class` for one of the user's own.
Counts, roles and sites come from it as `Facts`, which a segment keeps, so that its results can be
read where the class is not installed. Only training and planning load it.

A study file may come from a stranger. So a family is looked up among installed modules alone, or
on a PYTHONPATH that the user has set: never in the current directory, never by a path.
"""

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from windtunnel.errors import Refused
from windtunnel.mup import Role, SiteName

if TYPE_CHECKING:
    from torch import nn

MINICPM = "minicpm"
"""The built-in family."""

MINICPM_MOE = "minicpm-moe"
"""MiniCPM's decoder with experts, built in as well."""

MADE_BY = {MINICPM_MOE: "windtunnel.model.moe:MiniCpmMoe"}
"""The class behind a name of ours."""

HUGGING_FACE = "windtunnel.model.hf:HuggingFace"
"""The class behind `hf:NAME`; it is made with the name."""

Value = bool | int | float | str | None
"""Of a shape field."""

EXAMPLES = "minicpm, minicpm-moe, hf:llama, or package.module:Class"
NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of one model.

    Attributes:
        width: Of the residual stream.
        depth: Layers.
        vocab_size: Tokens of the vocabulary.
        context: Tokens of a row.
        fields: The family's own fields, validated, with their defaults.
    """

    width: int
    depth: int
    vocab_size: int
    context: int
    fields: Mapping[str, Value] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What laws, budgets and exports need of one shape.

    Attributes:
        params: Non-embedding parameters: all but those of roles embedding and readout.
        params_embedding: Parameters of roles embedding and readout.
        params_active: Non-embedding parameters that one token passes through.
        flops_exact_per_token: Training FLOPs per token, attention scores and head included.
        roles: Roles that a parameter has, in the order of `Role`.
        sites: Sites whose forward multiplier the family can carry.
    """

    params: int
    params_embedding: int
    params_active: int
    flops_exact_per_token: int
    roles: tuple[Role, ...]
    sites: tuple[SiteName, ...]


@runtime_checkable
class FamilyProtocol(Protocol):
    """What a family's class has; `windtunnel.model.Family` writes most of it.

    Attributes:
        version: Names what the class computes, and is part of every run's id: raise it when the
            same shape and weights give other logits.
        sites: Sites of the forward pass that take a multiplier; none is allowed.
        takes: Which of the study's own shape fields it understands (`head_dim`, `ffn_ratio`, ...).
    """

    version: str
    sites: frozenset[SiteName]
    takes: frozenset[str]

    def fields(self, given: Mapping[str, Value], *, width: int, depth: int) -> dict[str, Value]:
        """The family's own fields of one size, validated, with their defaults.

        Raises:
            Refused: A field that it does not know, or a value that it does not allow.
        """

    def facts(self, shape: Shape) -> Facts:
        """Counts, roles and sites of one shape."""

    def build(self, shape: Shape, sites: Mapping[SiteName, float]) -> "nn.Module":
        """The network: token ids (B, T) in, next-token logits (B, T, V) out.

        `sites` has a factor for each of `self.sites`.
        """

    def roles(self, network: "nn.Module") -> Mapping[str, Role]:
        """The role of every parameter, by its name in `network.named_parameters()`.

        Raises:
            Refused: A parameter without a role, or with two.
        """

    def source_files(self) -> tuple[Path, ...]:
        """The files that the computation is written in."""


NEEDED = ("version", "sites", "takes", "fields", "facts", "build", "roles", "source_files")
"""What `FamilyProtocol` declares."""


@cache
def load_family(name: str) -> FamilyProtocol:
    """The family of this name, other than the built-in one.

    Raises:
        Refused: The name is no name of a family, its module cannot be imported, or its class lacks
            something.
    """
    if name in MADE_BY:
        return _made(MADE_BY[name])
    if name.startswith("hf:"):
        return _made(HUGGING_FACE, name.removeprefix("hf:"))
    if not NAME.fullmatch(name):
        raise Refused(
            "unknown-family",
            f"{name!r} is not the name of a family; allowed: {EXAMPLES}. A class is named by its "
            "installed module, never by a path",
            family=name,
        )
    return _made(name)


def facts_of(name: str, shape: Shape) -> Facts:
    """The facts of a shape; each is worked out once in a process.

    Raises:
        Refused: The family cannot be loaded, or its network cannot be built or run in this shape.
    """
    fields = tuple(sorted(shape.fields.items()))
    return _facts(name, replace(shape, fields={}), fields)


@cache
def _facts(name: str, bare: Shape, fields: tuple[tuple[str, Value], ...]) -> Facts:
    """The facts of a shape, whose fields are given as what `cache` can hash."""
    family, shape = load_family(name), replace(bare, fields=dict(fields))
    with code_of(name, f"a network of {shape.width}x{shape.depth}, built and run without memory,"):
        return family.facts(shape)


def source_of(family: str) -> str:
    """The name of a family, and the hash of the files that its computation is written in."""
    digest = hashlib.sha256()
    for path in load_family(family).source_files():
        digest.update(path.read_bytes())
    return f"{family} {digest.hexdigest()[:16]}"


def _made(name: str, *arguments: str) -> FamilyProtocol:
    module_name, _, class_name = name.partition(":")
    try:
        with _installed_only(), code_of(name, f"importing {module_name}"):
            module = importlib.import_module(module_name)
    except ImportError as failed:
        raise Refused(
            "family-not-importable",
            f"{name}: {failed}; install the package that holds it, or put its folder on "
            "PYTHONPATH (the current directory and the study's folder are not searched, because a "
            "study file may come from a stranger)",
            family=name,
            module=failed.name or module_name,
        ) from None
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise Refused(
            "family-not-importable",
            f"{name}: {module_name} has no class {class_name}",
            family=name,
            module=module_name,
        )
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise _incomplete(name, lacking)
    with code_of(name, f"{class_name}({', '.join(arguments)})"):
        family = found(*arguments)
    lacking = [each for each in NEEDED if not hasattr(family, each)]
    if lacking:
        raise _incomplete(name, lacking)
    assert isinstance(family, FamilyProtocol)
    return family


def _incomplete(name: str, lacking: list[str]) -> Refused:
    return Refused(
        "family-incomplete",
        f"{name}: lacks {', '.join(lacking)}; derive it from windtunnel.model.Family, which "
        "writes all but `version`, `build` and `patterns`",
        family=name,
        lacking=lacking,
    )


@contextmanager
def code_of(name: str, what: str) -> Iterator[None]:
    """Turn an exception of a family's own code into one that names the family.

    What that code prints goes to stderr, since stdout may be JSON.

    Args:
        name: Of the family.
        what: What the code does, such as `importing a.module`.

    Raises:
        Refused: The body raised anything but an error of ours or a missing module.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Refused, ImportError):
        raise
    except Exception as failed:
        raise Refused(
            "family-fails",
            f"{name}: {what} fails: {type(failed).__name__}: {failed}; mend the class",
            family=name,
            cause=str(failed),
        ) from failed


@contextmanager
def _installed_only() -> Iterator[None]:
    """Leave the current directory out of the search, unless PYTHONPATH names it."""
    here = str(Path.cwd())
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    before = sys.path.copy()
    if here not in {str(Path(each).resolve()) for each in path if each}:
        sys.path[:] = [each for each in before if each and str(Path(each).resolve()) != here]
    try:
        yield
    finally:
        sys.path[:] = before
