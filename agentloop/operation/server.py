"""`/healthz` and `/metrics` of a resident process: one small application on a port of this machine."""

import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agentloop import loopback
from agentloop.errors import ConfigError
from agentloop.operation.health import reasons
from agentloop.operation.metrics import METRICS, Metrics
from agentloop.operation.standing import Standing
from agentloop.redaction import Redact

if TYPE_CHECKING:
    from sqlalchemy import Engine

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@contextmanager
def serve(
    standing: Callable[[], Standing],
    listen: str,
    token: str | None = None,
    *,
    database: "Engine | None" = None,
    folder: Path | None = None,
    metrics: Metrics = METRICS,
    redact: Redact = lambda text: text,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[str]:
    """Answer on `listen` (`HOST:PORT`, port 0 takes a free one) while the block runs; yields the URL.

    `standing` says how the process stands, `database` and `folder` are looked at besides. Raises ConfigError for an address
    that others can reach, unless there is a token: then every request must carry it (`Authorization: Bearer TOKEN`).
    """
    host, port = loopback.address(listen)
    if not loopback.is_loopback(host) and not token:
        raise ConfigError(
            f"asked to listen on '{listen}', which others can reach, without a token\n"
            "set AGENTLOOP_LISTEN_TOKEN, or listen on 127.0.0.1"
        )
    app = application(standing, token, database=database, folder=folder, metrics=metrics, redact=redact, now=now)
    with loopback.listening(host, port) as listener:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="operation", daemon=True)
        thread.start()
        try:
            yield loopback.url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def application(
    standing: Callable[[], Standing],
    token: str | None = None,
    *,
    database: "Engine | None" = None,
    folder: Path | None = None,
    metrics: Metrics = METRICS,
    redact: Redact = lambda text: text,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ASGIApp:
    """The two pages, behind their guard."""

    def health() -> Response:
        at = now()
        found = [redact(r) for r in _reasons(standing, at, database, folder)]
        status = "failing" if found else "ok"
        return JSONResponse({"status": status, "at": at.isoformat(), "reasons": found}, 503 if found else 200)

    def numbers() -> Response:
        try:
            return PlainTextResponse(redact(metrics.page(standing(), now()).decode()), media_type=METRICS_TYPE)
        except ConfigError as e:
            return PlainTextResponse(f"{e}\n", 501)

    async def healthz(request: Request) -> Response:
        return await run_in_threadpool(health)

    async def metrics_page(request: Request) -> Response:
        return await run_in_threadpool(numbers)

    routes = [Route("/healthz", healthz, methods=["GET"]), Route("/metrics", metrics_page, methods=["GET"])]
    return _Guard(Starlette(routes=routes), token)


def _reasons(standing: Callable[[], Standing], at: datetime, database: "Engine | None", folder: Path | None) -> list[str]:
    try:
        stands = standing()
    except Exception as e:  # noqa: BLE001  whatever keeps a process from saying how it stands is a reason
        return [f"the process cannot say how it stands: {type(e).__name__}"]
    return list(reasons(stands, at, database, folder))


class _Guard:
    """Refuses before anything is looked at: foreign and malformed hosts, other origins, and whoever has no token."""

    def __init__(self, inner: ASGIApp, token: str | None) -> None:
        self._inner, self._token = inner, token or None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refused = self._refused(scope)

        async def with_headers(message: "dict[str, object]") -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                assert isinstance(headers, list)
                message = {**message, "headers": [*headers, *_HEADERS]}
            await send(message)

        await (refused or self._inner)(scope, receive, with_headers)  # type: ignore[arg-type]

    def _refused(self, scope: Scope) -> Response | None:
        named = [(n.lower(), v.decode("latin-1")) for n, v in scope["headers"]]
        hosts = [v for n, v in named if n == b"host"]
        if len(hosts) != 1 or loopback.named_host(hosts[0]) is None:
            return PlainTextResponse("the request needs one Host header that names a host\n", 400)
        if any(n == b"origin" for n, _ in named):
            return PlainTextResponse("these pages are not for other pages\n", 403)
        if self._token is None:
            local = loopback.names_this_machine(hosts[0])
            return None if local else PlainTextResponse("the request names another host than this machine\n", 403)
        given = next((v for n, v in named if n == b"authorization"), "")
        if hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self._token}".encode()):
            return None
        return PlainTextResponse("a token is needed\n", 401, headers={"www-authenticate": "Bearer"})
