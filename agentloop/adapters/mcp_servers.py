"""MCP servers as tools: connected before a session starts, listed once, closed when the run ends.

All of them are spoken to on one thread with one event loop. What a server says of its tools after the first list is not
heard: the definitions are frozen with the session.
"""

import asyncio
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from agentloop.errors import ConfigError
from agentloop.mcp_config import CONFIG_FILE, Address, Program, Server
from agentloop.tooling import MAX_TOOLS, Tool
from agentloop.types.base import Json
from agentloop.types.tools import Effect

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult
    from mcp.types import Tool as Listed

CONNECT_S = 30.0
CLOSE_S = 15.0
"""The SDK bounds every step of ending a server; together they stay below this."""
LATER_S = 0.5
"""A call is given up by the engine first, which knows what that means; then here."""
MAX_NAME = 64
_LAST_WORDS_BYTES = 600
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")

T = TypeVar("T")


class McpError(Exception):
    """What a server answered instead of a result, or that it does not answer any more."""


class McpServers:
    """These servers, connected while the block lasts.

    Raises ConfigError, naming the server, where one does not answer in time; then nothing is left running.
    """

    def __init__(
        self,
        config: Sequence[Server],
        root: Path,
        *,
        redact: Callable[[str], str] = lambda text: text,
        connect_s: float = CONNECT_S,
    ) -> None:
        """Nothing is started yet. Programs will run in this root."""
        self._root = root.resolve()
        self._redact = redact
        self._connect_s = connect_s
        self._links = [_Link(server) for server in config]
        self._thread: _Loop | None = None
        self.tools: tuple[Tool, ...] = ()
        """What the servers offer, once connected."""

    def __enter__(self) -> Self:
        """Connect to every server, side by side, and list the tools."""
        if not self._links:
            return self
        try:
            import anthropic.lib.tools.mcp  # noqa: F401  now, not on the time of the first call
        except ImportError as e:
            raise ConfigError("MCP servers need the package 'mcp': pip install 'agentloop[mcp]'") from e
        logging.getLogger("mcp").addHandler(logging.NullHandler())  # else its warnings land on standard error
        self._thread = _Loop([link.hold(self._root, self._connect_s) for link in self._links])
        try:
            for link in self._links:
                link.ready.wait(self._connect_s + CLOSE_S)
            for link in self._links:
                if link.tools is None:
                    raise ConfigError(self._redact(link.why_not()))
            self.tools = tuple(_tool(self._thread, link, one) for link in self._links for one in link.tools or ())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close every connection and end every program."""
        self.close()

    def close(self) -> None:
        """Close every connection and end every program."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None


class _Loop:
    """The thread with the event loop: one task for each server, until it is closed."""

    def __init__(self, held: Sequence[Coroutine[Any, Any, None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self._held = held
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, name="mcp-servers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._tasks = [self.loop.create_task(h) for h in self._held]
            self.loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    def answer(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """What comes of this on the loop. Raises McpError where that takes longer, or where the loop has ended."""
        try:
            future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), self.loop)
        except RuntimeError as e:
            work.close()
            raise McpError("the connections are closed") from e
        try:
            return future.result(limit_s + LATER_S)
        except TimeoutError as e:
            future.cancel()
            raise McpError(f"no answer within {limit_s:g} seconds") from e

    def close(self) -> None:
        """End every task, which ends its server; wait for that."""
        with suppress(RuntimeError):  # it has ended by itself
            self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])
        self._thread.join(CLOSE_S)


class _Link:
    """The connection to one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ready = threading.Event()
        self.client: Client | None = None
        self.tools: list[Listed] | None = None
        self._failed: BaseException | None = None
        self._last_words = bytearray()
        self._limit_s = CONNECT_S

    async def hold(self, root: Path, limit_s: float) -> None:
        """Connect, list the tools, and stay connected until cancelled. A cancel scope is left in the task that entered it."""
        self._limit_s = limit_s
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(limit_s):
                    self.client = await stack.enter_async_context(await self._client(root, stack))
                    self.tools = await _listed(self.client)
                self.ready.set()
                await asyncio.Event().wait()
        except Exception as e:  # noqa: BLE001  whatever a server does to its connection, the others stay
            self._failed = e
        finally:
            self.client = None
            self.ready.set()

    async def _client(self, root: Path, stack: AsyncExitStack) -> "Client":
        import httpx2
        from mcp import Client
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client

        match self.server.where:
            case Program() as program:
                return Client(stdio_client(_parameters(program, root), self._errors(stack)), cache=None)
            case Address(url, headers):
                http = await stack.enter_async_context(
                    httpx2.AsyncClient(headers=headers, timeout=self.server.call_s + CONNECT_S)
                )
                return Client(streamable_http_client(url, http_client=http), cache=None)

    def _errors(self, stack: AsyncExitStack) -> TextIO:
        """Where a program's standard error goes: its end is kept, to be told where the program does not start."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        loop = asyncio.get_running_loop()

        def take() -> None:
            with suppress(BlockingIOError):
                self._last_words = (self._last_words + os.read(reading, 65_536))[-_LAST_WORDS_BYTES:]

        loop.add_reader(reading, take)
        stack.callback(os.close, reading)
        stack.callback(loop.remove_reader, reading)
        errors = stack.enter_context(os.fdopen(writing, "w"))
        stack.callback(take)
        return errors

    def why_not(self) -> str:
        """Why the server is not there, for the operator."""
        why = f"no answer within {self._limit_s:g} seconds" if isinstance(self._failed, TimeoutError) else _reason(self._failed)
        words = self._last_words.decode("utf-8", "replace").strip()
        return f"MCP server '{self.server.name}' of {CONFIG_FILE}: {why}" + (f"\nits last words: {words}" if words else "")

    async def call(self, tool: str, arguments: Json) -> "CallToolResult":
        """The server's answer. Raises McpError where it has gone."""
        if self.client is None:
            raise McpError(f"MCP server '{self.server.name}' has ended; its tools are gone for the rest of this run")
        try:
            return await self.client.call_tool(tool, arguments)
        except Exception as e:
            raise McpError(f"MCP server '{self.server.name}': {_reason(e)}") from e


