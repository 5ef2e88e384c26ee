"""Accounts of data preparation: how much of a source was kept, how much was left out, and why.

A builder counts in a `Tally`, which becomes part of the manifest; an `Account` is read from there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from windtunnel.errors import Diagnostic

# A larger left-out share of a source gives a warning.
LEFT_OUT_LIMIT = 0.05
_EXAMPLES = 3
# Names such as part.00017 would make a kind of every file.
_MOST_KINDS = 20

Whole = Literal["files", "documents", "paragraphs", "characters", "tokens"]


class Reason(NamedTuple):
    """The reason for an exclusion or a replacement.

    Attributes:
        one: Singular of the excluded items.
        many: Plural of the excluded items.
        of: The set that they are counted among.
        fix: What the user can do about many of them.
        code: Code of the warning.
        kept: Whether the items were read in another form.
        by_count: Whether the warning depends on the share of items or only on that of bytes.
    """

    one: str
    many: str
    of: Whole
    fix: str
    code: str = "data-left-out"
    kept: bool = False
    by_count: bool = True


REASONS: Mapping[str, Reason] = {
    "near-duplicate": Reason(
        "near-duplicate",
        "near-duplicates",
        "documents",
        "set data.dedup: off, or to a higher share, if they are text to train on",
    ),
    "blank": Reason(
        "blank document",
        "blank documents",
        "documents",
        "check that the right field is read",
    ),
    "null": Reason("null", "nulls", "documents", "check that the right field or column is read"),
    "documentation-file": Reason(
        "documentation file",
        "documentation files",
        "files",
        "give such a file another name if it is text to train on",
        by_count=False,
    ),
    "metadata-file": Reason(
        "metadata file",
        "metadata files",
        "files",
        "move it to a source of its own if it is text to train on",
        by_count=False,
    ),
    "unread-suffix": Reason(
        "file of another suffix",
        "files of other suffixes",
        "files",
        "name text files .txt, convert others (docs/data.md lists what is read), or move them away",
        by_count=False,
    ),
    "hidden": Reason(
        "hidden file or folder",
        "hidden files or folders",
        "files",
        "rename what begins with a dot if it is text to train on",
        by_count=False,
    ),
    "broken-link": Reason(
        "broken link", "broken links", "files", "repair the links, or remove them"
    ),
    "linked-twice": Reason(
        "folder that another link leads to",
        "folders that other links lead to",
        "files",
        "",
        by_count=False,
    ),
    "same-file": Reason(
        "name of a file that is read by another name",
        "names of files that are read by other names",
        "files",
        "",
        by_count=False,
    ),
    "nul-bytes": Reason(
        "NUL byte",
        "NUL bytes",
        "characters",
        "check the encoding: UTF-16 text is half NUL bytes; convert it to UTF-8",
    ),
    "lone-surrogates": Reason(
        "half of a surrogate pair, read as '?'",
        "halves of surrogate pairs, read as '?'",
        "characters",
        "write the JSON again with whole characters",
        code="text-replaced",
        kept=True,
    ),
    "repeated-paragraph": Reason("repeated paragraph", "repeated paragraphs", "paragraphs", ""),
    "residue": Reason(
        "validation paragraph that training holds",
        "validation paragraphs that training holds",
        "paragraphs",
        "",
    ),
    "dropped-characters": Reason(
        "character that the tokenizer drops",
        "characters that the tokenizer drops",
        "characters",
        "take a tokenizer that knows them, or one with byte fallback; nats per byte count only "
        "what is kept",
        code="tokenizer-drops",
    ),
    "unknown-tokens": Reason(
        "unknown token",
        "unknown tokens",
        "tokens",
        "take a tokenizer that was trained on such text",
        code="unknown-tokens",
        kept=True,
    ),
    "unindexed-tokens": Reason(
        "token outside of its index",
        "tokens outside of their index",
        "tokens",
        "check that the .idx belongs to its .bin",
    ),
    "raw-npy": Reason(
        ".npy file without a header, read as raw tokens",
        ".npy files without a header, read as raw tokens",
        "files",
        "",
        kept=True,
        by_count=False,
    ),
}


class LeftOut(NamedTuple):
    """Exclusions of a source for one reason: count, bytes if known, some names.

    `kinds` has the same by kind, most first: by the suffix of files that are not read.
    """

    number: int
    bytes: int | None = None
    examples: tuple[str, ...] = ()
    kinds: tuple[tuple[str, "LeftOut"], ...] = ()

    def plus(self, count: int, size: int | None, example: str | None) -> "LeftOut":
        """With so many more; their bytes and their first names if known."""
        named = self.examples if example is None else (*self.examples, example)[:_EXAMPLES]
        known = self.bytes if size is None else (self.bytes or 0) + size
        return LeftOut(self.number + count, known, named)

    def as_json(self) -> dict[str, Any]:
        """The count, the bytes, the names and the kinds."""
        kinds = {name: each.as_json() for name, each in self.kinds}
        return {
            "count": self.number,
            "bytes": self.bytes,
            "examples": list(self.examples),
            **({"kinds": kinds} if kinds else {}),
        }

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "LeftOut":
        """The exclusions of a manifest's entry."""
        kinds = ((name, cls.of(each)) for name, each in entry.get("kinds", {}).items())
        return cls(
            entry["count"],
            entry.get("bytes"),
            tuple(entry.get("examples", ())),
            tuple(sorted(kinds, key=lambda item: (-item[1].number, item[0]))),
        )


