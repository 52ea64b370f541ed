"""The emulator on a port: loopback only, unless it is told otherwise together with a token."""

import asyncio
import hmac
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agentloop.emulator.answers import Answer, ApiError, Chunk, Pause, error_answer
from agentloop.emulator.app import MAX_REQUEST_BYTES, Emulator
from agentloop.errors import ConfigError

log = structlog.get_logger(__name__)

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_BACKLOG = 128


def application(emulator: Emulator, token: str | None = None) -> Starlette:
    """The emulator as an ASGI application; with a token, every request must carry it as its API key."""

    async def endpoint(request: Request) -> Response:
        if token is not None and not _carries(request, token):
            return _response(error_answer(ApiError(401, "authentication_error", "invalid x-api-key"), "req_emulator_refused"))
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=499)
        return _response(emulator.handle(request.method, _target(request), dict(request.headers), body))

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=_METHODS)])


def _carries(request: Request, token: str) -> bool:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    given = request.headers.get("x-api-key") or bearer
    return hmac.compare_digest(given.encode(), token.encode())


async def _body(request: Request) -> bytes:
    """The body, or as much of it as shows that it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            break
    return bytes(body)


def _target(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def _response(answer: Answer) -> StreamingResponse:
    return StreamingResponse(_sent(answer.chunks), answer.status, dict(answer.headers))


async def _sent(chunks: Iterable[Chunk]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, Pause):
            await asyncio.sleep(chunk.seconds)
        else:
            yield chunk


def serve(
    emulator: Emulator,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    token: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until interrupted; `ready` is told the URL. Port 0 takes a free one.

    Raises ConfigError for an address that others can reach, unless there is a token.
    """
    if not _is_loopback(host) and not token:
        raise ConfigError(
            f"the emulator was asked to listen on '{host}', which others can reach; give it a token, or 127.0.0.1"
        )
    with _listening(host, port) as listener:
        url = _url(listener)
        log.info("emulator_listening", url=url)
        ready(url)
        _server(emulator, token).run(sockets=[listener])


@contextmanager
def running(emulator: Emulator) -> Iterator[str]:
    """Serve on a free port of this machine while the block runs; yields the base URL."""
    with _listening("127.0.0.1", 0) as listener:
        server = _server(emulator, None)
        thread = threading.Thread(target=server.run, args=([listener],), name="emulator", daemon=True)
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def _server(emulator: Emulator, token: str | None) -> uvicorn.Server:
    config = uvicorn.Config(
        application(emulator, token),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on: a client need not wait until the server has started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as e:
        raise ConfigError(f"the emulator cannot listen on {host}:{port}: {e.strerror}; choose another port") from e


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
