"""Raw token ids: their data type, optional headers, and other formats that are refused.

A raw file does not state its type, and gives ids even when read as another. Ids wider than the type
they are read as are detected by their zeros: of uint32 read as uint16, every second value is the
upper half.
"""

import codecs
import pickletools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windtunnel.errors import DataError

# llm.c and modded-nanogpt: 256 int32, of which the first are magic, version and token count.
_HEADER_BYTES = 1024
# Other headers: zeros after the first values, of which one is the number of tokens.
_HEADER_FIELDS = 16
_HEADER_DTYPES = {20240520: "uint16", 20240801: "uint32"}
_HEADER_VERSIONS = {1, 7}
_OTHER_HEADERS = {
    20240326: "a model of llm.c",
    20240522: "an evaluation file of llm.c",
    20240527: "an optimizer state of llm.c",
}
_MAGICS = {
    b"PK\x03\x04": "a zip archive (.npz, .pt or another)",
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh9": "bzip2",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\x93NUMPY": ".npy",
    b"GGUF": "GGUF",
    b"LITPKDS": "a packed data set of lit-gpt",
    b"MMIDIDX\x00\x00": "a Megatron index",
    b"\x7fELF": "a program",
}
_FIXES = {".npy": "name it .npy", "Parquet": "name it .parquet"}
_CUT_HEADER = f"cut off its {_HEADER_BYTES} bytes (tail -c +{_HEADER_BYTES + 1} OLD > NEW)"
_SAMPLE_BYTES = 1 << 20
# Two samples of this size from one distribution of bytes differ by less than this.
_MANY = 1 << 15
_ALIKE = 0.08
_NO_CONTROLS = bytes({0, *b"\t\n\r\f", *range(32, 256)} - {127})
# Among fewer values, zeros may be chance.
_FEWEST = 16
# Upper halves of 32-bit ids are below this: no vocabulary has 2**20 tokens.
_UPPER_HALF = 16
_DTYPES = ("uint16", "uint32", "int64")
_BY_WIDTH = {1: "uint8", 2: "uint16", 4: "uint32", 8: "int64"}


@dataclass(frozen=True)
class RawTokens:
    """Position and data type of the ids in a raw file.

    Attributes:
        path: The file.
        dtype: Little-endian type of an id.
        offset: Bytes before the first id.
    """

    path: Path
    dtype: np.dtype[Any]
    offset: int = 0

    def ids(self) -> npt.NDArray[Any]:
        """All ids, shape (n,), as a memory map."""
        return np.memmap(self.path, dtype=self.dtype, mode="r", offset=self.offset)


