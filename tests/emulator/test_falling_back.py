"""A session whose model is not available, or refuses, and that names another one to take over."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.toolbox import Toolbox
from agentloop.core import costs, tokens, view, wire
from agentloop.core.falling_back import fallback
from agentloop.core.folding import fold
from agentloop.core.measuring import measured, prefix_tokens
from agentloop.core.state import State
from agentloop.emulator import EmulatorSettings, Function
from agentloop.emulator.faults import Faults
from agentloop.emulator.transport import BASE_URL, client
from agentloop.engine import Shell, run
from agentloop.policies import PolicySettings
from agentloop.replay import replay
from agentloop.report import report
from agentloop.testing import NOON, FixedClock, given, started
from agentloop.tooling import Registry, tool
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import Event, FellBack, ModelRequested, SessionResumed
from agentloop.types.limits import Limits
from agentloop.types.usage import ModelCard
from tests.emulator.conftest import MODELS

if TYPE_CHECKING:
    from tests.emulator.conftest import Bench

SONNET, OPUS, HAIKU, OLDER = "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-6"
POLICIES = PolicySettings()
TURNS = 12


def places(request: Json, step: int) -> list[Block]:
    """A dozen places are looked at, one a turn; the last word names the model."""
    if step >= TURNS:
        return [text(f"All seen, says {request['model']}.")]
    return [text(f"I look at {step}."), tool_use(f"toolu_{step}_{len(request['messages'])}", "look", {"place": step})]


class Session:
    """A session of thirteen turns over the emulator, where `faults` hit."""

    def __init__(self, bench: Bench, root: Path, *faults: Json, chain: tuple[str, ...], limits: Limits | None = None) -> None:
        self.looked: list[int] = []
        looked = self.looked

        @tool(effect="once")
        def look(place: int) -> str:
            """Look at a place.

            Args:
                place: Which one.
            """
            looked.append(place)
            return f"seen {place}: " + "sand and stones, " * 300

        self.registry = Registry([look])
        self.bench, self.root = bench, root
        bench.play(Function("places", places), EmulatorSettings(adds_thinking=True), Faults.of(*faults))
        self.log, self.blobs, self.clock = MemoryLog(), MemoryBlobs(), FixedClock(step_s=1)
        start = started(
            model=MODELS[SONNET].card, tools=self.registry.definitions, tool_cards=self.registry.cards, limits=limits
        )
        after = tuple(fallback(MODELS[m].card, None, 8_000) for m in chain)
        self.log.append(start.model_copy(update={"fallback": after}), NOON)
        self.log.append(given("Look at every place."), NOON)

    def run(self) -> State:
        """Carry it on from wherever its log ends."""
        http = client(self.bench.emulator, self.bench.slept.append)
        model = MessagesApi(api_key="k", base_url=BASE_URL, http_client=http, sleep=lambda s: None, card_of=card_of)
        tools = Toolbox(self.registry, session_id="s", root=self.root)
        return run(self.log, Shell(model, tools, self.blobs, self.clock), POLICIES.policies())

    @property
    def events(self) -> list[Event]:
        return list(self.log.events())

    @property
    def fell(self) -> list[FellBack]:
        return [e.body for e in self.events if isinstance(e.body, FellBack)]

    @property
    def billed_usd(self) -> Decimal:
        return Decimal(self.bench.emulator.report()["totals"]["cost_usd"])


def card_of(name: str) -> ModelCard | None:
    return MODELS[name].card if name in MODELS else None


def overloaded_from(request: int) -> Json:
    """From this request on, the first model is overloaded."""
    return {"model": SONNET, "requests": list(range(request, 200)), "fault": 529}


@pytest.mark.parametrize("other", [OPUS, HAIKU, OLDER])
def test_another_model_takes_over_in_mid_session_and_the_bill_is_that_of_both(bench: Bench, tmp_path: Path, other: str) -> None:
    session = Session(bench, tmp_path, overloaded_from(6), chain=(other,))

    state = session.run()

    assert state.outcome == "completed"
    assert state.text == f"All seen, says {other}."
    assert session.looked == list(range(TURNS))
    assert [(f.because, f.to.card.id) for f in session.fell] == [("unavailable", other)]
    assert state.spent_usd == session.billed_usd == report(session.events).cost_usd
    assert replay(session.events, POLICIES.policies()).same
    assert report(session.events).models_before == (SONNET,)
    causes = [t.cause for t in report(session.events).cost_by_turn]
    assert causes.count("fallback") == 1
    assert causes.index("fallback") == 5


def test_the_record_says_what_the_empty_cache_costs(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, overloaded_from(6), chain=(OPUS,))

    session.run()

    [fell] = session.fell
    at = session.events.index(next(e for e in session.events if isinstance(e.body, FellBack)))
    after = fold(session.events[: at + 1])
    written = after.prompt_tokens * MODELS[OPUS].card.prices[0].cache_write_5m / 1_000_000
    assert f"{after.prompt_tokens:,} tokens that it has not in its cache, {written:.4f} USD" in fell.detail
    assert fell.prefix_digest == wire.prefix_digest(after.prefix)


@pytest.mark.parametrize("fault", ["refusal_before_output", "refusal_after_output"])
def test_a_refusal_is_put_to_the_next_model_without_the_refused_reply(bench: Bench, tmp_path: Path, fault: str) -> None:
    session = Session(bench, tmp_path, {"request": 4, "fault": fault, "category": "bio"}, chain=(OPUS,))

    state = session.run()

    assert state.outcome == "completed"
    assert [f.because for f in session.fell] == ["refused"]
    assert session.looked == list(range(TURNS))


def test_a_model_that_is_gone_is_followed_by_the_next_and_that_by_the_one_behind_it(bench: Bench, tmp_path: Path) -> None:
    gone = {"model": SONNET, "requests": list(range(3, 200)), "fault": 404}
    session = Session(
        bench, tmp_path, gone, {"model": OPUS, "requests": list(range(7, 200)), "fault": 529}, chain=(OPUS, HAIKU)
    )

    state = session.run()

    assert [(f.because, f.to.card.id) for f in session.fell] == [("model_not_found", OPUS), ("unavailable", HAIKU)]
    assert state.text.endswith(f"{HAIKU}.")
    assert state.spent_usd == session.billed_usd


def test_where_nobody_is_left_it_ends_as_it_would_have_without_a_chain(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, {"requests": list(range(3, 200)), "fault": 529}, chain=(OPUS,))

    state = session.run()

    assert state.outcome == "provider_unavailable"
    assert len(session.fell) == 1


@pytest.mark.parametrize(("fault", "outcome"), [("401", "unauthorized"), ("spend_limit", "spend_limit"), ("400", "failed")])
def test_what_another_model_would_not_mend_is_no_reason(bench: Bench, tmp_path: Path, fault: str, outcome: str) -> None:
    session = Session(bench, tmp_path, {"request": 3, "fault": fault}, chain=(OPUS,))

    assert session.run().outcome == outcome
    assert session.fell == []


def test_a_session_that_is_resumed_stays_with_the_model_that_took_over(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, overloaded_from(4), chain=(OPUS,), limits=Limits(max_turns=6))
    assert session.run().outcome == "max_turns"
    session.log.append(SessionResumed(limits=Limits()), session.clock.now())

    state = session.run()

    assert state.outcome == "completed"
    assert state.prefix.model == OPUS
    assert len(session.fell) == 1


def test_nothing_that_one_model_thought_is_sent_to_another(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, overloaded_from(6), chain=(HAIKU,))
    session.run()
    at = next(i for i, e in enumerate(session.events) if isinstance(e.body, FellBack))
    before, after = fold(session.events[:at]), fold(session.events[: at + 1])

    assert any(b["type"] == "thinking" for t in before.turns for b in t.reply)
    assert not any(b["type"] == "thinking" for m in view.messages(after) for b in m.content)
    asked = next(e.body for e in session.events[at:] if isinstance(e.body, ModelRequested))
    assert asked.breakpoints


@pytest.mark.parametrize("other", [OPUS, OLDER])
def test_the_prompt_is_weighed_by_the_tokenizer_of_the_model_that_reads_it(bench: Bench, tmp_path: Path, other: str) -> None:
    session = Session(bench, tmp_path, overloaded_from(6), chain=(other,))
    session.run()
    at = next(i for i, e in enumerate(session.events) if isinstance(e.body, FellBack))
    state = fold(session.events[: at + 1])
    card = MODELS[other].card

    counted = sum(tokens.blocks_tokens(m.content, card.tokenizer) for m in view.messages(state))

    assert state.prompt_tokens == prefix_tokens(state.prefix, card) + counted
    assert measured(state).prompt_tokens == state.prompt_tokens


def test_old_pairs_are_cut_where_they_would_have_to_be_written_anew(bench: Bench, tmp_path: Path) -> None:
    early = Session(bench, tmp_path, overloaded_from(11), chain=(OPUS,))
    early.run()
    at = next(i for i, e in enumerate(early.events) if isinstance(e.body, FellBack))

    assert early.events[at + 1].body.type == "compacted"
    assert fold(early.events[: at + 2]).prompt_tokens < fold(early.events[: at + 1]).prompt_tokens


def test_a_budget_that_the_next_model_would_break_holds(bench: Bench, tmp_path: Path) -> None:
    free = Session(bench, tmp_path, overloaded_from(6), chain=(OPUS,))
    free.run()
    at = next(i for i, e in enumerate(free.events) if isinstance(e.body, FellBack))
    state = fold(free.events[: at + 1])
    limit = state.spent_usd + costs.worst_case(state.card, state.prompt_tokens, 1_024) * Decimal("0.99")

    held = Session(bench, tmp_path, overloaded_from(6), chain=(OPUS,), limits=Limits(max_budget_usd=limit))

    assert held.run().outcome == "budget_exceeded"
    assert [f.to.card.id for f in held.fell] == [OPUS]
    assert fold(held.events).charged_usd <= limit


def test_no_request_goes_back_to_the_model_that_was_left(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, overloaded_from(3), chain=(HAIKU,))
    session.run()

    models = [line["model"] for line in bench.lines()]

    assert models == [SONNET] * models.count(SONNET) + [HAIKU] * models.count(HAIKU)
    assert set(models) == {SONNET, HAIKU}
