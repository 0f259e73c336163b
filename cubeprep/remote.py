"""Files on S3 and on web servers through obstore: cubes as streams, everything else in single requests.

s3fs lists objects and reads tables and records. obstore, which needs a fraction of its processor time, transfers
everything else except gzipped cubes on S3, which are streamed by botocore (`cubeprep.s3stream`). All three take
credentials, region and endpoint from botocore: from AWS_ variables, a profile or the instance.
"""

import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Failed requests, including 503 and SlowDown responses, are retried with exponential backoff.
MAX_ATTEMPTS = 9
BACKOFF = {"init_backoff": timedelta(seconds=0.5), "base": 3, "max_backoff": timedelta(seconds=20)}
SCHEMES = ("s3://", "http://", "https://")
CHUNK_BYTES = 1 << 20
FIRST_WINDOW, LARGEST_WINDOW = 1 << 20, 16 << 20
CREDENTIALS_LIFE = timedelta(minutes=5)
# Streaming a cube may take up to LONGEST in all, but a connection without data for SILENCE counts as dead.
SILENCE = timedelta(seconds=60)
LONGEST = timedelta(hours=6)


class ForwardFile(io.RawIOBase):
    """A remote file of unknown size that is read forward, by requests that are sent when something is read."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True; positions relative to the end are not supported."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position and returns it; no request is sent before the next read.

        Raises:
            UnsupportedOperation: `whence` is SEEK_END; the size is unknown before the first request.
        """
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence != io.SEEK_SET:
            raise io.UnsupportedOperation("a remote file cannot seek relative to its end: its size is not known")
        self._move(offset - self._position)
        self._position = offset
        return offset

    def tell(self) -> int:
        """Current position, bytes."""
        return self._position

    def _move(self, ahead: int) -> None:
        """Prepares for the next read to begin that many bytes after the current position; may be 0 or negative."""
        raise NotImplementedError


