"""The theory of the cache against a second, naive one that is written from the documentation alone."""

import copy
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.core import cache
from agentloop.core.cache import Assumed, Entry
from agentloop.testing import card
from agentloop.types.usage import ModelCard, Prices
from tests.property.naive_cache import NaiveCache, Options

HISTORIES = 10_000
SEEDS_PER_TEST = 1_250

FAST = Prices(
    input=Decimal(6), cache_write_5m=Decimal("7.5"), cache_write_1h=Decimal(12), cache_read=Decimal("0.6"), output=Decimal(30)
)
MODELS: tuple[ModelCard, ...] = (
    card(id="new", thinks_by_default=True, default_effort="high", fast_prices=(FAST,), tool_system_tokens=286),
    card(
        id="old",
        keeps_earlier_thinking=False,
        min_cacheable_tokens=1_024,
        tokenizer="claude-3-to-4.6",
        tool_system_tokens=496,
        forced_tool_system_tokens=588,
    ),
    card(id="other", default_effort="medium", forced_tool_system_tokens=406, tool_system_tokens=286),
)
GAPS = (0, 0, 0, 0.5, 2, 20, 100, 240, 299, 300, 301, 1_000, 3_000, 3_599, 3_600, 3_601, 8_000)
LATENCIES = (0, 0, 0.5, 3, 20, 250, 400, 4_000)
SIZES = (1, 20, 90, 200, 600, 1_100)
Body = dict[str, Any]


