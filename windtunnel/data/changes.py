"""What of a study's sources has changed since its tokens were made.

The tokens stay as they were pinned; that they are no longer those of the files must be said.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windtunnel.data.dataset import Dataset
from windtunnel.data.digests import DIGEST_HEX, Digests
from windtunnel.data.files import index_of, source_files
from windtunnel.data.spec import DataSpec, Source
from windtunnel.data.validation import read_source
from windtunnel.errors import DataError
from windtunnel.laws.caution import Caution

_NAMED = 3
_GOES_ON = (
    "the study goes on with the tokens that were made before, so that its losses compare; to train "
    "on what is there now, give the study a new `study:` name"
)


def changes_since(dataset: Dataset, spec: DataSpec, *, root: Path) -> tuple[Caution, ...]:
    """A warning for each source, and for the tokenizer, that is not what it was; none if gone.

    Files are read again only if their size or times are new.

    Args:
        dataset: What was made.
        spec: What would be asked for now.
        root: Folder of prepared data, where hashes are kept.
    """
    digests, said = Digests(root), list[Caution]()
    folders = {source.name: source.folder for source in dataset.sources}
    recipes = [
        (source, read_source(folders[source.name])["recipe"])
        for source in spec.sources
        if source.name in folders
    ]
    for source, recipe in recipes:
        if "files" not in recipe or not Path(source.path).exists():
            continue
        if changed := list(_changed(source, recipe, digests)):
            names = ", ".join(changed[:_NAMED]) + (", ..." if len(changed) > _NAMED else "")
            said.append(
                Caution(
                    "source-changed",
                    f"data source {source.name!r}: {len(changed)} of its files changed since its "
                    f"tokens were made ({names}); {_GOES_ON}",
                )
            )
    digests.save()
    made = {recipe["tokenizer"].get("sha256") for _, recipe in recipes if "tokenizer" in recipe}
    path = Path(spec.tokenizer)
    if spec.tokenizer != "bytes" and path.is_file() and made:
        now = hashlib.sha256(path.read_bytes()).hexdigest()
        if made != {now}:
            said.append(
                Caution(
                    "tokenizer-changed", f"tokenizer {path}: changed since the tokens; {_GOES_ON}"
                )
            )
    return tuple(said)


def _changed(source: Source, recipe: dict[str, Any], digests: Digests) -> Iterator[str]:
    """Names of files that are other, gone or new."""
    root = Path(source.path)
    try:
        now = dict(source_files(source))
        for name, size, digest in recipe["files"]:
            path = now.get(name) or (root / name if root.is_dir() else root)
            if not path.exists():
                yield f"{name} is gone"
            elif path.stat().st_size != size or (_is_whole(digest) and digests.of(path) != digest):
                yield name
        written = recipe.get("indexes", [])
        if all(map(_is_whole, written)):
            indexes = [index for path in now.values() if written and (index := index_of(path))]
            if [digests.of(index) for index in indexes] != written:
                yield "an .idx file"
    except (DataError, OSError) as error:
        yield f"cannot be read: {error}"
        return
    # Older manifests were made by other rules of what is read of a folder.
    if all(_is_whole(digest) for _, _, digest in recipe["files"]):
        known = {name for name, _, _ in recipe["files"]}
        yield from (f"{name} is new" for name in now if name not in known)


def _is_whole(digest: str) -> bool:
    """Whether a digest is of all of a file, as those of older manifests are not."""
    return len(digest) == DIGEST_HEX
