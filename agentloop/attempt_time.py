"""When the time of one request over a network is over, whatever its connection waits for.

A time-out of a client is one for silence: a server that drips a byte now and then, in the head of its answer, in its body,
or as it takes the request in, is never silent and never done. Here the socket itself is shut down, from beside.
"""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx2

from agentloop.core.stream import StreamBroken

MOST_REPLY_BYTES = 64 * 1024 * 1024
"""Of a stream, as it is received: far more than any reply has."""
_CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete")


class AttemptTime:
    """The time of the requests of one client, one request after the other."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self.over = False
        """Whether the time of the last request ran out before it was done."""
        self._socket: socket.socket | None = None

    def follow(self, request: httpx2.Request) -> None:
        """A request hook of the client: learn which connection is made for it."""
        request.extensions["trace"] = self._connected

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """Let what happens in the block take so long (seconds, monotonic) and no longer: then its connection is shut down,
        and what waits for it gets an error."""
        self.over = False
        timer = threading.Timer(limit_s, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # no thread is left behind a request

    def _connected(self, name: str, info: Mapping[str, Any]) -> None:
        if name in _CONNECTED or name.endswith("start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    def _end(self) -> None:
        self.over = True
        if self._socket is not None:
            with suppress(OSError):  # it was closed meanwhile, and nothing waits for it
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # an SSLSocket's own would forget its keys first


class BoundedStream(httpx2.SyncByteStream):
    """The bytes of a response, until its time is over or they are too many: a stream may go on for ever and never bring an
    event."""

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, limit_s: float) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream, self._limit_s = stream, limit_s
        self._deadline = time.monotonic() + limit_s

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for data in self._stream:
            received += len(data)
            if time.monotonic() > self._deadline:
                raise StreamBroken(not_whole(self._limit_s))
            if received > MOST_REPLY_BYTES:
                raise StreamBroken(f"the reply has more than {MOST_REPLY_BYTES:,} bytes")
            yield data

    def close(self) -> None:
        """The rest is not wanted."""
        self._stream.close()


def not_whole(limit_s: float) -> str:
    """What is said of a reply that took too long."""
    return f"the reply was not whole after {limit_s:g} seconds"
