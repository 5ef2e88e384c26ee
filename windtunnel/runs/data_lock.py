"""The data lock of a study (`data.json`): the stream that all of its runs are trained on.

Losses on two streams are not comparable, so a study keeps the first stream that it prepared. Its
dataset is opened as locked, prepared again if it is missing, and verified by checksums.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from windtunnel.config import StudyConfig
from windtunnel.config.data import NEAR_DUPLICATE_SHARE, SourceConfig
from windtunnel.data import Dataset, DataSpec, Progress, ValidationSet, prepare
from windtunnel.data.artifacts import read_manifest
from windtunnel.data.digests import Digests
from windtunnel.data.validation import verify_source
from windtunnel.errors import DataError, boundary
from windtunnel.runs.files import write_json
from windtunnel.runs.store import Store


def locked_section(config: StudyConfig) -> dict[str, Any]:
    """The part of a study's data section that decides the stream."""
    section = config.data.model_dump(mode="json")
    for source in section["sources"]:
        if source["pairs"] is None:
            del source["pairs"]  # so that locks older than `pairs` still match
    if config.data.dedup_share == NEAR_DUPLICATE_SHARE:
        del section["dedup"]  # likewise
    section["validation"] = {"fraction": section["validation"]["fraction"]}
    return section


def differences(locked: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    """Each source or key that differs from the lock, with its old and new value."""
    were, are = (_by_label(each["sources"]) for each in (locked, stated))
    kept = [label for label in were if label in are]
    # A source's label is its file's name: changed sources are matched in order.
    others = ([each for each in one if each not in kept] for one in (were, are))
    for old, new in (*zip(kept, kept, strict=True), *zip_longest(*others)):
        if old is None or new is None:
            yield f"source {old or new!r} is {'new' if old is None else 'gone'}"
        else:
            yield from _fields(were[old], are[new], of=f"source {old!r}: ")
    if were.keys() == are.keys() and list(were) != list(are):
        yield f"the sources were in the order {', '.join(were)}, are {', '.join(are)}"
    rest = ({k: v for k, v in each.items() if k != "sources"} for each in (locked, stated))
    yield from _fields(*rest)


def _by_label(sources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {SourceConfig.model_construct(**source).label: source for source in sources}


def _fields(was: Mapping[str, Any], now: Mapping[str, Any], *, of: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*was, *now)):
        old, new = was.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _fields(old, new, of=f"{of}{key}.")
        elif old != new:
            yield f"{of}{key} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case list():
            return f"[{', '.join(map(str, value))}]"
    return str(value).removesuffix(".0")


def open_locked(store: Store, lock: dict[str, Any], lock_file: Path) -> Dataset:
    """The dataset that a study's runs were trained on.

    Raises:
        DataError: The dataset is missing, damaged, or not the locked one.
    """
    folder = store.root / lock["dataset"]
    with boundary(folder, "correct its permissions, or repair the disk"):
        is_there = (folder / "manifest.json").exists()
    if not is_there:
        raise DataError(
            "missing-file",
            f"{folder}: no prepared data here, and {lock_file} names it; `windtunnel sweep` "
            "prepares it again from the sources; or put back a copy of the lock",
            path=folder,
            file=lock_file,
        )
    dataset = Dataset.open(folder)
    if dataset.fingerprint != lock["stream"]:
        raise DataError(
            "other-data",
            f"{folder}: another stream ({dataset.fingerprint}) than the study's runs were trained "
            f"on ({lock['stream']}, by {lock_file}): one of the two was changed; put back a copy "
            "of it",
            folder=folder,
            stream=dataset.fingerprint,
            locked=lock["stream"],
            file=lock_file,
        )
    return dataset


def restore_locked(
    store: Store, lock: dict[str, Any], lock_file: Path, spec: DataSpec, progress: Progress | None
) -> None:
    """Prepare a locked dataset again if one of its folders is missing.

    Raises:
        DataError: Its sources are missing too, or now give other tokens.
    """
    folder = store.root / lock["dataset"]
    if not _is_gone(folder):
        return
    made = prepare(spec, root=store.data, progress=progress)
    if made.fingerprint != lock["stream"]:
        raise DataError(
            "other-data",
            f"{folder}: some prepared data of the study is gone, and its sources give other tokens "
            f"by now (stream {made.fingerprint}; {lock_file} locks {lock['stream']}); put the "
            "sources back as they were, or give the changed study a new `study:` name",
            folder=folder,
            stream=made.fingerprint,
            locked=lock["stream"],
            file=lock_file,
        )
    if made.folder != folder:
        lock["dataset"] = str(made.folder.relative_to(store.root))
        write_json(lock_file, lock)


def verify_prepared(
    dataset: Dataset, extra: Iterable[ValidationSet], *, root: Path, progress: Progress | None
) -> None:
    """Compare all tokens with their checksums; unchanged files are not read again.

    Raises:
        DataError: A file does not match its checksum.
    """
    digests = Digests(root)

    def tell(done: int) -> None:
        if progress is not None:
            progress("verifying tokens", done, None)

    dataset.verify(digests, tell)
    for folder in dict.fromkeys(each.folder for each in extra):
        verify_source(folder, digests, tell)
    digests.save()


def _is_gone(folder: Path) -> bool:
    with boundary(folder, "correct its permissions, or repair the disk"):
        if not folder.is_dir():
            return True
        sources = read_manifest(folder, "dataset")["sources"]
        return any(not (folder.parent / each["folder"]).is_dir() for each in sources)
