"""The emulator inside this process, for any client that takes an `httpx2` transport.

anthropic.Anthropic(api_key="emulator", base_url="http://emulator", http_client=client(emulator), max_retries=0)
"""

import time
from collections.abc import Callable, Iterable, Iterator

import httpx2

from agentloop.emulator.answers import Chunk, Pause
from agentloop.emulator.app import Emulator

BASE_URL = "http://emulator"
"""No such host is ever looked up."""


class EmulatorTransport(httpx2.BaseTransport):
    """Carries requests to an emulator; `sleep` waits out the pauses of its answers."""

    def __init__(self, emulator: Emulator, sleep: Callable[[float], None] = time.sleep) -> None:
        self._emulator, self._sleep = emulator, sleep

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        path = request.url.raw_path.decode("ascii")
        answer = self._emulator.handle(request.method, path, dict(request.headers), request.read())
        return httpx2.Response(answer.status, headers=dict(answer.headers), stream=_Stream(answer.chunks, self._sleep))


class _Stream(httpx2.SyncByteStream):
    def __init__(self, chunks: Iterable[Chunk], sleep: Callable[[float], None]) -> None:
        self._chunks, self._sleep = chunks, sleep

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Pause):
                self._sleep(chunk.seconds)
            else:
                yield chunk


def client(emulator: Emulator, sleep: Callable[[float], None] = time.sleep) -> httpx2.Client:
    """An HTTP client whose every request the emulator answers, whatever the URL's host."""
    return httpx2.Client(transport=EmulatorTransport(emulator, sleep), base_url=BASE_URL)
