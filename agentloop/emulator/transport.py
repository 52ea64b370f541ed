"""The emulator inside this process, for any client that takes an `httpx2` transport.

anthropic.Anthropic(api_key="emulator", base_url="http://emulator", http_client=client(emulator), max_retries=0)
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Protocol

import httpx2

from agentloop.emulator.answers import Answer, Chunk, Pause, Reset

BASE_URL = "http://emulator"
"""No such host is ever looked up."""


class Handler(Protocol):
    """Whatever answers requests: an emulator, or a mirror of another API."""

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to one request."""
        ...


class EmulatorTransport(httpx2.BaseTransport):
    """Carries requests to an emulator; `sleep` waits out the pauses of its answers."""

    def __init__(self, emulator: Handler, sleep: Callable[[float], None] = time.sleep) -> None:
        self._emulator, self._sleep = emulator, sleep

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request. Raises RemoteProtocolError where the connection is torn down instead."""
        path = request.url.raw_path.decode("ascii")
        answer = self._emulator.handle(request.method, path, dict(request.headers), request.read())
        chunks = iter(answer.chunks)
        first = next(chunks, b"")
        while isinstance(first, Pause):
            self._sleep(first.seconds)
            first = next(chunks, b"")
        if isinstance(first, Reset):
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        stream = _Stream(chain((first,), chunks), self._sleep)
        return httpx2.Response(answer.status, headers=dict(answer.headers), stream=stream)


class _Stream(httpx2.SyncByteStream):
    def __init__(self, chunks: Iterable[Chunk], sleep: Callable[[float], None]) -> None:
        self._chunks, self._sleep = chunks, sleep

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            match chunk:
                case Pause(seconds):
                    self._sleep(seconds)
                case Reset():
                    raise httpx2.ReadError("[Errno 104] Connection reset by peer")
                case _:
                    yield chunk


def client(emulator: Handler, sleep: Callable[[float], None] = time.sleep) -> httpx2.Client:
    """An HTTP client whose every request the emulator answers, whatever the URL's host."""
    return httpx2.Client(transport=EmulatorTransport(emulator, sleep), base_url=BASE_URL)
