"""Study files as trees in which every value knows its file and line; `extends` merges files.

Files are YAML 1.2, read by ruamel: PyYAML reads `1e-3` as a string and accepts repeated keys. YAML
features that no study needs (tags, several documents, huge alias expansions) are refused.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from windtunnel.config.units import checked_path, expanded, is_relative
from windtunnel.errors import ConfigError, Refused, boundary

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000
"""Values of a file with its aliases expanded; nested aliases grow exponentially."""
DEEPEST = 50
LARGEST_INTEGER = 2**63 - 1

TAG = "tag:yaml.org,2002:"
VERSION = re.compile(r"^%YAML[ \t]+(\S+)", re.MULTILINE)
MERGE = f"{TAG}merge"
NULLS = {"": None, "~": None, "null": None}
TUPLE = f"{TAG}python/tuple"
"""Tag that PyYAML's `yaml.dump` writes for a tuple; such a value is read as a list."""
HOW = {
    "timestamp": "a date; put it into quotes",
    "binary": "binary data; write text or a number",
    "set": "a set; write a list",
    "omap": "an ordered mapping; write a mapping, or remove the tag",
    "pairs": "a list of pairs; write a mapping",
}
"""YAML types that a study file does not take, by tag, with what to write instead."""


@dataclass(frozen=True)
class Node:
    """A value with its file and line: a dict of nodes, a list of nodes, or a scalar.

    The line is that of the key; in a list, that of the item.
    """

    value: Any
    file: Path
    line: int

    def plain(self) -> Any:
        """The value as builtin types."""
        match self.value:
            case dict() as entries:
                return {key: node.plain() for key, node in entries.items()}
            case list() as items:
                return [node.plain() for node in items]
        return self.value


def parse(path: Path) -> Node:
    """The tree of one file, without the files that it extends.

    Raises:
        ConfigError: Missing or unreadable file, bad YAML, repeated key, unsupported tag, key or
            number, or more than `MOST_VALUES` values.
    """
    text = _text(path)
    with boundary(path, "correct the file", ConfigError, what="not valid YAML", code="not-yaml"):
        return _Reader(path).read(text)


