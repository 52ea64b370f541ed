"""`@tool`: a typed Python function becomes a tool; and the registry that freezes when a session starts.

The schema and the docstring are read by the official SDK (`anthropic.beta_tool`) and pydantic. A tool says, besides,
what running it twice would mean (`effect`), how long it may take, and whether the model is to see facts or the whole of
a large result.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextvars import ContextVar
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import CodeType
from typing import Any, Protocol, cast, get_args, overload

from agentloop.errors import RegistryError
from agentloop.types.base import Json, compact
from agentloop.types.leaves import LeafRun
from agentloop.types.tools import Effect, FactsMode, FactsSettings, ToolCard

Function = Callable[..., Any]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The API's documentation prints 64 characters, its error texts 128; the smaller holds everywhere."""
MAX_TOOLS = 200
MAX_SEARCHED_TOOLS = 10_000
"""The most that the API's tool search looks through.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool"""
SEARCH_TOOL: Json = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
"""The API's own tool that finds deferred ones by their names, descriptions and parameters. It runs there, never here."""
MAX_DESCRIPTION_CHARS = 20_000


class SdkTool(Protocol):
    """What the SDK makes of a function: `anthropic.beta_tool` and `beta_async_tool` objects."""

    @property
    def name(self) -> str: ...  # noqa: D102

    def to_dict(self) -> Any: ...  # noqa: D102

    def call(self, input: object) -> Any: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that the model may call, and what it declares about itself. Still an ordinary function to Python."""

    function: Function | None
    name: str
    effect: Effect = "once"
    timeout_s: float = 60.0
    takes_s: float | None = None
    facts: str = "facts"
    ready: SdkTool | None = None
    """Set where the tool came as an SDK object: its definition is taken as it is."""
    facts_settings: FactsSettings | None = None
    outward: bool = False
    untrusted: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        if self.function is None:
            raise TypeError(f"tool '{self.name}' has no Python function")
        return self.function(*args, **kwargs)

    @cached_property
    def sdk(self) -> SdkTool:
        """The SDK's reading of the function: definition, validation, call. Raises RegistryError."""
        return self.ready if self.ready is not None else _read_by_sdk(self)

    @cached_property
    def definition(self) -> Json:
        """What the model sees: name, description, input_schema. Raises RegistryError where the API would refuse it."""
        data: Json = dict(self.sdk.to_dict())
        data.pop("cache_control", None)
        if self.ready is None:
            data = {**data, "name": self.name, "input_schema": _untitled(data["input_schema"])}
        _check(self, data)
        return data

    @property
    def card(self) -> ToolCard:
        """What the session's log says about the tool."""
        return ToolCard(
            name=self.name,
            effect=self.effect,
            timeout_s=self.timeout_s,
            takes_s=self.takes_s,
            facts=self.facts,
            facts_settings=self.facts_settings,
            outward=self.outward,
            untrusted=self.untrusted,
        )

    @property
    def place(self) -> str:
        """Where the tool is defined: file and line."""
        code = self.code
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(self.ready or self.function)

    @property
    def code(self) -> CodeType | None:
        """The compiled function, where there is one."""
        function = self.function or getattr(self.ready, "func", None)
        return getattr(inspect.unwrap(function), "__code__", None) if function is not None else None


