"""Checksums of source files, for provenance."""

import hashlib
from typing import Literal

from isal import isal_zlib

from cubeprep.storage import is_remote, open_file, size_and_tag, storage_errors

ChecksumKind = Literal["none", "crc32", "sha256"]
BLOCK = 1 << 20


def file_checksum(path: str, kind: ChecksumKind) -> str:
    """The checksum of a file's bytes as `kind:hex`.

    `crc32` costs next to nothing beside decompression and finds damage, not malice. A file on object storage is not
    read again for it: the service's own entity tag is taken, or its size
    where the service has none.
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
