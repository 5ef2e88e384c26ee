"""The data of a study as rows: what each source gave, what was left out and why, the held-out sets.

`windtunnel data` and the report show the same rows.
"""

from dataclasses import dataclass
from typing import Any

from windtunnel.config.segment import rows_at
from windtunnel.data import Account
from windtunnel.data.account import REASONS
from windtunnel.runs.streams import Streams
from windtunnel.runs.study import Study


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """What of a source was left out, or read in another form, for one reason.

    Attributes:
        reason: One of the codes of docs/data.md.
        what: What was left out, in words.
        replaced: Whether it was read in another form and not left out.
        count: Number of items.
        bytes: Their bytes; None if unknown.
        share: Share of the source, the larger of count and bytes; None if unknown.
        examples: Files, or the documents of a file.
        kinds: `count`, `bytes` and `examples` by suffix, for files that are not read.
        remedy: What changes it; empty where nothing should.
    """

    reason: str
    what: str
    replaced: bool
    count: int
    bytes: int | None
    share: float | None
    examples: tuple[str, ...]
    kinds: dict[str, Any]
    remedy: str


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """One source; `tokens`, `bytes` and `documents` are those of its training side.

    `files` and `suffixes` are those that were read, `epochs` those of the longest run.
    """

    name: str
    path: str
    share: float
    files: int | None
    suffixes: dict[str, int]
    tokens: int
    bytes: int | None
    documents: int
    documents_dropped: int
    epochs: float
    sha256: str
    exclusions: tuple[Exclusion, ...]


@dataclass(frozen=True, kw_only=True)
class ValidationFacts:
    """One validation set, and how many of its tokens a branch's end is measured on.

    `contamination` is the share of it that also stands in training; None if not measured.
    """

    name: str
    tokens: int
    measured: int
    documents: int
    contamination: float | None
    bytes_per_token: float | None
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The prepared data."""

    tokenizer: str
    vocab_size: int
    context: int
    stream: str
    longest_tokens: int
    sources: tuple[SourceFacts, ...]
    validation: tuple[ValidationFacts, ...]


def data_facts(study: Study) -> DataFacts | None:
    """The rows of a study's data; None before it is prepared."""
    dataset, config = study.dataset, study.config
    if dataset is None:
        return None
    longest = max(study.expected_plan.segments, key=lambda planned: planned.tokens_at_end)
    epochs = Streams(dataset).of(longest.segment).epochs(rows_at(longest.segment, longest.end))
    weights = sum(source.weight for source in dataset.sources)
    paths = {source.label: source.path for source in config.data.sources}
    return DataFacts(
        tokenizer=config.data.tokenizer,
        vocab_size=dataset.vocab_size,
        context=config.model.context,
        stream=dataset.fingerprint,
        longest_tokens=longest.tokens_at_end,
        sources=tuple(
            SourceFacts(
                name=source.name,
                path=paths[source.name],
                share=source.weight / weights,
                files=source.account.files,
                suffixes=dict(source.account.suffixes),
                tokens=source.tokens,
                bytes=source.bytes,
                documents=source.documents,
                documents_dropped=source.documents_dropped,
                epochs=epochs.get(source.name, 0.0),
                sha256=source.sha256,
                exclusions=exclusions(source.account),
            )
            for source in dataset.sources
        ),
        validation=tuple(
            ValidationFacts(
                name=each.name,
                tokens=each.tokens,
                measured=min(config.data.validation.tokens, each.tokens),
                documents=each.documents,
                contamination=each.contamination,
                bytes_per_token=each.bytes_per_token,
                fingerprint=each.fingerprint,
            )
            for each in study.validation
        ),
    )


def exclusions(account: Account) -> tuple[Exclusion, ...]:
    """What was left out of a source, the largest share first."""
    found = [
        Exclusion(
            reason=reason,
            what=REASONS[reason].one if each.number == 1 else REASONS[reason].many,
            replaced=REASONS[reason].kept,
            count=each.number,
            bytes=each.bytes,
            share=account.share(reason),
            examples=each.examples,
            kinds={name: kind.as_json() for name, kind in each.kinds},
            remedy=REASONS[reason].fix,
        )
        for reason, each in account.left_out
    ]
    return tuple(sorted(found, key=lambda each: -(each.share or 0.0)))
