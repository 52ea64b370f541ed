"""What the laws found, as plain examples."""

import json
from decimal import Decimal

from agentloop.core.cache import parts_of
from agentloop.core.costs import worst_case
from agentloop.core.tokens import DEFAULT_FAMILY, block_tokens
from agentloop.policies import EveryTurn, FourMarks, HardBudget, KeepPairs, ModelLedger, Never, PolicySettings
from agentloop.report import report
from agentloop.testing import card
from agentloop.types.base import Json
from agentloop.types.events import Compacted, ModelRequested, SessionEnded, ToolFinished
from agentloop.types.limits import Limits
from agentloop.types.usage import Usage
from tests.property.histories import GO_ON, CallSpec, Played, Scenario, Step, play

NOTHING = Step("tools", (CallSpec("look_up", "nothing"),))
SIXTY_ROWS = Step("tools", (CallSpec("look_up", "lines", 60),))


def test_a_blank_text_beside_a_call_is_not_sent_back() -> None:
    """The API refuses it: `text content blocks must be non-empty`."""
    played = play(_session([NOTHING._replace(before=("blank", "thinking"))]))

    assert [b["type"] for b in _messages(played, 1)[1]["content"]] == ["thinking", "tool_use"]


def test_calls_of_a_reply_that_ended_its_turn_are_answered() -> None:
    """Or the user's next message would meet a call without a result, and the API refuse every request from there on."""
    played = play(_session([NOTHING._replace(kind="ended_with_calls")], sends=("and R-18?",)))

    assert [e.body.call_id for e in played.events if isinstance(e.body, ToolFinished)] == ["toolu_0_0"]
    assert [b["type"] for b in _messages(played, 1)[2]["content"]] == ["tool_result"]


def test_a_cut_does_not_part_a_reply_from_the_one_that_it_goes_on_from() -> None:
    """The result of a tool that the API runs itself comes in the reply after the pause."""
    steps = [SIXTY_ROWS, SIXTY_ROWS, Step("pause"), SIXTY_ROWS, Step("pause"), SIXTY_ROWS, SIXTY_ROWS]
    played = play(_session(steps, PolicySettings(compaction=EveryTurn(keep_pairs=2))))

    assert any(isinstance(e.body, Compacted) for e in played.events)
    for body in played.bodies:
        blocks = [b for m in json.loads(body)["messages"] for b in m["content"]]
        called = {b["id"] for b in blocks if b["type"] == "server_tool_use"}
        assert {b["tool_use_id"] for b in blocks if b["type"] == "web_search_tool_result"} <= called


def test_a_session_that_was_cut_while_it_was_paused_is_not_completed() -> None:
    policies = PolicySettings(compaction=EveryTurn(keep_pairs=1))
    played = play(_session([SIXTY_ROWS, SIXTY_ROWS, Step("pause"), Step("text")], policies))

    assert [type(e.body).__name__ for e in played.events[-4:]] == [
        "Compacted",
        "ModelRequested",
        "ModelReplied",
        "SessionEnded",
    ]


def test_what_was_added_before_the_first_reply_outlives_a_cut() -> None:
    policies = PolicySettings(compaction=EveryTurn(keep_pairs=1))
    steps = [SIXTY_ROWS._replace(fails="unavailable"), SIXTY_ROWS, SIXTY_ROWS]
    played = play(_session(steps, policies, sends=("only those of May",)))

    texts = [b["text"] for b in _messages(played, -1)[0]["content"]]
    assert texts[:2] == ["Look after the orders.", f"{GO_ON}: only those of May"]
    assert texts[2].startswith("[Session state")


def test_longer_lifetimes_come_first_in_a_view_of_one_message() -> None:
    """The first reply is empty, so the second request still has one message, with the end of the first request in it."""
    caching = FourMarks(static_ttl="1h", state_ttl="1h", tail_ttl="5m")
    played = play(_session([Step("empty")], PolicySettings(compaction=Never(), caching=caching)))

    marks = [b.get("cache_control") for b in _messages(played, 1)[0]["content"]]
    assert marks == [{"type": "ephemeral", "ttl": "1h"}] * 2


def test_a_cut_that_would_not_shorten_the_request_is_not_made() -> None:
    policies = PolicySettings(compaction=KeepPairs(keep_pairs=1, at_most=2))
    small, large = play(_session([NOTHING] * 3, policies)), play(_session([SIXTY_ROWS] * 3, policies))

    assert not any(isinstance(e.body, Compacted) for e in small.events)
    assert any(isinstance(e.body, Compacted) for e in large.events)


def test_a_state_that_the_model_wrote_too_long_is_replaced_by_the_engines() -> None:
    policies = PolicySettings(compaction=KeepPairs(keep_pairs=1, at_most=2), ledger=ModelLedger())
    steps = [SIXTY_ROWS, SIXTY_ROWS, SIXTY_ROWS._replace(summary="long"), SIXTY_ROWS._replace(summary="long")]
    played = play(_session(steps, policies))

    assert [e.body.written_by for e in played.events if isinstance(e.body, Compacted)] == ["engine"]


def test_a_prompt_that_is_too_long_and_cannot_be_shortened_stops_with_its_sizes() -> None:
    policies = PolicySettings(compaction=KeepPairs(keep_pairs=1))
    played = play(_session([NOTHING, NOTHING, NOTHING._replace(fails="prompt_too_long")], policies))

    ended = played.events[-1].body
    assert isinstance(ended, SessionEnded)
    assert "nothing is left to compact" in ended.detail


def test_a_session_that_is_stopped_as_it_ends_ends_once() -> None:
    whole = play(_session([Step("text")]))

    stopped = play(_session([Step("text")])._replace(interrupted_at=whole.events[-1].seq))

    assert stopped.events == whole.events


def test_the_question_for_the_state_is_paid_out_of_the_budget_too() -> None:
    policies = PolicySettings(
        compaction=EveryTurn(keep_pairs=1), ledger=ModelLedger(), budget=HardBudget(least_output_tokens=1)
    )
    limits = Limits(max_budget_usd=Decimal("0.07"))
    played = play(_session([SIXTY_ROWS] * 6, policies, limits=limits))

    asked = [(r, before, body) for r, before, body in played.requests() if r.purpose == "summary"]
    assert asked
    for requested, before, body in asked:
        size = sum(p.tokens for p in parts_of(json.loads(body), card())[0])
        assert before.spent_usd + worst_case(card(), size, requested.max_tokens) <= Decimal("0.07")


def test_the_bill_by_kind_is_at_the_prices_of_the_model_that_answered() -> None:
    step = Step("text", usage=Usage(input_tokens=1_000_000, output_tokens=1_000), by_another=True)

    bill = report(play(_session([step])).events)

    assert bill.cost_by_kind["total"] == bill.cost_usd == Decimal("0.707")


def test_a_cache_mark_has_no_tokens() -> None:
    block: Json = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}

    marked = block_tokens({**block, "cache_control": {"type": "ephemeral"}}, DEFAULT_FAMILY)

    assert marked == block_tokens(block, DEFAULT_FAMILY)


def _session(
    steps: list[Step], policies: PolicySettings | None = None, sends: tuple[str, ...] = (), limits: Limits | None = None
) -> Scenario:
    known = policies or PolicySettings(compaction=Never())
    return Scenario(card(), known, tuple(steps), sends, limits or Limits())


def _messages(played: Played, request: int) -> list[Json]:
    messages: list[Json] = json.loads(played.bodies[request])["messages"]
    assert sum(isinstance(e.body, ModelRequested) for e in played.events) == len(played.bodies)
    return messages
