"""A server that answers MLflow's requests as a test says: a real one takes ten seconds to start, and does not fail."""

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

API = "/api/2.0/mlflow/"
ABSENT = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}
SOUND: dict[str, tuple[int, object]] = {
    "POST experiments/search": (200, {}),
    "GET experiments/get-by-name": (200, {"experiment": {"experiment_id": "1", "name": "tests"}}),
}


@contextmanager
def mlflow_stub(answers: Mapping[str, tuple[int, object]], *, user: str = "") -> Iterator[tuple[str, list[str]]]:
    """The server's address and the requests that it got, such as `POST runs/create`; others do not find anything.

    Args:
        answers: status and content of the answers to requests, in addition to those of `SOUND`: JSON, or text.
        user: `name:password` in the address.
    """
    known, requests = SOUND | dict(answers), []

    class Stub(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {self.path.partition('?')[0].removeprefix(API)}"
            requests.append(request)
            status, content = known.get(request, ABSENT)
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *args: object) -> None:
            pass

    with (
        pytest.MonkeyPatch.context() as patch,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server,
    ):
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{user}{'@' if user else ''}127.0.0.1:{server.server_port}", requests
        server.shutdown()
