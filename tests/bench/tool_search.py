"""What tool search does to the bill: the same session with all its tools in the prefix, and behind the API's tool search.

    python -m tests.bench.tool_search [MODEL]

Each session runs through the whole engine against the emulator, ten seconds a turn. Every other turn calls one of four
tools that the agent names first, the others call one of eight that stand somewhere in the list. Behind tool search the
model looks for such a tool when it stands nowhere in its view, so again after a compaction.
"""

import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from agentloop import Agent
from agentloop.core import tokens
from agentloop.core.cache import as_blocks
from agentloop.core.parts import references
from agentloop.emulator.script import Function
from agentloop.testing import FixedClock
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.usage import Usage

SIZES = (10, 20, 30, 50, 100, 190)
TURNS = (5, 20, 60)
HOT, RARE = 4, 8
SERVICES = ("orders", "parcels", "invoices", "customers", "returns", "stock", "suppliers", "mail", "calendar", "reports")
VERBS = ("get", "list", "search", "create", "update", "archive", "export", "approve", "compare", "forecast")
_FIELDS = ("id", "since", "until", "status", "limit")
_WORKSPACE_WORDS = "You run the back office of a shop. Work through the list, one thing at a time, and say when it is done. "


class Ready:
    """A tool with a definition of some 250 tokens, as servers give them."""

    def __init__(self, number: int) -> None:
        """The tool of this number."""
        service, verb = SERVICES[number % 10], VERBS[number // 10 % 10]
        self.name = f"{service}_{verb}" if number < 100 else f"{service}_{verb}_{number // 100}"
        self._description = (
            f"{verb.capitalize()} {service} of the shop. Use it when the task asks to {verb} {service}, and give as many of "
            f"the parameters as are known. The answer is a table with one line for each of the {service} that fit, the newest "
            "first, with their ids, states, dates and amounts."
        )
        fields = {f: {"type": "string", "description": f"The {f} of the {service} to {verb}, if known."} for f in _FIELDS}
        self._schema = {"type": "object", "properties": fields, "required": ["id"]}

    def to_dict(self) -> Json:
        """The definition."""
        return {"name": self.name, "description": self._description, "input_schema": self._schema}

    def call(self, input: object) -> str:
        """A table of some 300 tokens, another for each call."""
        asked = input if isinstance(input, dict) else {}
        return "\n".join(f"{self.name} {asked.get('id')}-{n} open {n * 7}.50 EUR" for n in range(20))


class Side(NamedTuple):
    """One session's bill."""

    cost_usd: Decimal
    usage: Usage
    searches: int


def session(size: int, turns: int, tool_search: str, model: str) -> Side:
    """The session with so many tools."""
    tools = [Ready(n) for n in range(size)]
    searches = 0

    def answer(request: Json, step: int) -> Sequence[Block]:
        nonlocal searches
        if step >= turns:
            return [blocks.text("Everything on the list is done.")]
        name = tools[_used(step, size)].name
        call = blocks.tool_use(f"toolu_{step}", name, {"id": f"W{step}", "status": "open"})
        say = blocks.text(f"Now number {step}: {name.replace('_', ' ')}.")
        if name in _visible(request):
            return [say, call]
        searches += 1
        search = {"type": "server_tool_use", "id": f"srvtoolu_{step}", "name": "tool_search_tool_bm25"}
        return [say, {**search, "input": {"query": name.replace("_", " ")}}, call]

    with TemporaryDirectory() as folder:
        agent = Agent(
            system=_WORKSPACE_WORDS * 20,
            tools=tools,
            model=model,
            script=Function("office", answer),
            workspace=Path(folder),
            clock=FixedClock(step_s=10 / 6),
            environment={},
            fsync="never",
            max_turns=turns + 5,
            max_budget_usd="1000",
            tool_search=tool_search,
        )
        result = agent.run("Work through the list.")
    assert result.outcome == "completed", result.detail
    assert result.turns == turns + 1
    return Side(result.cost, result.usage, searches)


def _used(step: int, size: int) -> int:
    """The tool of a step."""
    if step % 2 == 0:
        return step // 2 % min(HOT, size)
    rare = max(1, min(RARE, size - HOT))
    return HOT + (step // 2 % rare) * ((size - HOT) // rare)


def _visible(request: Json) -> set[str]:
    """The tools that the model can call: those that are not deferred, and those that were found."""
    found = {name for m in request["messages"] for b in as_blocks(m["content"]) for name in references(b)}
    return found | {t["name"] for t in request["tools"] if not t.get("defer_loading")}


def rows(model: str, sizes: Sequence[int] = SIZES, lengths: Sequence[int] = TURNS) -> Iterator[dict[str, Any]]:
    """Both bills for each number of tools and turns."""
    for size in sizes:
        definitions = sum(tokens.tool_tokens(Ready(n).to_dict(), tokens.DEFAULT_FAMILY) for n in range(size))
        for turns in lengths:
            off, on = (session(size, turns, mode, model) for mode in ("off", "on"))
            yield {
                "tools": size,
                "tokens": definitions,
                "turns": turns,
                "off": off,
                "on": on,
                "ratio": on.cost_usd / off.cost_usd,
            }


def main(model: str = "claude-sonnet-4-6") -> None:
    """The table, and one session by kind of token."""
    print(f"tool search, {model}: the bill with all tools in the prefix, and behind tool search")
    for row in rows(model):
        off, on = row["off"], row["on"]
        print(
            f"{row['tools']:4} tools ({row['tokens']:6,} tokens), {row['turns']:3} turns"
            f"   ${off.cost_usd:.4f}  ${on.cost_usd:.4f}   {row['ratio']:.2f} x   {on.searches:2} searches",
            flush=True,
        )
    off, on = (session(100, 60, mode, model) for mode in ("off", "on"))
    for name, side in (("in the prefix", off), ("behind search", on)):
        u = side.usage
        written = u.ephemeral_5m_input_tokens + u.ephemeral_1h_input_tokens
        print(
            f"100 tools, 60 turns, {name}: {u.input_tokens:,} fresh + {written:,} written + {u.cache_read_input_tokens:,} read"
            f" + {u.output_tokens:,} output tokens: ${side.cost_usd:.4f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
