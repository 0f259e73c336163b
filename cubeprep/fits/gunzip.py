"""Gzip: a forward stream of which most is skipped, and small files that are read whole."""

import io
import zlib
from collections.abc import Callable
from gzip import BadGzipFile
from typing import Any

from isal import igzip, isal_zlib

# Small enough to stay in the processor's cache between decompression and copy, and large compared with igzip's window
# of 32 KiB, which it saves with every call.
BUFFER_BYTES = 256 << 10
INPUT_BYTES = 128 << 10
# Exceptions that reading a damaged or truncated gzip file raises.
DAMAGE: Any = (EOFError, BadGzipFile, zlib.error, isal_zlib.IsalError)
# Largest size of a file that is read whole: a kilobyte of gzip can unzip to a megabyte of zeros. The largest MAPS and
# drpall hold some 100 MB.
LARGEST_WHOLE = 512 << 20
PART_BYTES = 4 << 20


def unzipped(content: bytes, largest: int | None = None) -> bytes:
    """Content of a small file, unzipped if it is gzip.

    Args:
        content: bytes of the file.
        largest: most bytes to unzip; default: `LARGEST_WHOLE`.

    Raises:
        OSError: the gzip stream is damaged, or the file or its content are of more than `largest` bytes.
    """
    held, largest = io.BytesIO(), LARGEST_WHOLE if largest is None else largest
    if len(content) > largest:
        raise OSError(f"it is larger than {largest >> 20} MiB, which no file of its kind is")
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with igzip.IGzipFile(fileobj=io.BytesIO(content)) as file:
            while part := file.read(PART_BYTES):
                if held.tell() + len(part) > largest:
                    raise OSError(f"unzipped it is larger than {largest >> 20} MiB, which no file of its kind is")
                held.write(part)
    except DAMAGE as error:
        raise OSError(f"damaged gzip: {error}") from error
    return held.getvalue()


class GunzipStream:
    """Gzip stream that decompresses into one buffer; skipped bytes are never copied."""

    def __init__(self, raw: Any) -> None:
        """Decompresses a binary file that is open for reading."""
        # The reader inside IGzipFile, whose own `readinto` allocates memory and copies.
        self._reader = igzip._IGzipReader(raw, INPUT_BYTES)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._held = self._buffer[:0]
        self.tally: Callable[[memoryview], None] | None = None  # is given all bytes that are skipped or read

    def skip(self, count: int) -> int:
        """Skips `count` bytes; returns the number skipped, which is smaller only at the end of the file."""
        left = count
        while left and (part := self._part(left)):
            left -= len(part)
        return count - left

    def readinto(self, target: memoryview) -> int:
        """Fills `target`; returns the number of bytes read, which is smaller only at the end of the file."""
        filled = 0
        while filled < len(target) and (part := self._part(len(target) - filled)):
            target[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def _part(self, most: int) -> memoryview:
        """Next bytes, at most `most`; empty at the end of the file."""
        if not self._held:
            self._held = self._buffer[: self._reader.readinto(self._buffer)]
        part, self._held = self._held[:most], self._held[most:]
        if self.tally:
            self.tally(part)
        return part
