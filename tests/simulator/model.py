"""The API of a simulated session: it answers at random, remembers what it answered, refuses what the rules forbid, and
keeps its own account of what it billed."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

from agentloop.core import costs
from agentloop.core.parking import SLEEP
from agentloop.crash_points import reached
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.request import Failure, FailureKind, Reply
from agentloop.types.tools import ToolCard
from agentloop.types.usage import ModelCard, Usage
from tests.property.api_rules import MessagesApi
from tests.simulator.chance import Chance, weighted
from tests.simulator.world import Clock, Disk, Plan

MAX_ATTEMPTS = 5
_QUESTION = "[agentloop] Before the oldest turns"
_NO_OBJECT: Json = {"type": "tool_use", "id": "", "name": "pay", "input": ["no", "object"]}


class Api:
    """A `ModelClient` for all processes of one session."""

    def __init__(
        self, chance: Chance, clock: Clock, disk: Disk, chain: Sequence[ModelCard], tools: Sequence[ToolCard], plan: Plan
    ) -> None:
        """`chain`: the models that may be asked, in this order."""
        self._chance, self._clock, self._disk = chance.model, clock, disk
        card, *self._next = chain
        self._card = card
        self._failing, self._odd = plan.failing, plan.odd
        self._tools = [t.name for t in tools if t.name != SLEEP]
        self._rules = MessagesApi(card.id, card.max_output_tokens, card.checks_thinking_prefix)
        self._turns = chance.plan.randint(1, 14)
        self._replies = 0
        self.bodies: list[bytes] = []
        self.attempts: list[int] = []
        self.billed_usd = Decimal(0)
        """What was charged, whether or not anybody took note of it."""

    def ask(self, body: bytes) -> Iterator[Failure | Reply]:
        """The attempts for one request."""
        request = json.loads(body)
        self._asked(request["model"])
        self._rules.receive(body)
        self.bodies.append(body)
        seen = {b["tool_use_id"] for m in request["messages"] for b in m["content"] if b["type"] == "tool_result"}
        assert seen <= self._disk.finished, "the model sees a result that is not durable"
        reached("request.sending")
        self.attempts.append(1)
        while self._chance.random() < self._failing:
            failure = self._failure(request, last=self.attempts[-1] >= MAX_ATTEMPTS)
            yield failure
            if failure.retry_in_s is None:
                return
            self._clock.pass_(failure.retry_in_s)
            self.attempts[-1] += 1
        self._clock.pass_(0 if not request["max_tokens"] else self._chance.choice([1, 4, 40, 400, 4_000]))
        reply = self._reply(request)
        self.billed_usd += costs.cost(reply.usage, self._card)
        reached("reply.streaming")
        if reply.content or request["max_tokens"]:
            self._rules.answer(body, reply.message_id, reply.content, reply.stop_reason)
        yield reply

    def _asked(self, model: str) -> None:
        """Another model takes over: the next one, and none goes back."""
        if model == self._card.id:
            return
        assert self._next, f"{model} is asked, whom nobody named"
        self._card = self._next.pop(0)
        assert self._card.id == model
        self._rules.takes_over(model, self._card.max_output_tokens, self._card.checks_thinking_prefix)

    def _failure(self, request: Json, last: bool) -> Failure:
        kinds: list[tuple[tuple[FailureKind, bool], float]] = [(("unavailable", False), 4), (("not_an_answer", True), 2)]
        final: list[tuple[tuple[FailureKind, bool], float]] = [(("spend_limit", False), 0.3), (("unauthorized", False), 0.2)]
        final += [(("prompt_too_long", False), 0.3), (("unavailable", True), 0.5)]
        kind, billed = weighted(self._chance, kinds if not last else [kinds[0]])
        ends = last or self._chance.random() < 0.15
        if ends and not last:
            kind, billed = weighted(self._chance, final)
        usage = None
        if billed and self._chance.random() < 0.5:
            usage = Usage(input_tokens=self._size(request) // 2, output_tokens=self._chance.randint(0, 30))
            self.billed_usd += costs.cost(usage, self._card)
        elif billed:
            self.billed_usd += costs.cost(Usage(input_tokens=self._size(request) // 2), self._card)
        return Failure(
            kind=kind,
            error_type=kind,
            message="it failed",
            retry_in_s=None if ends else 2.0,
            possibly_billed=billed,
            usage=usage,
        )

    def _reply(self, request: Json) -> Reply:
        if not request["max_tokens"]:  # a ping: nothing is answered, everything is read
            read = Usage(cache_read_input_tokens=self._size(request) // 2)
            return Reply(message_id="ping", model=self._card.id, content=(), stop_reason="max_tokens", usage=read)
        self._replies += 1
        kind, content = self._said(request)
        usage = Usage(
            cache_read_input_tokens=self._size(request) // 2,
            input_tokens=self._size(request) // 4,
            output_tokens=min(request["max_tokens"], self._chance.randint(5, 300)),
        )
        return Reply(
            message_id=f"msg_{self._replies}",
            model=self._card.id,
            content=tuple(content),
            stop_reason=kind,
            stop_details={"category": "cyber"} if kind == "refusal" else None,
            usage=usage,
        )

    def _size(self, request: Json) -> int:
        """Tokens of a request: fewer than anybody would estimate."""
        return len(json.dumps(request["messages"])) // 8 + 50

    def _said(self, request: Json) -> tuple[str, list[Block]]:
        if request["messages"][-1]["content"][-1].get("text", "").startswith(_QUESTION):
            return "end_turn", [blocks.text("Order W0001 is open; everything else is done.")]
        if self._chance.random() < self._odd:
            return self._oddity()
        if self._replies > self._turns and self._chance.random() < 0.6:
            return "end_turn", [blocks.text(f"Done, {self._replies}.")]
        calls = [self._call(i) for i in range(self._chance.choice([1, 1, 1, 2, 3]))]
        return "tool_use", [blocks.text(f"Now {self._replies}."), *calls]

    def _oddity(self) -> tuple[str, list[Block]]:
        n = self._replies
        twin = blocks.tool_use(f"toolu_{n}", "pay", {"amount": 1})
        odd: list[tuple[tuple[str, list[Block]], float]] = [
            (("max_tokens", [blocks.text("and th"), blocks.tool_use(f"toolu_{n}", "pay", {})]), 2),
            (("refusal", [blocks.text("No.")]), 0.5),
            (("end_turn", [blocks.text(" \n")]), 2),
            (("end_turn", []), 1),
            (("tool_use", [twin, twin]), 1),
            (("tool_use", [blocks.tool_use(f"toolu_{n}", "no_such_tool", {})]), 2),
            (("tool_use", [_NO_OBJECT | {"id": f"toolu_{n}"}]), 1),
            (("tool_use", [blocks.tool_use(f"toolu_{n}", SLEEP, {"time": "some day"})]), 1),
            (("went_home", [blocks.text("What?")]), 0.3),
            (("model_context_window_exceeded", [blocks.text("Too")]), 0.5),
        ]
        return weighted(self._chance, odd)

    def _call(self, i: int) -> Block:
        call_id = f"toolu_{self._replies}_{i}"
        if self._chance.random() < 0.06:
            wake = self._clock.now() + timedelta(seconds=self._chance.choice([-60, 30, 7_200, 90_000]))
            return blocks.tool_use(call_id, SLEEP, {"time": wake.isoformat()})
        amount = self._chance.choice([1, 2, 5, "7", -1])
        return blocks.tool_use(
            call_id, self._chance.choice(self._tools), {"what": self._chance.randint(0, 9), "amount": amount}
        )
