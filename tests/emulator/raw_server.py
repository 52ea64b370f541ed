"""A server that says exactly these bytes, at this pace, over a real socket."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n\r\n"
Answer = Callable[[socket.socket, threading.Event], None]
"""Says something to a client whose request has been read; the event is set when nobody listens any more."""


@contextmanager
def serving(answer: Answer, reads: bool = True) -> Iterator[str]:
    """The address of a server that answers each connection so; `reads`: when it has read a request."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, answer, over, reads), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _accept(listener: socket.socket, answer: Answer, over: threading.Event, reads: bool) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answered, args=(client, answer, over, reads), daemon=True).start()


def _answered(client: socket.socket, answer: Answer, over: threading.Event, reads: bool) -> None:
    with client, suppress(OSError):
        if reads:
            _read_request(client)
        answer(client, over)


def _read_request(client: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += client.recv(65_536)


def dripping(data: bytes, every_s: float, then: bytes = b"") -> Answer:
    """These bytes, one at a time, and what comes behind them for ever."""

    def answer(client: socket.socket, over: threading.Event) -> None:
        for byte in data:
            client.sendall(bytes([byte]))
            if over.wait(every_s):
                return
        while then and not over.wait(every_s):
            client.sendall(then)

    return answer


def silent(said: bytes) -> Answer:
    """These bytes, and then nothing, with the line open."""

    def answer(client: socket.socket, over: threading.Event) -> None:
        client.sendall(said)
        over.wait(60)

    return answer


def torn(said: bytes) -> Answer:
    """These bytes, and then the connection is reset."""

    def answer(client: socket.socket, over: threading.Event) -> None:
        client.sendall(said)
        over.wait(0.05)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def ended(said: bytes) -> Answer:
    """These bytes, and a clean end."""
    return lambda client, over: client.sendall(said)
