"""Local S3 server for benchmarks: a JuiceFS gateway with its data on disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def uploaded(source: Path, folder: Path) -> Iterator[str]:
    """URL of a copy of the folder `source` on a gateway that keeps its data in `folder`."""
    import s3fs

    from tests.s3 import PASSWORD, USER, JuiceFS

    folder.mkdir(exist_ok=True)
    server = JuiceFS(folder)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": USER,
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        s3fs.S3FileSystem().put(str(source), f"{server.bucket}/copy", recursive=True)
        yield f"s3://{server.bucket}/copy"
    finally:
        server.kill()