class RemoteFile(ForwardFile):
    """A remote file, read forward with as few requests as possible.

    Gzipped files can only be read from the start, so one request streams them for as long as they are read. Other files
    are read in ranges that grow while reading is sequential; skipping planes costs one more request instead of
    downloading them.
    """

    def __init__(self, url: str) -> None:
        """Sends no request yet.

        Args:
            url: URL of scheme s3, http or https.
        """
        super().__init__()
        self._store, self._key = locate(url)
        self._whole = url.endswith(".gz")
        self._has_ranges = True
        self._window = FIRST_WINDOW
        self._size: int | None = None
        self._version: tuple[Any, ...] | None = None
        self._chunks: Iterator[memoryview] = iter(())
        self._chunk = memoryview(b"")

    def readinto(self, buffer: Any) -> int:
        """Copies at most one chunk into the buffer and returns the number of bytes; 0 at the end of the file."""
        if not self._chunk:
            self._chunk = self._next_chunk()
        count = min(len(buffer), len(self._chunk))
        memoryview(buffer)[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        self._position += count
        return count

    def close(self) -> None:
        """Cancels the transfer in progress."""
        self._chunks, self._chunk = iter(()), memoryview(b"")
        super().close()

    def _move(self, ahead: int) -> None:
        if 0 <= ahead <= len(self._chunk):
            self._chunk = self._chunk[ahead:]
        elif ahead > 0 and not self._has_ranges:
            self._chunks, self._chunk = _after(chain([self._chunk], self._chunks), ahead), memoryview(b"")
        else:
            self._chunks, self._chunk = iter(()), memoryview(b"")
            self._window = FIRST_WINDOW

    def _next_chunk(self) -> memoryview:
        chunk = next(self._chunks, None)
        if chunk is None and (self._size is None or self._position < self._size):
            self._request()
            chunk = next(self._chunks, None)
        return memoryview(b"") if chunk is None else chunk

    def _request(self) -> None:
        import obstore

        start = self._position
        wanted: Any = {"offset": start} if self._whole else (start, start + self._window)
        from_start = self._whole and start == 0
        try:
            found = obstore.get(self._store, self._key, options={} if from_start else {"range": wanted})
        except obstore.exceptions.NotSupportedError:  # a web server without range requests: stream from the start
            self._whole, self._has_ranges = True, False
            found = obstore.get(self._store, self._key)
        self._window = min(2 * self._window, LARGEST_WINDOW)
        version = tuple(found.meta.get(name) for name in ("size", "e_tag", "last_modified"))
        if self._version not in (None, version):
            raise OSError("the object was replaced while it was being read")
        self._version, self._size = version, int(found.meta["size"])
        self._chunks = _after(found.stream(min_chunk_size=CHUNK_BYTES), start - int(found.range[0]))


def _after(chunks: Iterable[Any], count: int) -> Iterator[memoryview]:
    """Chunks without their first `count` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield memoryview(chunk)[count:]
        count = max(0, count - len(chunk))


def serves(path: str) -> bool:
    """Whether a path is a URL that this module handles."""
    return path.startswith(SCHEMES)


def put(url: str, content: Any) -> None:
    """Writes an object with one request."""
    import obstore

    store, key = locate(url)
    obstore.put(store, key, content, use_multipart=False)


def get(url: str) -> bytes:
    """Content of an object, read with one request."""
    import obstore

    store, key = locate(url)
    return bytes(obstore.get(store, key).bytes())


def head(url: str) -> Any:
    """Metadata of an object: `size` in bytes and, if the service has one, `e_tag`."""
    import obstore

    store, key = locate(url)
    return obstore.head(store, key)


def locate(url: str) -> tuple[Any, str]:
    """obstore store of a URL's bucket or server, and the key of the object in it."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return bucket(parts.netloc, ""), url.removeprefix(f"s3://{parts.netloc}/")
    return _web_server(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path.lstrip("/"))


@lru_cache(maxsize=16)
def bucket(name: str, prefix: str) -> Any:
    """obstore store of a bucket, or of a prefix in it; its connections are shared within this process.

    Raises:
        NoCredentialsError: botocore finds no credentials.
    """
    from botocore.exceptions import NoCredentialsError
    from botocore.session import Session
    from obstore.store import S3Store

    session, meta = Session(), client(name).meta
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    options = _client_options(meta.endpoint_url)
    if authority := session.get_config_variable("ca_bundle"):
        options["root_certificate"] = Path(authority).read_bytes()

    def provider() -> Any:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_LIFE,
        }

    return S3Store(
        name,
        prefix=prefix or None,
        endpoint=meta.endpoint_url,
        region=meta.region_name,
        credential_provider=provider,
        client_options=options,
        retry_config=_retries(),
    )


@lru_cache(maxsize=16)
def client(bucket_name: str) -> Any:
    """botocore client for the region of a bucket; its connections are shared within this process."""
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    region = session.get_config_variable("region") or _region(session, bucket_name)
    config = Config(
        retries={"mode": "standard", "max_attempts": MAX_ATTEMPTS},
        read_timeout=SILENCE.total_seconds(),
        response_checksum_validation="when_required",  # streams are rarely read to their end, where the checksum is due
    )
    return session.create_client("s3", region_name=region, config=config)


def _region(session: Any, name: str) -> str:
    """Region of a bucket; services name it even in the response that denies access."""
    from botocore.exceptions import ClientError

    try:
        answer = session.create_client("s3").head_bucket(Bucket=name)
    except ClientError as error:
        answer = error.response
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "us-east-1"))


@lru_cache(maxsize=16)
def _web_server(url: str) -> Any:
    from obstore.store import HTTPStore

    return HTTPStore(url, client_options=_client_options(url), retry_config=_retries())


def pause_seconds(attempt: int) -> float:
    """Seconds to wait after failed attempt number `attempt`, counted from 0."""
    backoff: Any = {"base": 2, "max_backoff": timedelta(seconds=20)} | BACKOFF
    return float(min(backoff["init_backoff"] * backoff["base"] ** attempt, backoff["max_backoff"]).total_seconds())


def _client_options(url: str) -> Any:
    return {"allow_http": url.startswith("http:"), "timeout": LONGEST, "read_timeout": SILENCE}


def _retries() -> Any:
    return {"max_retries": MAX_ATTEMPTS - 1, "retry_timeout": LONGEST, "backoff": BACKOFF}
