"""FITS files read front to back as a stream, gzipped or not, of which only the requested planes are kept."""

import io
import math
import os
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from gzip import BadGzipFile
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header

from cubeprep.cube import Rejected
from cubeprep.fits.cards import check_cards
from cubeprep.fits.gunzip import DAMAGE, GunzipStream
from cubeprep.fits.image import (
    BLOCK,
    COMPRESSED,
    data_bytes,
    dtype_of,
    hdu_name,
    image_header,
    image_shape,
    padded,
    scaled,
    scaling_of,
)
from cubeprep.fits.sums import DATA_REMARK, HEADER_REMARK, RunningSum, header_agrees, stated_sum, total
from cubeprep.geometry import Placement
from cubeprep.storage import StorageError, is_remote, open_file, storage_errors

MAX_HEADER_BLOCKS = 1000
MOST_BYTES = 6 << 30  # kept of one HDU; checked before memory is allocated
GZIP_RATIO = 1040  # deflate compresses at most 1032 bytes into one
PASSING = (b"XTENSION", b"BITPIX", b"NAXIS", b"PCOUNT", b"GCOUNT", b"EXTNAME")  # cards that tell an HDU's name and size
HDU_STARTS = (b"SIMPLE  =", b"XTENSION=")
JUNK_BYTES = 1 << 20
CHUNK_BYTES, CHUNK_PLANES = 1 << 20, 64  # of planes that are read together, but at least one
SUM_BYTES = 4 << 20
PRIMARY = fits.PrimaryHDU().header.tostring().encode()


class Watch(NamedTuple):
    """Planes that are looked at while an HDU is read.

    Attributes:
        planes: [n] sorted indices of the planes.
        shown: called with the header of the HDU; gives a function that is called with the indices [n] of some planes,
            and the planes [n, y, x]; those that are kept are among them. The values must not be changed.
    """

    planes: np.ndarray
    shown: Callable[[Header], Callable[[np.ndarray, np.ndarray], None]]

    def with_kept(self, planes: np.ndarray) -> np.ndarray:
        """Sorted indices of these planes and of those to keep."""
        return np.union1d(self.planes, planes)


