"""Removal of passwords and signatures in URLs from texts that are shown, logged or stored.

When in doubt a text is removed, even if it only looks like a password in a URL.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

HIDDEN = "***"
# user:password@ after scheme://. Passwords may contain / and @. If a colon comes before the first slash, all up to the
# last @ is removed; else all up to the last @ before that slash.
# All repetitions are bounded, or begin where no other can: a hostile cell of a table may be 100,000 characters long.
USER = re.compile(
    r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{0,30}://)(?:[^/\s:\"<>]*:[^\s\"<>]*@|[^/\s\"<>]*@)", re.IGNORECASE
)
# Values of query parameters such as password, X-Amz-Signature, X-Goog-Credential, sig, api_key and AWSAccessKeyId.
SECRET = re.compile(
    r"([?&;#][\w.%\[\]-]{0,60}?"
    r"(?:pass|pwd|pw|secret|token|sig|sas|jwt|hmac|bearer|session|ticket|key|cred|auth|policy)[\w.%\[\]-]{0,60}=)"
    r"[^&\s\"'<>#]*",
    re.IGNORECASE,
)
# Headers such as `Authorization: Bearer ...`, and entries such as `'secret': '...'` or `AWS_SECRET_ACCESS_KEY=...`.
ENTRY = re.compile(
    r"((?<![\w-])(?:[\w-]{0,40}(?:passw|secret|token|account_?key|access_?key)[\w-]{0,40}[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
    r"|authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:\w{1,20}\s{1,4})?))[^\s\"',;&}]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Text without `user:password@` in its URLs and without the values of secret parameters, headers and entries."""
    return ENTRY.sub(rf"\1{HIDDEN}", SECRET.sub(rf"\1{HIDDEN}", USER.sub(r"\1", text)))


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

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts after redacting them together."""
        self.write("".join(lines))

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
