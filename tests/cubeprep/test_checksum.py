import hashlib
import zlib
from pathlib import Path

from cubeprep.checksum import file_checksum


def test_checksums_are_those_of_the_files_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    path = tmp_path / "cube.fits.gz"
    path.write_bytes(content)
    assert file_checksum(str(path), "crc32") == f"crc32:{zlib.crc32(content):08x}"
    assert file_checksum(str(path), "sha256") == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert file_checksum(str(path), "none") == ""
