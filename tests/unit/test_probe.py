from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.adapters.messages_api import MessagesApi
from agentloop.adapters.model_table import models
from agentloop.core import wire
from agentloop.core.measuring import prefix_tokens
from agentloop.core.tokens import blocks_tokens
from agentloop.emulated import EmulatedApi
from agentloop.emulator import Function
from agentloop.emulator.transport import BASE_URL, client
from agentloop.errors import UsageError
from agentloop.importers.recording import Recording
from agentloop.policies import PolicySettings, Whole, preset
from agentloop.probe import Contexts, ProbeReport, candidates, chosen, probe
from agentloop.probe.contexts import contexts
from agentloop.probe.questions import questions
from agentloop.probe.reader import UNKNOWN, reader
from agentloop.reenact import reenact
from agentloop.testing import ScriptedModel, calls_tool, card, events, reply, started
from agentloop.testing import given as given_
from agentloop.types.blocks import text, tool_use
from agentloop.types.request import Failure
from tests.property.recordings import SYSTEM, recordings
from tests.unit.lines import answered, asked, cut, finished
from tests.unit.probed import POOR, RICH, played

CARD = models()["claude-sonnet-5-5"].card


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return place(tmp_path_factory.mktemp("poor"), POOR)


def place(folder: Path, policies: PolicySettings, at: str = "end") -> Contexts:
    agent = played(folder, policies)
    return contexts(agent.sessions.events("desk-1"), agent.sessions.blobs("desk-1"), at)


def api_client(api: EmulatedApi) -> MessagesApi:
    return MessagesApi(api_key="emulator", base_url=BASE_URL, http_client=client(api.emulator))


def read(where: Contexts, most: int = 30, budget: Decimal | None = None) -> tuple[ProbeReport, EmulatedApi]:
    found = candidates(where)
    api = EmulatedApi(reader(found))
    picked = chosen(found, most)
    return probe(where, picked, api_client(api), CARD, budget, "script:reader", len(found)), api


def test_the_whole_context_is_counted_as_the_model_that_is_asked_counts(poor: Contexts) -> None:
    def tokens(family: str) -> int:
        asked = probe(poor, [], ScriptedModel([]), card(tokenizer=family), None, "api", 0)
        return asked.paid["compacted"].context_tokens - sum(blocks_tokens(m.content, family) for m in poor.compacted)

    prefix = poor.state.prefix
    for family in ("claude-3-to-4.6", CARD.tokenizer):
        assert tokens(family) == prefix_tokens(prefix, card(tokenizer=family))
    assert tokens("claude-3-to-4.6") < tokens(CARD.tokenizer)


def test_a_fact_that_is_not_in_the_context_costs_the_score(poor: Contexts) -> None:
    report, _ = read(poor)

    assert report.full.share == 1
    assert report.compacted.share < 0.2
    assert report.difference.high < 0
    assert {k: n for k, (n, _, _) in report.by_kind.items()}.keys() == {"belongs", "source", "failed", "decided"}


def test_a_state_that_keeps_more_scores_more(poor: Contexts, tmp_path: Path) -> None:
    rich = place(tmp_path, RICH)

    assert read(rich)[0].compacted.share > read(poor)[0].compacted.share + 0.2


def test_the_bill_is_the_one_of_the_api(poor: Contexts) -> None:
    report, api = read(poor)

    assert report.cost_usd == api.bill().cost_usd == sum(p.cost_usd for p in report.paid.values())
    assert api.bill().requests == 2 * len(report.questions)


def test_each_context_is_written_once_and_read_by_the_other_questions(poor: Contexts) -> None:
    full = read(poor, 10)[0].paid["full"]

    assert full.requests == 10
    assert full.usage.ephemeral_5m_input_tokens < full.context_tokens * 1.01
    assert full.usage.cache_read_input_tokens == 9 * full.usage.ephemeral_5m_input_tokens


def test_a_budget_stops_it_and_what_was_asked_counts(poor: Contexts) -> None:
    report, api = read(poor, budget=Decimal("0.05"))

    assert "budget of 0.05 USD has no room for another question" in report.stopped
    assert report.cost_usd == api.bill().cost_usd <= Decimal("0.05")
    assert 0 < len(report.questions) < 30


def test_a_model_that_does_not_answer_stops_it(poor: Contexts) -> None:
    down = ScriptedModel([Failure(kind="unavailable", error_type="overloaded_error", message="overloaded")])

    report = probe(poor, chosen(candidates(poor), 3), down, CARD, None, "api", 3)

    assert report.stopped == "the model did not answer: overloaded"
    assert report.questions == ()
    assert (report.difference.low, report.difference.high) == (-1, 1)


