"""A YAML 1.2 file as a tree whose every value knows its file and line; files that extend others.

PyYAML is not used: it reads `1e-3` as a string and lets a repeated key win silently.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from windtunnel.errors import ConfigError

EXTENDS = "extends"


@dataclass(frozen=True)
class Node:
    """A value, and where it was written: a dict of nodes, a list of nodes, or a scalar.

    The line is that of its key, or of itself in a list.
    """

    value: Any
    file: Path
    line: int

    def plain(self) -> Any:
        """Builtin values only."""
        match self.value:
            case dict() as entries:
                return {key: node.plain() for key, node in entries.items()}
            case list() as items:
                return [node.plain() for node in items]
        return self.value


def read_tree(path: Path, *, within: tuple[Path, ...] = ()) -> Node:
    """The mapping in a file, laid over those that its key `extends` names, the last one on top.

    A mapping is merged key by key, `experiments` item by item of one name, anything else replaced;
    null takes a key back to its default. Paths of an extended file stay relative to that file.

    Raises:
        ConfigError: A missing or unreadable file, bad YAML, a repeated key, no mapping, or files
            that extend each other.
    """
    tree = _parse(path)
    if not isinstance(tree.value, dict):
        raise ConfigError(
            f"{path}: a study file is a mapping of keys; `windtunnel init` writes one"
        )
    extended = tree.value.pop(EXTENDS, None)
    if extended is None:
        return tree
    here = (*within, path.resolve())
    merged: Node | None = None
    for name in _names(extended):
        below = path.parent / name
        where = f"{extended.file}:{extended.line}: {EXTENDS}: {name}"
        if below.resolve() in here:
            raise ConfigError(f"{where}: a file cannot extend itself, by whatever way")
        if not below.exists():
            raise ConfigError(f"{where}: no such file; the path is relative to {path.name}")
        found = _moved(read_tree(below, within=here), path.parent)
        merged = found if merged is None else _over(merged, found)
    return tree if merged is None else _over(merged, tree)


def _names(extended: Node) -> list[str]:
    names = extended.plain()
    listed = names if isinstance(names, list) else [names]
    if not all(isinstance(name, str) for name in listed):
        raise ConfigError(
            f"{extended.file}:{extended.line}: {EXTENDS}: write the path of a study file, or a "
            "list of them"
        )
    return listed


def _over(below: Node, above: Node, key: str = "") -> Node:
    """`above` laid over `below`."""
    if key == "experiments" and isinstance(below.value, list) and isinstance(above.value, list):
        entries = {_name(item, number): item for number, item in enumerate(below.value)}
        for number, item in enumerate(above.value, start=len(entries)):
            name = _name(item, number)
            entries[name] = _over(entries[name], item) if name in entries else item
        return replace(above, value=list(entries.values()))
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    merged = dict(below.value)
    for name, node in above.value.items():
        if node.value is None:
            merged.pop(name, None)
        else:
            merged[name] = _over(merged[name], node, name) if name in merged else node
    return replace(above, value=merged)


def _name(experiment: Node, number: int) -> str:
    """What an experiment is called; its kind unless it says otherwise."""
    plain = experiment.plain()
    known = plain if isinstance(plain, dict) else {}
    return str(known.get("name", known.get("kind", number)))


def _moved(tree: Node, folder: Path) -> Node:
    """A tree whose paths were relative to its own file, now relative to `folder`."""
    own = tree.file.parent
    if own.resolve() == folder.resolve():
        return tree
    for entries, key in _paths(tree.value):
        node = entries[key]
        text = node.value
        if isinstance(text, str) and _is_relative(text):
            entries[key] = replace(node, value=os.path.relpath(own / text, folder))
    return tree


def _paths(study: dict[str, Node]) -> Iterator[tuple[Any, Any]]:
    """Where a study file holds paths, as (container, key); the schema complains of the rest."""
    data = _entries(study, "data")
    if "store" in study:
        yield study, "store"
    if "tokenizer" in data and data["tokenizer"].value != "bytes":
        yield data, "tokenizer"
    for holder, key in ((data, "sources"), (_entries(data, "validation"), "extra")):
        listed = holder[key].value if key in holder else None
        for number, source in enumerate(listed if isinstance(listed, list) else ()):
            if not isinstance(source.value, dict):
                yield listed, number
            elif "path" in source.value:
                yield source.value, "path"


def _entries(holder: dict[str, Node], key: str) -> dict[str, Node]:
    value = holder[key].value if key in holder else None
    return value if isinstance(value, dict) else {}


def _is_relative(text: str) -> bool:
    return not (text.startswith(("builtin:", "~")) or Path(text).is_absolute())


def _parse(path: Path) -> Node:
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
        return _node(YAML(typ="rt").load(text), path, 1)
    except DuplicateKeyError as twice:
        line = twice.problem_mark.line + 1 if twice.problem_mark else "?"
        problem = str(twice.problem).split(" with value")[0].split("\n")[0]
        raise ConfigError(f"{path}:{line}: {problem}; keep one of the two") from None
    except MarkedYAMLError as broken:
        line = broken.problem_mark.line + 1 if broken.problem_mark else "?"
        raise ConfigError(f"{path}:{line}: not valid YAML: {broken.problem}") from None
    except YAMLError as broken:
        raise ConfigError(f"{path}: not valid YAML: {broken}") from None


def _node(loaded: Any, file: Path, line: int) -> Node:
    """Round-trip values, which know the lines of their parts, as nodes of builtin values."""
    match loaded:
        case dict():
            places = loaded.lc.data or {}  # type: ignore[attr-defined]
            entries = {  # a key that came by `<<` has no place of its own
                str(key): _node(value, file, places[key][0] + 1 if key in places else line)
                for key, value in loaded.items()
            }
            return Node(entries, file, line)
        case list():
            items = [
                _node(item, file, loaded.lc.item(number)[0] + 1)  # type: ignore[attr-defined]
                for number, item in enumerate(loaded)
            ]
            return Node(items, file, line)
        case bool() | None:
            return Node(loaded, file, line)
    for builtin in (float, int, str):
        if isinstance(loaded, builtin):
            return Node(builtin(loaded), file, line)
    return Node(loaded, file, line)