def raw_tokens(path: Path, dtype: str) -> RawTokens:
    """The ids of a file, with the data type of its header, or else `dtype`.

    Raises:
        DataError: The file is cut off, is of another format, or its ids are of another type.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    header = _with_header(path, head, size)
    if header is not None:
        return header
    _refuse_other_formats(path, head, size)
    kind = np.dtype(dtype).newbyteorder("<")
    offset = _other_header(path, head, size, kind)
    if size % kind.itemsize:
        raise DataError(
            "partial-token",
            f"{path}: {size} bytes are not a whole number of {kind.name} tokens; "
            "is it cut off, or is dtype wrong?",
            path=path,
            bytes=size,
            token_bytes=kind.itemsize,
        )
    raw = RawTokens(path, kind, offset)
    if wider := _wider(raw):
        every = (
            "every second value is" if wider[0] == 2 else f"of {wider[0]} values all but one are"
        )
        raise DataError(
            "wrong-dtype",
            f"{path}: read as {kind.name}, {every} 0 or nearly: it holds {wider[1]}; set dtype: "
            f"{wider[1]}",
            path=path,
            dtype=kind.name,
            likely=wider[1],
        )
    if kind.itemsize > 1 and _is_text(raw):
        raise DataError(
            "wrong-format",
            f"{path}: is text and no token ids of {kind.name}; name it .txt, or set dtype: uint8 "
            "if its bytes are the ids",
            path=path,
            found="text",
        )
    if kind.itemsize == 2 and _is_bytewise(raw):
        raise DataError(
            "wrong-dtype",
            f"{path}: read as {kind.name}, both bytes of its ids have the same distribution: it "
            "holds uint8; set dtype: uint8 (if it does not, write the ids as .npy)",
            path=path,
            dtype=kind.name,
            likely="uint8",
        )
    return raw


def likely_dtype(raw: RawTokens, vocab_size: int) -> tuple[str, str] | None:
    """A data type under which every id is in the vocabulary, and how to set it; None if none is."""
    little = [(f"set dtype: {name}", np.dtype(name).newbyteorder("<")) for name in _DTYPES]
    big = [
        (
            "swap their bytes with numpy: "
            f"np.fromfile(OLD, '{kind.newbyteorder('>').str}', offset={raw.offset})"
            f".astype('{kind.newbyteorder('<').str}').tofile(NEW), and set dtype: {kind.name}",
            kind.newbyteorder(">"),
        )
        for _, kind in little
    ]
    bytewise = [("set dtype: uint8", np.dtype("uint8"))] if vocab_size <= 1 << 8 else []
    size = raw.path.stat().st_size - raw.offset
    for fix, kind in (*little, *bytewise, *big):
        if kind == raw.dtype or size % kind.itemsize:
            continue
        other = RawTokens(raw.path, kind, raw.offset)
        # Two regions suffice: ids of a wrong type are soon out of range.
        ids = other.ids()
        parts = (ids[:_SAMPLE_BYTES], ids[-_SAMPLE_BYTES:])
        fits = all(int(part.min()) >= 0 and int(part.max()) < vocab_size for part in parts)
        if fits and not _wider(other):
            name = f"{'big-endian ' if kind.str.startswith('>') else ''}{kind.name}"
            return name, f"as {name} every id would be allowed: {fix}"
    return None


def _with_header(path: Path, head: bytes, size: int) -> RawTokens | None:
    """The ids after a header of llm.c or modded-nanogpt, if there is one."""
    if len(head) < 12:
        return None
    magic, version, count = struct.unpack_from("<3i", head)
    if magic in _OTHER_HEADERS:
        raise DataError(
            "wrong-format",
            f"{path}: is {_OTHER_HEADERS[magic]}; give a file of tokens",
            path=path,
            found=_OTHER_HEADERS[magic],
        )
    if magic not in _HEADER_DTYPES:
        return None
    if version not in _HEADER_VERSIONS:
        raise DataError(
            "unknown-version",
            f"{path}: has the header of llm.c's tokens (magic {magic}) in version {version}; "
            f"readable are {sorted(_HEADER_VERSIONS)}: {_CUT_HEADER} and set dtype",
            path=path,
            magic=magic,
            version=version,
        )
    kind = np.dtype(_HEADER_DTYPES[magic]).newbyteorder("<")
    want = _HEADER_BYTES + count * kind.itemsize
    if size != want:
        raise DataError(
            "wrong-size",
            f"{path}: {size} bytes, where its header announces {count} tokens of {kind.name}, "
            f"{want} bytes; is it cut off?",
            path=path,
            bytes=size,
            expected=want,
            tokens=count,
        )
    if not count:
        raise DataError(
            "empty", f"{path}: its header announces no tokens; remove it or fill it", path=path
        )
    return RawTokens(path, kind, _HEADER_BYTES)


def _other_header(path: Path, head: bytes, size: int, kind: np.dtype[Any]) -> int:
    """Bytes of a header like that of llm.c with another magic: all of it zeros but its beginning.

    Raises:
        DataError: Its count of tokens is not that of the file as `kind`.
    """
    if len(head) < _HEADER_BYTES:
        return 0
    fields = np.frombuffer(head, "<i4")
    if fields[_HEADER_FIELDS:].any() or not fields[0]:
        return 0
    counts = {int(count) for count in fields[1:3] if count > 0}
    rest = size - _HEADER_BYTES
    if any(count * kind.itemsize == rest for count in counts):
        return _HEADER_BYTES
    widths = [width for width in (1, 2, 4, 8) if any(count * width == rest for count in counts)]
    if widths:
        raise DataError(
            "wrong-dtype",
            f"{path}: has a header, by which its ids are of {widths[0]} bytes, and {kind.name} has "
            f"{kind.itemsize}; set dtype: {_BY_WIDTH[widths[0]]}",
            path=path,
            dtype=kind.name,
            likely=_BY_WIDTH[widths[0]],
        )
    if _is_date(int(fields[0])):
        raise DataError(
            "unknown-header",
            f"{path}: has the header of another trainer (magic {fields[0]}), which tells no number "
            f"of tokens that is the file's; is it cut off? Else {_CUT_HEADER} and set dtype",
            path=path,
            magic=int(fields[0]),
        )
    return 0


def _is_date(magic: int) -> bool:
    """Whether a number reads as a recent date, as the magic numbers of trainers do."""
    year, month, day = magic // 10_000, magic // 100 % 100, magic % 100
    return 2020 <= year < 2040 and 1 <= month <= 12 and 1 <= day <= 31


def _wider(raw: RawTokens) -> tuple[int, str] | None:
    """Values per id and the id's data type, where ids are wider than read."""
    width, ids = raw.dtype.itemsize, raw.ids()
    if width == 8 or raw.dtype.byteorder == ">":
        return None
    values = ids.view(f"<u{width}")
    count = _SAMPLE_BYTES // width
    regions = [values[first : first + count] for first in _starts(len(values), count)]
    for times in (8, 4, 2):
        if width * times > 8 or len(values) % times or len(values) < _FEWEST:
            continue
        if all(_is_upper_zero(region, times, width) for region in regions) and any(
            region[::times].any() for region in regions
        ):
            return times, _BY_WIDTH[width * times]
    return None