def _parameters(program: Program, root: Path) -> Any:
    """How the SDK starts the program. What it would pass on besides `INHERITED` is taken out again, by `env`."""
    from mcp.client.stdio import DEFAULT_INHERITED_ENV_VARS, StdioServerParameters

    added = [n for n in DEFAULT_INHERITED_ENV_VARS if n not in program.env]
    without = [part for name in added for part in ("-u", name)]
    return StdioServerParameters(
        command=shutil.which("env") or "/usr/bin/env",
        args=[*without, program.command, *program.args],
        env=program.env,
        cwd=root,
        encoding_error_handler="replace",
    )


async def _listed(client: "Client") -> "list[Listed]":
    """Every tool, page by page."""
    listed: list[Listed] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        listed += page.tools
        cursor = page.next_cursor
        if not cursor:
            return listed
        if len(listed) > MAX_TOOLS:
            raise McpError(f"more than {MAX_TOOLS} tools")


def tool_name(server: str, tool: str) -> str:
    """What the model calls a server's tool: `mcp__server__tool`, in characters and length that the API takes."""
    name = _OTHER.sub("_", f"mcp__{server}__{tool}")
    if len(name) <= MAX_NAME:
        return name
    digest = sha256(f"{server}\n{tool}".encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME - len(digest) - 1]}_{digest}"


def _tool(thread: _Loop, link: _Link, listed: "Listed") -> Tool:
    name = tool_name(link.server.name, listed.name)
    definition: Json = {"name": name, "input_schema": listed.input_schema}
    if listed.description:
        definition["description"] = listed.description
    return Tool(
        None,
        name,
        effect=_effect(listed),
        outward=_open_world(listed) and _effect(listed) != "read",
        untrusted=_open_world(listed),
        timeout_s=link.server.call_s,
        ready=_ServerTool(name, definition, thread, link, listed.name),
    )


def _effect(listed: "Listed") -> Effect:
    """What the server declares; without a word, a call has an effect that must not happen twice."""
    hints = listed.annotations
    if hints is not None and hints.read_only_hint:
        return "read"
    return "idempotent" if hints is not None and hints.idempotent_hint else "once"


def _open_world(listed: "Listed") -> bool:
    """Whether it deals with the world outside, as MCP's own default has it."""
    return listed.annotations is None or listed.annotations.open_world_hint is not False


@dataclass(frozen=True)
class _ServerTool:
    """What the registry takes as an SDK tool object."""

    name: str
    definition: Json = field(repr=False)
    thread: _Loop = field(repr=False)
    link: _Link = field(repr=False)
    tool: str

    def __repr__(self) -> str:
        """How errors name it."""
        return f"'{self.tool}' of MCP server '{self.link.server.name}'"

    def to_dict(self) -> Json:
        """The definition."""
        return self.definition

    def call(self, input: object) -> Any:
        """The server's answer as content blocks. Raises McpError."""
        assert isinstance(input, dict)
        result = self.thread.answer(self.link.call(self.tool, input), self.link.server.call_s + LATER_S)
        content = [_block(b) for b in result.content]
        if result.is_error:
            raise McpError(
                "\n".join(str(b.get("text", f"[{b['type']}]")) for b in content) or "the tool failed, without a word"
            )
        return content or result.structured_content


def _block(content: Any) -> Json:
    """A content block as the API takes it, by the SDK's rules; what it has no rule for is told in words."""
    from anthropic.lib.tools.mcp import UnsupportedMCPValueError, mcp_content

    try:
        return dict(mcp_content(content))
    except (UnsupportedMCPValueError, ValueError):
        about = content.model_dump(mode="json", by_alias=True, exclude={"data", "resource"}, exclude_none=True)
        return {"type": "text", "text": f"[not shown: {json.dumps(about, ensure_ascii=False)}]"}


def _reason(error: BaseException | None) -> str:
    """An error in one line; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:500] if str(error) else type(error).__name__
