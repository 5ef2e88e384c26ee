"""Files as bytes, unpacked where their suffix says so."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from windtunnel.errors import DataError, boundary

# Frames of `zstd --long=31` are the largest there are.
_WINDOW_BYTES = 1 << 31
_PACKED_BYTES = 1 << 17
_WIDE = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """A file's bytes; what fails while they are read is told with the file's name.

    Raises:
        DataError: If it cannot be opened, is damaged, or is no UTF-8 by its first bytes.
    """
    packed = path.suffix.lower() in {".gz", ".zst"}
    what = "cannot be decompressed or read" if packed else "cannot be read"
    with boundary(path, "is it whole, and may it be read?", what=what), _unpacked(path) as file:
        buffered = cast("io.BufferedReader", file)
        head = buffered.peek(4)[:4]
        for mark, name in _WIDE.items():
            if head.startswith(mark):
                raise DataError(
                    f"{path}: is {name}, byte 0 (0x{head[0]:02x}) is not UTF-8; convert it: "
                    f"iconv -f {name} -t UTF-8"
                )
        yield buffered


def _unpacked(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    file = path.open("rb")
    return io.BufferedReader(_ZstdFrames(file)) if path.suffix.lower() == ".zst" else file


class _ZstdFrames(io.RawIOBase):
    """The content of a file of zstd frames; one that ends within a frame is an error.

    The library's own reader takes such an end for that of the file.
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
