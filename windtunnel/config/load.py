"""YAML in, checked study out; every complaint names the file, the line and the nearest fix."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from windtunnel.config.errors import expected
from windtunnel.config.study import StudyConfig
from windtunnel.config.units import Misfit, expanded
from windtunnel.config.yaml import EXTENDS, Node, read_tree
from windtunnel.errors import ConfigError, cause_of, did_you_mean
from windtunnel.redact import redacted


def load_study(path: Path) -> StudyConfig:
    """Read and check a study file.

    Raises:
        ConfigError: Missing file, bad YAML, repeated or unknown key, wrong type, or values that do
            not fit together; all faults of one file are listed at once.
    """
    tree = read_tree(path)
    try:
        study = StudyConfig.model_validate(tree.plain())
    except ValidationError as invalid:
        errors = invalid.errors()
        lines = [_describe(tree, e) for e in errors if not _follows_from_another(e, errors)]
        raise ConfigError("\n".join(lines)) from None
    except ArithmeticError as beyond:
        raise ConfigError(
            f"{path}:1: {cause_of(beyond)}; a number is too large or too small"
        ) from None
    if lines := list(_booleans_as_numbers(tree, study.model_dump(), "")):
        raise ConfigError("\n".join(lines))
    return study


def place_of(path: Path, *location: str | int) -> str:
    """FILE:LINE of what a study file that was read says there, in itself or in what it extends.

    Of what it leaves to a default, the line of the nearest part that it does say.
    """
    node = replace(read_tree(path), line=1)
    for part in location:
        value = node.value
        if not (part in value if isinstance(value, dict) else _is_item(value, part)):
            break
        node = value[part]
    return f"{node.file}:{node.line}"


def place_named(text: str, file: Path, key: str) -> Path:
    """Where a path that a study file names below its part `key` leads.

    Raises:
        ConfigError: There is no such user, or this user has no home.
    """
    try:
        return file.resolve().parent / expanded(text)
    except ValueError as refused:
        raise ConfigError(f"{place_of(file, key)}: {key}: {refused}") from None


def resolved_text(config: StudyConfig) -> str:
    """The study as YAML with every default in place; `load_study` reads it as the same study.

    Passwords of its tracking URI are left out.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), text)
    return redacted(text.getvalue())


def _is_item(value: Any, part: str | int) -> bool:
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _booleans_as_numbers(node: Node, read: Any, where: str) -> Iterator[str]:
    """A complaint for each true and false that was taken as 1 and 0; `read` is what they became."""
    written = node.value
    if isinstance(written, dict) and isinstance(read, list | tuple) and len(read) == 1:
        read = read[0]  # a chain of one stage is written without a list
    if isinstance(written, dict) and isinstance(read, dict):
        for key in written.keys() & read.keys():
            yield from _booleans_as_numbers(written[key], read[key], f"{where}.{key}")
    elif isinstance(written, list) and isinstance(read, list | tuple):
        for number, (each, became) in enumerate(zip(written, read, strict=False)):
            yield from _booleans_as_numbers(each, became, f"{where}[{number}]")
    elif isinstance(written, bool) and isinstance(read, int | float) and written is not read:
        yield (
            f"{node.file}:{node.line}: {where.lstrip('.')} = {str(written).lower()}: expected a "
            "number"
        )


def _follows_from_another(error: Any, errors: list[Any]) -> bool:
    """A list whose items were all refused is also called too short: say only the cause."""
    within = tuple(error["loc"])
    return any(e is not error and tuple(e["loc"])[: len(within)] == within for e in errors)


def _describe(tree: Node, error: Any) -> str:
    node, written, siblings = replace(tree, line=1), [], list[str]()
    location = _location(error)
    for part in location:
        value = node.value
        is_key = isinstance(value, dict) and part in value
        if is_key or _is_item(value, part):
            if is_key:
                siblings = list(value)
            node = value[part]
            written.append(part)
        elif part == location[-1] and error["type"] == "missing":
            written.append(part)
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in written).lstrip(".")
    said = _complaint(error, node.plain(), siblings)
    return f"{node.file}:{node.line}: {where or 'study'}{said}"


def _location(error: Any) -> tuple[Any, ...]:
    """The path to what is wrong, further than to what pydantic was checking where more is known."""
    location: tuple[Any, ...] = error["loc"]
    match error["type"]:
        case "value_error" if isinstance(misfit := error["ctx"]["error"], Misfit):
            return (*location, *misfit.place)
        case "union_tag_invalid":
            return (*location, "kind")
    return location


def _complaint(error: Any, node: Any, siblings: list[str]) -> str:
    shown = " is empty" if node is None else f" = {node!r}"
    if isinstance(node, dict | list) or error["loc"][-1:] == ("[key]",):
        shown = ""
    match error["type"]:
        case "missing":
            return ": required, and missing"
        case "extra_forbidden":
            known = _known_keys(error["loc"])
            unused = [key for key in known if key not in siblings]
            hint = did_you_mean(str(error["loc"][-1]), unused or known)
            return f": unknown key{hint or '.'} Allowed: {', '.join(known)}"
        case "value_error":
            message = str(error["ctx"]["error"])
            return f": {message}"
        case "union_tag_invalid":
            hint = did_you_mean(str(node), kinds := _kinds())
            return f"{shown}: unknown kind{hint or '.'} Allowed: {', '.join(kinds)}"
        case "union_tag_not_found" | "model_attributes_type":
            return f"{shown}: expected a mapping with a `kind`. Allowed: {', '.join(_kinds())}"
        case "model_type":
            keys = ", ".join(_known_keys((*error["loc"], "")))
            return f"{shown}: {expected(error)}. Allowed: {keys}"
    return f"{shown}: {expected(error)}"


def _kinds() -> list[str]:
    """Kinds of experiments: nothing else in a study file is told apart by a key."""
    experiments = StudyConfig.model_json_schema()["properties"]["experiments"]
    return list(experiments["items"]["discriminator"]["mapping"])


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys allowed beside the unknown one, by walking the schema along the error's path."""
    schema = StudyConfig.model_json_schema()
    definitions = schema["$defs"]

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[1]]
        return node

    node = schema
    for part in location[:-1]:
        node = resolve(node)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(part, "")} if part else node
        elif isinstance(part, int):
            node = node.get("items", node)  # a chain of one stage is written without a list
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif of_any_key := _of_any_key(node):
            node = of_any_key
        # else it is the tag of a choice that was made already
        if options := node.get("anyOf", node.get("oneOf") if "discriminator" not in node else None):
            node = next((option for option in options if "$ref" in option), node)
    known = list(resolve(node).get("properties", {}))
    return known if len(location) > 1 else [EXTENDS, *known]


def _of_any_key(node: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a mapping's values, whose keys the user chooses."""
    of_named: dict[str, Any] = node.get("patternProperties", {})
    found = node.get("additionalProperties") or next(iter(of_named.values()), None)
    return found if isinstance(found, dict) else None