class Tally:
    """Counter of exclusions while a source is read.

    Attributes:
        files: Number of files read; None for a builtin.
        file_bytes: Their bytes on the disk.
        suffixes: Their number by suffix.
        place: File and number of the document that is being read; None for a builtin.
        left_out: Exclusions by reason.
    """

    def __init__(self) -> None:
        self.files: int | None = None
        self.file_bytes = 0
        self.suffixes: dict[str, int] = {}
        self.place: str | None = None
        self.left_out: dict[str, LeftOut] = {}
        self._kinds: dict[str, dict[str, LeftOut]] = {}

    def add(
        self,
        reason: str,
        count: int = 1,
        size: int | None = None,
        *,
        example: str | None = None,
        kind: str | None = None,
    ) -> None:
        """Count an exclusion for one of REASONS; `size` is its bytes, if known."""
        if not count:
            return
        had = self.left_out.get(reason, LeftOut(0))
        self.left_out[reason] = had.plus(count, size, example)
        if kind is not None:
            kinds = self._kinds.setdefault(reason, {})
            kind = kind if kind in kinds or len(kinds) < _MOST_KINDS else "others"
            kinds[kind] = kinds.get(kind, LeftOut(0)).plus(count, size, example)

    def count(self, reason: str) -> int:
        """Count of a reason so far."""
        return self.left_out.get(reason, LeftOut(0)).number

    def text(self) -> str:
        """`3 nulls, 1 blank document`, or nothing."""
        return ", ".join(_phrase(reason, each) for reason, each in self._with_kinds())

    def _with_kinds(self) -> Iterator[tuple[str, LeftOut]]:
        for reason, each in self.left_out.items():
            kinds = sorted(self._kinds.get(reason, {}).items(), key=lambda item: -item[1].number)
            yield reason, each._replace(kinds=tuple(kinds))

    def as_json(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {
            "files": self.files,
            "file_bytes": self.file_bytes,
            "suffixes": self.suffixes,
            "left_out": {reason: each.as_json() for reason, each in self._with_kinds()},
        }


@dataclass(frozen=True, kw_only=True)
class Account:
    """Kept and excluded content of one source.

    Attributes:
        name: Name of the source in the study.
        builtin: Whether it is a builtin, which is cleaned by design.
        files: Number of files read; None for a builtin or an older manifest.
        file_bytes: Their bytes on the disk.
        suffixes: Their number by suffix, most first; empty for an older manifest.
        documents: Number of documents kept for training and for validation.
        tokens: Number of tokens kept, separators included.
        bytes: UTF-8 bytes behind the tokens; None if unknown.
        left_out: Exclusions by reason.
    """

    name: str
    builtin: bool
    files: int | None
    file_bytes: int
    suffixes: Mapping[str, int]
    documents: int
    tokens: int
    bytes: int | None
    left_out: tuple[tuple[str, LeftOut], ...]

    @classmethod
    def of(cls, name: str, manifest: Mapping[str, Any]) -> "Account":
        """The account in the manifest of a built source; partial for older manifests."""
        sides = manifest["train"], manifest["validation"]
        dropped = manifest["documents_dropped"]
        older = {"near-duplicate": {"count": dropped}} if dropped else {}
        account = manifest.get("account", {})
        sizes = [side["bytes"] for side in sides if side["tokens"]]
        return cls(
            name=name,
            builtin="builtin" in manifest["recipe"],
            files=account.get("files"),
            file_bytes=account.get("file_bytes", 0),
            suffixes=dict(
                sorted(account.get("suffixes", {}).items(), key=lambda item: (-item[1], item[0]))
            ),
            documents=sum(side["documents"] for side in sides),
            tokens=sum(side["tokens"] for side in sides),
            bytes=None if None in sizes else sum(sizes),
            left_out=tuple(
                (reason, LeftOut.of(each))
                for reason, each in account.get("left_out", older).items()
                if reason in REASONS
            ),
        )

    def share(self, reason: str) -> float | None:
        """Share left out for a reason, the larger of count and bytes; None if unknown."""
        why, each = REASONS[reason], dict(self.left_out)[reason]
        kept_bytes = self.file_bytes if why.of == "files" else self.bytes
        shares = []
        if why.by_count and (whole := self._count(why)):
            shares.append(each.number / whole)
        if each.bytes is not None and kept_bytes is not None and why.of != "tokens":
            shares.append(each.bytes / max(kept_bytes + (0 if why.kept else each.bytes), 1))
        return max(shares, default=None)

    def _count(self, why: Reason) -> int | None:
        """Size of the set that a reason's items are counted among."""
        kept = {"files": self.files, "documents": self.documents, "tokens": self.tokens}.get(why.of)
        others = (
            each.number
            for reason, each in self.left_out
            if REASONS[reason].of == why.of and not REASONS[reason].kept
        )
        return None if kept is None else kept + sum(others)

    def line(self) -> str:
        """One line: `docs: 12 files, 3,400 documents, 1.2M tokens; left out: 40 nulls (1.2%)`."""
        counts = [_counted(self.files, "file")] if self.files is not None else []
        counts += [_counted(self.documents, "document"), f"{_short(self.tokens)} tokens"]
        text = f"{self.name}: {', '.join(counts)}"
        for kept, head in ((False, "left out"), (True, "read in another form")):
            if phrases := [
                _phrase(reason, each, self.share(reason))
                for reason, each in self.left_out
                if REASONS[reason].kept == kept
            ]:
                text += f"; {head}: {', '.join(phrases)}"
        return text

    def diagnostics(self) -> Iterator[Diagnostic]:
        """A warning for each reason that excluded too large a share of a source.

        Builtins are cleaned by design, so only losses by the tokenizer give a warning.
        """
        for reason, each in self.left_out:
            why, share = REASONS[reason], self.share(reason)
            if share is None or share <= LEFT_OUT_LIMIT or not why.fix:
                continue
            if self.builtin and why.code == "data-left-out":
                continue
            done = "read in another form" if why.kept else "left out"
            yield Diagnostic(
                why.code,
                f"data source {self.name!r}: {done}: {_phrase(reason, each, share)}; {why.fix}",
                source=self.name,
                reason=reason,
                count=each.number,
                share=share,
            )

    def as_json(self) -> dict[str, Any]:
        """The account as JSON."""
        return {
            "name": self.name,
            "files": self.files,
            "suffixes": dict(self.suffixes),
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "left_out": {
                reason: each.as_json() | {"share": self.share(reason)}
                for reason, each in self.left_out
            },
        }


def _phrase(reason: str, left_out: LeftOut, share: float | None = None) -> str:
    why = REASONS[reason]
    text = f"{left_out.number:,} {why.one if left_out.number == 1 else why.many}"
    more = [] if share is None else [f"{share:.1%}" if share >= 0.0005 else "under 0.1%"]
    if left_out.kinds:
        shown = left_out.kinds[:_EXAMPLES]
        named = ", ".join(f"{each.number:,} {kind}" for kind, each in shown)
        more.append(f"{named}, ..." if len(left_out.kinds) > _EXAMPLES else named)
    elif left_out.examples and why.of == "files":  # documents are named by `windtunnel data`
        named = ", ".join(left_out.examples)
        more.append(f"{named}, ..." if left_out.number > len(left_out.examples) else named)
    return f"{text} ({'; '.join(more)})" if more else text


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _short(count: int) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 10 * size or count >= size > 1e3:
            return f"{count / size:.3g}{prefix}"
    return f"{count:,}"
