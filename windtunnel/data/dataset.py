"""A prepared dataset: weighted sources on disk, their training stream and validation sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from windtunnel.data.folders import FORMAT, digest_of, read_manifest
from windtunnel.data.mixture import row_counts
from windtunnel.data.stream import TokenFile, TrainStream
from windtunnel.data.validation import ValidationSet, read_source, verify_source
from windtunnel.errors import DataError, did_you_mean

# Above this share of validation repeated in training, a loss flatters the model.
RESIDUE_LIMIT = 0.05
# Assumed: below this a validation loss is noisier than the seeds it is compared across.
VALIDATION_TOKENS = 256_000


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """The training side of one source.

    Attributes:
        name: As in the study.
        weight: As in the study.
        folder: Where its tokens lie.
        tokens: Training tokens, separators included.
        bytes: UTF-8 bytes behind them, one more for each document's end; None if unknown.
        documents: Training documents.
        documents_dropped: Near-duplicates left out.
        sha256: Of the training tokens.
        dtype: Of the token file.
    """

    name: str
    weight: float
    folder: Path
    tokens: int
    bytes: int | None
    documents: int
    documents_dropped: int
    sha256: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset on disk. Holds no open file, so it can be sent to another process.

    Attributes:
        folder: Its manifest; the sources' folders lie beside it.
        vocab_size: Ids are below it.
        sources: In order of name.
        validation: One set for each source that holds out documents, in order of name.
    """

    folder: Path
    vocab_size: int
    sources: tuple[SourceInfo, ...]
    validation: tuple[ValidationSet, ...]

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """A prepared dataset, once its manifests and file sizes agree.

        Raises:
            DataError: If it is missing or damaged.
        """
        manifest = read_manifest(folder, "dataset")
        sources, validation = [], []
        for entry in manifest["sources"]:
            source_folder = folder.parent / entry["folder"]
            source = read_source(source_folder)
            train = source["train"]
            sources.append(
                SourceInfo(
                    name=entry["name"],
                    weight=entry["weight"],
                    folder=source_folder,
                    tokens=train["tokens"],
                    bytes=train["bytes"],
                    documents=train["documents"],
                    documents_dropped=source["documents_dropped"],
                    sha256=train["sha256"],
                    dtype=source["dtype"],
                )
            )
            if source["validation"]["tokens"]:
                validation.append(ValidationSet.open(source_folder, name=entry["name"]))
        return cls(
            folder=folder,
            vocab_size=manifest["vocab_size"],
            sources=tuple(sources),
            validation=tuple(validation),
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all that decides the training stream, and nothing else.

        Tokens, names (they seed the shuffles) and shares of the sources, and the vocabulary; not
        the validation sets, the paths, or weights scaled by a common factor.
        """
        return self.fingerprint_of({source.name: source.weight for source in self.sources})

    def fingerprint_of(self, weights: Mapping[str, float]) -> str:
        """The same for a mixture of these sources; one without a weight has no part in it.

        Raises:
            DataError: A name is no source, or a share is too small for a row.
        """
        if unknown := weights.keys() - {source.name for source in self.sources}:
            name, known = min(unknown), [source.name for source in self.sources]
            raise DataError(
                f"mixture: no data source {name!r}{did_you_mean(name, known) or ';'} there are: "
                f"{', '.join(known)}"
            )
        taken = [source for source in self.sources if weights.get(source.name)]
        names = [source.name for source in taken]
        shares = row_counts([weights[name] for name in names], names)
        stream = [
            [name, rows, source.sha256, source.dtype]
            for name, rows, source in zip(names, shares, taken, strict=True)
        ]
        return digest_of({"format": FORMAT, "vocab_size": self.vocab_size, "stream": stream})

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes per training token over all sources; None if any source's are unknown."""
        counts = [source.bytes for source in self.sources]
        if None in counts:
            return None
        return sum(filter(None, counts)) / sum(source.tokens for source in self.sources)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the losses should know."""
        said = []
        for held_out in self.validation:
            where = f"validation set {held_out.name!r}"
            if held_out.residue is not None and held_out.residue > RESIDUE_LIMIT:
                said.append(
                    f"{where}: {held_out.residue:.1%} of it also stands in training (limit "
                    f"{RESIDUE_LIMIT:.0%}); losses will look better than they are"
                )
            if held_out.tokens < VALIDATION_TOKENS:
                said.append(
                    f"{where}: {held_out.tokens} tokens, fewer than {VALIDATION_TOKENS}; its loss "
                    "is noisy: raise data.validation.fraction or give more text"
                )
        for source in self.sources:
            if source.documents_dropped > source.documents:
                said.append(
                    f"data source {source.name!r}: {source.documents_dropped} near-duplicate "
                    f"documents dropped, {source.documents} kept for training"
                )
        return tuple(said)

    def stream(
        self,
        context: int,
        *,
        weights: Mapping[str, float] | None = None,
        first: int = 0,
        begun: Mapping[str, int] = MappingProxyType({}),
    ) -> TrainStream:
        """The training stream in rows of `context` tokens and one target.

        Args:
            context: Tokens predicted in each row.
            weights: Of the sources, where they are not the study's own.
            first: The row that a path begins to read it at.
            begun: Rows of each source that the path has read by then.

        Raises:
            DataError: If a source is too short for one row.
        """
        files = (
            TokenFile(
                name=source.name,
                path=source.folder / "train.bin",
                dtype=source.dtype,
                weight=source.weight if weights is None else weights.get(source.name, 0.0),
            )
            for source in self.sources
        )
        return TrainStream(tuple(files), context, first=first, begun=begun)

    def verify(self) -> None:
        """Reads everything and compares checksums (about a second for each GB).

        Raises:
            DataError: If a file is not what was written.
        """
        for source in self.sources:
            verify_source(source.folder)
