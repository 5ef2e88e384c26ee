"""YAML 1.2 in, checked study out; every complaint names the file, the line and the nearest fix.

PyYAML is not used: it reads `1e-3` as a string and lets a repeated key win silently.
"""

import io
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from windtunnel.errors import ConfigError, did_you_mean
from windtunnel.spec.config import StudyConfig


def load_study(path: Path) -> StudyConfig:
    """Read and check a study file.

    Raises:
        ConfigError: Missing file, bad YAML, repeated or unknown key, wrong type, or values that do
            not fit together; all faults of one file are listed at once.
    """
    tree = _parse(path)
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: a study file is a mapping of keys; `windtunnel init` writes one"
        )
    try:
        return StudyConfig.model_validate(_plain(tree))
    except ValidationError as invalid:
        errors = invalid.errors()
        lines = [_describe(path, tree, e) for e in errors if not _follows_from_another(e, errors)]
        raise ConfigError("\n".join(lines)) from None


def resolved_text(config: StudyConfig) -> str:
    """The study as YAML with every default in place; `load_study` reads it as the same study."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), text)
    return text.getvalue()


def _follows_from_another(error: Any, errors: list[Any]) -> bool:
    """A list whose items were all refused is also called too short: say only the cause."""
    within = tuple(error["loc"])
    return any(e is not error and tuple(e["loc"])[: len(within)] == within for e in errors)


def _parse(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; `windtunnel init {path}` writes a commented one"
        ) from None
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{path}: cannot be read: {unreadable}") from None
    try:
        return YAML(typ="rt").load(text)
    except DuplicateKeyError as twice:
        line = twice.problem_mark.line + 1 if twice.problem_mark else "?"
        problem = str(twice.problem).split(" with value")[0].split("\n")[0]
        raise ConfigError(f"{path}:{line}: {problem}; keep one of the two") from None
    except MarkedYAMLError as broken:
        line = broken.problem_mark.line + 1 if broken.problem_mark else "?"
        raise ConfigError(f"{path}:{line}: not valid YAML: {broken.problem}") from None
    except YAMLError as broken:
        raise ConfigError(f"{path}: not valid YAML: {broken}") from None


def _plain(node: Any) -> Any:
    """Round-trip nodes (which know their lines) as builtin values."""
    match node:
        case dict():
            return {str(key): _plain(value) for key, value in node.items()}
        case list():
            return [_plain(value) for value in node]
        case bool() | None:
            return node
        case float():
            return float(node)
        case int():
            return int(node)
        case str():
            return str(node)
    return node


def _describe(path: Path, tree: Any, error: Any) -> str:
    node, line, written, siblings = tree, 1, [], list[str]()
    for part in error["loc"]:
        is_key = isinstance(node, dict) and part in node
        is_item = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if is_key or is_item:
            line = (node.lc.value(part) if is_key else node.lc.item(part))[0] + 1
            if is_key:
                line, siblings = node.lc.key(part)[0] + 1, [str(key) for key in node]
            node = node[part]
            written.append(part)
        elif part == error["loc"][-1] and error["type"] == "missing":
            written.append(part)
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in written).lstrip(".")
    return f"{path}:{line}: {where or 'study'}{_complaint(error, node, siblings)}"


def _complaint(error: Any, node: Any, siblings: list[str]) -> str:
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
    shown = "" if isinstance(node, dict | list) else f" = {node!r}"
    return f"{shown}: {error['msg'][0].lower()}{error['msg'][1:]}"


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
            node = node.get("items", {})
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif isinstance(of_any_key := node.get("additionalProperties"), dict):
            node = of_any_key
        # else it is the tag of a choice that was made already
        if options := node.get("anyOf", node.get("oneOf") if "discriminator" not in node else None):
            node = next((option for option in options if "$ref" in option), node)
    return list(resolve(node).get("properties", {}))