def _text(path: Path) -> str:
    init = f"`windtunnel init {path}` writes a commented one"
    init_in = f"`windtunnel init {path / 'hparams.yaml'}` writes a commented one"
    with boundary(path, "give the path of a study file", ConfigError, what="cannot be read"):
        try:
            status = path.stat()
        except FileNotFoundError:
            near = _near(path)
            fix = init if near is None else f"did you mean {near}?"
            raise ConfigError(
                "missing-file", f"{path}: no such file; {fix}", file=path, near=near
            ) from None
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            held = [each for each in path.glob("*.y*ml") if each.suffix in SUFFIXES]
            fix = f"name the file in it, such as {min(held)}" if held else f"name a file: {init_in}"
            raise ConfigError("not-a-file", f"{path}: {what}, and no study file; {fix}", file=path)
        if status.st_size > MOST_BYTES:
            raise ConfigError(
                "too-large",
                f"{path}: {status.st_size:,} bytes; a study file has at most {MOST_BYTES:,}. Give "
                "the path of the study file itself",
                file=path,
                bytes=status.st_size,
                most=MOST_BYTES,
            )
        data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(
            "not-utf8", f"{path}:1: UTF-16; save the file as UTF-8", file=path, line=1
        )
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise ConfigError(
            "not-utf8",
            f"{path}:{line}: a NUL byte; save the file as text, in UTF-8",
            file=path,
            line=line,
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data[: broken.start].count(b"\n") + 1
        byte = data[broken.start]
        raise ConfigError(
            "not-utf8",
            f"{path}:{line}: byte 0x{byte:02x} is no UTF-8; save the file as UTF-8",
            file=path,
            line=line,
            byte=byte,
        ) from None


def _near(path: Path) -> Path | None:
    """The study file that a missing path was to name: the other suffix, or nearly the same name."""
    if not path.name or not path.parent.is_dir():
        return None
    others = [path.with_suffix(suffix) for suffix in SUFFIXES if path.suffix != suffix]
    names = [each.name for each in path.parent.iterdir() if each.suffix in SUFFIXES]
    close = [path.with_name(name) for name in get_close_matches(path.name, names, n=1)]
    return next((each for each in (*others, *close) if each.is_file()), None)


class _Reader:
    """Converts ruamel's nodes, which carry tags and marks, to `Node`."""

    def __init__(self, path: Path) -> None:
        from ruamel.yaml import YAML

        self.path = path
        self.yaml = YAML(typ="safe", pure=True)
        self.yaml.composer.warn_double_anchors = False  # the last one counts, as YAML says

    def read(self, text: str) -> Node:
        from ruamel.yaml.error import MarkedYAMLError
        from ruamel.yaml.reader import ReaderError

        if (directive := VERSION.search(text)) and directive[1] != "1.2":
            line = text.count("\n", 0, directive.start()) + 1
            raise self._refused(
                "yaml-version",
                line,
                f"YAML {directive[1]}; study files are YAML 1.2: remove this",
                version=directive[1],
            )
        try:
            root = self.yaml.compose(text)
        except RecursionError:
            raise self._too_deep(self._deepest_line(text)) from None
        except ReaderError as odd:
            line = text.count("\n", 0, odd.position) + 1
            raise self._refused(
                "bad-character",
                line,
                f"the character {chr(odd.character)!r} is not allowed in YAML; remove it",
                character=chr(odd.character),
            ) from None
        except MarkedYAMLError as broken:
            line = broken.problem_mark.line + 1 if broken.problem_mark else 1
            raise self._refused("not-yaml", line, f"not valid YAML: {_problem(broken)}") from None
        if root is None:
            return Node(None, self.path, 1)
        if self._size(root, {}, []) > MOST_VALUES:
            raise self._refused(
                "too-many-values",
                _line(root),
                f"more than {MOST_VALUES:,} values once its aliases are written out; write fewer",
                most=MOST_VALUES,
            )
        return self._node(root, _line(root))

    def _refused(self, code: str, line: int, why: str, **values: object) -> ConfigError:
        return ConfigError(code, f"{self.path}:{line}: {why}", file=self.path, line=line, **values)

    def _too_deep(self, line: int) -> ConfigError:
        return self._refused(
            "too-deep",
            line,
            f"lists and mappings within each other more than {DEEPEST} deep; write them flat",
            most=DEEPEST,
        )

    def _deepest_line(self, text: str) -> int:
        """The line at which the nesting exceeds `DEEPEST`."""
        from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

        depth = 0
        for event in self.yaml.parse(text):
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if depth > DEEPEST:
                return int(event.start_mark.line) + 1
        return 1

    def _size(self, node: Any, known: dict[int, int], above: list[int]) -> int:
        """Number of values in a node with aliases expanded; refuses a node inside itself."""
        if id(node) in above:
            raise self._refused(
                "circular-alias", _line(node), "an anchor that holds its own alias; write it out"
            )
        if len(above) > DEEPEST:
            raise self._too_deep(_line(node))
        if id(node) not in known:
            parts = _parts(node)
            known[id(node)] = 1 + sum(self._size(part, known, [*above, id(node)]) for part in parts)
        return known[id(node)]

    def _node(self, node: Any, line: int) -> Node:
        tag = self._kind(node)
        if tag == "map":
            return Node(self._entries(node), self.path, line)
        if tag == "seq":
            return Node([self._node(each, _line(each)) for each in node.value], self.path, line)
        return Node(self._scalar(node, tag), self.path, line)

    def _kind(self, node: Any) -> str:
        """The tag of a supported value, without its prefix."""
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        own = {MappingNode: ("map",), SequenceNode: ("seq",)}.get(
            type(node), ("str", "int", "float", "bool", "null", "merge", "value")
        )
        tag = str(node.tag)
        kind = "seq" if tag == TUPLE and own == ("seq",) else tag.removeprefix(TAG)
        if kind in own:
            return kind
        shown = f"!!{kind}" if tag.startswith(TAG) else tag
        if kind == "timestamp":
            raise self._refused(
                "unsupported-tag", _line(node), f"{node.value} is read as {HOW[kind]}", tag=tag
            )
        how = HOW.get(kind)
        fix = f" is {how}" if how else " is not read; remove it and write the plain value"
        raise self._refused("unsupported-tag", _line(node), f"the YAML tag {shown}{fix}", tag=tag)

    def _entries(self, node: Any) -> dict[str, Node]:
        """Entries by key as written; entries merged by `<<` only for keys that are not there."""
        entries: dict[str, Node] = {}
        inherited: dict[str, Node] = {}
        seen = set[str]()
        for key, value in node.value:
            line, name = _line(key), self._key(key)
            unique = str(key.tag) if key.tag == MERGE else name  # "<<" in quotes is a plain key
            if unique in seen:
                raise self._refused(
                    "duplicate-key",
                    line,
                    f'duplicate key "{name}"; keep one of the two',
                    key=name,
                )
            seen.add(unique)
            if key.tag == MERGE:
                for below, item in self._merged(value, line):
                    inherited.setdefault(below, item)
            else:
                entries[name] = self._node(value, line)
        return entries | {name: each for name, each in inherited.items() if name not in entries}

    def _key(self, key: Any) -> str:
        if not isinstance(key.value, str) or not str(key.tag).startswith(TAG):
            raise self._refused(
                "bad-key", _line(key), "a list, a mapping or a tag as a key; write a name"
            )
        if not key.value:
            raise self._refused("bad-key", _line(key), "an empty key; write a name")
        return key.value

    def _merged(self, value: Any, line: int) -> Iterator[tuple[str, Node]]:
        """Entries of the mapping or mappings that `<<` merges, in order."""
        for each in value.value if self._kind(value) == "seq" else [value]:
            if self._kind(each) != "map":
                raise self._refused(
                    "bad-merge", line, "<< needs a mapping, or a list of them, such as *anchor"
                )
            yield from self._entries(each).items()

    def _scalar(self, node: Any, kind: str) -> Any:
        line, text = _line(node), str(node.value)
        if kind in {"int", "float"}:
            return self._number(node, kind, line)
        known = {"null": NULLS, "bool": self.yaml.constructor.bool_values}.get(kind)
        if known is None:
            return text
        if text.lower() not in known:
            raise self._refused(
                "wrong-type", line, f"{text!r} is no {kind}; remove its tag", value=text
            )
        return known[text.lower()]

    def _number(self, node: Any, kind: str, line: int) -> int | float:
        text = str(node.value)
        shown = text if len(text) <= 40 else f"{text[:20]}... ({len(text)} characters)"
        try:
            if kind == "float":
                value = self.yaml.constructor.construct_yaml_float(node)
            elif len(text) > 80:  # more digits than any bound, and slow to turn into a number
                value = LARGEST_INTEGER + 1
            else:
                value = self.yaml.constructor.construct_yaml_int(node)
        except (ValueError, OverflowError):
            raise self._refused(
                "not-a-number", line, f"{shown} is not a number", value=shown
            ) from None
        is_written = re.search(r"\d", text) is not None  # else it is .inf or .nan
        if kind == "float" and abs(value) == float("inf") and is_written:
            raise self._refused(
                "out-of-range",
                line,
                f"{shown} is larger than any number here; write a smaller one",
                value=shown,
            )
        if kind == "int" and abs(value) > LARGEST_INTEGER:
            raise self._refused(
                "out-of-range",
                line,
                f"{shown} is beyond the largest integer, {LARGEST_INTEGER}; write a smaller one",
                value=shown,
                most=LARGEST_INTEGER,
            )
        number: int | float = value
        return number


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _parts(node: Any) -> list[Any]:
    """The direct children of a node."""
    if isinstance(node.value, str):
        return []
    return [each for part in node.value for each in (part if isinstance(part, tuple) else (part,))]


def _problem(broken: Any) -> str:
    """Message of ruamel, with a fix for common mistakes."""
    problem = str(broken.problem).split("\n")[0]
    if "another document" in problem:
        return "a second document begins here (`---`); a study file holds one"
    if "\\t" in problem:
        return f"{problem}; indent with spaces"
    if "mapping values are not allowed" in problem:
        return (
            f"{problem}; the line above may lack its colon (`key: value`), or a text with a colon "
            "in it its quotes"
        )
    if "could not find expected ':'" in problem:
        return f"{problem}; write `key: value`, a space after the colon"
    begun = broken.context_mark
    if begun and broken.problem_mark and begun.line < broken.problem_mark.line:
        return f"{problem}, {broken.context} that begins on line {begun.line + 1}"
    return problem


EXTENDS = "extends"
SUFFIXES = (".yaml", ".yml")

MOST_FILES = 50
"""Files read for one study; files that each extend two others grow exponentially."""


def read_tree(path: Path) -> Node:
    """The tree of a file merged over the files that it `extends`, of which the last one wins.

    Mappings are merged key by key and `experiments` by name; any other value is replaced, and null
    resets a key to its default. Paths of an extended file stay relative to that file.

    Raises:
        ConfigError: Missing or unreadable file, bad YAML, repeated key, no mapping, or files that
            extend each other.
    """
    return _read(path, within=(), read=[])


def files_of(path: Path) -> tuple[Path, ...]:
    """The file and every file that it extends, directly or not.

    Raises:
        ConfigError: As for `read_tree`.
    """
    read: list[Path] = []
    _read(path, within=(), read=read)
    return tuple(read)


def _read(path: Path, *, within: tuple[Path, ...], read: list[Path]) -> Node:
    """`read_tree` below the files `within`; appends each file to `read`."""
    read.append(path)
    tree = parse(path)
    if not isinstance(tree.value, dict):
        raise ConfigError(
            "wrong-type",
            f"{path}:{tree.line}: a study file is a mapping of keys; `windtunnel init` writes one",
            file=path,
            line=tree.line,
        )
    extended = tree.value.pop(EXTENDS, None)
    if extended is None:
        return tree
    here = (*within, path.resolve())
    merged: Node | None = None
    for name in _names(extended):
        place = {"file": extended.file, "line": extended.line, "key": EXTENDS, "extended": name}
        where = f"{extended.file}:{extended.line}: {EXTENDS}: {name}"
        with boundary(where, "correct the path", ConfigError, what="cannot be read"):
            base = path.parent / expanded(name)
            if base.resolve() in here:
                raise ConfigError(
                    "circular-extends",
                    f"{where}: a file cannot extend itself, directly or indirectly",
                    **place,
                )
            if not base.exists():
                near = _near(base)
                raise ConfigError(
                    "missing-file",
                    f"{where}: no such file; the path is relative to {path.name}"
                    + ("" if near is None else f"; did you mean {near.name}?"),
                    **place,
                    near=near,
                )
            if not base.is_file():
                raise ConfigError(
                    "not-a-file", f"{where}: is not a file; give the path of a study file", **place
                )
            if len(read) == MOST_FILES:
                raise ConfigError(
                    "too-many-files",
                    f"{where}: more than {MOST_FILES} files; extend fewer",
                    **place,
                    most=MOST_FILES,
                )
        below = _moved(_read(base, within=here, read=read), path.parent)
        merged = below if merged is None else _over(merged, below)
    return tree if merged is None else _over(merged, tree)


def _names(extended: Node) -> list[str]:
    names = extended.plain()
    listed = names if isinstance(names, list) else [names]
    place = {"file": extended.file, "line": extended.line, "key": EXTENDS}
    where = f"{extended.file}:{extended.line}: {EXTENDS}"
    if not all(isinstance(name, str) for name in listed):
        raise ConfigError(
            "wrong-type", f"{where}: write the path of a study file, or a list of them", **place
        )
    for name in listed:
        try:
            checked_path(name)
        except Refused as refused:
            raise ConfigError(
                refused.code, f"{where}: {refused}", **place, **refused.values
            ) from None
    return listed


def _over(below: Node, above: Node, key: str = "") -> Node:
    """The tree `above` merged over `below`."""
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
    """The experiments of one file by name; refuses a repeated name."""
    entries: dict[str, Node] = {}
    for number, item in enumerate(experiments, start=first):
        name = _name(item, number)
        if name in entries:
            raise ConfigError(
                "duplicate-name",
                f"{item.file}:{item.line}: experiments: two experiments are called {name!r}; give "
                "this one a `name:` of its own",
                file=item.file,
                line=item.line,
                key="experiments",
                name=name,
            )
        entries[name] = item
    return entries


def _name(experiment: Node, number: int) -> str:
    """The name of an experiment, by default its kind."""
    plain = experiment.plain()
    known = plain if isinstance(plain, dict) else {}
    return str(known.get("name", known.get("kind", number)))


def _moved(tree: Node, folder: Path) -> Node:
    """The tree with its paths made relative to `folder` instead of its own file."""
    folder_of_file = tree.file.parent
    if folder_of_file.resolve() == folder.resolve():
        return tree
    for entries, key in _paths(tree.value):
        node = entries[key]
        text = node.value
        if isinstance(text, str) and _moves(text):
            entries[key] = replace(node, value=os.path.relpath(folder_of_file / text, folder))
    return tree


def _paths(study: dict[str, Node]) -> Iterator[tuple[Any, Any]]:
    """Places of paths in a study file, as (container, key)."""
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
    """Whether a path depends on the folder from which it is read."""
    return bool(text.strip()) and is_relative(text) and not text.startswith("builtin:")


def _entries(holder: dict[str, Node], key: str) -> dict[str, Node]:
    value = holder[key].value if key in holder else None
    return value if isinstance(value, dict) else {}
