"""Server of the page, reachable from this machine alone.

Requests need a secret in a header, which other sites cannot send; only the page itself, which holds nothing of the
survey, is given to anyone. The printed address contains the secret in its fragment, which browsers send to no server. A
cookie would also be sent to the other ports of this machine, on which other users may listen. Requests for other host
names are rejected, so that a domain whose address an attacker points at this machine does not reach the server. The
page loads nothing from elsewhere, except images of the sky if the configuration names a survey of them.
"""

import hmac
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from jobs.page.document import make_document
from jobs.page.sky_image import image_sources
from jobs.page.source import NotSentError, Source, UnknownGalaxyError
from modeling.labels.labels import LabelError

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
TOKEN_HEADER = "X-Cubescout-Token"  # noqa: S105 - a name, no secret
KEY_HEADER = "X-Cubescout-Key"
THUMBNAILS = "/api/thumbnails/"
WITHOUT_SECRET = "Open the address that `cubescout explore --serve` printed: it carries the secret."  # noqa: S105
MAX_BODY_BYTES = 2**23
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# For addresses that contain the key of `make_app`.
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
Next = Callable[[Request], Awaitable[Response]]
Body = TypeVar("Body", bound=BaseModel)


class LabelRequest(BaseModel):
    """A label for a galaxy; an empty one withdraws the label."""

    model_config = ConfigDict(extra="forbid")
    plateifu: str
    label: str
    note: str = ""


class SelectionRequest(BaseModel):
    """Galaxies of a CSV file, in its order."""

    model_config = ConfigDict(extra="forbid")
    plateifu: list[str]


class SendRequest(SelectionRequest):
    """Galaxies for other programs, as a table or each one's position."""

    as_table: bool


def make_app(source: Source, token: str) -> Starlette:
    """Application with the page, its data, labels and selections.

    Args:
        source: contents of the page.
        token: secret that requests must present.
    """
    images = image_sources("'self' data: blob:", source.sky_image)
    # Galaxies and thumbnails depend on more than the catalog: on settings, matched tables and this code. Browsers
    # therefore keep them only as long as this server runs, whose contents do not change. The key also opens thumbnails,
    # for which browsers send no header.
    key = secrets.token_urlsafe(24)
    document = make_document(served=True, images=images, connect="'self'")
    policy = {"Content-Security-Policy": f"{document.policy}; frame-ancestors 'none'", "Cache-Control": "no-store"}

    def page(request: Request) -> Response:
        return HTMLResponse(document.html, headers=policy)

    def survey(request: Request) -> Response:
        return _binary(source.survey(), **{KEY_HEADER: key, "Cache-Control": "no-store"})

    def galaxy(request: Request) -> Response:
        return _binary(source.galaxy(request.path_params["plateifu"]), **FOREVER)

    def thumbnail(request: Request) -> Response:
        return Response(source.thumbnail(request.path_params["plateifu"]), media_type="image/png", headers=FOREVER)

    def labels(request: Request) -> Response:
        return JSONResponse(source.labels(), headers={"Cache-Control": "no-store"})

    async def add_label(request: Request) -> Response:
        wanted = await _body(request, LabelRequest)
        await run_in_threadpool(source.add_label, wanted.plateifu, wanted.label, wanted.note)
        return JSONResponse(await run_in_threadpool(source.labels), status_code=201)

    async def selection(request: Request) -> Response:
        wanted = await _body(request, SelectionRequest)
        return Response(await run_in_threadpool(source.csv, wanted.plateifu), media_type="text/csv")

    async def send(request: Request) -> Response:
        wanted = await _body(request, SendRequest)
        sent = await run_in_threadpool(source.send, wanted.plateifu, as_table=wanted.as_table)
        return JSONResponse({"message": sent})

    routes = [
        Route("/", page),
        Route("/api/survey", survey),
        # A path: names of some surveys contain a slash.
        Route("/api/galaxies/{plateifu:path}", galaxy),
        Route(f"{THUMBNAILS}{{plateifu:path}}", thumbnail),
        Route("/api/labels", labels, methods=["GET"]),
        Route("/api/labels", add_label, methods=["POST"]),
        Route("/api/selection", selection, methods=["POST"]),
        Route("/api/samp", send, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=_guard(token, key)),
        ],
        exception_handlers={
            UnknownGalaxyError: _not_found,
            LabelError: _unusable,
            NotSentError: _unusable,
            ValidationError: _unusable,
            HTTPException: _refused,
            OSError: _failed,
            ValueError: _failed,
            RuntimeError: _failed,
        },
    )


def serve(source: Source, port: int, announce: Callable[[str], None]) -> None:
    """Serves until interrupted.

    Args:
        source: contents of the page.
        port: port of the loopback interface; 0 takes a free one.
        announce: called with the address, which contains the secret, once the port is open.

    Raises:
        OSError: the port is in use.
    """
    import uvicorn

    token = secrets.token_urlsafe(24)
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise OSError(f"port {port} of {HOST}: {error.strerror}. Another one: --port N, or 0 for any.") from error
    server = uvicorn.Server(uvicorn.Config(make_app(source, token), log_level="warning", server_header=False))
    with listening:
        announce(f"http://{HOST}:{listening.getsockname()[1]}/#token={token}")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


def _guard(token: str, key: str) -> Callable[[Request, Next], Awaitable[Response]]:
    async def dispatch(request: Request, call_next: Next) -> Response:
        allowed = _is_allowed(request, token, key)
        response = await call_next(request) if allowed else _error(403, WITHOUT_SECRET)
        response.headers.update(HEADERS)
        return response

    return dispatch


def _is_allowed(request: Request, token: str, key: str) -> bool:
    path = request.scope["path"]  # as routes see it: that of `request.url` also depends on the header Host
    if request.method in ("GET", "HEAD") and path == "/":
        return True
    if path.startswith(THUMBNAILS) and _same(request.query_params.get("v", ""), key):
        return True
    return _same(request.headers.get(TOKEN_HEADER, ""), token)


def _same(offered: str, token: str) -> bool:
    return hmac.compare_digest(offered.encode(), token.encode())


async def _body(request: Request, kind: type[Body]) -> Body:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return kind.model_validate_json(bytes(content))


def _binary(content: bytes, **headers: str) -> Response:
    return Response(content, media_type="application/octet-stream", headers=headers)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def _not_found(request: Request, error: Exception) -> Response:
    return _error(404, str(error))


def _unusable(request: Request, error: Exception) -> Response:
    if isinstance(error, ValidationError):
        return _error(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    return _error(409, str(error))


def _failed(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(500, f"{type(error).__name__}: {error}")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)