@overload
def tool(function: Function, /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout_s: float = 60.0,
    takes_s: float | None = None,
    facts: str | FactsSettings = "facts",
    outward: bool = False,
    untrusted: bool = False,
) -> Callable[[Function], Tool]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "once",
    timeout_s: float = 60.0,
    takes_s: float | None = None,
    facts: str | FactsSettings = "facts",
    outward: bool = False,
    untrusted: bool = False,
) -> Tool | Callable[[Function], Tool]:
    """Make a tool of a typed function, sync or async, with a Google-style docstring.

    Args:
        function: The function; its signature is the schema, its docstring the description.
        name: What the model calls it; the function's name by default.
        effect: What running a call twice would mean. `read`: nothing. `idempotent`: nothing, when the tool is given the
            same `current_call().idempotency_key`. `once` (the default): a second effect in the world, so after a crash in
            between the call is reported as of unknown outcome and never repeated.
        timeout_s: Seconds until a call is given up.
        takes_s: Seconds that a call takes, where that is known beforehand: where that is longer than the cache lives, it is
            kept warm meanwhile, if that is cheaper than to write it again.
        facts: `facts`: a large result is cut down before the model sees it, the whole stays within `recall`. `see_once`: the
            model sees it whole in the next request, and its facts ever after. `keep`: the model sees it whole.
            `FactsSettings`: facts (with `see_once=True`: seen whole once), and what matters in them.
        outward: It speaks to the world outside (mail, posts, payments): an unattended session that has read what strangers
            wrote asks a person first, unless its agent's file says otherwise.
        untrusted: Its results hold what strangers wrote (mail, pages).
    """
    mode, settings = (facts.mode, facts) if isinstance(facts, FactsSettings) else (facts, None)

    def make(f: Function) -> Tool:
        given = name or f.__name__
        return Tool(f, given, effect, timeout_s, takes_s, mode, facts_settings=settings, outward=outward, untrusted=untrusted)

    return make if function is None else make(function)


def as_tool(thing: object) -> Tool:
    """A tool of whatever can be one: a `Tool`, an SDK tool object, a plain function. Raises RegistryError."""
    if isinstance(thing, Tool):
        return thing
    if callable(getattr(thing, "to_dict", None)) and callable(getattr(thing, "call", None)):
        ready = cast(SdkTool, thing)
        return Tool(None, ready.name, ready=ready)
    if inspect.isfunction(thing):
        return tool(thing)
    raise RegistryError(f"{thing!r} is not a tool: expected a function with @tool, or an anthropic.beta_tool object")


class Registry:
    """The tools of a session, in a fixed order. Made once; it never changes."""

    def __init__(self, things: Iterable[object], most: int = MAX_TOOLS) -> None:
        """Take these tools, sorted by name. Raises RegistryError for clashes, bad names and bad schemas."""
        tools = sorted(map(as_tool, things), key=lambda t: t.name)
        for first, second in pairwise(tools):
            if first.name == second.name:
                raise RegistryError(f"two tools are named '{first.name}': {first.place} and {second.place}; rename one")
        if len(tools) > most:
            raise RegistryError(f"{len(tools)} tools, at most {most}; name those you need in the agent's 'tools'")
        self.tools: dict[str, Tool] = {t.name: t for t in tools}
        # copies: a tool can reach what it is made of, and what it changes there must not reach the prefix
        self.definitions: tuple[Json, ...] = tuple(deepcopy(t.definition) for t in tools)

    def only(self, names: Sequence[str] | None) -> "Registry":
        """The tools of these names; all where none are named. Raises RegistryError for a name that is not there."""
        if names is None:
            return self
        if missing := sorted(set(names) - set(self.tools)):
            raise RegistryError(f"no tool named {', '.join(missing)}; there are {', '.join(self.tools) or 'none'}")
        return Registry(self.tools[n] for n in dict.fromkeys(names))

    def searched(self, hot: Collection[str]) -> "Registry":
        """The same tools, all but these behind the API's tool search: their definitions are sent, and stand in the prompt
        only once a search has found them. All as they are where these are all that there are."""
        made = copy(self)
        first = [deepcopy(t.definition) for t in self.tools.values() if t.name in hot]
        later = [deepcopy(t.definition) | {"defer_loading": True} for t in self.tools.values() if t.name not in hot]
        made.definitions = (SEARCH_TOOL, *first, *later) if later else tuple(first)
        return made

    @property
    def cards(self) -> tuple[ToolCard, ...]:
        """What the tools declare, in the registry's order."""
        return tuple(t.card for t in self.tools.values())


@dataclass(frozen=True)
class CurrentCall:
    """What a tool may know about the call it is answering."""

    session_id: str
    call_id: str
    idempotency_key: str
    """The same for every run of this call, over crash and resume: hand it to services that take one."""
    root: Path
    """The folder that the session's tools work in."""


