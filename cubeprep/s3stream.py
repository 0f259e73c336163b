"""Sequential reading of S3 objects with botocore, which needs a quarter of the processor time of obstore's stream.

With botocore, data are received and decompressed in the same thread; obstore passes them between threads.
"""

import time
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from cubeprep import remote

CUT = (HTTPClientError, IncompleteReadError)
NOT_FOUND = 404


class S3Stream(remote.ForwardFile):
    """An S3 object, streamed by one request; if the connection is cut, another request resumes the stream.

    botocore retries requests that fail; this class handles responses that end early. An object that is replaced in the
    meantime is detected by its size and entity tag, so the data never mix two versions.
    """

    def __init__(self, url: str) -> None:
        """Sends no request yet.

        Args:
            url: URL of scheme s3.
        """
        super().__init__()
        self._bucket, _, self._key = url.removeprefix("s3://").partition("/")
        self._body: Any = None
        self._size: int | None = None
        self._tag: str | None = None

    def readinto(self, buffer: Any) -> int:
        """Reads into the buffer and returns the number of bytes; 0 at the end of the object.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the object was replaced since the first bytes were read.
            HTTPClientError, IncompleteReadError: the connection was cut on every attempt.
        """
        for attempt in range(remote.MAX_ATTEMPTS):
            if self._position == self._size:
                return 0
            if self._body is None:
                self._request()
            try:
                count = int(self._body.readinto(buffer))
            except CUT:
                self._drop()
                if attempt + 1 == remote.MAX_ATTEMPTS:
                    raise
                time.sleep(remote.pause_seconds(attempt))
            else:
                self._position += count
                return count
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes the response in progress."""
        self._drop()
        super().close()

    def _move(self, ahead: int) -> None:
        if ahead:
            self._drop()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None

    def _request(self) -> None:
        """Requests the object from the current position to its end.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the object was replaced since the first bytes were read.
        """
        further = {"Range": f"bytes={self._position}-"} if self._position else {}
        try:
            answer = remote.client(self._bucket).get_object(Bucket=self._bucket, Key=self._key, **further)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_FOUND:
                raise FileNotFoundError(f"s3://{self._bucket}/{self._key}") from error
            raise
        self._body = answer["Body"]
        size, tag = self._position + int(answer["ContentLength"]), str(answer.get("ETag", ""))
        if self._size is not None and (size, tag) != (self._size, self._tag):
            raise OSError("the object was replaced while it was being read")
        self._size, self._tag = size, tag
