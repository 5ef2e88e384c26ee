"""Study files that extend others, as one tree whose every value knows its file and line."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from windtunnel.errors import ConfigError, boundary
from windtunnel.spec.paths import checked_path, expanded, is_relative
from windtunnel.spec.yaml_nodes import Node, parse

EXTENDS = "extends"

MOST_FILES = 50
"""Read for one study: two files that each extend two others grow without end."""


def read_tree(path: Path) -> Node:
    """The mapping in a file, laid over those that its key `extends` names, the last one on top.

    A mapping is merged key by key, `experiments` item by item of one name, anything else replaced;
    null takes a key back to its default. Paths of an extended file stay relative to that file.

    Raises:
        ConfigError: A missing or unreadable file, bad YAML, a repeated key, no mapping, or files
            that extend each other.
    """
    return _read(path, within=(), read=[])


def files_of(path: Path) -> tuple[Path, ...]:
    """The file, and every one that it extends.

    Raises:
        ConfigError: As of `read_tree`.
    """
    read: list[Path] = []
    _read(path, within=(), read=read)
    return tuple(read)


def _read(path: Path, *, within: tuple[Path, ...], read: list[Path]) -> Node:
    """As `read_tree`; `within` are the files that extend this one, `read` counts all."""
    read.append(path)
    tree = parse(path)
    if not isinstance(tree.value, dict):
        raise ConfigError(
            f"{path}:{tree.line}: a study file is a mapping of keys; `windtunnel init` writes one"
        )
    extended = tree.value.pop(EXTENDS, None)
    if extended is None:
        return tree
    here = (*within, path.resolve())
    merged: Node | None = None
    for name in _names(extended):
        where = f"{extended.file}:{extended.line}: {EXTENDS}: {name}"
        with boundary(where, "mend the path", ConfigError, what="cannot be read"):
            below = path.parent / expanded(name)
            if below.resolve() in here:
                raise ConfigError(f"{where}: a file cannot extend itself, by whatever way")
            if not below.exists():
                raise ConfigError(f"{where}: no such file; the path is relative to {path.name}")
            if not below.is_file():
                raise ConfigError(f"{where}: is no file; give the path of a study file")
            if len(read) == MOST_FILES:
                raise ConfigError(f"{where}: more than {MOST_FILES} files; extend fewer")
        found = _moved(_read(below, within=here, read=read), path.parent)
        merged = found if merged is None else _over(merged, found)
    return tree if merged is None else _over(merged, tree)


def _names(extended: Node) -> list[str]:
    names = extended.plain()
    listed = names if isinstance(names, list) else [names]
    where = f"{extended.file}:{extended.line}: {EXTENDS}"
    if not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"{where}: write the path of a study file, or a list of them")
    for name in listed:
        try:
            checked_path(name)
        except ValueError as refused:
            raise ConfigError(f"{where}: {refused}") from None
    return listed


def _over(below: Node, above: Node, key: str = "") -> Node:
    """`above` laid over `below`."""
    if key == "experiments" and isinstance(below.value, list) and isinstance(above.value, list):
        entries = _by_name(below.value, 0)
        for name, item in _by_name(above.value, len(entries)).items():
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


def _by_name(experiments: list[Node], first: int) -> dict[str, Node]:
    """The experiments of one file, which are told apart by their names alone."""
    entries: dict[str, Node] = {}
    for number, item in enumerate(experiments, start=first):
        name = _name(item, number)
        if name in entries:
            raise ConfigError(
                f"{item.file}:{item.line}: experiments: two experiments are called {name!r}; give "
                "this one a `name:` of its own"
            )
        entries[name] = item
    return entries


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
        if isinstance(text, str) and _moves(text):
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


def _moves(text: str) -> bool:
    """Whether a path means another place when it is read from another folder."""
    return bool(text.strip()) and is_relative(text) and not text.startswith("builtin:")


def _entries(holder: dict[str, Node], key: str) -> dict[str, Node]:
    value = holder[key].value if key in holder else None
    return value if isinstance(value, dict) else {}