class History:
    """A client that goes on, goes back, changes its mind and marks where it likes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.calls = 0
        self.model = self.pick(MODELS)
        self.body: Body = {"system": [self.text() for _ in range(self.pick((0, 1, 2)))], "messages": [self.says()]}
        if self.random.random() < 0.6:
            self.body["tools"] = [self.tool(n) for n in range(self.pick((1, 2)))]
        self.earlier: list[Body] = []

    def pick(self, values: Any) -> Any:
        return self.random.choice(values)

    def text(self) -> Body:
        return {"type": "text", "text": self.pick("abcdefgh") * (self.pick(SIZES) * 1_000 // 310)}

    def tool(self, n: int, **more: Any) -> Body:
        return {"name": f"tool_{n}", "description": "d" * self.pick(SIZES), "input_schema": {"type": "object"}, **more}

    def says(self) -> Body:
        content = self.pick(([self.text()], [self.text(), self.text()], "Go on."))
        return {"role": "user", "content": content}

    def step(self) -> Body:
        """The next request."""
        self.earlier.append(copy.deepcopy(self.body))
        for _ in range(self.pick((0, 1, 1, 1, 2))):
            self.pick(CHANGES)(self)
        return self.marked()

    def goes_on(self) -> None:
        thought = {"type": "thinking", "thinking": "t" * self.pick(SIZES), "signature": "s"}
        answer = [thought] * self.pick((0, 0, 1)) + [self.text()]
        self.body["messages"] += [{"role": "assistant", "content": answer}, self.says()]

    def calls_tools(self) -> None:
        ids = [f"toolu_{self.calls + n}" for n in range(self.pick((1, 1, 2, 5, 25)))]
        self.calls += len(ids)
        thought = {"type": "thinking", "thinking": "t" * self.pick(SIZES), "signature": "s"}
        use = [{"type": "tool_use", "id": i, "name": "tool_0", "input": {"x": 1, "y": None}} for i in ids]
        parts = [{"type": "text", "text": "r" * self.pick(SIZES)}]
        results = [{"type": "tool_result", "tool_use_id": i, "content": self.pick(("seen", parts))} for i in ids]
        said = [self.text()] * self.pick((0, 0, 1))
        self.body["messages"] += [
            {"role": "assistant", "content": [thought] * self.pick((0, 1)) + use},
            {"role": "user", "content": results + said},
        ]

    def grows_many_blocks(self) -> None:
        self.body["messages"].append(
            {"role": "user", "content": [self.text() for _ in range(self.pick((15, 18, 19, 20, 21, 40)))]}
        )

    def goes_back(self) -> None:
        self.body = copy.deepcopy(self.pick(self.earlier))

    def edits(self) -> None:
        message = self.pick(self.body["messages"])
        if isinstance(message["content"], list):
            block = self.pick(message["content"])
            name = {"text": "text", "thinking": "thinking"}.get(block["type"])
            if name:
                block[name] += self.pick(("", "!", "?"))
            elif block["type"] == "tool_use":
                block["input"] = self.pick(({"y": None, "x": 1}, {"x": 1, "y": None}, {"x": 2}))

    def is_written_otherwise(self) -> None:
        """The same content in other words of JSON."""
        for message in self.body["messages"]:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
            else:
                message["content"] = [dict(reversed(block.items())) | {"unset": None} for block in message["content"]]

    def changes_settings(self) -> None:
        name, values = self.pick(list(SETTINGS.items()))
        if (value := self.pick(values)) is None:
            self.body.pop(name, None)
        else:
            self.body[name] = value

    def changes_tools(self) -> None:
        tools = self.body.setdefault("tools", [self.tool(0)])
        web = {"type": "web_search_20250305", "name": "web_search"}
        match self.pick(("web", "deferred", "another", "fewer")):
            case "web":
                tools[:] = [t for t in tools if t != web] if web in tools else [web, *tools]
            case "deferred":
                tools.append(self.tool(100 + len(tools), defer_loading=True))
            case "another":
                tools.append(self.tool(len(tools)))
            case "fewer" if len(tools) > 1:
                tools.pop()
            case _:
                del self.body["tools"]

    def loads_a_tool(self) -> None:
        names = [t["name"] for t in self.body.get("tools", []) if t.get("defer_loading")]
        references = [{"type": "tool_reference", "tool_name": n} for n in names[:1]]
        found = {"type": "tool_search_tool_search_result", "tool_references": references}
        block = {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}
        self.body["messages"] += [{"role": "assistant", "content": [block]}, self.says()]

    def shows_a_picture(self) -> None:
        picture = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
        cited = {"type": "document", "source": {"type": "text", "data": "d"}, "citations": {"enabled": True}}
        self.body["messages"].append({"role": "user", "content": [self.pick((picture, cited)), self.text()]})

    def changes_model(self) -> None:
        self.model = self.pick(MODELS)

    def marked(self) -> Body:
        """The request with up to four breakpoints, those of an hour first."""
        body = copy.deepcopy(self.body)
        for message in body["messages"]:
            if isinstance(message["content"], str) and self.random.random() < 0.5:
                message["content"] = [{"type": "text", "text": message["content"]}]
        tools = [t for t in body.get("tools", []) if not t.get("defer_loading")]
        blocks = [*sorted(tools, key=lambda t: str(t.get("type")).startswith("web_")), *body["system"]]
        blocks += [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        blocks = [b for b in blocks if b.get("type") != "thinking"]
        wanted = self.random.sample(range(len(blocks)), min(len(blocks), self.pick((0, 1, 1, 2, 2, 3))))
        wanted = sorted({*wanted, *((len(blocks) - 1,) if blocks and self.random.random() < 0.7 else ())})
        hours = self.pick((0, 0, 1, 2, 4))
        for n, i in enumerate(wanted):
            blocks[i]["cache_control"] = {"type": "ephemeral", "ttl": "1h" if n < hours else "5m"}
        if not wanted and self.random.random() < 0.7:
            body["cache_control"] = {"type": "ephemeral"}
        self.mark_inside_a_result(blocks)
        return body

    def mark_inside_a_result(self, blocks: list[Body]) -> None:
        """A mark that counts for nothing: blocks inside of blocks are no breakpoints."""
        for block in blocks:
            if block.get("type") == "tool_result" and isinstance(block["content"], list) and self.random.random() < 0.2:
                block["content"] = [part | {"cache_control": {"type": "ephemeral"}} for part in block["content"]]


SETTINGS: dict[str, tuple[Any, ...]] = {
    "tool_choice": (
        None,
        {"type": "auto"},
        {"type": "any"},
        {"type": "none"},
        {"type": "auto", "disable_parallel_tool_use": True},
    ),
    "thinking": (None, {"type": "adaptive"}, {"type": "adaptive", "display": "omitted"}, {"type": "disabled"}),
    "output_config": (None, {"effort": "high"}, {"effort": "low"}, {"format": {"type": "json_schema"}}),
    "speed": (None, "fast", "standard"),
    "workspace_id": (None, "wrkspc_2"),
    "max_tokens": (1, 2),
    "metadata": (None, {"user_id": "u"}),
}
CHANGES = (
    *(History.goes_on,) * 5,
    *(History.calls_tools,) * 4,
    History.grows_many_blocks,
    History.goes_back,
    History.edits,
    History.is_written_otherwise,
    *(History.changes_settings,) * 2,
    History.changes_tools,
    History.loads_a_tool,
    History.shows_a_picture,
    History.changes_model,
)


def assumed(chance: random.Random) -> Options:
    """The documented choices, and now and then others."""
    if chance.random() < 0.7:
        return Options()
    return Options(
        renews=chance.choice(("hit", "marks", "chain")),
        remark=chance.choice(("keeps", "shortens")),
        format_costs=chance.choice(("system", "messages")),
        speeds_share_tools=chance.random() < 0.5,
    )


def hold_against_each_other(seed: int) -> int:
    """Play one history to both; the number of its requests that read something."""
    history, chance = History(seed), random.Random(-seed - 1)
    options = assumed(chance)
    choices = Assumed(**vars(options))
    naive, entries = NaiveCache(options), dict[bytes, Entry]()
    at, body, hits = 0.0, history.step(), 0
    for _ in range(chance.randint(3, 8)):
        ready = at + chance.choice(LATENCIES)
        asked, _ = cache.prompt_of(body, history.model, choices)
        found = cache.account(asked, entries, at, ready, choices)
        entries |= found.changes
        expected = naive.ask(body, history.model, at, ready)
        assert (found.read, found.written_5m, found.written_1h, found.fresh) == expected, (seed, at, body)
        hits += found.read > 0
        at += chance.choice(GAPS)
        body = body if chance.random() < 0.2 else history.step()
    return hits


@pytest.mark.parametrize("first", range(0, HISTORIES, SEEDS_PER_TEST))
def test_both_accounts_agree_on_random_histories(first: int) -> None:
    hits = sum(hold_against_each_other(seed) for seed in range(first, first + SEEDS_PER_TEST))

    assert hits > SEEDS_PER_TEST  # or there was nothing to compare


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=HISTORIES))
def test_both_accounts_agree_on_any_history(seed: int) -> None:
    hold_against_each_other(seed)
