"""Load a study file; every error names the file, the line, the key and the likely fix."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from windtunnel.config.errors import code_of, expected, values_of
from windtunnel.config.study import StudyConfig
from windtunnel.config.units import Misfit, expanded
from windtunnel.config.yaml import EXTENDS, Node, read_tree
from windtunnel.errors import ConfigError, Refused, cause_of, did_you_mean
from windtunnel.redact import redacted

LONGEST_EXAMPLE = 80
"""Characters of a refused value that an example repeats."""


@dataclass(frozen=True)
class Complaint:
    """One error of a study file.

    Attributes:
        key: the dotted key, such as `experiments[0].kind`.
        message: FILE:LINE, the key, what is allowed, the likely fix.
        values: the refused value, if it is a scalar, and the other values of the message.
    """

    code: str
    file: Path
    line: int
    key: str
    message: str
    values: Mapping[str, object] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """The complaint as an item of a list of several."""
        return {
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "message": self.message,
        }


def load_study(path: Path) -> StudyConfig:
    """Read and check a study file.

    Raises:
        ConfigError: Missing file, bad YAML, repeated or unknown key, wrong type, or values that do
            not fit together. Its values hold `file`, `line`, `key` and `value` of the first error,
            and the list `errors` of all of them where there are several.
    """
    tree = read_tree(path)
    try:
        study = StudyConfig.model_validate(tree.plain())
    except ValidationError as invalid:
        errors = invalid.errors()
        raise _error_of(
            [_complaint(tree, e) for e in errors if not _follows_from_another(e, errors)]
        ) from None
    except ArithmeticError as beyond:
        raise ConfigError(
            "out-of-range",
            f"{path}:1: {cause_of(beyond)}; a number is too large or too small",
            file=path,
            line=1,
            cause=cause_of(beyond),
        ) from None
    if complaints := list(_booleans_as_numbers(tree, study.model_dump(), "")):
        raise _error_of(complaints)
    return study


def _error_of(complaints: list[Complaint]) -> ConfigError:
    """One error with the code and the values of the first complaint."""
    first = complaints[0]
    values = {"file": first.file, "line": first.line, "key": first.key} | dict(first.values)
    if len(complaints) > 1:
        values["errors"] = [each.summary() for each in complaints]
    return ConfigError(first.code, "\n".join(each.message for each in complaints), **values)


def place_of(path: Path, *location: str | int) -> str:
    """FILE:LINE of a key of a study file, as of `node_at`."""
    node = node_at(path, *location)
    return f"{node.file}:{node.line}"


def node_at(path: Path, *location: str | int) -> Node:
    """The node of a key of a study file, in the file itself or in one that it extends.

    For a key that is left to its default, the nearest node above it.
    """
    node = replace(read_tree(path), line=1)
    for part in location:
        value = node.value
        if not (part in value if isinstance(value, dict) else _is_item(value, part)):
            break
        node = value[part]
    return node


def place_named(text: str, file: Path, key: str) -> Path:
    """The absolute path of `text`, a path under `key` of a study file.

    Raises:
        ConfigError: There is no such user, or the user has no home directory.
    """
    try:
        return file.resolve().parent / expanded(text)
    except Refused as refused:
        node = node_at(file, key)
        raise ConfigError(
            refused.code,
            f"{node.file}:{node.line}: {key}: {refused}",
            file=node.file,
            line=node.line,
            key=key,
            **refused.values,
        ) from None


def resolved_text(config: StudyConfig) -> str:
    """The study as YAML with every default; `load_study` reads it as the same study.

    A password in the tracking URI is redacted.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), text)
    return redacted(text.getvalue())


def _is_item(value: Any, part: str | int) -> bool:
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _booleans_as_numbers(node: Node, read: Any, where: str) -> Iterator[Complaint]:
    """A complaint for each true or false that became 1 or 0; `read` is the validated value."""
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
        key = where.lstrip(".")
        yield Complaint(
            code="not-a-number",
            file=node.file,
            line=node.line,
            key=key,
            message=f"{node.file}:{node.line}: {key} = {str(written).lower()}: expected a number",
            values={"value": written},
        )


def _follows_from_another(error: Any, errors: list[Any]) -> bool:
    """Whether an error is a consequence: a list of refused items also counts as too short."""
    within = tuple(error["loc"])
    return any(e is not error and tuple(e["loc"])[: len(within)] == within for e in errors)


def _complaint(tree: Node, error: Any) -> Complaint:
    """The error at one place of the study file."""
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
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in written).lstrip(".")
    key = key or "study"
    shown, has_value, plain = "", False, node.plain()
    if not isinstance(plain, dict | list) and error["loc"][-1:] != ("[key]",):
        shown, has_value = (" is empty" if plain is None else f" = {plain!r}"), True
    message, values = _message_and_values(error, shown, str(plain), siblings)
    return Complaint(
        code=code_of(error),
        file=node.file,
        line=node.line,
        key=key,
        message=f"{node.file}:{node.line}: {key}{message}",
        values=({"value": plain} if has_value else {}) | values_of(error) | values,
    )