def _starts(length: int, count: int) -> list[int]:
    """Positions to sample: beginning, middle and end, each at the start of an id."""
    return sorted({max(0, place // 8 * 8) for place in (0, (length - count) // 2, length - count)})


def _is_upper_zero(values: npt.NDArray[Any], times: int, width: int) -> bool:
    """Whether values are lower parts of wider ids, each followed by its upper parts."""
    whole = values[: len(values) // times * times].reshape(-1, times)
    upper = whole[:, 1:]
    if not upper.any():
        return True
    # Vocabularies above 2**16 have small upper halves instead of zeros.
    small = upper[:, 0].max() < _UPPER_HALF and not upper[:, 1:].any()
    return bool(width == 2 and small and whole[:, 0].max() >= 1 << 12)


def _refuse_other_formats(path: Path, head: bytes, size: int) -> None:
    name = next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)
    if name is None and _is_safetensors(head, size):
        name = "safetensors"
    if name is None and _is_litdata(path, head, size):
        name = "a chunk of LitData"
    if name is None and _is_pickle(path, head):
        name = "a pickle"
    if name is not None:
        fix = _FIXES.get(name, "write the ids as raw little-endian numbers (.bin), or as .npy")
        raise DataError(
            "wrong-format", f"{path}: is {name} and no raw token ids; {fix}", path=path, found=name
        )


def _is_safetensors(head: bytes, size: int) -> bool:
    return len(head) > 9 and head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < size


def _is_litdata(path: Path, head: bytes, size: int) -> bool:
    """Whether a file starts with a count, that many offsets, and the file's size."""
    if len(head) < 8:
        return False
    count, first = struct.unpack_from("<2I", head)
    table = 4 * (count + 2)
    if first != table or table > size:
        return False
    with path.open("rb") as file:
        file.seek(table - 4)
        return int.from_bytes(file.read(4), "little") == size


def _is_pickle(path: Path, head: bytes) -> bool:
    """Whether a file starts with a pickle protocol and continues as one."""
    if head[:1] != b"\x80" or head[1:2] not in b"\x02\x03\x04\x05" or head[2:3] == b"":
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        if file.read(1) != b".":
            return False
    opcode = head[2:3].decode("latin-1")
    return any(each.code == opcode for each in pickletools.opcodes)


def _is_text(raw: RawTokens) -> bool:
    """Whether the bytes are printable UTF-8, which ids of two or more bytes never are.

    Byte 0 may separate documents; in small two-byte ids it is every second byte.
    """
    with raw.path.open("rb") as file:
        file.seek(raw.offset)
        sample = file.read(_SAMPLE_BYTES)
    if len(sample) < 4 * _FEWEST or sample.count(0) > len(sample) // 4:
        return False
    if sample.translate(None, _NO_CONTROLS):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _is_bytewise(raw: RawTokens) -> bool:
    """Whether lower and upper bytes of ids follow the same uneven distribution.

    Real ids never do: the upper byte selects the part of the vocabulary, and an even spread over
    all values is that of any two bytes.
    """
    pairs = raw.ids()[: _SAMPLE_BYTES // 2].view("u1").reshape(-1, 2)
    if len(pairs) < _MANY:
        return False
    low, high = (np.bincount(pairs[:, at], minlength=256) / len(pairs) for at in (0, 1))
    alike = np.abs(low - high).sum() / 2 < _ALIKE
    even = np.abs(low - 1 / 256).sum() / 2 < 2 * _ALIKE
    return bool(alike and not even and np.count_nonzero(low) >= _FEWEST)
