import hashlib
import threading
from pathlib import Path

from agentloop.adapters.memory import MemoryBlobs
from agentloop.adapters.toolbox import Toolbox
from agentloop.core.choices import Shown
from agentloop.core.state import State
from agentloop.engine.tools import answers
from agentloop.policies import HeadTailMatches
from agentloop.testing import given, reply, started
from agentloop.tooling import Registry, current_call, tool
from agentloop.types.blocks import Call, tool_use
from agentloop.types.events import ToolFinished, ToolStarted
from tests.unit.lines import after, answered, asked, started_call

FACTS = HeadTailMatches(over_tokens=50, head_lines=1, tail_lines=1, matches=0)


@tool(effect="read")
def look(n: int = 0) -> str:
    """Look."""
    return f"seen {n}"


@tool(effect="once")
def pay(n: int = 0) -> str:
    """Pay."""
    return f"paid {n}"


def calling(*made: tuple[str, str, dict[str, object]], already: tuple[str, ...] = ()) -> State:
    replied = reply(*(tool_use(call_id, name, arguments) for call_id, name, arguments in made))
    return after(started(), given("task"), asked(), answered(replied), *(started_call(c) for c in already))


def happened(state: State, *tools: object, blobs: MemoryBlobs | None = None) -> list[ToolStarted | ToolFinished]:
    box = Toolbox(Registry(tools or [look, pay]), session_id="test", root=Path("/"))
    return [event for event in answers(state.open_calls, state, FACTS, box, blobs or MemoryBlobs()) if event]


def order(events: list[ToolStarted | ToolFinished]) -> list[str]:
    return [f"{'>' if isinstance(e, ToolStarted) else '<'}{e.call_id}" for e in events]


def test_neighbouring_reads_run_side_by_side() -> None:
    together = threading.Barrier(2)

    @tool(effect="read", timeout_s=5)
    def meet() -> str:
        """Wait for the other one."""
        together.wait(5)
        return "met"

    found = happened(calling(("a", "meet", {}), ("b", "meet", {})), meet)

    assert order(found) == [">a", ">b", "<a", "<b"]
    assert [e.content for e in found if isinstance(e, ToolFinished)] == ["met", "met"]


def test_calls_with_an_effect_run_one_after_the_other() -> None:
    assert order(happened(calling(("a", "pay", {}), ("b", "pay", {})))) == [">a", "<a", ">b", "<b"]


def test_a_call_with_an_effect_keeps_its_place_among_the_reads() -> None:
    state = calling(("a", "look", {}), ("b", "look", {}), ("c", "pay", {}), ("d", "look", {}))

    assert order(happened(state)) == [">a", ">b", "<a", "<b", ">c", "<c", ">d", "<d"]


def test_one_call_fails_one_times_out_and_one_succeeds_in_the_order_of_the_calls() -> None:
    gate = threading.Event()

    @tool(effect="read")
    def breaks() -> str:
        """Break."""
        raise OSError("no such file")

    @tool(effect="read", timeout_s=0.05)
    def hangs() -> str:
        """Hang."""
        gate.wait(10)
        return "too late"

    try:
        found = happened(calling(("a", "breaks", {}), ("b", "hangs", {}), ("c", "look", {"n": 3})), breaks, hangs, look)
    finally:
        gate.set()

    finished = [e for e in found if isinstance(e, ToolFinished)]
    assert [(e.call_id, e.outcome, e.is_error) for e in finished] == [
        ("a", "error", True),
        ("b", "timeout", True),
        ("c", "ok", False),
    ]


def test_a_call_that_cannot_be_run_leaves_no_start() -> None:
    (event,) = happened(calling(("a", "nothing", {})))

    assert isinstance(event, ToolFinished)
    assert (event.outcome, event.is_error, event.name) == ("invalid", True, "nothing")


def test_a_call_that_was_started_before_a_crash_is_not_started_twice_in_the_log() -> None:
    assert order(happened(calling(("a", "look", {}), ("b", "look", {}), already=("a",)))) == [">b", "<a", "<b"]


def test_a_call_has_the_same_idempotency_key_in_the_log_and_in_the_tool() -> None:
    @tool(effect="idempotent")
    def transfer() -> str:
        """Transfer."""
        return current_call().idempotency_key

    start, finish = happened(calling(("a", "transfer", {})), transfer)

    assert isinstance(start, ToolStarted)
    assert isinstance(finish, ToolFinished)
    assert (start.idempotency_key, finish.content, start.effect) == ("test:a", "test:a", "idempotent")


def test_a_large_result_is_in_the_blobs_before_its_facts_are_told() -> None:
    blobs, whole = MemoryBlobs(), "\n".join(f"line {n}" for n in range(100))

    @tool(effect="read")
    def dump() -> str:
        """Dump."""
        return whole

    state = calling(("a", "dump", {}))
    box = Toolbox(Registry([dump]), session_id="test", root=Path("/"))
    for event in answers(state.open_calls, state, FACTS, box, blobs):
        if isinstance(event, ToolFinished):
            assert event.raw is not None
            assert event.raw.digest == hashlib.sha256(whole.encode()).hexdigest()
            assert blobs.find(event.raw.digest) == whole.encode()


def test_a_tool_whose_results_are_to_be_kept_is_shown_whole() -> None:
    whole = "\n".join(f"line {n}" for n in range(100))

    @tool(effect="read", facts="keep")
    def dump() -> str:
        """Dump."""
        return whole

    _, finish = happened(calling(("a", "dump", {})), dump)

    assert isinstance(finish, ToolFinished)
    assert (finish.content, finish.raw) == (whole, None)


def test_the_text_of_an_error_is_not_cut_to_facts() -> None:
    @tool(effect="read")
    def breaks() -> str:
        """Break."""
        raise OSError("line\n" * 300)

    _, finish = happened(calling(("a", "breaks", {})), breaks)

    assert isinstance(finish, ToolFinished)
    assert finish.raw is None


def test_a_small_result_leaves_nothing_in_the_blobs() -> None:
    blobs = MemoryBlobs()

    happened(calling(("a", "look", {"n": 1})), blobs=blobs)

    assert blobs.find(hashlib.sha256(b"seen 1").hexdigest()) is None


def test_a_facts_policy_that_fails_or_adds_to_a_result_is_replaced_by_head_and_tail() -> None:
    @tool(effect="read")
    def many() -> str:
        """Look at many lines."""
        return "\n".join(f"line {i} of a result that is large" for i in range(400))

    class Fails:
        def shown(self, *arguments: object) -> Shown:
            raise RuntimeError("a bug")

    class Adds:
        def shown(self, call: Call, content: str, *arguments: object) -> Shown:
            return Shown(content + " and more")

    def shown(facts: object) -> str:
        box = Toolbox(Registry([many]), session_id="test", root=Path("/"))
        state = calling(("a", "many", {}))
        *_, last = answers(state.open_calls, state, facts, box, MemoryBlobs())  # type: ignore[arg-type]
        assert isinstance(last, ToolFinished)
        return str(last.content)

    assert shown(Fails()) == shown(Adds()) == shown(HeadTailMatches())