def _location(error: Any) -> tuple[Any, ...]:
    """The path to the refused value: pydantic's, continued by the place of a `Misfit`."""
    location: tuple[Any, ...] = error["loc"]
    match error["type"]:
        case "value_error" if isinstance(misfit := error["ctx"]["error"], Misfit):
            return (*location, *misfit.place)
        case "union_tag_invalid":
            return (*location, "kind")
    return location


def _message_and_values(
    error: Any, shown: str, written: str, siblings: list[str]
) -> tuple[str, dict[str, object]]:
    """The part of the message after the key, and the allowed keys or kinds."""
    match error["type"]:
        case "missing":
            return ": required, and missing", {}
        case "extra_forbidden":
            known = _known_keys(error["loc"])
            unused = [key for key in known if key not in siblings]
            hint = did_you_mean(str(error["loc"][-1]), unused or known)
            return f": unknown key{hint or '.'} Allowed: {', '.join(known)}", {"known": known}
        case "value_error":
            return f": {error['ctx']['error']}", {}
        case "union_tag_invalid":
            hint = did_you_mean(written, kinds := _kinds())
            message = f"{shown}: unknown kind{hint or '.'} Allowed: {', '.join(kinds)}"
            return message, {"known": kinds}
        case "union_tag_not_found" | "model_attributes_type":
            message = f"{shown}: expected a mapping with a `kind`. Allowed: {', '.join(_kinds())}"
            return message, {"known": _kinds()}
        case "model_type":
            keys = _known_keys((*error["loc"], ""))
            clause, values = _with_example(error)
            message = f"{shown}: {clause}. Allowed: {', '.join(keys)}"
            return message, values | {"known": keys}
    clause, values = _with_example(error)
    return f"{shown}: {clause}", values


def _with_example(error: Any) -> tuple[str, dict[str, object]]:
    """The clause of `expected` with an example, and the example as it is written in YAML."""
    example = _example(error)
    if example is None:
        return expected(error), {}
    return f"{expected(error)}, for example {example}", {"example": example}


def _kinds() -> list[str]:
    """Kinds of experiments, the only tagged union of a study file."""
    experiments = StudyConfig.model_json_schema()["properties"]["experiments"]
    return list(experiments["items"]["discriminator"]["mapping"])


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys allowed at the place of an unknown one."""
    known = list(_schema_at(location[:-1])[1].get("properties", {}))
    return known if len(location) > 1 else [EXTENDS, *known]


def _example(error: Any) -> str | None:
    """The refused value as it was probably meant, else an example of the schema, in YAML."""
    written = error["input"]
    if isinstance(written, str) and (share := re.fullmatch(r"\s*([0-9.]+)\s*%\s*", written)):
        return f"{float(share[1]) / 100:g}"
    if error["type"] in {"literal_error", "string_pattern_mismatch"}:
        return None
    try:
        of_property, schema = _schema_at(error["loc"])
        if error["type"] == "tuple_type" and written is not None:
            return f"[{_item(schema, written)}]"
        example = _example_of(of_property, schema)
    except (KeyError, TypeError, AttributeError):  # a place within a value that the check split
        return None
    return None if example is None else _yaml(example)


def _item(schema: dict[str, Any], written: Any) -> str:
    """What was written in place of a list of one; an example where it is no such item."""
    lists = [each for each in (schema, *schema.get("anyOf", ())) if "items" in each]
    item: Any = lists[0]["items"] if lists else {}
    pattern, text = item.get("pattern"), _yaml(written)
    is_item = len(text) <= LONGEST_EXAMPLE and (pattern is None or re.search(pattern, text))
    return text if is_item else _yaml(item["examples"][0])


def _example_of(of_property: dict[str, Any], schema: dict[str, Any]) -> Any:
    """An example of the schema, or its default; of a mapping its required keys, or its first."""
    default = None if "properties" in schema else of_property.get("default")
    for example in (*of_property.get("examples", ()), *schema.get("examples", ()), default):
        if example is not None:
            return example
    required = schema.get("required", ())
    found = {
        key: example
        for key, node in schema.get("properties", {}).items()
        if (not required or key in required) and (example := _example_of(node, {})) is not None
    }
    return (found if required else dict(list(found.items())[:1])) or None


def _yaml(value: Any) -> str:
    """A value as one writes it in a study file, on one line."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case dict():
            return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(_yaml, value))}]"
    return str(value)


def _schema_at(location: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema at a place, as its property has it and resolved, by walking along the path."""
    schema = StudyConfig.model_json_schema()
    definitions = schema["$defs"]

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[1]]
        return node

    node = of_property = schema
    for part in location:
        node = resolve(node)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(part, "")} if part else node
        elif isinstance(part, int):
            node = node.get("items", node)  # a chain of one stage is written without a list
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif of_any_key := _of_any_key(node):
            node = of_any_key
        # any other part is the tag of a union that is already resolved
        of_property = node
        if options := node.get("anyOf", node.get("oneOf") if "discriminator" not in node else None):
            node = next((option for option in options if "$ref" in option), node)
    return of_property, resolve(node)


def _of_any_key(node: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the values of a mapping with free keys."""
    of_named: dict[str, Any] = node.get("patternProperties", {})
    schema = node.get("additionalProperties") or next(iter(of_named.values()), None)
    return schema if isinstance(schema, dict) else None
