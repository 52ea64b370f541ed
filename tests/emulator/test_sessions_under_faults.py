"""A session of the engine under each planned fault: to its end, or to an outcome that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.state import State
from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.faults import KINDS, Faults
from agentloop.emulator.transport import BASE_URL, client
from agentloop.engine import Shell, run
from agentloop.policies import PolicySettings
from agentloop.testing import NOON, FixedClock, given, started
from agentloop.tooling import Registry, tool
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import ModelFailed
from tests.emulator.conftest import MODEL, MODELS

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench


class Ran:
    """A session of five turns against an emulator whose third request is hit."""

    def __init__(self, bench: Bench, fault: str, root: Path, requests: tuple[int, ...] = (3,), **about: Any) -> None:
        self.looked: list[int] = []
        self.waited: list[float] = []
        looked = self.looked

        @tool(effect="once")
        def look(place: int) -> str:
            """Look at a place.

            Args:
                place: Which one.
            """
            looked.append(place)
            return f"seen {place}"

        def answer(request: Json, step: int) -> list[Block]:
            if step >= 4:
                return [text("All seen.")]
            return [text(f"I look at {step}."), tool_use(f"toolu_{step}_{len(request['messages'])}", "look", {"place": step})]

        bench.play(
            Function("places", answer),
            EmulatorSettings(),
            Faults.of({"requests": list(requests), "fault": fault, **about}),
        )
        self.state = self._run(bench, Registry([look]), root)
        self.bench = bench

    def _run(self, bench: Bench, registry: Registry, root: Path) -> State:
        log = MemoryLog()
        card = MODELS[MODEL].card
        log.append(started(model=card, tools=registry.definitions, tool_cards=registry.cards), NOON)
        log.append(given("Look at every place."), NOON)
        http = client(bench.emulator, bench.slept.append)
        model = MessagesApi(api_key="k", base_url=BASE_URL, http_client=http, sleep=self.waited.append)
        shell = Shell(model, Toolbox(registry, session_id="s", root=root), MemoryBlobs(), FixedClock(step_s=1))
        state = run(log, shell, PolicySettings().policies())
        self.failures = [e.body.failure for e in log.events() if isinstance(e.body, ModelFailed)]
        return state

    @property
    def outcome(self) -> str | None:
        return self.state.outcome


RETRIED = {
    "408": {}, "409": {}, "429": {"retry_after_s": 3}, "500": {}, "503": {}, "504": {}, "529": {},
    "reset": {}, "html": {}, "reset_mid_stream": {}, "error_event": {}, "cut_stream": {}, "cut_in_tool_call": {},
}  # fmt: skip
"""The engine asks the same again."""
TAKEN = ("slow_first_byte", "stall", "unknown_event", "second_message_delta", "unknown_block")
"""The engine goes on as if nothing had happened."""
ASKED_AGAIN = ("duplicate_tool_ids", "empty_end_turn", "pause_turn", "max_tokens_in_tool_call")
"""The engine does something about the reply, and goes on."""
FATAL = {
    "400": "failed", "401": "unauthorized", "402": "spend_limit", "403": "unauthorized", "404": "failed", "413": "failed",
    "422": "failed", "spend_limit": "spend_limit", "own_spend_limit": "spend_limit", "unknown_stop_reason": "failed",
    "refusal_before_output": "refused", "refusal_after_output": "refused",
}  # fmt: skip
"""The engine ends the session, and says why."""


def test_every_fault_is_tried_on_a_session() -> None:
    assert {*RETRIED, *TAKEN, *ASKED_AGAIN, *FATAL} == KINDS


@pytest.mark.parametrize("fault", RETRIED)
def test_a_session_asks_again_after_a_fault_that_passes(bench: Bench, fault: str, tmp_path: Path) -> None:
    about: Json = RETRIED[fault]
    ran = Ran(bench, fault, tmp_path, **about)

    assert (ran.outcome, ran.looked) == ("completed", [0, 1, 2, 3])
    assert len(ran.failures) == len(ran.waited) == 1
    assert [f["fault"] for f in bench.emulator.report()["faults"]] == [fault]
    if "retry_after_s" in about:
        assert ran.waited == [3]


@pytest.mark.parametrize("fault", TAKEN)
def test_a_session_takes_what_is_strange_but_no_fault(bench: Bench, fault: str, tmp_path: Path) -> None:
    ran = Ran(bench, fault, tmp_path, seconds=20)

    assert (ran.outcome, ran.looked, ran.failures) == ("completed", [0, 1, 2, 3], [])
    assert len(bench.emulator.report()["faults"]) == 1


@pytest.mark.parametrize("fault", ASKED_AGAIN)
def test_a_session_gets_over_a_reply_that_cannot_stand(bench: Bench, fault: str, tmp_path: Path) -> None:
    ran = Ran(bench, fault, tmp_path)

    assert (ran.outcome, ran.looked) == ("completed", [0, 1, 2, 3])
    assert len(bench.emulator.report()["faults"]) == 1


@pytest.mark.parametrize("fault", FATAL)
def test_a_session_ends_at_a_fault_that_stays(bench: Bench, fault: str, tmp_path: Path) -> None:
    ran = Ran(bench, fault, tmp_path)

    assert (ran.outcome, ran.looked) == (FATAL[fault], [0, 1])
    assert ran.waited == []


def test_a_session_gets_over_a_day_of_bad_weather(bench: Bench, tmp_path: Path) -> None:
    ran = Ran(bench, "529", tmp_path, requests=(1, 2, 4, 5, 6, 8))

    assert (ran.outcome, ran.looked, len(ran.failures)) == ("completed", [0, 1, 2, 3], 6)


def test_what_a_session_was_billed_is_what_the_emulator_billed(bench: Bench, tmp_path: Path) -> None:
    ran = Ran(bench, "529", tmp_path)

    assert str(ran.state.spent_usd) == bench.emulator.report()["totals"]["cost_usd"]
