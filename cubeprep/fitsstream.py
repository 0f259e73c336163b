"""FITS read front to back as a stream, gzipped or not, keeping only the planes that are asked for."""

import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from gzip import BadGzipFile
from types import TracebackType

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Rejected
from cubeprep.geometry import Placement
from cubeprep.gunzip import DAMAGE, GunzipStream
from cubeprep.storage import StorageError, open_file, storage_errors

BLOCK = 2880
MAX_HEADER_BLOCKS = 1000
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class FitsStream:
    """An open FITS file. Every failure to read it is a `Rejected` that names the file.

    Iterate over `hdus()` and call `read_planes` on those that matter, in the order of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with storage_errors(path):
                self._raw = open_file(path)
                magic = self._raw.peek(2)[:2]
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise Rejected("missing_file", f"{path}: no such file") from error
        except OSError as error:
            raise Rejected("unreadable", f"{path}: {error}") from error
        weakref.finalize(self, self._raw.close)  # a galaxy may be rejected before its planes are read
        self._gunzip = GunzipStream(self._raw) if magic == b"\x1f\x8b" else None
        self._position = 0
        self._next_header = 0

    def __enter__(self) -> "FitsStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._raw.close()

    def hdus(self) -> Iterator[Header]:
        """The headers, in the order of the file; data that were not read are skipped."""
        while (header := self._read_header()) is not None:
            self._next_header = self._position + _padded(_data_bytes(header))
            yield header
            self.skip_data()

    def skip_data(self) -> None:
        """Goes on to the next header."""
        with self._damage():
            self._skip_to(self._next_header)

    def read_planes(self, header: Header, planes: np.ndarray, size: int | None) -> np.ndarray:
        """Planes of the image under the header just reached, on a square about its centre.

        Args:
            header: a header as `hdus` gave it, of an image with three axes.
            planes: [n] sorted indices along the first axis.
            size: spaxels a side; if not given, the longer side of the image.

        Returns:
            [n, size, size] in the machine's byte order; 0 beyond the edge.
        """
        start = self._position
        _, height, width = image_shape(header, self.path)
        size = size or max(height, width)
        dtype = np.dtype(DTYPES[header["BITPIX"]])
        plane_bytes = height * width * dtype.itemsize
        y, x = Placement.centred(height, size), Placement.centred(width, size)
        result = np.zeros((len(planes), size, size), dtype=dtype.newbyteorder("="))
        buffer = bytearray(plane_bytes)
        image = np.frombuffer(buffer, dtype=dtype).reshape(height, width)
        with self._damage():
            for out, plane in zip(result, planes.tolist(), strict=True):
                self._skip_to(start + plane * plane_bytes)
                if self._fill(memoryview(buffer)) < plane_bytes:
                    self._truncated(start + (plane + 1) * plane_bytes)
                out[y.target, x.target] = image[y.source, x.source]
        scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        return result if (scale, zero) == (1, 0) else result * scale + zero

    def _read_header(self) -> Header | None:
        blocks = b""
        for _ in range(MAX_HEADER_BLOCKS):
            block = self._read(BLOCK)
            if not block and not blocks:
                return None
            if len(block) < BLOCK:
                raise Rejected("truncated", f"{self.path}: ends within a header, {self._position} bytes in")
            blocks += block
            if not blocks.startswith((b"SIMPLE", b"XTENSION")):
                raise Rejected("unreadable", f"{self.path}: no FITS header at byte {self._position - BLOCK}")
            if any(block[i : i + 80].rstrip() == b"END" for i in range(0, BLOCK, 80)):
                return Header.fromstring(blocks)
        raise Rejected("unreadable", f"{self.path}: a header without end")

    def _skip_to(self, position: int) -> None:
        if position == self._position:
            return
        if self._gunzip:
            self._position += self._gunzip.skip(position - self._position)
        else:
            self._position = self._raw.seek(position)
        if self._position < position:
            self._truncated(position)

    def _read(self, count: int) -> bytes:
        buffer = bytearray(count)
        with self._damage():
            return bytes(buffer[: self._fill(memoryview(buffer))])

    def _fill(self, buffer: memoryview) -> int:
        """Reads as much as there is, up to the length of the buffer."""
        filled = 0
        if self._gunzip:
            filled = self._gunzip.readinto(buffer)
        else:
            while filled < len(buffer) and (count := self._raw.readinto(buffer[filled:])):
                filled += count
        self._position += filled
        return filled

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """A damaged file sets its galaxy aside; a service that fails says nothing about the file."""
        try:
            with storage_errors(self.path):
                yield
        except DAMAGE as error:
            raise Rejected("truncated", f"{self.path}: {error}") from error
        except StorageError as error:
            if isinstance(error.__cause__, BadGzipFile):
                raise Rejected("truncated", f"{self.path}: {error.__cause__}") from error
            raise
        except OSError as error:
            raise Rejected("unreadable", f"{self.path}: {error}") from error

    def _truncated(self, wanted: int) -> None:
        raise Rejected("truncated", f"{self.path}: ends at byte {self._position}, data go on to {wanted} at least")


def open_at(path: str, name: str) -> tuple[FitsStream, Header]:
    """A stream that stands at the data of the named HDU (`PRIMARY` is the first), and its header.

    Raises:
        Rejected: no such file or HDU, or the file is damaged before it.
    """
    stream = FitsStream(path)
    try:
        return stream, find_hdu(stream, name, [])
    except Rejected:
        stream.close()
        raise


def find_hdu(stream: FitsStream, name: str, passed: list[str]) -> Header:
    """Goes on to the named HDU.

    Raises:
        Rejected: the file ends before it.
    """
    for number, header in enumerate(stream.hdus()):
        found = str(header.get("EXTNAME", "PRIMARY" if number == 0 and not passed else "")).strip()
        passed.append(found)
        if found == name:
            return header
    held = f"it has {', '.join(passed)}" if passed else "the file is empty"
    raise Rejected("missing_hdu", f"{stream.path}: no HDU {name}; {held}")


def read_cube(
    stream: FitsStream, first: Header, names: Sequence[str], planes: np.ndarray, size: int | None
) -> list[np.ndarray]:
    """The same planes of several image HDUs, of which the stream stands at the first; they are found in any order.

    Raises:
        Rejected: an HDU is missing, of another shape than the first, or damaged.
    """
    shape = image_shape(first, stream.path)
    found = {names[0]: stream.read_planes(first, planes, size)}
    passed = [names[0]]
    stream.skip_data()
    headers = stream.hdus()
    while len(found) < len(names) and (header := next(headers, None)) is not None:
        name = str(header.get("EXTNAME", "")).strip()
        passed.append(name)
        if name in names:
            if image_shape(header, stream.path) != shape:
                raise Rejected(
                    "bad_shape", f"{stream.path}: {name} is {image_shape(header, stream.path)}, {names[0]} is {shape}"
                )
            found[name] = stream.read_planes(header, planes, size)
    missing = ", ".join(name for name in names if name not in found)
    if missing:
        raise Rejected("missing_hdu", f"{stream.path}: no HDU {missing}; it has {', '.join(passed)}")
    return [found[name] for name in names]


def image_shape(header: Header, path: str) -> tuple[int, int, int]:
    """(planes, y, x) of an image with three axes.

    Raises:
        Rejected: it is no such image.
    """
    axes = [int(header[f"NAXIS{i}"]) for i in range(header["NAXIS"], 0, -1)]
    if header.get("XTENSION", "IMAGE").strip() != "IMAGE" or len(axes) != 3 or min(axes) < 1:
        name = header.get("EXTNAME", "PRIMARY")
        raise Rejected("bad_shape", f"{path}: {name} is no image of three axes ({header.get('XTENSION')}, {axes})")
    return axes[0], axes[1], axes[2]


def _data_bytes(header: Header) -> int:
    axes = [int(header[f"NAXIS{i}"]) for i in range(1, header["NAXIS"] + 1)]
    elements = math.prod(axes) if axes else 0
    return abs(header["BITPIX"]) // 8 * int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + elements)


def _padded(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
