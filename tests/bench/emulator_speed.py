"""Requests per second through HTTP: the emulator beside a bare server of the same framework that returns a constant.

python -m tests.bench.emulator_speed
"""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection

from agentloop.adapters.model_table import models
from agentloop.emulator import Emulator, Function
from agentloop.emulator.server import running
from agentloop.types.blocks import text

CLIENTS = 4
REQUESTS = 1_500
ROUNDS = 5
HEADERS = {"x-api-key": "bench", "anthropic-version": "2026-10-21", "content-type": "application/json"}
BODY = json.dumps(
    {
        "model": "claude-sonnet-5-5",
        "max_tokens": 1_000,
        "system": [{"type": "text", "text": "You are kind. " * 20, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "Hello."}],
    }
).encode()


def main() -> None:
    """Both sides in turns, each in a process of its own; the ratio is the median over the rounds."""
    with _process("emulator") as ours, _process("bare") as bare:
        for port in (ours, bare):
            per_second(port)
        rounds = [(per_second(ours), per_second(bare)) for _ in range(ROUNDS)]
    for name, rates in zip(("emulator", "bare server"), zip(*rounds, strict=True), strict=True):
        print(f"{name + ', requests a second':44}{statistics.median(rates):9,.0f}")
    print(f"{'emulator / bare server':44}{ratio(rounds):9.2f}")


def ratio(rounds: list[tuple[float, float]]) -> float:
    """The median of how fast the emulator is beside the bare server."""
    return statistics.median(ours / bare for ours, bare in rounds)


def per_second(port: int, requests: int = REQUESTS) -> float:
    """Requests a second that a few clients get answered, each on a connection that it keeps."""
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda _: _ask(port, requests // CLIENTS), range(CLIENTS)))
    return requests / (time.perf_counter() - started)


def _ask(port: int, times: int) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    for _ in range(times):
        connection.request("POST", "/v1/messages", BODY, HEADERS)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
    connection.close()


@contextmanager
def _process(side: str) -> Iterator[int]:
    command = [sys.executable, "-m", "tests.bench.emulator_speed", side]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _serve(side: str) -> None:
    """Serve until standard input ends; the port is said first."""
    emulator = Emulator(Function("bench", lambda request, step: [text("Hello. " * 20)]), models())
    if side == "bare":
        _bare(b"".join(c for c in emulator.handle("POST", "/v1/messages", HEADERS, BODY).chunks if isinstance(c, bytes)))
        return
    with running(emulator) as url:
        print(url.rsplit(":", 1)[1], flush=True)
        threading.Event().wait()


def _bare(answer: bytes) -> None:
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def constant(request: Request) -> Response:
        await request.body()
        return Response(answer, media_type="application/json")

    app = Starlette(routes=[Route("/{path:path}", constant, methods=["POST"])])
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none")).run(
        sockets=[listener]
    )


if __name__ == "__main__":
    _serve(sys.argv[1]) if len(sys.argv) > 1 else main()
