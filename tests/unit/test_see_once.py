from pathlib import Path

import pytest
from click.testing import CliRunner

from agentloop import FactsSettings
from agentloop.api import Agent
from agentloop.cli.checks import tools
from agentloop.cli.explaining import explain as explaining
from agentloop.core import tokens
from agentloop.core.decide import CallModel, Compact, decide
from agentloop.core.prefix import divergence
from agentloop.core.results import may_see_once
from agentloop.core.state import State
from agentloop.core.view import messages, shown_once
from agentloop.emulator.script import Function
from agentloop.errors import RegistryError
from agentloop.explain import explain
from agentloop.policies import EveryTurn, FourMarks, ModelLedger, Never, PolicySettings
from agentloop.policies.facts import floor
from agentloop.testing import NOON, card, given, reply, started
from agentloop.tooling import tool
from agentloop.types import blocks
from agentloop.types.blocks import Block, text, tool_use
from agentloop.types.events import Event, RawResult
from agentloop.types.limits import Limits
from agentloop.types.request import Prefix, Request
from agentloop.types.usage import ModelCard
from tests.e2e.workplace import workspace
from tests.unit.lines import after, answered, asked, failed, finished, unit_card, used, words

RAW = RawResult(digest="d" * 64, bytes=9_000, tokens=3_000, extractor="by_kind", left_out="rows")
WHOLE = words(3_000)
PLAIN = PolicySettings(compaction=Never())
FIRST: list[object] = [started(system=words(1_000)), given("task")]


def seen(call_id: str, facts: str = "facts", once: str = WHOLE) -> object:
    return finished(call_id, facts, raw=RAW, once=once)


def turn(number: int, *results: object, ids: tuple[str, ...]) -> list[object]:
    made = reply(text("on"), *(tool_use(i, "look", {"n": i}) for i in ids))
    return [asked(number), answered(made, number), *results]


def contents(state: State) -> list[str]:
    return [str(b.get("content") or b.get("text")) for b in messages(state)[-1].content]


def marks(state: State) -> list[tuple[int, int]]:
    return [(b.message, b.block) for b in FourMarks().breakpoints(state, messages(state))]


ONE = after(*FIRST, *turn(1, finished("a", "small"), seen("b"), finished("c", "too"), ids=("a", "b", "c")))
TWO = after(*FIRST, *turn(1, finished("a", "small"), seen("b"), finished("c", "too"), ids=("a", "b", "c")),
            *turn(2, seen("d"), ids=("d",)))  # fmt: skip


def test_a_result_is_whole_in_the_next_request_and_facts_in_all_later_ones() -> None:
    assert contents(ONE) == ["small", WHOLE, "too"]
    assert shown_once(ONE) == (1,)
    assert [b.get("content") for b in messages(TWO)[2].content] == ["small", "facts", "too"]
    assert (contents(TWO), shown_once(TWO)) == ([WHOLE], (0,))


def test_the_last_mark_stands_before_the_first_whole() -> None:
    # messages: 0 task, 1 calls, 2 results, 3 call, 4 result; what lay behind `a` is written one request later
    assert marks(ONE) == [(-1, 0), (0, 0), (2, 0)]
    assert marks(TWO) == [(-1, 0), (0, 0), (2, 0), (3, 1)]


def test_where_the_last_request_ended_unwritten_the_block_before_is_marked_again() -> None:
    three = after(*FIRST, *turn(1, seen("a"), ids=("a",)), *turn(2, finished("b"), ids=("b",)))

    assert marks(three) == [(-1, 0), (0, 0), (1, 1), (4, 0)]


def test_a_user_who_speaks_meanwhile_stands_behind_the_whole_unwritten() -> None:
    state = after(*FIRST, *turn(1, seen("a"), ids=("a",)), given("hurry"))

    assert contents(state) == [WHOLE, "hurry"]
    assert marks(state)[-1] == (1, 1)


def test_the_tokens_of_a_whole_count_in_its_request_only() -> None:
    extra = tokens.estimate(WHOLE) - tokens.estimate("facts")
    as_facts = after(
        *FIRST, *turn(1, finished("a", "small"), finished("b", "facts"), finished("c", "too"), ids=("a", "b", "c"))
    )
    later = after(*FIRST, *turn(1, finished("a", "small"), finished("b", "facts"), finished("c", "too"), ids=("a", "b", "c")),
                  *turn(2, finished("d", "facts"), ids=("d",)))  # fmt: skip

    assert ONE.prompt_tokens == as_facts.prompt_tokens + extra
    assert TWO.prompt_tokens == later.prompt_tokens + extra
    assert TWO.turns_tokens == later.turns_tokens
    assert ONE.repeated_tokens == as_facts.prompt_tokens - sum(
        tokens.block_tokens(b, ONE.card.tokenizer) for b in ONE.given[1:]
    )
    assert TWO.sent is not None
    assert TWO.sent.prompt_tokens == ONE.repeated_tokens


