"""The emulator on a port: loopback only, unless it is told otherwise together with a token."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from agentloop.emulator.http import Abortable, Application
from agentloop.emulator.transport import Handler
from agentloop.errors import ConfigError
from agentloop.loopback import is_loopback, listening, url_of

log = structlog.get_logger(__name__)


def application(emulator: Handler, token: str | None = None) -> Application:
    """The emulator as an ASGI application; with a token, every request must carry it."""
    return Application(emulator, token)


def serve(
    emulator: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    token: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until interrupted; `ready` is told the URL. Port 0 takes a free one.

    Raises ConfigError for an address that others can reach, unless there is a token.
    """
    if not is_loopback(host) and not token:
        raise ConfigError(
            f"the emulator was asked to listen on '{host}', which others can reach; give it a token, or 127.0.0.1"
        )
    with listening(host, port) as listener:
        url = url_of(listener)
        log.info("emulator_listening", url=url)
        ready(url)
        _server(emulator, token).run(sockets=[listener])


@contextmanager
def running(emulator: Handler, token: str | None = None) -> Iterator[str]:
    """Serve on a free port of this machine while the block runs; yields the base URL."""
    with listening("127.0.0.1", 0) as listener:
        server = _server(emulator, token)
        thread = threading.Thread(target=server.run, args=([listener],), name="emulator", daemon=True)
        thread.start()
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def _server(emulator: Handler, token: str | None) -> uvicorn.Server:
    config = uvicorn.Config(
        application(emulator, token),
        http=Abortable,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