class FitsStream:
    """An open FITS file. Whatever is wrong with the file raises a `Rejected` that names it.

    Iterate over `hdus()` and call `read_planes` for the images needed, in the order of the file. `passed` lists the
    names of the HDUs reached so far, `primary` is the header of the first, `remarks` are those that differ from their
    checksums. `finish` checks that of gzip.
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
        self._size = _file_size(self._raw)
        self._position = 0
        self._next_header = 0
        self._blocks = b""  # of the header just read
        self.passed: list[str] = []
        self.primary = Header()  # of the first HDU, once it was reached
        self.remarks: dict[str, str] = {}

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
        """Headers of the HDUs, in the order of the file; data that are not read are skipped.

        An image that is compressed by tiles has the header of the uncompressed image.

        Raises:
            Rejected: a header is invalid, or the file is damaged or truncated.
            StorageError: the storage service fails.
        """
        while (header := self._read_header()) is not None:
            check_cards(header, self.path)
            shown = self._pass(header)
            if len(self.passed) == 1:
                self.primary = header
            name = self.passed[-1]
            if not header_agrees(header, self._blocks):
                self.remarks[name] = HEADER_REMARK.format(name)
            yield shown
            self.skip_data()

    def _pass(self, header: Header) -> Header:
        """Adds the HDU of this header to `passed`; returns the header of its image."""
        try:
            count = data_bytes(header)
            shown = image_header(header) if header.get(COMPRESSED) else header
            name = hdu_name(shown) or ("" if self.passed else "PRIMARY")
        except (KeyError, TypeError, ValueError, fits.VerifyError) as error:
            raise Rejected("unreadable", f"{self.path}: a header that is no FITS header: {error}") from error
        self._next_header = self._position + padded(count)
        self.passed.append(name)
        return shown

    def skip_data(self) -> None:
        """Skips to the next header."""
        with self._damage():
            self._skip_to(self._next_header)

    @property
    def is_cheap_to_finish(self) -> bool:
        """Whether `finish` reads headers alone: the file is local, and not gzipped."""
        return self._gunzip is None and not is_remote(self.path)

    def finish(self) -> None:
        """Passes the HDUs that are left, and reads a gzip file to its end, where its checksum is.

        Damage of a gzip file often decompresses to other values, unnoticed. Of an uncompressed file on a service no
        more is read, since each header would be a request.

        Raises:
            Rejected: the file is damaged, or unzips to more than `MOST_BYTES` after the last HDU that was read.
            StorageError: the storage service fails.
        """
        if self._gunzip is None and is_remote(self.path):
            return
        end = self._position + MOST_BYTES
        with self._damage():
            # The data of the last HDU may lack their padding.
            while self._advance(min(self._next_header, end)) >= self._next_header and (blocks := self._read_blocks()):
                # The other cards take most of the time.
                self._pass(Header.fromstring(b"".join(card for card in cards(blocks) if card.startswith(PASSING))))
            if self._gunzip and self._advance(end) >= end:
                reason = f"unzips to {MOST_BYTES >> 20} MiB more than was read of it"
                raise Rejected("too_large", f"{self.path}: {reason}")

    def read_planes(
        self, header: Header, planes: np.ndarray, size: int | None, watch: "Watch | None" = None
    ) -> np.ndarray:
        """Planes of the current HDU, cropped or padded to a square about the centre.

        Args:
            header: header that `hdus` gave last, of an image with three axes.
            planes: [n] sorted indices along the first axis.
            size: spaxels a side; None for the longer side of the image.
            watch: other planes that are shown as they pass, but not kept.

        Returns:
            [n, size, size] array in the machine's byte order; 0 beyond the edge.

        Raises:
            Rejected: the header is invalid or asks for too much memory, or the data are damaged or truncated.
            StorageError: the storage service fails.
        """
        num_planes, height, width = image_shape(header, self.path)
        size = size or max(height, width)
        dtype = dtype_of(header, self.path)
        kept = len(planes) * size**2 * dtype.itemsize
        self.check_budget(kept)
        scaling = scaling_of(header, self.path)
        read = self._decompressed if header.get(COMPRESSED) else self._planes
        y, x = Placement.centred(height, size), Placement.centred(width, size)
        if watch is not None:
            return self._watched(
                read(header, dtype, (num_planes, height, width), watch.with_kept(planes)),
                header,
                planes,
                watch,
                (size, y, x),
            )
        result, done = None, 0
        for _, images in read(header, dtype, (num_planes, height, width), planes):
            if result is None:
                result = np.zeros((len(planes), size, size), dtype=images.dtype.newbyteorder("="))
            result[done : done + len(images), y.target, x.target] = images[:, y.source, x.source]
            done += len(images)
        if result is None:
            return np.zeros((0, size, size), dtype=dtype.newbyteorder("="))
        return result if header.get(COMPRESSED) else scaled(result, *scaling)

    def _watched(
        self,
        chunks: Iterator[tuple[np.ndarray, np.ndarray]],
        header: Header,
        planes: np.ndarray,
        watch: "Watch",
        place: tuple[int, Placement, Placement],
    ) -> np.ndarray:
        """Planes to keep, after all planes were shown to `watch`."""
        size, y, x = place
        show, scaling = watch.shown(header), None if header.get(COMPRESSED) else scaling_of(header, self.path)
        kept = []
        for index, images in chunks:
            chunk = np.zeros((len(index), size, size), dtype=images.dtype.newbyteorder("="))
            chunk[:, y.target, x.target] = images[:, y.source, x.source]
            chunk = chunk if scaling is None else scaled(chunk, *scaling)
            show(index, chunk)
            chosen = planes[slice(*np.searchsorted(planes, [index[0], index[-1] + 1]))]
            kept.append(chunk[np.searchsorted(index, chosen)])
        return np.concatenate(kept)

    def _planes(
        self, header: Header, dtype: np.dtype, shape: tuple[int, int, int], planes: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices [n] of consecutive planes and the planes, [n, y, x], in the byte order of the file.

        They share one buffer, so each chunk is valid until the next.
        """
        start, plane_bytes = self._position, shape[1] * shape[2] * dtype.itemsize
        self._check_size(start + shape[0] * plane_bytes)
        stated, found = stated_sum(header), RunningSum()
        if self._gunzip and stated is not None:
            self._gunzip.tally = found.add
        else:
            self._check_sum(header)
        chunks = consecutive(planes, plane_bytes)
        buffer = memoryview(bytearray(max(map(len, chunks), default=0) * plane_bytes))
        with self._damage():
            for index in chunks:
                self._skip_to(start + int(index[0]) * plane_bytes)
                wanted = buffer[: len(index) * plane_bytes]
                whole = self._fill(wanted) // plane_bytes
                if whole < len(index):
                    self._truncated(start + (int(index[0]) + whole + 1) * plane_bytes)
                yield index, np.frombuffer(wanted, dtype=dtype).reshape(-1, *shape[1:])
            if self._gunzip and stated is not None:
                self._skip_to(self._next_header)
                self._gunzip.tally = None
                if found.total != stated:
                    self.remarks[self.passed[-1]] = DATA_REMARK.format(self.passed[-1])

    def _decompressed(
        self, header: Header, dtype: np.dtype, shape: tuple[int, int, int], planes: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices [n] and planes [n, y, x] of an HDU that is compressed by tiles, scaled by astropy."""
        count = self._next_header - self._position
        self._check_size(self._next_header)
        self.check_budget(count)
        try:
            tile = math.prod(int(header.get(f"ZTILE{i}", 1)) for i in range(1, int(header["NAXIS"]) + 1))
            self.check_budget(tile * dtype.itemsize)
            content = io.BytesIO(PRIMARY + self._blocks + self._read(count))
            with fits.open(content) as hdus:
                leading = hdus[1].shape[:-2]  # empty for a flat image; may hold axes of length one beside the planes
                for index in consecutive(planes, shape[1] * shape[2] * dtype.itemsize):
                    places = (np.unravel_index(plane, leading) for plane in index.tolist())
                    yield index, np.stack([np.asarray(hdus[1].section[(*place, ...)]) for place in places])
        except Rejected:
            raise
        except Exception as error:  # decompressors raise exceptions without a common base class
            raise Rejected("truncated", f"{self.path}: tiles that cannot be read: {error}") from error

    def _check_sum(self, header: Header) -> None:
        """Compares the data of a local file that is not gzipped with their DATASUM."""
        stated, start = stated_sum(header), self._position
        if stated is None or is_remote(self.path):
            return
        parts = (
            self._read(min(SUM_BYTES, self._next_header - at)) for at in range(start, self._next_header, SUM_BYTES)
        )
        if total((part + bytes(-len(part) % 4) for part in parts), 0) != stated:
            self.remarks[self.passed[-1]] = DATA_REMARK.format(self.passed[-1])
        self._position = self._raw.seek(start)

    def check_budget(self, count: int) -> None:
        """Rejects a file of which `count` bytes would be held at once, before memory is allocated."""
        if count > MOST_BYTES:
            reason = f"{count >> 20} MiB to be held at once, expected {MOST_BYTES >> 20} MiB at most"
            raise Rejected("too_large", f"{self.path}: {reason}")

    def _check_size(self, end: int) -> None:
        """Rejects data that would extend beyond the end of the file, if known, before memory is allocated."""
        if self._size is None:
            return
        held = self._size * GZIP_RATIO + BLOCK if self._gunzip else self._size
        if end > held:
            raise Rejected("truncated", f"{self.path}: has {self._size} bytes, its header asks for {end}")

    def _read_header(self) -> Header | None:
        self._blocks = self._read_blocks()
        return Header.fromstring(self._blocks) if self._blocks else None

    def _read_blocks(self) -> bytes:
        """Blocks of the header that begins here; empty at the end of the file."""
        blocks = b""
        for _ in range(MAX_HEADER_BLOCKS):
            block = self._read(BLOCK)
            if not blocks and self._is_end(block):
                return b""
            if len(block) < BLOCK:
                raise Rejected("truncated", f"{self.path}: ends within a header, {self._position} bytes in")
            blocks += block
            if any(card.rstrip() == b"END" for card in cards(block)):
                return blocks
        raise Rejected("unreadable", f"{self.path}: a header without end")

    def _is_end(self, block: bytes) -> bool:
        """Whether the last HDU has been read; the standard allows other bytes after it.

        Raises:
            Rejected: an HDU follows, but does not begin here.
        """
        if block.startswith(HDU_STARTS):
            return False
        where = self._position - len(block)
        if where == 0 and block:
            raise Rejected("unreadable", f"{self.path}: no FITS header at byte 0")
        while block:
            if HDU_STARTS[1] in block:
                raise Rejected("unreadable", f"{self.path}: no FITS header at byte {where}, though one follows")
            block = self._read(JUNK_BYTES)
        return True

    def _skip_to(self, position: int) -> None:
        if position != self._position and self._advance(position) < position:
            self._truncated(position)

    def _advance(self, position: int) -> int:
        """Moves to a position, or to the end of a gzip file before it; returns the position reached."""
        if self._gunzip:
            self._position += self._gunzip.skip(max(position - self._position, 0))
        else:
            self._position = self._raw.seek(position)
        return self._position

    def _read(self, count: int) -> bytes:
        buffer = bytearray(count)
        with self._damage():
            return bytes(buffer[: self._fill(memoryview(buffer))])

    def _fill(self, buffer: memoryview) -> int:
        """Fills the buffer; returns the number of bytes read, which is smaller only at the end of the file."""
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
        """Turns errors of a damaged file into `Rejected`; errors of the service say nothing about the file."""
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
    """Stream positioned at the data of the named HDU (`PRIMARY` is the first), and the header of that HDU.

    Raises:
        Rejected: the file or HDU is missing, or the file is damaged before the HDU.
    """
    stream = FitsStream(path)
    try:
        return stream, find_hdu(stream, name)
    except Rejected:
        stream.close()
        raise


def find_hdu(stream: FitsStream, name: str) -> Header:
    """Header of the named HDU, to whose data the stream is moved.

    Raises:
        Rejected: the file ends before the HDU, or is damaged.
    """
    for header in stream.hdus():
        is_first = len(stream.passed) == 1
        if stream.passed[-1] == name or (is_first and name == "PRIMARY"):
            return header
    held = f"it has {', '.join(stream.passed)}" if stream.passed else "the file is empty"
    raise Rejected("missing_hdu", f"{stream.path}: no HDU {name}; {held}")


def read_cube(
    stream: FitsStream,
    first: Header,
    names: Sequence[str],
    planes: np.ndarray,
    size: int | None,
    *,
    headers: dict[str, Header] | None = None,
    optional: Collection[str] = (),
    watch: Watch | None = None,
) -> list[np.ndarray]:
    """Arrays with the same planes of several image HDUs, which may be in any order in the file.

    Args:
        stream: open file, positioned at the data of the first of the HDUs.
        first: header of that HDU.
        names: names of the HDUs; case is ignored.
        planes: [n] sorted indices of the planes.
        size: spaxels a side; see `FitsStream.read_planes`.
        headers: filled with the headers of the HDUs, by name.
        optional: names of HDUs that may be missing; their arrays are then zeros of shape [1, 1, 1].
        watch: other planes of the same HDUs that are shown as they pass.

    Returns:
        [n, size, size] arrays, in the order of `names`.

    Raises:
        Rejected: an HDU is missing or damaged, or differs in shape from the first.
    """
    shape = image_shape(first, stream.path)
    headers = {} if headers is None else headers
    headers[names[0]] = first
    found = {names[0]: stream.read_planes(first, planes, size, watch)}
    before = stream.passed[:-1]
    wanted = {name.upper(): name for name in names}

    def search(hdus: Iterator[Header], source: FitsStream) -> None:
        while len(found) < len(names) and (header := next(hdus, None)) is not None:
            name = wanted.get(hdu_name(header), "")
            if name and name not in found:
                if image_shape(header, stream.path) != shape:
                    held = image_shape(header, stream.path)
                    raise Rejected("bad_shape", f"{stream.path}: {name} is {held}, {names[0]} is {shape}")
                headers[name], found[name] = header, source.read_planes(header, planes, size, watch)

    stream.skip_data()
    search(stream.hdus(), stream)
    if any(name in wanted and wanted[name] not in found for name in before):
        with FitsStream(stream.path) as again:
            search(again.hdus(), again)
    missing = ", ".join(name for name in names if name not in found and name not in optional)
    if missing:
        raise Rejected("missing_hdu", f"{stream.path}: no HDU {missing}; it has {', '.join(stream.passed)}")
    nothing = np.zeros((1, 1, 1), dtype=np.uint8)
    return [found.get(name, nothing) for name in names]


def cards(blocks: bytes) -> list[bytes]:
    """Cards of a header, of 80 bytes each."""
    return [blocks[i : i + 80] for i in range(0, len(blocks), 80)]


def consecutive(planes: np.ndarray, plane_bytes: int) -> list[np.ndarray]:
    """Sorted indices [n] of planes, split into runs of consecutive ones that are small enough to be read together."""
    most = min(max(CHUNK_BYTES // plane_bytes, 1), CHUNK_PLANES)
    runs = np.split(planes, np.flatnonzero(np.diff(planes) != 1) + 1) if len(planes) else []
    return [run[start : start + most] for run in runs for start in range(0, len(run), most)]


def _file_size(raw: Any) -> int | None:
    """Size of the file in bytes; None if the service did not report it."""
    try:
        return os.fstat(raw.fileno()).st_size
    except (OSError, AttributeError):  # it is not local
        size = getattr(getattr(raw, "raw", None), "_size", None)
        return size if isinstance(size, int) else None
