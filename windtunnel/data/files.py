"""Files of a source, and the exclusions of a folder.

Folders are walked through links, each once. README, LICENSE and metadata JSON of a data set are not
training text.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from windtunnel.config.data import PAIR_SUFFIXES, PLAIN_SUFFIXES, TOKEN_SUFFIXES
from windtunnel.data.account import Tally
from windtunnel.data.json_lines import lacks_fields
from windtunnel.data.source import Source
from windtunnel.errors import DataError, boundary

TEXT_SUFFIXES = (*PLAIN_SUFFIXES, *PAIR_SUFFIXES)
_PLAIN_TEXT = set(PLAIN_SUFFIXES) - {".parquet"}
# Longest first, so that `.json.gz` is found before `.gz`.
_SUFFIXES = sorted(TEXT_SUFFIXES + TOKEN_SUFFIXES, key=len, reverse=True)

_DOCUMENTATION = re.compile(
    r"(readme|licen[sc]es?|copying|notice|changelog|citation)(?![a-z])", re.IGNORECASE
)
# Beside records or tokens, these are documentation too.
_ABOUT_RECORDS = re.compile(
    r"(readme|licen[sc]es?|copying|notice|changelog|citation|contributing|requirements|changes"
    r"|authors|(.*[^a-z])?(data|dataset|model)?card)(?![a-z])",
    re.IGNORECASE,
)
_METADATA = re.compile(
    r"(dataset_infos?|dataset_dict|state|metadata|meta|index|config|stats|schema|manifest"
    r"|tokenizer|tokenizer_config|special_tokens_map|vocab|generation_config)\.json"
    r"|(.*_indexmap_.*|(.*[-_])?(doc|document|sample|shuffle)_(idx|index))\.npy",
    re.IGNORECASE,
)
# Files of other tools by suffix, with the fix.
_ELSEWHERE = {
    ".ds": "datatrove writes raw token ids in it: name it .bin and set dtype",
    ".arrow": "write it as .parquet (datasets: Dataset.to_parquet)",
    ".mds": "write the shards as .jsonl or .parquet",
    ".csv": "write it as .jsonl or .parquet",
    ".tsv": "write it as .jsonl or .parquet",
    ".tar": "unpack it",
    ".zip": "unpack it",
    ".xz": "unpack it, or compress it as .zst or .gz",
    ".bz2": "unpack it, or compress it as .zst or .gz",
    ".npz": "write its array as .npy",
    ".pt": "write its ids as .npy",
    ".idx": "name the .bin that it belongs to",
}


class _File(NamedTuple):
    name: str
    path: Path
    size: int
    place: tuple[int, int]


def suffix_of(path: Path) -> str | None:
    """The suffix by which a file is read, in lower case; None for other files."""
    name = path.name.lower()
    return next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)


def is_token_file(path: Path) -> bool:
    """Whether a file holds token ids rather than text."""
    return suffix_of(path) in TOKEN_SUFFIXES


def _kind_of(path: Path) -> str:
    """The suffix of a file that is not read, with the one before `.gz` or `.zst`."""
    parts = [each.lower() for each in path.suffixes]
    packed = parts[-1:] in ([".gz"], [".zst"])
    return "".join(parts[-2:] if packed else parts[-1:]) or "without a suffix"


def index_of(path: Path) -> Path | None:
    """The Megatron index beside a `.bin`, if there is one.

    Raises:
        DataError: It is a broken link.
    """
    if suffix_of(path) != ".bin":
        return None
    # A link may lead to the folder of both.
    for near in (path, path.resolve()):
        for place in (near.with_suffix(".idx"), near.with_suffix(".IDX")):
            if place.exists():
                return place
            if place.is_symlink():
                raise DataError(
                    "broken-link",
                    f"{place}: the index of {path.name} is a broken link; repair it, or remove it "
                    f"if {path.name} holds raw ids",
                    path=place,
                )
    return None


def source_files(source: Source, tally: Tally | None = None) -> list[tuple[str, Path]]:
    """Files of a source with their names relative to it, in order of name.

    Raises:
        DataError: The path is missing, holds no readable file, mixes text with token files,
            a file is empty, or pairs are asked for from other files than JSON lines.
    """
    tally = tally or Tally()
    where, root = f"data source {source.name!r}", Path(source.path)
    with boundary(f"{where}: {root}", "check the path and its permissions"):
        files = list(_candidates(root, where, tally))
    readable = [each for each in files if suffix_of(each.path)]
    read = {each.place for each in readable}
    read |= {_place(index.stat()) for each in readable if (index := index_of(each.path))}
    for each in files:
        # The suffix of a link decides, not that of its target.
        if suffix_of(each.path) is None and each.place not in read:
            about = _DOCUMENTATION.match(each.path.name)
            reason = "documentation-file" if about else "unread-suffix"
            kind = None if about else _kind_of(each.path)
            tally.add(reason, 1, each.size, example=each.name, kind=kind)
    if not readable:
        found = tally.text()
        raise DataError(
            "no-readable-file",
            f"{where}: folder {root} holds no readable file{found and f' ({found})'}; "
            f"{_allowed(files)}",
            source=source.name,
            path=root,
            suffixes=_suffixes_of(files),
        )
    if stat.S_ISDIR(root.stat().st_mode):
        readable = _each_once(readable, tally)
        readable = _without_metadata(_without_documentation(readable, tally), source, tally)
    if len({is_token_file(each.path) for each in readable}) > 1:
        raise DataError(
            "mixed-files",
            f"{where}: {root} mixes text and token files; make them two sources",
            source=source.name,
            path=root,
        )
    for each in readable:
        if each.size == 0:
            raise DataError(
                "empty",
                f"{where}: {each.path} is empty; remove it or fill it",
                source=source.name,
                path=each.path,
            )
        if source.pairs is not None and suffix_of(each.path) not in PAIR_SUFFIXES:
            raise DataError(
                "pairs-unsupported",
                f"{where}: pairs = {list(source.pairs)}, but {each.path} holds no JSON lines; "
                f"allowed with pairs are {', '.join(PAIR_SUFFIXES)}: convert it, or remove pairs",
                source=source.name,
                path=each.path,
                allowed=PAIR_SUFFIXES,
            )
    tally.files, tally.file_bytes = len(readable), sum(each.size for each in readable)
    tally.suffixes = Counter(str(suffix_of(each.path)) for each in readable)
    return sorted((each.name, each.path) for each in readable)


def _suffixes_of(files: list[_File]) -> list[str]:
    return list(dict.fromkeys(file.path.suffix.lower() for file in files))


def _allowed(files: list[_File]) -> str:
    suffixes = [suffix for suffix in _suffixes_of(files) if suffix in _ELSEWHERE]
    hints = "; ".join(f"{suffix}: {_ELSEWHERE[suffix]}" for suffix in suffixes)
    return f"readable are {', '.join(TEXT_SUFFIXES + TOKEN_SUFFIXES)}" + (hints and f" ({hints})")


def _candidates(root: Path, where: str, tally: Tally) -> Iterator[_File]:
    """The one file, or all files of a folder."""
    if root.is_symlink() and not root.exists():
        target = os.readlink(root)  # noqa: PTH115
        raise DataError(
            "broken-link",
            f"{where}: {root} is a broken link to {target}; repair the link",
            path=root,
            target=target,
        )
    if not root.exists():
        raise DataError(
            "missing-file",
            f"{where}: {root} does not exist; check the path, which a study file gives relative "
            "to itself",
            path=root,
        )
    status = root.stat()
    if stat.S_ISDIR(status.st_mode):
        yield from _walk(root, where, tally)
        return
    one = _File(root.name, root, status.st_size, _place(status))
    if suffix_of(root) is None:
        raise DataError(
            "unknown-format",
            f"{where}: {root} has an unknown suffix; {_allowed([one])}",
            path=root,
            suffix=root.suffix,
        )
    if not stat.S_ISREG(status.st_mode):
        raise DataError("not-a-file", f"{where}: {root} {_NO_FILE}", path=root)
    yield one


_NO_FILE = "is a pipe, a socket or a device; give a file, which can be read twice"


def _walk(root: Path, where: str, tally: Tally) -> Iterator[_File]:
    """Files below a folder, through links; each folder once, and real ones before linked ones."""
    folders, linked, seen = [root], list[Path](), set[tuple[int, int]]()
    while folders or linked:
        folder = folders.pop() if folders else linked.pop(0)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            tally.add("linked-twice", example=folder.relative_to(root).as_posix())
            continue
        seen.add((status.st_dev, status.st_ino))
        with boundary(f"{where}: {folder}", "correct its permissions, or move it away"):
            paths = sorted(folder.iterdir())
        for path in paths:
            name = path.relative_to(root).as_posix()
            kind, size, place = _kind(path)
            if kind == "broken":
                tally.add("broken-link", example=name)
            elif path.name.startswith("."):
                tally.add("hidden", 1, size, example=name)
            elif kind == "folder":
                (linked if path.is_symlink() else folders).append(path)
            elif kind == "file":
                yield _File(name, path, size, place)
            elif suffix_of(path):
                raise DataError("not-a-file", f"{where}: {path} {_NO_FILE}", path=path)
        linked.sort()


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _kind(path: Path) -> tuple[str, int, tuple[int, int]]:
    """`folder`, `file`, `broken` or `other`, the size of a file, and its resolved path."""
    try:
        status = path.stat()
    except OSError:
        if path.is_symlink():
            return "broken", 0, (0, 0)
        raise
    if stat.S_ISDIR(status.st_mode):
        return "folder", 0, _place(status)
    kind, size = ("file", status.st_size) if stat.S_ISREG(status.st_mode) else ("other", 0)
    return kind, size, _place(status)


def _each_once(files: list[_File], tally: Tally) -> list[_File]:
    """Each file once, under its own name if possible, else under that of a link."""
    kept = dict[tuple[int, int], _File]()
    for each in sorted(files, key=lambda each: (each.path.is_symlink(), each.name)):
        if kept.setdefault(each.place, each) is not each:
            tally.add("same-file", 1, example=each.name)
    return list(kept.values())


def _without_documentation(files: list[_File], tally: Tally) -> list[_File]:
    """Files without README and LICENSE, unless others of their suffix make them corpus text.

    Beside records or tokens, any number of such text files is documentation.
    """
    records = _has_records(files)
    others = [each for each in files if not _DOCUMENTATION.match(each.path.name)]
    suffixes = {suffix_of(each.path) for each in others}
    if not others:
        return files
    kept = []
    for each in files:
        name, suffix = each.path.name, suffix_of(each.path)
        beside = records and suffix in _PLAIN_TEXT and _ABOUT_RECORDS.match(name)
        if beside or (_DOCUMENTATION.match(name) and suffix not in suffixes):
            tally.add("documentation-file", 1, each.size, example=each.name)
        else:
            kept.append(each)
    return kept


def _has_records(files: list[_File]) -> bool:
    """Whether there are JSON lines, Parquet or token files; `.json` beside text is metadata."""
    paths = [each.path for each in files if not _METADATA.fullmatch(each.path.name)]
    suffixes = {
        suffix
        for path in paths
        if (suffix := suffix_of(path)) not in _PLAIN_TEXT or not _ABOUT_RECORDS.match(path.name)
    }
    kinds = suffixes - _PLAIN_TEXT
    return bool(kinds - {".json"} or (kinds and not suffixes & _PLAIN_TEXT))


def _without_metadata(files: list[_File], source: Source, tally: Tally) -> list[_File]:
    """Files without those that describe a data set."""
    columns = source.pairs or (source.text_column,)
    others = {suffix_of(each.path) for each in files} - {".json"}

    def describes(file: _File) -> bool:
        if _METADATA.fullmatch(file.path.name):
            return True
        # Beside data of another kind, JSON without the text field is metadata.
        return bool(others) and suffix_of(file.path) == ".json" and lacks_fields(file.path, columns)

    metadata = [each for each in files if describes(each)]
    if len(metadata) == len(files):
        return files
    for each in metadata:
        tally.add("metadata-file", 1, each.size, example=each.name)
    return [each for each in files if each not in metadata]