def test_a_call_in_the_place_of_an_answer_is_wrong_and_counted(poor: Contexts) -> None:
    recalls = ScriptedModel([calls_tool("c", "recall", search="W-1001")])

    report = probe(poor, chosen(candidates(poor), 3), recalls, CARD, None, "api", 3)

    assert (report.full.right, report.full.called, report.questions[0].full.called) == (0, 3, "recall")


def test_a_context_that_does_not_fit_is_refused_before_anything_is_asked(poor: Contexts) -> None:
    never = ScriptedModel([reply(text("no"))])

    with pytest.raises(UsageError, match="probe at an earlier turn"):
        probe(poor, candidates(poor), never, card(context_window=3_000), None, "api", 3)
    assert never.bodies == []


def test_where_nothing_is_hidden_there_is_nothing_to_probe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is nothing to probe"):
        candidates(place(tmp_path, preset("never").model_copy(update={"facts": Whole()})))


def test_a_session_can_be_probed_right_behind_its_last_cut_or_before_a_turn(tmp_path: Path) -> None:
    agent = played(tmp_path)
    log, blobs = agent.sessions.events("desk-1"), agent.sessions.blobs("desk-1")

    end, cut_, seventh = (contexts(log, blobs, at) for at in ("end", "cut", "7"))

    assert (end.turns, cut_.turns, seventh.turns) == (13, 12, 6)
    assert len(seventh.full) == 13
    assert len(seventh.compacted) == 5


@pytest.mark.parametrize(
    ("at", "said"), [("99", "asks for no turn 99"), ("cut", "has no compaction"), ("soon", "no turn soon")]
)
def test_a_place_that_is_none_is_refused(tmp_path: Path, at: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place(tmp_path, preset("never"), at)


def test_thinking_and_what_is_under_way_are_left_out() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    log = events(
        started(system=SYSTEM),
        given_("task"),
        asked(),
        answered(reply(thought, text("I look."), tool_use("c0", "look", {}))),
        finished("c0", "found"),
        asked(2),
        answered(reply(text("Again."), tool_use("c1", "look", {}))),
    )

    found = contexts(log, MemoryBlobs())

    assert found.turns == 1
    assert found.full == found.compacted
    assert all(b["type"] != "thinking" for m in found.full for b in m.content)


def test_the_whole_context_is_what_the_session_would_have_shown_without_a_cut() -> None:
    lines = [
        started(system=SYSTEM),
        given_("task"),
        asked(),
        answered(reply(text("I look."), tool_use("c0", "look", {}))),
        finished("c0", "found"),
        asked(2),
        answered(reply(text("Again."), tool_use("c1", "look", {}))),
        finished("c1", "more"),
    ]
    uncut = contexts(events(*lines, asked(3)), MemoryBlobs())
    behind = contexts(events(*lines, cut(1), asked(3)), MemoryBlobs(), "cut")

    assert behind.full == uncut.full == uncut.compacted
    assert behind.compacted != behind.full


@given(recordings(at_most=8, system=SYSTEM))
def test_whatever_is_asked_stands_in_the_whole_context(made: Recording) -> None:
    log, blobs = MemoryLog(), MemoryBlobs()
    model = "claude-sonnet-5-5"
    reenact(made, log, blobs, session_id="s", model=model, models=models(), policies=preset("every_turn"))
    where = contexts(list(log.events()), blobs)
    script = reader(found := questions(where.recording, where.turns))

    for question in found:
        request = {
            "messages": [*({"role": m.role, "content": list(m.content)} for m in where.full),
                         {"role": "user", "content": question.text}],
        }  # fmt: skip
        assert script.reply(request).content == (text(question.answer),)


def test_a_reader_says_so_where_a_fact_is_not_there() -> None:
    script: Function = reader([])

    assert script.reply({"messages": [{"role": "user", "content": "What is it?"}]}).content == (text(UNKNOWN),)


def test_a_question_is_sent_behind_the_very_context(poor: Contexts) -> None:
    listening = ScriptedModel([reply(text("unknown"))])
    (question,) = chosen(candidates(poor), 1)

    probe(poor, [question], listening, CARD, None, "api", 1)

    full, compacted = listening.bodies
    assert question.text.encode() in compacted.replace(b'\\"', b'"')
    assert len(compacted) < len(full)
    assert wire.prefix_bytes(poor.state.prefix)[1:200].split(b",")[-1] in full
