"""What a session makes of an API that fails for long or for good: the rows A01 to A18 of the fault catalogue, each up to
what somebody finds who takes the session up again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentloop.adapters.messages_api import Patience
from agentloop.core.decide import MAX_INVALID_TURNS, MAX_PAUSES
from agentloop.emulator.faults import KINDS
from agentloop.errors import EXIT_CODES
from agentloop.types.base import Json
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import ModelReplied, SessionEnded
from tests.emulator.conftest import MODEL, Bench
from tests.emulator.weather import Session, at, from_

if TYPE_CHECKING:
    from collections.abc import Callable

ALWAYS = list(range(3, 100))
STAYS = {
    "400": ("failed", 1), "422": ("failed", 1), "413": ("failed", 1), "404": ("failed", 1), "401": ("unauthorized", 2),
    "403": ("unauthorized", 2), "402": ("spend_limit", 3), "spend_limit": ("spend_limit", 3),
    "own_spend_limit": ("spend_limit", 3),
}  # fmt: skip
PASSES = ("500", "503", "504", "529", "408", "409", "429", "reset", "html", "reset_mid_stream", "error_event", "cut_stream",
          "cut_in_tool_call")  # fmt: skip


def test_a_rate_limit_is_waited_out_and_the_same_bytes_are_sent_again(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, {"request": 3, "fault": "429", "retry_after_s": 7})

    session.run()

    assert (session.state.outcome, session.waited) == ("completed", [7])
    assert session.bodies[2] == session.bodies[3]
    assert [(f.status, f.attempt, f.retry_in_s) for f in session.failures] == [(429, 1, 7)]
    assert (session.report.attempts, session.report.failed_attempts) == (6, 1)


@pytest.mark.parametrize("fault", STAYS)
def test_what_stays_ends_at_once_and_goes_on_with_the_same_request_when_it_is_mended(
    bench: Bench, tmp_path: Path, fault: str
) -> None:
    session = Session(bench, tmp_path, {"requests": [3], "fault": fault})
    outcome, code = STAYS[fault]

    before = session.run()
    sent = len(session.bodies)
    after = session.resumed(key="another-key")

    assert (before.outcome, sent, session.waited, EXIT_CODES[before.outcome or ""]) == (outcome, 3, [], code)
    assert (after.outcome, session.looked) == ("completed", [0, 1, 2, 3])
    assert session.bodies[3] == session.bodies[2]
    assert session.keys[2:4] == ["Bearer k", "Bearer another-key"]
    assert len(before.turns) == 2


def test_a_spend_limit_is_told_from_a_rate_limit_of_the_same_status(bench: Bench, tmp_path: Path) -> None:
    spent = Session(bench, tmp_path, {"requests": ALWAYS, "fault": "spend_limit"}).run()
    limited = Session(bench, tmp_path, {"requests": ALWAYS, "fault": "429"}).run()

    assert (spent.outcome, limited.outcome) == ("spend_limit", "provider_unavailable")
    assert "spend limit" in spent.detail
    assert "rate limit" in limited.detail


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(burst=st.lists(st.sampled_from(PASSES), min_size=1, max_size=20), attempts=st.integers(1, 20))
def test_a_burst_of_any_length_is_survived_or_ends_resumably(tmp_path: Path, burst: list[str], attempts: int) -> None:
    faults: list[Json] = [{"request": 3 + i, "fault": kind} for i, kind in enumerate(burst)]
    session = Session(Bench(), tmp_path, *faults, patience=Patience(attempts=attempts, total_wait_s=10_000))

    session.run()

    assert session.state.outcome == ("completed" if len(burst) < attempts else "provider_unavailable")
    assert len(session.failures) == session.report.failed_attempts == min(len(burst), attempts)
    assert all(0 <= w <= min(2**n, 120) for n, w in enumerate(session.waited))
    assert len({session.bodies[2 + i] for i in range(min(len(burst) + 1, attempts))}) == 1
    if session.state.outcome != "completed":
        assert f"({attempts} attempts)" in session.state.detail
        assert EXIT_CODES["provider_unavailable"] == 75
    for _ in range(20):
        if session.state.outcome == "completed":
            break
        session.resumed()
    assert (session.state.outcome, session.looked) == ("completed", [0, 1, 2, 3])


@pytest.mark.parametrize("fault", ["429", "500", "503", "529"])
def test_a_server_that_says_not_to_try_again_is_obeyed(bench: Bench, tmp_path: Path, fault: str) -> None:
    session = Session(bench, tmp_path, {"request": 3, "fault": fault, "should_retry": False})

    state = session.run()

    assert (state.outcome, len(session.bodies), session.waited) == ("provider_unavailable", 3, [])


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_key_that_is_revoked_is_told_by_its_setting_and_never_by_its_value(bench: Bench, tmp_path: Path, fault: str) -> None:
    session = Session(bench, tmp_path, {"request": 3, "fault": fault})

    state = session.run(key="sk-canary-77")

    assert "ANTHROPIC_API_KEY" in state.detail
    assert "canary" not in "".join(e.model_dump_json() for e in session.log.events())


def test_a_model_that_was_retired_in_mid_session_is_named_with_who_chose_it(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, {"requests": ALWAYS, "fault": "404"})

    state = session.run()

    assert state.outcome == "failed"
    assert f"model '{MODEL}'" in state.detail
    assert f"agent '{state.agent}'" in state.detail
    assert "--model" in state.detail
    assert {json.loads(b)["model"] for b in session.bodies} == {MODEL}  # nobody else was asked instead


@pytest.mark.parametrize("turns", [2, 9])
def test_a_request_that_is_too_large_is_made_smaller_once_or_stops_with_the_sizes(
    bench: Bench, tmp_path: Path, turns: int
) -> None:
    def many(request: Json, step: int) -> list[Block]:
        return [text("x" * 4_000), tool_use(f"toolu_{step}_{len(request['messages'])}", "look", {"place": step})]

    session = Session(bench, tmp_path, {"requests": list(range(turns + 1, 99)), "fault": "413"}, answer=many)

    state = session.run()

    tried = session.bodies[turns:]
    assert state.outcome == "failed"
    assert len(tried) == len(set(tried)) == (2 if turns > 6 else 1)
    assert [len(b) for b in tried] == sorted((len(b) for b in tried), reverse=True)
    assert f"{len(tried[-1]):,} bytes" in state.detail
    assert all(part in state.detail for part in ("prefix", "task", "state", "turns"))


@pytest.mark.parametrize("fault", ["400", "422"])
def test_a_history_that_is_no_longer_accepted_is_kept_as_it_is(bench: Bench, tmp_path: Path, fault: str) -> None:
    session = Session(bench, tmp_path, {"requests": ALWAYS, "fault": fault})

    state = session.run()

    assert (state.outcome, len(session.bodies), len(state.turns)) == ("failed", 3, 2)
    assert state.detail == session.failures[0].message


NO_ANSWERS: dict[str, Callable[[bytes], bytes | httpx2.Response]] = {
    "HTML": lambda data: httpx2.Response(200, headers={"content-type": "text/html"}, text="<html>Sign in</html>"),
    "empty": lambda data: httpx2.Response(200),
    "an empty stream": lambda data: b"",
    "JSON of another shape": lambda data: httpx2.Response(200, json={"hello": "world"}),
    "a stream of another service": lambda data: b'event: tick\ndata: {"n": 1}\n\n',
    "HTML that says it is a stream": lambda data: b"<html>Sign in</html>\n\n",
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_answer_of_the_api_is_tried_again_so_often_and_commits_nothing(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    session = Session(bench, tmp_path, tamper=from_(3, NO_ANSWERS[kind]), patience=Patience(attempts=4))

    state = session.run()

    assert (state.outcome, len(state.turns), len(session.failures)) == ("provider_unavailable", 2, 4)
    assert {f.kind for f in session.failures} == {"not_an_answer"}
    assert len(session.replies) == 2
    session.tamper = lambda n, data: data
    assert session.resumed().outcome == "completed"


def test_blocks_and_fields_that_are_new_are_kept_and_sent_back_as_they_came(bench: Bench, tmp_path: Path) -> None:
    def newer(data: bytes) -> bytes:
        block = b'{"type":"hologram","beams":[1,2],"\xc3\xa4":null}'
        start = b'event: content_block_start\ndata: {"type":"content_block_start","index":9,"content_block":' + block + b"}\n\n"
        stop = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":9}\n\n'
        data = data.replace(b"event: message_delta", start + stop + b"event: message_delta", 1)
        return data.replace(b'"type":"message",', b'"type":"message","season":"winter",', 1)

    session = Session(bench, tmp_path, tamper=at(2, newer))

    session.run()  # the emulator does not know such a block, and refuses to have it back

    sent = json.loads(session.bodies[2])["messages"]
    assert b'{"type":"hologram","beams":[1,2],"\xc3\xa4":null}' in session.bodies[2]
    assert sent[3]["content"][-1]["type"] == "hologram"
    assert session.replies[1].unread == {"season": "winter"}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("max_tokens", "truncated"),
        ("model_context_window_exceeded", "failed"),
        ("refusal", "refused"),
        ("astonished", "failed"),
    ],
)
def test_a_reply_that_did_not_end_is_never_handed_on_as_the_answer(
    bench: Bench, tmp_path: Path, reason: str, outcome: str
) -> None:
    cut = from_(5, lambda data: data.replace(b'"stop_reason":"end_turn"', f'"stop_reason":"{reason}"'.encode()))
    session = Session(bench, tmp_path, tamper=cut)

    state = session.run()

    assert (state.outcome, state.text) == (outcome, "I look at 3.")
    assert EXIT_CODES[outcome] != 0
    assert session.replies[-1].stop_reason == reason
    assert state.spent_usd == session.billed_usd


@pytest.mark.parametrize("fault", ["refusal_before_output", "refusal_after_output"])
def test_a_refusal_is_not_tried_again_and_its_usage_is_counted(bench: Bench, tmp_path: Path, fault: str) -> None:
    session = Session(bench, tmp_path, {"request": 3, "fault": fault})

    state = session.run()

    assert (state.outcome, len(session.bodies), session.waited) == ("refused", 3, [])
    assert state.usage.prompt_tokens == sum(r.usage.prompt_tokens for r in session.replies) > 0
    assert state.spent_usd >= session.billed_usd


def test_a_turn_that_is_paused_again_and_again_is_sent_back_unchanged_so_often_and_no_more(
    bench: Bench, tmp_path: Path
) -> None:
    session = Session(bench, tmp_path, {"requests": ALWAYS, "fault": "pause_turn"})

    state = session.run()

    histories = [_unmarked(json.loads(b)["messages"]) for b in session.bodies[2:]]
    assert (state.outcome, len(histories)) == ("failed", 1 + MAX_PAUSES)
    said: list[Json] = []
    for reply, history in zip(session.replies[2:], histories[1:], strict=False):
        said += reply.content
        assert [b for m in history[5:] for b in m["content"]] == said
        assert {m["role"] for m in history[5:]} == {"assistant"}
    assert session.looked == [0, 1]


def _unmarked(value: Any) -> Any:
    """Without cache marks."""
    if isinstance(value, list):
        return [_unmarked(v) for v in value]
    return {k: _unmarked(v) for k, v in value.items() if k != "cache_control"} if isinstance(value, dict) else value


def test_empty_replies_are_nudged_once_and_no_blank_block_is_sent(bench: Bench, tmp_path: Path) -> None:
    session = Session(bench, tmp_path, {"requests": ALWAYS, "fault": "empty_end_turn"})

    state = session.run()

    assert (state.outcome, len(session.bodies)) == ("failed", 4)
    texts = [b["text"] for body in session.bodies for m in json.loads(body)["messages"] for b in m["content"] if "text" in b]
    assert all(t.strip() for t in texts)


@pytest.mark.parametrize(
    ("name", "input", "told"), [("lok", {"place": 1}, "look"), ("look", {"place": "far"}, "place"), ("look", {}, "place")]
)
def test_calls_that_cannot_be_run_are_each_answered_once_and_end_after_so_many(
    bench: Bench, tmp_path: Path, name: str, input: Json, told: str
) -> None:
    def wrong(request: Json, step: int) -> list[Block]:
        calls = [tool_use(f"toolu_{step}_{i}", name, input | {"n": step} if step % 2 else input) for i in range(2)]
        return [text(f"Now {step}."), *calls]

    session = Session(bench, tmp_path, answer=wrong)

    state = session.run()

    assert (state.outcome, len(session.bodies), session.looked) == ("failed", MAX_INVALID_TURNS, [])
    assert all(r.is_error and r.outcome == "invalid" and told in str(r.content) for r in session.results)
    assert len({r.call_id for r in session.results}) == len(session.results) == 2 * MAX_INVALID_TURNS


@pytest.mark.parametrize("fault", sorted(KINDS))
def test_whatever_the_fault_nothing_is_billed_that_is_not_charged_and_the_end_is_a_documented_one(
    bench: Bench, tmp_path: Path, fault: str
) -> None:
    session = Session(bench, tmp_path, {"requests": [3, 5], "fault": fault, "seconds": 5})

    state = session.run()

    ends = [e.body for e in session.log.events() if isinstance(e.body, SessionEnded)]
    assert len(ends) == 1
    assert ends[0].outcome in EXIT_CODES
    assert session.billed_usd <= state.charged_usd
    if fault != "refusal_before_output" and not any(f.possibly_billed for f in session.failures):  # it is counted, not billed
        assert session.billed_usd == state.spent_usd
    assert session.report.cost_usd == state.spent_usd
    assert session.report.attempts == len(session.bodies)
    assert sum(isinstance(e.body, ModelReplied) for e in session.log.events()) + len(session.failures) == len(session.bodies)
