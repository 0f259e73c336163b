"""Local folders and object storage under one roof: paths or URLs that fsspec knows, retries, and clear errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from zarr.storage import FsspecStore, LocalStore

# Failed requests, 503 and slow-down answers among them, are tried again with exponential backoff.
RETRIES = {"mode": "standard", "max_attempts": 9}
REMOTE_ERRORS = ("botocore", "aiobotocore", "aiohttp")


class StorageError(OSError):
    """A storage service that does not answer, or refuses; the message names the path and the cause."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path or URL, and the path in it. S3 takes credentials and endpoint from AWS_ variables."""
    return fsspec.url_to_fs(path, **_options(path))


def zarr_store(path: str) -> LocalStore | FsspecStore:
    """A Zarr store at a path or URL."""
    if is_remote(path):
        return FsspecStore.from_url(path, storage_options=_options(path))
    return LocalStore(path)


def read_file(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: there is none.
        StorageError: the service fails.
    """
    with storage_errors(path):
        fs, name = filesystem(path)
        return bytes(fs.cat_file(name))


def write_file(path: str, content: bytes) -> None:
    """Writes a file: whole or not at all.

    Raises:
        OSError: the disk is full, or the service fails.
    """
    with storage_errors(path, writing=True):
        fs, name = filesystem(path)
        if not isinstance(fs, LocalFileSystem):
            fs.pipe_file(name, content)
            return
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        partial = Path(f"{name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(content)
            partial.replace(name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def remove_file(path: str) -> None:
    """Removes a file, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    with storage_errors(path):
        fs, name = filesystem(path)
        if fs.exists(name):
            fs.rm_file(name)


@contextmanager
def storage_errors(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turns what a storage service's client raises into a `StorageError` that names the path.

    A file that is not there stays a `FileNotFoundError`, but for writing, where it is the bucket that is missing.
    """
    try:
        yield
    except (StorageError, GeneratorExit):
        raise
    except Exception as error:
        missing = isinstance(error, FileNotFoundError) and not writing
        foreign = type(error).__module__.split(".")[0] in REMOTE_ERRORS
        if is_remote(path) and not missing and (foreign or isinstance(error, OSError)):
            raise StorageError(f"{path}: {type(error).__name__}: {error}") from error
        raise


def _options(path: str) -> dict[str, object]:
    return {"config_kwargs": {"retries": RETRIES}} if path.startswith("s3://") else {}