def test_a_reply_that_cannot_stand_leaves_the_whole_for_the_next_request() -> None:
    state = after(*FIRST, *turn(1, seen("a"), ids=("a",)), asked(2), answered(reply(text(" ")), 2), given("go on"))

    assert contents(state) == [WHOLE, "go on"]
    assert marks(state) == [(-1, 0), (0, 0), (1, 1)]


def test_a_request_that_is_too_long_is_asked_again_with_facts_before_anything_is_cut() -> None:
    lines = [*FIRST, *turn(1, seen("a"), ids=("a",)), asked(2), failed("prompt_too_long")]

    again = decide(after(*lines), PLAIN.policies(), NOON)

    assert isinstance(again, CallModel)
    assert [b["content"] for b in again.request.messages[-1].content] == ["facts"]
    assert again.request.once == ()
    assert not isinstance(
        decide(after(*lines, asked(3), failed("prompt_too_long")), PLAIN.policies(), NOON), CallModel | Compact
    )


def test_a_reply_that_ran_into_the_window_is_asked_for_again_with_facts() -> None:
    full = reply(text("and"), stop_reason="model_context_window_exceeded")
    state = after(*FIRST, *turn(1, seen("a"), ids=("a",)), asked(2), answered(full, 2))

    assert isinstance(decide(state, PLAIN.policies(), NOON), CallModel)
    assert contents(state) == ["facts"]


def test_no_whole_takes_the_prompt_over_a_step_of_the_prices() -> None:
    (cheap,) = card().prices
    stepped = card(prices=(cheap.model_copy(update={"max_prompt_tokens": 8_000}), cheap))
    lines = [started(system=words(1_000), model=stepped), given("task"), *turn(1, *map(seen, "abc"), ids=("a", "b", "c"))]

    assert contents(after(*lines)) == [WHOLE, WHOLE, "facts"]


def test_the_step_is_held_against_what_the_api_counts() -> None:
    (cheap,) = card().prices
    stepped = card(prices=(cheap.model_copy(update={"max_prompt_tokens": 8_000}), cheap))
    first = [started(system=words(1_000), model=stepped), given("task")]
    counted = used(read=round(after(*first).prompt_tokens * 1.5))
    made = reply(text("on"), *(tool_use(i, "look", {"n": i}) for i in "abc"), usage=counted)

    state = after(*first, asked(), answered(made), *map(seen, "abc"))

    assert contents(state) == [WHOLE, "facts", "facts"]
    assert 4_000 < state.probable_tokens < 8_000


def test_the_model_is_asked_for_the_state_without_what_it_is_to_see_once() -> None:
    settings = PolicySettings(compaction=EveryTurn(keep_pairs=1), ledger=ModelLedger())
    lines = [*FIRST, *turn(1, finished("a", words(900)), ids=("a",)), *turn(2, seen("b"), ids=("b",))]

    effect = decide(after(*lines), settings.policies(), NOON)

    assert isinstance(effect, CallModel)
    assert effect.request.purpose == "summary"
    assert all(b.get("content") != WHOLE for m in effect.request.messages for b in m.content)


def test_only_an_answer_to_the_same_call_may_take_the_place_of_a_whole() -> None:
    def request(*last: Block, once: tuple[int, ...] = ()) -> Request:
        return Request(Prefix(model="m", system=""), (blocks.user(text("task")), blocks.user(*last)), (), 9, once=once)

    whole, facts, other = (blocks.tool_result(i, c) for i, c in (("a", WHOLE), ("a", "facts"), ("b", "facts")))

    assert divergence(request(whole, once=(0,)), request(facts, text("more"))) is None
    assert divergence(request(whole), request(facts)) is not None
    assert divergence(request(whole, once=(0,)), request(other)) is not None
    assert divergence(request(whole, once=(0,)), request()) is not None
    assert divergence(request(whole, text("x"), once=(0,)), request(facts, text("y"))) is not None


@pytest.mark.parametrize(
    ("model", "thinking", "may"),
    [
        (card(), None, True),
        (card(thinks_by_default=True), None, True),
        (card(checks_thinking_prefix=True, thinks_by_default=True), None, False),
        (card(checks_thinking_prefix=True), {"type": "adaptive"}, False),
        (card(checks_thinking_prefix=True), {"type": "disabled"}, True),
    ],
)
def test_a_result_may_be_seen_once_unless_thinking_is_bound_to_it(model: ModelCard, thinking: Block | None, may: bool) -> None:
    assert may_see_once(model, Prefix(model="m", system="", thinking=thinking)) is may


