"""Real S3 servers on loopback, started by tests, and a proxy that misbehaves in front of them."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cubeprep import remote
from cubeprep.shard import open_store

USER, PASSWORD = "tester", "not-a-real-secret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 20) -> None:
    for _ in range(int(10 * seconds)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process and process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"no server on port {port}")


class JuiceFS:
    """JuiceFS' S3 gateway with its data on disk; it can be killed and started again.

    It keeps no second copy of the data in a cache of its own, since they lie on the same disk.
    """

    def __init__(self, folder: Path) -> None:
        self.bucket = "survey"
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._binary = shutil.which("juicefs", path=str(Path(sys.executable).parent)) or "juicefs"
        meta = f"badger://{folder}/meta"
        formatting = [self._binary, "format", "--storage", "file", "--bucket", str(folder / "data"), meta, self.bucket]
        subprocess.run(formatting, check=True, capture_output=True)
        self._command = [
            *(self._binary, "gateway", "--no-usage-report", "--metrics", f"127.0.0.1:{free_port()}"),
            *("--cache-size", "0", "--cache-dir", str(folder / "cache"), meta, f"127.0.0.1:{self.port}"),
        ]

    def start(self) -> None:
        environment = os.environ | {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD}
        with (self._folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)
        wait_for(self.port, self._process)
        self._wait_for_answers()

    def _wait_for_answers(self) -> None:
        """It listens before it answers: it knows who may not ask as soon as it has opened what it stores."""
        for _ in range(200):
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/")
                if connection.getresponse().status == HTTPStatus.FORBIDDEN:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"no answer on port {self.port}")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()


@contextmanager
def moto_server() -> Iterator[int]:
    """Moto's S3, in memory: it knows regions, and takes any credentials."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


Fault = Callable[[int, str, str], int | None]


def never(number: int, method: str, path: str) -> None:
    """No fault."""


@contextmanager
def misbehaving_proxy(port: int, fault: Fault = never, cut: Fault = never) -> Iterator[int]:
    """A proxy to `port`.

    `fault(number of the request, method, path)` gives an error status instead of an answer, or takes its time; `cut`
    gives the number of bytes after which an answer is cut.
    """
    counter = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # it waits 40 ms between the header and the body of an answer

        def forward(self) -> None:
            number = next(counter)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = fault(number, self.command, self.path)
            if status is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            # The Host header is signed: it is passed on as it came.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            most = cut(number, self.command, self.path)
            self.wfile.write(content[:most])
            self.close_connection = most is not None
            upstream.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def forget_connections() -> None:
    """Clears the cached clients: the next request reads endpoint and credentials from the environment again."""
    for cached in (remote.bucket, remote.client, remote._web_server):
        cached.cache_clear()


def point_at(monkeypatch: pytest.MonkeyPatch, port: int, *, user: str = USER, password: str = PASSWORD) -> None:
    """Sets the environment that clients take their server and credentials from, and forgets open connections."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    forget_connections()
    open_store.cache_clear()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": user,
        "AWS_SECRET_ACCESS_KEY": password,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }.items():
        monkeypatch.setenv(name, value)