@dataclass(frozen=True)
class Billed:
    """What a tool returns that ran leaves: what the model is shown, and what is counted in the session's bill."""

    content: str
    leaves: tuple[LeafRun, ...]
    failed: bool = False
    """Whether the model is told that the call failed."""


_CURRENT: ContextVar[CurrentCall] = ContextVar("agentloop_current_call")


def current_call() -> CurrentCall:
    """The call that is being answered. Raises LookupError outside a tool."""
    return _CURRENT.get()


def answering(call: CurrentCall) -> None:
    """Make this the current call of the running context."""
    _CURRENT.set(call)


def _read_by_sdk(tool: Tool) -> SdkTool:
    from anthropic import beta_async_tool, beta_tool  # half a second of import, needed only where tools are used

    assert tool.function is not None
    untyped = [n for n, p in inspect.signature(tool.function).parameters.items() if p.annotation is inspect.Parameter.empty]
    if untyped:
        raise RegistryError(f"tool '{tool.name}' ({tool.place}): parameter '{untyped[0]}' has no type")
    make = beta_async_tool if inspect.iscoroutinefunction(tool.function) else beta_tool
    try:
        made = make(tool.function)
        made.to_dict()
    except Exception as e:  # pydantic raises many kinds for a type it cannot describe
        reason = str(e).partition("\n")[0]
        raise RegistryError(f"tool '{tool.name}' ({tool.place}): no schema can be made of its signature: {reason}") from e
    return cast(SdkTool, made)


def _untitled(schema: Json) -> Json:
    """The schema without the titles that pydantic derives from names: they say nothing and are paid for on each turn."""

    def walk(node: Any, named: bool) -> Any:
        if isinstance(node, dict):
            kept = {k: v for k, v in node.items() if named or k != "title" or not isinstance(v, str)}
            return {k: walk(v, not named and k in ("properties", "$defs")) for k, v in kept.items()}
        return [walk(v, False) for v in node] if isinstance(node, list) else node

    return cast(Json, walk(schema, False))


def _check(tool: Tool, data: Json) -> None:
    where = f"tool '{tool.name}' ({tool.place})"
    if not NAME.fullmatch(tool.name):
        raise RegistryError(f"{where}: the name must match {NAME.pattern}")
    if tool.effect not in ("read", "idempotent", "once"):
        raise RegistryError(f"{where}: effect '{tool.effect}' is none of read, idempotent, once")
    if tool.facts not in get_args(FactsMode):
        raise RegistryError(f"{where}: facts '{tool.facts}' is none of {', '.join(get_args(FactsMode))}")
    if not tool.timeout_s or tool.timeout_s <= 0:
        raise RegistryError(f"{where}: timeout_s must be more than 0 seconds, found {tool.timeout_s!r}")
    if tool.takes_s is not None and not 0 < tool.takes_s <= tool.timeout_s:
        limit = f"more than 0 and at most timeout_s ({tool.timeout_s:g}) seconds"
        raise RegistryError(f"{where}: takes_s must be {limit}, found {tool.takes_s!r}")
    schema = data.get("input_schema")
    kind = schema.get("type") if isinstance(schema, dict) else type(schema).__name__
    if "input_schema" in data and kind != "object":
        raise RegistryError(f"{where}: input_schema must be of type object, found {kind!r}")
    if tool.ready is None and not data.get("description"):
        raise RegistryError(f"{where}: no description; write a docstring that says when to use it")
    if len(str(data.get("description", ""))) > MAX_DESCRIPTION_CHARS:
        raise RegistryError(f"{where}: the description is over {MAX_DESCRIPTION_CHARS:,} characters")
    try:
        compact(data)
    except (ValueError, TypeError, RecursionError) as e:
        raise RegistryError(f"{where}: the definition is not plain JSON: {e}") from e


def settle(value: Any) -> Any:
    """The value of an async tool, waited for; any other value as it is."""
    if not inspect.isawaitable(value):
        return value
    import asyncio

    async def wait(awaitable: Awaitable[Any]) -> Any:
        return await awaitable

    return asyncio.run(wait(value))