def test_near_the_end_a_result_that_would_be_seen_once_is_cheaper_kept() -> None:
    def state(turns: int) -> State:
        return after(started(model=unit_card(), limits=Limits(max_turns=turns)), given("task"))

    assert floor.floor(state(4), "look", 0.45, once=True) == float("inf")
    assert floor.floor(state(4), "look", 0.45) < 500
    assert floor.floor(state(30), "look", 0.45) < floor.floor(state(30), "look", 0.45, once=True) < 1_000


def test_the_whole_and_its_facts_come_of_one_run_and_explain_tells_what_it_cost(tmp_path: Path) -> None:
    made, log = ran(tmp_path, "claude-sonnet-4-6", "see_once")

    first, *_ = explain(log)
    (trim,) = first.trims

    assert trim.once_usd > 0
    assert explain(log)[1].gave_way is False
    assert explain(log)[2].gave_way is True
    assert explain(log)[2].broken is None
    told = {n: CliRunner().invoke(explaining, ["s", "--turn", n, "--workspace", str(tmp_path)]).output for n in "13"}
    assert "seen once: saves " in told["1"]
    assert "has given way to its facts" in told["3"]
    assert made.sessions.exists("s")


@pytest.mark.parametrize("facts", ["see_once", FactsSettings(see_once=True, over_tokens=400)])
def test_a_tool_says_that_it_is_seen_once(tmp_path: Path, facts: str | FactsSettings) -> None:
    _, log = ran(tmp_path, "claude-sonnet-4-6", facts)

    assert [e.body.once is not None for e in log if e.body.type == "tool_finished"] == [True, False]


@pytest.mark.parametrize("facts", ["see_once", "{see_once: true}", "{see_once: true, over_tokens: 400}"])
def test_an_agent_file_says_that_a_tool_is_seen_once(tmp_path: Path, facts: str) -> None:
    (tmp_path / "a.md").write_text(f"---\nfacts: {{rows: {facts}}}\n---\nYou look.\n")

    _, log = ran(tmp_path, "claude-sonnet-4-6", "facts", prompt="a.md")

    assert [e.body.once is not None for e in log if e.body.type == "tool_finished"] == [True, False]


def test_a_model_that_checks_thinking_is_shown_facts_and_the_start_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, log = ran(tmp_path, "claude-sonnet-5-5", "see_once")

    assert all(e.body.once is None for e in log if e.body.type == "tool_finished")
    assert any(e.body.raw is not None for e in log if e.body.type == "tool_finished")
    told = capsys.readouterr()
    assert "see_once is not possible with claude-sonnet-5-5" in told.out + told.err


@pytest.mark.parametrize(("model", "said"), [("claude-sonnet-4-6", False), ("claude-sonnet-5-5", True)])
def test_tools_check_says_where_see_once_is_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, said: bool
) -> None:
    folder = workspace(tmp_path)
    monkeypatch.setenv("AGENTLOOP_MODEL", model)
    module = folder / "tools" / "example.py"
    module.write_text(module.read_text().replace('effect="read"', 'effect="read", facts="see_once"'))

    checked = CliRunner().invoke(tools, ["check", "--workspace", str(folder)])

    assert checked.exit_code == 0
    assert ("see_once is not possible" in checked.output) is said


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(RegistryError, match="facts 'seen' is none of facts, see_once, keep"):
        _ = tool(effect="read", facts="seen")(rows.function or rows).definition


@tool(effect="read")
def rows(n: int = 400) -> str:
    """Rows."""
    return "\n".join(f"order W{i} costs {i}.50 EUR" for i in range(n))


def ran(folder: Path, model: str, facts: str | FactsSettings, prompt: str | None = None) -> tuple[Agent, list[Event]]:
    """A session that looks at many rows, then at few, and ends."""

    def answer(request: Block, at: int) -> list[Block]:
        return [tool_use(f"toolu_{at}", "rows", {"n": 3 if at else 400})] if at < 2 else [text("Done.")]

    made = Agent(
        prompt, system=None if prompt else "You look.", tools=[tool(effect="read", facts=facts)(rows.function or rows)],
        model=model, workspace=folder, script=Function("looks", answer),
    )  # fmt: skip
    assert made.run("Look.", session_id="s").outcome == "completed"
    return made, made.sessions.events("s")
