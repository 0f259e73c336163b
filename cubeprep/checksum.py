"""Checksums of source files, for provenance."""

import hashlib
from typing import Literal

from isal import isal_zlib

from cubeprep.storage import is_remote, open_file, size_and_tag, storage_errors

ChecksumKind = Literal["none", "crc32", "sha256"]
BLOCK = 1 << 20


def file_checksum(path: str, kind: ChecksumKind) -> str:
    """Checksum of a file as `kind:hex`, empty for kind `none`.

    `crc32` is cheap compared with decompression and detects damage, not tampering. For a file on object storage it is
    replaced by the service's entity tag (`etag:`), or by the size (`size:`) where there is no tag, so that the file is
    not downloaded a second time.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the service fails.
    """
    if kind == "none":
        return ""
    with storage_errors(path):
        return _checksum(path, kind)


def _checksum(path: str, kind: ChecksumKind) -> str:
    if kind == "crc32" and is_remote(path):
        size, tag = size_and_tag(path)
        return f"etag:{tag}" if tag else f"size:{size}"
    crc, sha = 0, hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(BLOCK):
            if kind == "crc32":
                crc = isal_zlib.crc32(block, crc)
            else:
                sha.update(block)
    return f"crc32:{crc:08x}" if kind == "crc32" else f"sha256:{sha.hexdigest()}"
