"""The prepared data of a study: opened as its pin has it, made again where it is gone, verified."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from windtunnel.data import Dataset, DataSpec, Progress, ValidationSet, prepare
from windtunnel.data.digests import Digests
from windtunnel.data.folders import read_manifest
from windtunnel.data.validation import verify_source
from windtunnel.errors import DataError, boundary
from windtunnel.trials.json_file import write_json
from windtunnel.trials.store import Store


def open_pinned(store: Store, pin: dict[str, Any], pin_file: Path) -> Dataset:
    """The dataset that a study's runs were made on.

    Raises:
        DataError: It is missing or damaged, or it is another one.
    """
    folder = store.root / pin["dataset"]
    dataset = Dataset.open(folder)
    if dataset.fingerprint != pin["stream"]:
        raise DataError(
            f"{folder}: another stream ({dataset.fingerprint}) than the study's runs were made on "
            f"({pin['stream']}, by {pin_file}): one of the two was changed; put back a copy of it"
        )
    return dataset


def restore_pinned(
    store: Store, pin: dict[str, Any], pin_file: Path, spec: DataSpec, progress: Progress | None
) -> None:
    """Make a pinned dataset again if some folder of it is gone.

    Raises:
        DataError: Its sources are gone too, or give other tokens by now.
    """
    folder = store.root / pin["dataset"]
    if not _is_gone(folder):
        return
    made = prepare(spec, root=store.data, progress=progress)
    if made.fingerprint != pin["stream"]:
        raise DataError(
            f"{folder}: some prepared data of the study is gone, and its sources give other tokens "
            f"by now (stream {made.fingerprint}; {pin_file} pins {pin['stream']}); put the sources "
            "back as they were, or give the changed study a new `study:` name"
        )
    if made.folder != folder:
        pin["dataset"] = str(made.folder.relative_to(store.root))
        write_json(pin_file, pin)


def verify_prepared(
    dataset: Dataset, extra: Iterable[ValidationSet], *, root: Path, progress: Progress | None
) -> None:
    """Compare all tokens with their checksums; what has not changed since is not read again.

    Raises:
        DataError: A file is not what was written: its name, and how to make it again.
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
    with boundary(folder, "mend its permissions, or the disk"):
        if not folder.is_dir():
            return True
        sources = read_manifest(folder, "dataset")["sources"]
        return any(not (folder.parent / each["folder"]).is_dir() for each in sources)
