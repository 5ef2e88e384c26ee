"""Files as byte streams, decompressed according to their suffix."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from windtunnel.errors import DataError, boundary

# Frames of `zstd --long=31` are the largest possible.
_WINDOW_BYTES = 1 << 31
_PACKED_BYTES = 1 << 17
_WIDE = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_WIDE_ZEROS = {
    (1, 3, 5, 7): "UTF-16LE",
    (0, 2, 4, 6): "UTF-16BE",
    (1, 2, 3, 5, 6, 7): "UTF-32LE",
    (0, 1, 2, 4, 5, 6): "UTF-32BE",
}
# First bytes that no text has.
_PACKED = {
    b"\x1f\x8b\x08": ("gzip", "add .gz to its name, or unpack it"),
    b"\x28\xb5\x2f\xfd": ("zstd", "add .zst to its name, or unpack it"),
    b"\xfd7zXZ\x00": ("xz", "unpack it"),
    b"BZh91AY&": ("bzip2", "unpack it"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"PAR1\x15": ("Parquet", "name it .parquet"),
}


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file; errors name the file.

    Raises:
        DataError: It cannot be opened, is damaged, or is no UTF-8 by its first bytes.
    """
    packed = path.suffix.lower() in {".gz", ".zst"}
    what = "cannot be decompressed or read" if packed else "cannot be read"
    with boundary(path, "is it whole, and may it be read?", what=what), _unpacked(path) as file:
        buffered = cast("io.BufferedReader", file)
        _refuse_other_content(path, buffered.peek(8)[:8])
        yield buffered


def _refuse_other_content(path: Path, head: bytes) -> None:
    """Refuse a file whose first bytes are not text."""
    for mark, (name, fix) in _PACKED.items():
        if head.startswith(mark):
            raise DataError(
                "wrong-format", f"{path}: is {name} and no text; {fix}", path=path, found=name
            )
    encoding = next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)
    if encoding is None and len(head) == 8:
        # Without a byte order mark: every other byte of characters below 256 is zero.
        zeros = tuple(place for place, byte in enumerate(head) if not byte)
        encoding = _WIDE_ZEROS.get(zeros)
    if encoding is not None:
        raise DataError(
            "not-utf8",
            f"{path}: is {encoding}, its first bytes ({head[:4].hex(' ')}) are not UTF-8; convert "
            f"it: iconv -f {encoding} -t UTF-8 OLD > NEW",
            path=path,
            encoding=encoding,
        )


def _unpacked(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    file = path.open("rb")
    return io.BufferedReader(_ZstdFrames(file)) if path.suffix.lower() == ".zst" else file


class _ZstdFrames(io.RawIOBase):
    """The content of a file of zstd frames; an incomplete frame is an error.

    The library's own reader takes an incomplete frame for the end of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._file, self._content, self._packed = file, memoryview(b""), b""
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        while not self._content:
            packed = self._packed or self._file.read(_PACKED_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("it ends within a frame")
                return 0
            frame = self._frame or self._unpacker.decompressobj()
            self._content = memoryview(frame.decompress(packed))
            self._packed = frame.unused_data if frame.eof else b""
            self._frame = None if frame.eof else frame
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def close(self) -> None:
        """Also closes the file."""
        self._file.close()
        super().close()
