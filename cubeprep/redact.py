"""Removal of passwords and signatures in URLs from texts that are shown, logged or stored.

When in doubt a text is removed, even if it only looks like a password in a URL.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

HIDDEN = "***"
# user:password@ after scheme://. Passwords may contain / and @. If a colon comes before the first slash, all up to the
# last @ is removed; else all up to the last @ before that slash.
USER = re.compile(r"([a-z][a-z0-9+.-]*://)(?:[^/\s:\"<>]+:[^\s\"<>]*@|[^/\s\"<>]*@)", re.IGNORECASE)
# Values of query parameters such as password, X-Amz-Signature, X-Goog-Credential, sig, api_key and AWSAccessKeyId.
SECRET = re.compile(
    r"([?&;#][\w.-]*(?:pass|pwd|secret|token|sig|key|cred|auth|policy)[\w.-]*=)[^&\s\"'<>#]*", re.IGNORECASE
)


def redact(text: str) -> str:
    """Text without `user:password@` and the values of secret parameters, of query or fragment, in its URLs."""
    return SECRET.sub(rf"\1{HIDDEN}", USER.sub(r"\1", text)) if "://" in text else text


def secret_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of the values that hold a URL with a password or signature, in nested mappings."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += secret_keys(value, f"{prefix}{key}.")
        elif redact(str(value)) != str(value):
            found.append(f"{prefix}{key}")
    return found


class RedactedStream:
    """A text stream that redacts texts before it writes them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text after redacting it; returns the number of characters written."""
        return self._stream.write(redact(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def unredacted(stream: TextIO) -> TextIO:
    """Stream without redaction, for a secret that is meant for the reader of the output."""
    while isinstance(stream, RedactedStream):
        stream = stream._stream
    return stream


@contextmanager
def redacted_output() -> Iterator[None]:
    """Redacts the output of this process in the block, and the traceback of an error that leaves the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (RedactedStream(stream) for stream in before)
    sys.excepthook = _print_redacted
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def redact_process() -> None:
    """Redacts all further output of this process, that of existing log handlers included."""
    sys.stdout, sys.stderr = (RedactedStream(stream) for stream in (sys.stdout, sys.stderr))
    sys.excepthook = _print_redacted
    names = [None, *logging.root.manager.loggerDict]
    for handler in {handler for name in names for handler in logging.getLogger(name).handlers}:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler.stream, RedactedStream):
            handler.setStream(RedactedStream(handler.stream))


def _print_redacted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))
