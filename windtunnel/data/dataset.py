"""A prepared dataset: weighted sources on disk, their training stream and validation sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from windtunnel.data.account import Account
from windtunnel.data.artifacts import FORMAT, check_manifest, digest_of, read_manifest
from windtunnel.data.digests import Digests
from windtunnel.data.pairs import mask_file, packing_of
from windtunnel.data.stream import TokenFile, TrainStream, row_counts
from windtunnel.data.validation import ValidationSet, read_source, verify_source
from windtunnel.errors import DataError, Diagnostic, did_you_mean

# Above this share of validation in training, validation losses are optimistic.
CONTAMINATION_LIMIT = 0.05
# Assumed: a larger share of truncated examples teaches the wrong thing.
CUT_LIMIT = 0.01
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
        mask_sha256: Of the mask beside it, where the documents are pairs.
        account: What of the source was kept and left out.
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
    mask_sha256: str | None = None
    account: Account


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset on disk. It holds no open file, so it can be sent to another process.

    Attributes:
        folder: Its manifest; the sources' folders lie beside it.
        vocab_size: Ids are below it.
        sources: In order of name.
        validation: One set for each source that holds out documents, in order of name; of pairs
            two.
    """

    folder: Path
    vocab_size: int
    sources: tuple[SourceInfo, ...]
    validation: tuple[ValidationSet, ...]

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """A prepared dataset, after a check of its manifests and file sizes.

        Raises:
            DataError: It is missing or damaged.
        """
        manifest = read_manifest(folder, "dataset")
        sources, validation = [], list[ValidationSet]()
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
                    mask_sha256=train.get("mask_sha256"),
                    account=Account.of(entry["name"], source),
                )
            )
            validation += ValidationSet.open(source_folder, name=entry["name"])
        return cls(
            folder=folder,
            vocab_size=manifest["vocab_size"],
            sources=tuple(sources),
            validation=tuple(validation),
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that decides the training stream, and nothing else.

        Included are tokens, names (they seed the shuffles) and mixture weights of the sources, and
        the vocabulary. Validation sets, paths and a common factor of the weights are not.
        """
        return self.fingerprint_of({source.name: source.weight for source in self.sources})

    def fingerprint_of(self, weights: Mapping[str, float]) -> str:
        """The fingerprint of a mixture of these sources; a source without weight is not part of it.

        Raises:
            DataError: A name is not a source, or a weight is too small for a row.
        """
        if unknown := weights.keys() - {source.name for source in self.sources}:
            name, known = min(unknown), [source.name for source in self.sources]
            raise DataError(
                "unknown-source",
                f"mixture: no data source {name!r}{did_you_mean(name, known) or ';'} there are: "
                f"{', '.join(known)}",
                source=name,
                known=known,
            )
        taken = [source for source in self.sources if weights.get(source.name)]
        names = [source.name for source in taken]
        shares = row_counts([weights[name] for name in names], names)
        stream = [
            [name, rows, source.sha256, source.dtype, *filter(None, [source.mask_sha256])]
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
        """The messages of `diagnostics`."""
        return tuple(diagnostic.message for diagnostic in self.diagnostics)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Warnings that affect the losses; docs/data.md lists the codes."""
        warnings = []
        for held_out in self.validation:
            where = f"validation set {held_out.name!r}"
            repeats = held_out.contamination or 0.0
            if (
                repeats > CONTAMINATION_LIMIT and not held_out.conditional
            ):  # the whole set has the same warning
                warnings.append(
                    Diagnostic(
                        "validation-in-training",
                        f"{where}: {repeats:.1%} of it also stands in training (limit "
                        f"{CONTAMINATION_LIMIT:.0%}); losses will look better than they are: set "
                        "data.dedup to a lower share, such as 0.2, remove boilerplate, or hold out "
                        "other text as data.validation.extra",
                        validation_set=held_out.name,
                        share=repeats,
                        limit=CONTAMINATION_LIMIT,
                    )
                )
            # For pairs, the smaller of the two sets is named.
            whole_of_pairs = held_out.paired and not held_out.conditional
            if held_out.tokens < VALIDATION_TOKENS and not whole_of_pairs:
                warnings.append(
                    Diagnostic(
                        "small-validation",
                        f"{where}: {held_out.tokens} tokens, fewer than {VALIDATION_TOKENS}; its "
                        "loss is noisy: raise data.validation.fraction or give more text",
                        validation_set=held_out.name,
                        tokens=held_out.tokens,
                        limit=VALIDATION_TOKENS,
                    )
                )
        for source in self.sources:
            warnings += source.account.diagnostics()
        return tuple(warnings)

    def stream(
        self,
        context: int,
        *,
        weights: Mapping[str, float] | None = None,
        first: int = 0,
        begun: Mapping[str, int] = MappingProxyType({}),
        passed: Mapping[str, float] = MappingProxyType({}),
        ramp: int = 0,
        before: Mapping[str, float] = MappingProxyType({}),
        completion: bool = False,
    ) -> TrainStream:
        """The training stream in rows of `context` tokens and one target.

        Args:
            context: Tokens predicted in each row.
            weights: Weights of the sources; default: the study's own.
            first: Row of the path at which the stream begins.
            begun: Rows of each source that the path has read before.
            passed: Epochs of each source before, if its rows were cut otherwise.
            ramp: Rows of linear interpolation from the mixture `before`.
            before: Weights at the start of a ramp.
            completion: Mask the loss of everything but completions.

        Raises:
            DataError: A source is too short for one row.
        """
        return TrainStream(
            self._files(weights),
            context,
            first=first,
            begun=begun,
            passed=passed,
            ramp=ramp,
            before=before,
            completion=completion,
        )

    def row_counts(self, context: int) -> dict[str, int]:
        """Rows of `context` tokens and one target in each source, by name."""
        return {file.name: file.row_count(context) for file in self._files(None)}

    def cut_diagnostics(self, context: int) -> tuple[Diagnostic, ...]:
        """Warnings on pairs that are longer than a row of `context` tokens."""
        warnings = []
        for source in self.sources:
            if source.mask_sha256 is None:
                continue
            packing = packing_of(mask_file(source.folder / "train.bin"), context)
            if packing.cut + packing.left_out > CUT_LIMIT * packing.examples:
                warnings.append(
                    Diagnostic(
                        "cut-pairs",
                        f"data source {source.name!r}: of {packing.examples} pairs, {packing.cut} "
                        f"are cut at context {context}, and {packing.left_out} left out, whose "
                        "prompt alone fills a row; raise model.context or shorten the pairs",
                        source=source.name,
                        pairs=packing.examples,
                        cut=packing.cut,
                        left_out=packing.left_out,
                        context=context,
                    )
                )
        return tuple(warnings)

    def _files(self, weights: Mapping[str, float] | None) -> tuple[TokenFile, ...]:
        return tuple(
            TokenFile(
                name=source.name,
                path=source.folder / "train.bin",
                dtype=source.dtype,
                weight=source.weight if weights is None else weights.get(source.name, 0.0),
                paired=source.mask_sha256 is not None,
            )
            for source in self.sources
        )

    def verify(
        self, digests: Digests | None = None, tell: Callable[[int], None] | None = None
    ) -> None:
        """Compare checksums of all files that `digests` does not know as unchanged (1.5 s per GB).

        `tell` is called with the bytes read so far.

        Raises:
            DataError: A file does not match its checksum.
        """
        check_manifest(self.folder, read_manifest(self.folder, "dataset"))
        for source in self.sources:
            verify_source(source.folder, digests, tell)
