from agentloop.core.folding import begin
from agentloop.importers.recording import Recording, Step
from agentloop.recorded import ENDS_HERE, RecordedTools, RecordedUser, started
from agentloop.testing import NOON, card
from agentloop.types import blocks
from agentloop.types.blocks import Call, text
from agentloop.types.tools import ToolCard

TOOLS = tuple({"name": name, "description": name, "input_schema": {"type": "object"}} for name in ("look", "recall"))
DECLARED = ToolCard(name="recall", effect="once", facts="keep", facts_card=card())
RECORDING = Recording(
    "r", "", "Be kind.", TOOLS, (Step((text("go"),), (text("on"),)),), {"a": blocks.tool_result("a", "no", is_error=True)},
    cards=(DECLARED,),
)  # fmt: skip


def test_what_a_tool_declared_counts_but_neither_its_effect_nor_a_cheap_model() -> None:
    first = started(RECORDING, "again", card(), {})

    assert [(t.name, t.effect, t.facts, t.facts_card) for t in first.tools] == [
        ("look", "read", "facts", None),
        ("recall", "read", "keep", None),
    ]
    assert RecordedTools(RECORDING).card("recall") == first.tools[1]
    assert RecordedTools(RECORDING).card("gone") is None


def test_calls_get_the_answers_that_were_recorded() -> None:
    calls = [Call("a", "look", {}), Call("b", "look", {})]

    answers = list(RecordedTools(RECORDING).run(calls, lambda call: call.id))

    assert [(a.content, a.outcome) for a in answers] == [("no", "error"), (ENDS_HERE, "error")]


def test_a_session_of_another_model_has_its_prefix_and_ends_with_the_recording() -> None:
    first = started(RECORDING, "again", card(id="claude-other"), {"kind": "own"})

    assert (first.prefix.model, first.prefix.system, first.prefix.tools) == ("claude-other", "Be kind.", TOOLS)
    assert (first.limits.max_turns, first.played_by) == (1, "recording:r")


def test_the_user_says_nothing_before_the_first_turn_that_the_task_did_not_say() -> None:
    assert RecordedUser(RECORDING)(begin(started(RECORDING, "again", card(), {}), NOON)) == ()
