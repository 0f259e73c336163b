"""Passwords and signatures in URLs, taken out of whatever is shown, logged or kept.

Rather too much than too little: a text that only looks like a password in a URL goes too.
"""

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

HIDDEN = "***"
# user:password@ after scheme://. Passwords as people have them hold / and @ too: so up to the last @ of what has a
# colon before its first slash, and else up to the last @ before that slash.
USER = re.compile(r"([a-z][a-z0-9+.-]*://)(?:[^/\s:\"<>]+:[^\s\"<>]*@|[^/\s\"<>]*@)", re.IGNORECASE)
# Values of query parameters such as password, X-Amz-Signature, X-Goog-Credential, sig, api_key and AWSAccessKeyId.
SECRET = re.compile(
    r"([?&;][\w.-]*(?:pass|pwd|secret|token|sig|key|cred|auth|policy)[\w.-]*=)[^&\s\"'<>#]*", re.IGNORECASE
)


def redact(text: str) -> str:
    """A text whose URLs have lost `user:password@` and the values of secret query parameters."""
    return SECRET.sub(rf"\1{HIDDEN}", USER.sub(r"\1", text)) if "://" in text else text


def secret_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of nested mappings that hold a URL with a password or a signature."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += secret_keys(value, f"{prefix}{key}.")
        elif redact(str(value)) != str(value):
            found.append(f"{prefix}{key}")
    return found


class RedactedStream:
    """A text stream to which nothing secret is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes what is left of a text."""
        return self._stream.write(redact(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def redacted_output() -> Iterator[None]:
    """Redacts what this process prints and logs in the block, and the traceback of an error that leaves it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (RedactedStream(stream) for stream in before)
    sys.excepthook = _print_redacted
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _print_redacted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))
