"""The emulator as an ASGI application: what a handler answers, over HTTP."""

import asyncio
import hmac
import socket
import struct
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from agentloop.emulator.answers import Answer, ApiError, Chunk, Pause, Reset, error_answer, too_large
from agentloop.emulator.calls import limit_bytes
from agentloop.emulator.transport import Handler
from agentloop.loopback import names_this_machine

TOKEN_HEADER = "x-emulator-token"
"""Where the token may stand besides the API key."""
AT_ONCE_BYTES = 64 * 1024
"""So much of an answer goes out together, where nothing pauses in between."""
NOTHING_YET = "req_emulator_refused"

_FOREIGN_HOST = "the request names another host; without a token the emulator answers to this machine's own names only"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Abortable(H11Protocol):
    """A connection that a request may tear down."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let requests find the connection in their state."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Application:
    """A handler as an ASGI application. With a token, every request must carry it, as its API key or in a header of its own."""

    def __init__(self, handler: Handler, token: str | None = None) -> None:
        self._handler, self._token = handler, token or None
        self._blocks: bool = getattr(handler, "waits_for_others", False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        await _send(answer, self._blocks, scope, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = by_name(scope["headers"])
        target = _target(scope)
        if self._token is None and not _is_local(headers):
            await _body(headers, 0, receive)
            return error_answer(ApiError(403, "permission_error", _FOREIGN_HOST), NOTHING_YET)
        if self._token is not None and not _carries(headers, self._token, self._blocks):
            await _body(headers, 0, receive)
            return error_answer(ApiError(401, "authentication_error", "invalid x-api-key"), NOTHING_YET)
        body = await _body(headers, limit_bytes(target), receive)
        if body is None:
            return error_answer(too_large(), NOTHING_YET)
        if self._blocks:
            return await run_in_threadpool(self._handler.handle, scope["method"], target, headers, body)
        return self._handler.handle(scope["method"], target, headers, body)


def _is_local(headers: dict[str, str]) -> bool:
    """Whether a request names this machine, or nobody."""
    return not headers.get("host") or names_this_machine(headers["host"])


def _carries(headers: dict[str, str], token: str, only_own: bool) -> bool:
    """Whether a request carries the token. The key of one that is passed on to others is not looked at."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
    given = headers.get(TOKEN_HEADER) or ("" if only_own else key)
    return hmac.compare_digest(given.encode(), token.encode())


def by_name(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name, in lower case. One that is sent several times, as some clients do with betas, is one list."""
    found: dict[str, str] = {}
    for name, value in ((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in raw):
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _target(scope: Scope) -> str:
    """Path and query as they were sent: what is escaped in them stays so."""
    path: str = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    return f"{path}?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else path


async def _body(headers: dict[str, str], limit: int, receive: Receive) -> bytes | None:
    """The body; None where it is larger than the limit. The rest of a body that is too large is read and let go, so that
    its sender gets to read the answer, but no more of it than twice the limit."""
    declared = headers.get("content-length", "")
    keeps = not (declared.isdecimal() and int(declared) > limit)
    kept: list[bytes] = []
    size, more = 0, True
    while more and size <= 2 * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        keeps = keeps and size <= limit
        if keeps:
            kept.append(chunk)
        else:
            kept.clear()
    return b"".join(kept) if keeps else None


async def _send(answer: Answer, blocks: bool, scope: Scope, send: Send) -> None:
    """Send an answer; its headers go with the first bytes, so that what comes before them comes before all."""
    out = _Out(answer, send)
    if blocks:
        async for chunk in iterate_in_threadpool(iter(answer.chunks)):
            if isinstance(chunk, Reset):
                await _hang_up(scope)
                return
            await out.take(chunk, at_once=True)
    else:
        for chunk in _joined(answer.chunks):
            if isinstance(chunk, Reset):
                await out.flush()
                await _reset(scope)
                return
            await out.take(chunk)
    await out.end()


class _Out:
    """An answer on its way out. The newest bytes are held until it is known whether they are the last."""

    def __init__(self, answer: Answer, send: Send) -> None:
        self._answer, self._send = answer, send
        self._held: bytes | None = None
        self._started = False

    async def take(self, chunk: Chunk, at_once: bool = False) -> None:
        """Send what was held, and hold what is new; a pause holds nothing back."""
        await self.flush()
        if isinstance(chunk, Pause):
            await asyncio.sleep(chunk.seconds)
        elif isinstance(chunk, bytes):
            self._held = chunk
        if at_once:
            await self.flush()

    async def flush(self) -> None:
        """Send what was held."""
        if self._held is not None:
            await self._start({})
            await self._send({"type": "http.response.body", "body": self._held, "more_body": True})
            self._held = None

    async def end(self) -> None:
        """Send the last bytes."""
        body = self._held or b""
        await self._start({"content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, more: dict[str, str]) -> None:
        if not self._started:
            named = {**self._answer.headers, **more}
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
            await self._send({"type": "http.response.start", "status": self._answer.status, "headers": headers})
            self._started = True


def _joined(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        if isinstance(chunk, bytes):
            waiting.append(chunk)
            size += len(chunk)
            if size < AT_ONCE_BYTES:
                continue
        if waiting:
            yield b"".join(waiting)
            waiting, size = [], 0
        if not isinstance(chunk, bytes):
            yield chunk
    if waiting:
        yield b"".join(waiting)


async def _reset(scope: Scope) -> None:
    """Tear the connection down, as a network does. Raises ConnectionResetError where there is none to be torn."""
    transport = _transport(scope)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
    await asyncio.sleep(0)  # until the connection is known to be lost, nothing more may be said of it


async def _hang_up(scope: Scope) -> None:
    """Close the connection behind what has arrived of an answer that broke off elsewhere. Raises ConnectionResetError."""
    _transport(scope).close()
    await asyncio.sleep(0)


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
    if transport is None:
        raise ConnectionResetError("the connection was reset by a planned fault")
    return transport
