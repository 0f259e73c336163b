"""One interface to local folders, object storage and web servers: paths or URLs, retries, and clear errors.

Every object is read back after writing and compared, so that data corrupted on the way are never taken for complete.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from cubeprep import remote
from cubeprep.files import replacing
from cubeprep.redact import redact
from cubeprep.s3stream import S3Stream

REMOTE_ERRORS = ("botocore", "aiobotocore", "aiohttp", "obstore")
WRITE_ATTEMPTS = 2


class StorageError(OSError):
    """A storage service does not respond or refuses a request; the message names the path and the cause."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """fsspec file system of a path or URL, and the path within it; S3 uses the AWS_ variables and profiles."""
    return fsspec.url_to_fs(path, **_options(path))


def zarr_store(path: str) -> Store:
    """Zarr store at a path or URL, for reading."""
    if path.startswith("s3://"):
        bucket, _, prefix = path.removeprefix("s3://").partition("/")
        return ObjectStore(remote.bucket(bucket, prefix))
    if is_remote(path):
        return FsspecStore.from_url(path)
    return LocalStore(path)


def read_file(path: str, largest: int | None = None) -> bytes:
    """Content of a file.

    Args:
        path: path or URL.
        largest: most bytes that are read, as far as the size is known before.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is larger than `largest`.
        StorageError: the service fails.
    """
    with storage_errors(path):
        fs, name = filesystem(path)
        size = fs.info(name).get("size") if largest is not None else None
        if size is None or size <= largest:
            return bytes(fs.cat_file(name))
    raise OSError(f"it has {size:,} bytes, expected {largest:,} at most for a file of its kind")


def open_file(path: str) -> io.BufferedReader:
    """File opened for sequential reading, as `gzip` and FITS files are read.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the service fails.
    """
    with storage_errors(path):
        if path.startswith("s3://") and path.endswith(".gz"):
            return io.BufferedReader(S3Stream(path))
        if remote.serves(path):
            return io.BufferedReader(remote.RemoteFile(path))
        fs, name = filesystem(path)
        if isinstance(fs, LocalFileSystem):
            return Path(name).open("rb")
        return io.BufferedReader(fs.open(name, "rb"))


def size_and_tag(path: str) -> tuple[int, str]:
    """Size of a file on a service, bytes, and its entity tag; the tag is empty if the service has none.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the service fails.
    """
    with storage_errors(path):
        if remote.serves(path):
            found = remote.head(path)
            return int(found["size"]), str(found["e_tag"] or "").strip('"')
        fs, name = filesystem(path)
        info = fs.info(name)
        return int(info["size"]), str(info.get("ETag") or "").strip('"')


def write_file(path: str, content: bytes) -> None:
    """Writes a file completely or not at all, and verifies it by reading it back.

    Raises:
        OSError: the disk is full.
        StorageError: the service fails, or the content read back differs on every attempt; the file is then removed.
    """
    with storage_errors(path, writing=True):
        for _ in range(WRITE_ATTEMPTS):
            _write(path, content)
            if _read_back(path) == content:
                return
        remove_file(path)  # never leave a corrupt object that looks valid
        raise StorageError(f"{path}: written {WRITE_ATTEMPTS} times, the content read back differed each time; removed")


def _write(path: str, content: bytes) -> None:
    if path.startswith("s3://"):
        remote.put(path, content)
        return
    fs, name = filesystem(path)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(name, content)
        return
    with replacing(Path(name)) as partial:
        partial.write_bytes(content)


def _read_back(path: str) -> bytes:
    if path.startswith("s3://"):
        return remote.get(path)
    fs, name = filesystem(path)
    return bytes(fs.cat_file(name))


def remove_file(path: str) -> None:
    """Removes a file if it exists.

    Raises:
        OSError: it cannot be removed.
        StorageError: the service fails.
    """
    with storage_errors(path):
        fs, name = filesystem(path)
        if fs.exists(name):
            fs.rm_file(name)


@contextmanager
def storage_errors(path: str, *, writing: bool = False) -> Iterator[None]:
    """Converts exceptions of a storage service's client into `StorageError`s that name the path.

    A missing file remains a `FileNotFoundError`, except when writing: there the bucket is missing.

    Raises:
        StorageError: the client of a remote service raised another error.
    """
    try:
        yield
    except (StorageError, GeneratorExit):
        raise
    except Exception as error:
        missing = isinstance(error, FileNotFoundError) and not writing
        foreign = type(error).__module__.split(".")[0] in REMOTE_ERRORS
        if is_remote(path) and not missing and (foreign or isinstance(error, OSError)):
            no_bucket = writing and isinstance(error, FileNotFoundError)
            cause = "the bucket does not exist" if no_bucket else _plain(error)
            raise StorageError(redact(f"{path}: {cause}")) from error
        raise


def _plain(error: Exception) -> str:
    """Type and first line of a client's message; the further lines of obstore's messages are internals."""
    text = str(error).partition("\n")[0].strip()
    if isinstance(error, PermissionError) and text in ("", "None"):
        text = "the service rejects these credentials"
    return f"{type(error).__name__}: {text}"


def _options(path: str) -> dict[str, object]:
    if not path.startswith("s3://"):
        return {}
    retries = {"mode": "standard", "max_attempts": remote.MAX_ATTEMPTS}
    return {"config_kwargs": {"retries": retries}, "use_listings_cache": False}
