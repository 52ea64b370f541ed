"""`from agentloop import Agent, tool`, against a Messages API over HTTP."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import anthropic
import pytest

from agentloop import Agent, current_call, tool
from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.model_table import models
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.state import State
from agentloop.emulator.app import Emulator
from agentloop.emulator.faults import Faults
from agentloop.emulator.playbook import Playbook
from agentloop.emulator.server import running
from agentloop.engine import Shell, run
from agentloop.errors import ConfigError, PrefixUnstable, SessionHeld, UnknownModel, UsageError
from agentloop.policies import PolicySettings
from agentloop.replay import replay
from agentloop.testing import NOON, FixedClock, given, started
from agentloop.tooling import Registry
from agentloop.types.events import Event, FellBack, ToolStarted
from agentloop.types.limits import Limits
from agentloop.types.request import Failure, Reply

PLAYBOOK = {
    "name": "orders",
    "steps": [
        {"say": "I look both up.", "call": [{"order_status": {"order_id": "W1"}}, {"order_status": {"order_id": "W2"}}]},
        {"say": "W1 is shipped, W2 is pending."},
        {"say": "You are welcome."},
    ],
}
KEY = {"ANTHROPIC_API_KEY": "any"}


@tool(effect="read")
def order_status(order_id: str) -> dict[str, str]:
    """Look up one order.

    Args:
        order_id: The order's number, such as "W2378156".
    """
    return {"order": order_id, "status": "shipped" if order_id == "W1" else "pending"}


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(Playbook.from_data(PLAYBOOK), models())


@pytest.fixture
def base_url(emulator: Emulator) -> Iterator[str]:
    with running(emulator) as url:
        yield url


def agent(folder: Path, base_url: str, **changes: object) -> Agent:
    given: dict[str, object] = {"tools": [order_status], "environment": KEY, "fsync": "never", **changes}
    return Agent(system="You answer questions about orders.", base_url=base_url, workspace=folder, **given)  # type: ignore[arg-type]


def test_a_run_answers_with_text_cost_and_usage(tmp_path: Path, base_url: str, emulator: Emulator) -> None:
    result = agent(tmp_path, base_url).run("Where are W1 and W2?")

    assert result.outcome == "completed"
    assert result.text == "W1 is shipped, W2 is pending."
    assert result.turns == 2
    assert result.cost == Decimal(emulator.report()["totals"]["cost_usd"])
    assert result.usage.output_tokens > 0


def test_another_model_takes_over_where_that_is_asked_for(tmp_path: Path) -> None:
    away = Faults.of({"model": "claude-sonnet-5-5", "fault": 529, "retry_after_ms": 1})
    emulator = Emulator(Playbook.from_data(PLAYBOOK), models(), faults=away)
    with running(emulator) as url:
        asked = agent(tmp_path, url, fallback_model="claude-opus-5-5,claude-haiku-5-5")
        result = asked.run("Where are W1 and W2?")

    assert result.outcome == "completed"
    assert result.cost == Decimal(emulator.report()["totals"]["cost_usd"])
    events = list(asked.sessions.events(result.session_id))
    assert [e.body.to.card.id for e in events if isinstance(e.body, FellBack)] == ["claude-opus-5-5"]
    assert replay(events, asked.policy_settings.policies()).same


def test_a_model_that_nobody_knows_cannot_take_over(tmp_path: Path, base_url: str) -> None:
    with pytest.raises(UnknownModel, match="did you mean claude-opus-5-5"):
        agent(tmp_path, base_url, fallback_model=["claude-opus-55"]).run("Where are W1 and W2?")

    assert not (tmp_path / "sessions").exists()


def test_a_finished_session_takes_its_next_user_message(tmp_path: Path, base_url: str) -> None:
    orders = agent(tmp_path, base_url)
    first = orders.run("Where are W1 and W2?")

    second = orders.send(first.session_id, "Thank you!")

    assert second.text == "You are welcome."
    assert second.session_id == first.session_id
    assert second.turns == 3
    assert replay(orders.sessions.events(first.session_id), orders.policy_settings.policies()).same


def test_a_session_that_is_started_twice_runs_once(tmp_path: Path, base_url: str, emulator: Emulator) -> None:
    orders = agent(tmp_path, base_url)
    first = orders.run("Where are W1 and W2?", session_id="once")
    asked = len(emulator.report()["requests"])

    second = orders.run("Where are W1 and W2?", session_id="once")

    assert second == first
    assert len(emulator.report()["requests"]) == asked


def test_the_awaitable_twins_run_the_same_engine(tmp_path: Path, base_url: str) -> None:
    orders = agent(tmp_path, base_url)

    async def both() -> list[str]:
        first = await orders.arun("Where are W1 and W2?")
        second = await orders.asend(first.session_id, "Thank you!")
        return [first.text, second.text]

    assert asyncio.run(both()) == ["W1 is shipped, W2 is pending.", "You are welcome."]


def test_a_tool_object_of_the_sdk_is_taken_as_it_is(tmp_path: Path, base_url: str) -> None:
    @anthropic.beta_tool(name="order_status")
    def looked_up(order_id: str) -> str:
        """Look up one order."""
        return f"{order_id} is on its way"

    orders = agent(tmp_path, base_url, tools=[looked_up])

    result = orders.run("Where are W1 and W2?")

    assert result.outcome == "completed"
    started = orders.sessions.events(result.session_id)[0].body
    assert dict(looked_up.to_dict()) in started.prefix.tools  # type: ignore[union-attr]


def test_a_tool_knows_the_call_it_answers(tmp_path: Path, base_url: str) -> None:
    seen: list[str] = []

    @tool(name="order_status")
    def remember(order_id: str) -> str:
        """Look up one order.

        Args:
            order_id: The order's number.
        """
        seen.append(current_call().idempotency_key)
        return order_id

    agent(tmp_path, base_url, tools=[remember]).run("Where?", session_id="s")

    assert seen == ["s:toolu_orders_0_0", "s:toolu_orders_0_1"]


def test_calls_that_only_read_run_side_by_side_and_others_one_after_the_other(tmp_path: Path, base_url: str) -> None:
    @tool(name="order_status", effect="once")
    def effect(order_id: str) -> str:
        """Look up one order.

        Args:
            order_id: The order's number.
        """
        return order_id

    def kinds(*tools: object) -> list[str]:
        made = agent(tmp_path, base_url, tools=tools)
        events = made.sessions.events(made.run("Where?").session_id)
        return [e.body.type for e in events if e.body.type.startswith("tool")]

    assert kinds(order_status) == ["tool_started", "tool_started", "tool_finished", "tool_finished"]
    assert kinds(effect) == ["tool_started", "tool_finished", "tool_started", "tool_finished"]


def test_what_a_callback_raises_does_not_end_the_session(tmp_path: Path, base_url: str) -> None:
    def broken(event: Event, state: State) -> None:
        raise RuntimeError("the dashboard is down")

    assert agent(tmp_path, base_url, on_event=broken).run("Where are W1 and W2?").outcome == "completed"


def test_a_session_in_use_is_held(tmp_path: Path, base_url: str) -> None:
    orders = agent(tmp_path, base_url)
    session_id = orders.run("Where are W1 and W2?").session_id

    with orders.sessions.log(session_id), pytest.raises(SessionHeld, match="process"):
        agent(tmp_path, base_url).send(session_id, "Thank you!")


def test_tools_that_changed_are_refused_until_they_are_accepted(tmp_path: Path, base_url: str) -> None:
    session_id = agent(tmp_path, base_url).run("Where are W1 and W2?").session_id

    @tool
    def order_status(order_id: str, year: int) -> str:
        """Look up one order.

        Args:
            order_id: The order's number.
            year: When it was placed.
        """
        return order_id

    changed = agent(tmp_path, base_url, tools=[order_status])
    with pytest.raises(PrefixUnstable, match=r"tools_changed.*changed: order_status"):
        changed.send(session_id, "Thank you!")

    accepted = changed.resume(session_id, text="Thank you!", accept_new_prefix=True)
    assert accepted.outcome == "completed"


def test_an_interrupt_is_recorded_and_the_session_goes_on_later(tmp_path: Path, base_url: str) -> None:
    def impatient(event: Event, state: State) -> None:
        if isinstance(event.body, ToolStarted):
            raise KeyboardInterrupt

    stopped = agent(tmp_path, base_url, on_event=impatient).run("Where are W1 and W2?", session_id="s")
    resumed = agent(tmp_path, base_url).resume("s")

    assert stopped.outcome == "interrupted"
    assert resumed.outcome == "completed"


def test_a_budget_of_nothing_sends_nothing(tmp_path: Path, base_url: str, emulator: Emulator) -> None:
    orders = agent(tmp_path, base_url, max_budget_usd="0")

    stopped = orders.run("Where are W1 and W2?", session_id="s")
    richer = agent(tmp_path, base_url, max_budget_usd="1").resume("s")

    assert stopped.outcome == "budget_exceeded"
    assert stopped.turns == 0
    assert stopped.cost == 0
    assert richer.outcome == "completed"


def test_an_agent_needs_a_prompt() -> None:
    with pytest.raises(UsageError, match="prompt file or system"):
        Agent()


def test_a_session_of_the_api_is_never_finished_by_a_script(tmp_path: Path, base_url: str) -> None:
    stopped = agent(tmp_path, base_url, max_turns=1).run("Where are W1 and W2?", session_id="s")
    script = Playbook.from_data(PLAYBOOK)
    by_script = Agent(
        system="You answer questions about orders.", tools=[order_status], workspace=tmp_path, script=script, environment=KEY
    )

    with pytest.raises(UsageError, match="played by api"):
        by_script.resume("s")

    assert stopped.outcome == "max_turns"
    assert agent(tmp_path, base_url, max_turns=5).resume("s").outcome == "completed"


def test_a_scripted_session_that_is_resumed_costs_what_an_unbroken_one_costs(tmp_path: Path) -> None:
    clock = FixedClock()

    def scripted(**limits: object) -> Agent:
        made: dict[str, object] = {"tools": [order_status], "workspace": tmp_path, "script": Playbook.from_data(PLAYBOOK)}
        return Agent(system="You answer." * 300, clock=clock, environment={}, **made, **limits)  # type: ignore[arg-type]

    unbroken = scripted().run("Where are W1 and W2?", session_id="whole")
    scripted(max_turns=1).run("Where are W1 and W2?", session_id="broken")
    resumed = scripted(max_turns=9).resume("broken")

    assert resumed.cost == unbroken.cost
    assert resumed.usage == unbroken.usage


def test_time_outs_do_not_try_again_past_the_budget(tmp_path: Path) -> None:
    asked = []

    class TimesOut:
        def ask(self, body: bytes) -> Iterator[Failure | Reply]:
            for attempt in range(1, 9):
                asked.append(attempt)
                yield Failure(
                    kind="unavailable",
                    error_type="timeout",
                    message="timed out",
                    attempt=attempt,
                    retry_in_s=0.0 if attempt < 8 else None,
                    possibly_billed=True,
                )

    log = MemoryLog()
    limits = Limits(max_budget_usd=Decimal("0.03"), max_tokens=1_000)
    log.append(started(limits=limits), NOON)
    log.append(given("task"), NOON)
    shell = Shell(TimesOut(), Toolbox(Registry([]), session_id="s", root=tmp_path), MemoryBlobs(), FixedClock())

    state = run(log, shell, PolicySettings().policies())

    worst = Decimal("0.015")  # 1,000 output tokens at 15 USD a million, the prompt aside
    assert len(asked) == 1
    assert state.outcome == "provider_unavailable"
    assert "not tried again" in state.detail
    assert worst < state.at_risk_usd < Decimal("0.03")


def test_policies_of_ones_own_are_asked_for_again(tmp_path: Path, base_url: str) -> None:
    own = PolicySettings().policies()
    first = agent(tmp_path, base_url, policies=own).run("Where are W1 and W2?", session_id="own")

    with pytest.raises(UsageError, match="policies of your own"):
        agent(tmp_path, base_url).send("own", "Thank you!")

    assert first.outcome == "completed"
    assert agent(tmp_path, base_url, policies=own).send("own", "Thank you!").outcome == "completed"


def test_lifetimes_in_an_order_the_api_refuses_are_refused_at_once(tmp_path: Path, base_url: str) -> None:
    with pytest.raises(ConfigError, match="longer lifetimes first"):
        agent(tmp_path, base_url, static_ttl="5m", tail_ttl="1h")


def test_an_address_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no address"):
        agent(tmp_path, "localhost:9").run("Where?")
    assert not (tmp_path / "sessions").exists()
