import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel

from agentloop.adapters.toolbox import EMPTY, MAX_ERROR_CHARS, MAX_RESULT_CHARS, Toolbox, as_content
from agentloop.ports import Answer
from agentloop.tooling import Registry, current_call, tool
from agentloop.types.base import Json
from agentloop.types.blocks import Call, text


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a tool that hangs waits for; opened when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def box(*tools: object, **options: Any) -> Toolbox:
    return Toolbox(Registry(tools), session_id="s", root=Path("/work"), **options)


def answers(*tools: object, calls: list[Call] | None = None, **options: Any) -> list[Answer]:
    """The answers to one call of each tool, in this order."""
    runner = box(*tools, **options)
    made = calls or [Call(f"c{n}", t.name, {}) for n, t in enumerate(tools)]  # type: ignore[attr-defined]
    return [a for a in runner.run(made, lambda call: f"s:{call.id}") if a is not None]


def answer_of(function: Callable[..., Any], arguments: Json | None = None, **options: Any) -> Answer:
    made = tool(**options)(function)
    (answer,) = answers(made, calls=[Call("c", made.name, arguments or {})])
    return answer


def returning(value: object) -> Answer:
    def give() -> Any:
        """Give."""
        return value

    return answer_of(give)


def raising(error: BaseException) -> Answer:
    def fail() -> str:
        """Fail."""
        raise error

    return answer_of(fail)


def test_a_text_is_answered_as_it_is() -> None:
    answer = returning("hello")

    assert (answer.content, answer.outcome, answer.is_error) == ("hello", "ok", False)


# T01


def test_what_a_tool_raises_is_told_by_type_and_message() -> None:
    answer = raising(OSError(2, "No such file", "x.txt"))

    assert (answer.content, answer.outcome, answer.is_error) == (
        "FileNotFoundError: [Errno 2] No such file: 'x.txt'",
        "error",
        True,
    )


def test_a_long_error_is_shortened() -> None:
    content = raising(ValueError("x" * 1_000_000)).content

    assert content == ("ValueError: " + "x" * 1_000_000)[:MAX_ERROR_CHARS] + "…"


def test_secrets_in_errors_and_results_are_taken_out() -> None:
    @tool
    def leak() -> str:
        """Leak."""
        return "the key is hunter2-hunter2"

    @tool
    def leak_in_error() -> str:
        """Leak."""
        raise ValueError("bad key hunter2-hunter2")

    @tool
    def leak_in_block() -> list[Any]:
        """Leak."""
        return [text("the key is hunter2-hunter2")]

    found = answers(leak, leak_in_error, leak_in_block, redact=lambda t: t.replace("hunter2-hunter2", "[redacted]"))

    assert [a.content for a in found] == [
        "the key is [redacted]",
        "ValueError: bad key [redacted]",
        "the key is [redacted]",
    ]


def test_an_error_that_cannot_even_be_printed_is_an_error() -> None:
    class Rude(Exception):
        def __str__(self) -> NoReturn:
            raise RuntimeError("no")

    answer = raising(Rude())

    assert (answer.outcome, str(answer.content).startswith("Rude")) == ("error", True)


# T02


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), MemoryError("none left"), GeneratorExit(), RecursionError("too deep")]
)
def test_whatever_a_tool_raises_the_engine_gets_an_answer(error: BaseException) -> None:
    answer = raising(error)

    assert answer.outcome == "error"
    assert str(answer.content).startswith(type(error).__name__)


def test_endless_recursion_is_an_error() -> None:
    def dive() -> str:
        """Dive."""
        return dive()

    assert str(answer_of(dive).content).startswith("RecursionError")


def test_an_exit_of_the_process_is_an_error() -> None:
    def leave() -> str:
        """Leave."""
        sys.exit("bye")

    assert answer_of(leave).content == "SystemExit: bye"


def test_an_async_tool_is_waited_for() -> None:
    async def later() -> str:
        """Later."""
        await asyncio.sleep(0)
        return "now"

    assert answer_of(later).content == "now"


def test_a_coroutine_that_was_never_awaited_is_waited_for() -> None:
    async def later() -> str:
        return "now"

    def forgetful() -> Any:
        """Forget to await."""
        return later()

    assert answer_of(forgetful).content == "now"


def test_an_async_tool_that_raises_is_an_error() -> None:
    async def later() -> str:
        """Later."""
        raise OSError("gone")

    assert answer_of(later).content == "OSError: gone"


def test_an_async_generator_is_a_clear_error_or_its_text() -> None:
    async def stream() -> AsyncIterator[str]:
        yield "a"

    def give() -> Any:
        """Give."""
        return stream()

    assert answer_of(give).outcome in ("ok", "error")


# T03


def test_a_tool_that_does_not_come_back_is_given_up(gate: threading.Event) -> None:
    @tool(timeout_s=0.05)
    def hang() -> str:
        """Hang."""
        gate.wait(10)
        return "too late"

    runner = box(hang)
    (answer,) = runner.run([Call("c", "hang", {})], lambda call: "k")

    assert answer is not None
    assert (answer.outcome, answer.is_error) == ("timeout", True)
    assert answer.content == "no answer within 0.05 seconds; the call was given up"
    assert answer.duration_s >= 0.05
    assert runner.leaked == 1


def test_an_async_tool_that_does_not_come_back_is_given_up(gate: threading.Event) -> None:
    @tool(timeout_s=0.05)
    async def hang() -> str:
        """Hang."""
        await asyncio.to_thread(gate.wait, 10)
        return "too late"

    (answer,) = answers(hang)

    assert answer.outcome == "timeout"


def test_several_tools_that_hang_together_are_given_up_together(gate: threading.Event) -> None:
    @tool(timeout_s=0.05)
    def hang() -> str:
        """Hang."""
        gate.wait(10)
        return "too late"

    began = time.monotonic()
    found = answers(hang, calls=[Call(f"c{n}", "hang", {}) for n in range(20)])

    assert [a.outcome for a in found] == ["timeout"] * 20
    assert time.monotonic() - began < 0.9  # one after the other they would take a second


# T05


def test_a_huge_text_is_cut_and_says_so() -> None:
    content = returning("x" * (MAX_RESULT_CHARS + 1)).content

    assert isinstance(content, str)
    assert content.endswith("\n[cut: the tool returned more than 8,000,000 characters]")
    assert len(content) < MAX_RESULT_CHARS + 100


def test_an_endless_generator_is_cut_and_says_so() -> None:
    def give() -> Iterator[str]:
        """Give without end."""
        while True:
            yield "x" * 100_000

    content = answer_of(give).content

    assert isinstance(content, str)
    assert content.endswith("[cut: the tool returned more than 8,000,000 characters]")


def test_a_generator_is_answered_with_its_pieces_joined() -> None:
    def give() -> Iterator[object]:
        """Give."""
        yield "a"
        yield 1
        yield "\n"

    assert answer_of(give).content == "a1\n"


# T06


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (bytearray(b"ok"), "ok"),
        ("a\x00b", "a\ufffdb"),
        ("half \ud83d", "half ?"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("bell\x07 and \x7f", "bell\ufffd and \ufffd"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
    ],
)
def test_text_is_made_fit_for_the_model_the_log_and_a_terminal(value: object, expected: str) -> None:
    content = returning(value).content

    assert content == expected
    json.dumps(content, ensure_ascii=False).encode()


def test_text_in_blocks_is_made_fit_in_the_same_way() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}

    assert returning([text("\x1b[31mred\x1b[0m\x00"), image]).content == [text("red\ufffd"), image]


# T07


@dataclass
class Order:
    number: str
    pieces: int


class Parcel(BaseModel):
    weight_kg: Decimal


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "7"),
        (True, "true"),
        (1.5, "1.5"),
        (float("nan"), "NaN"),
        ({"x": float("inf")}, '{"x":Infinity}'),
        (Decimal("12.50"), '"12.50"'),
        (datetime(2026, 1, 5, 12, tzinfo=timezone.utc), '"2026-01-05T12:00:00Z"'),  # noqa: UP017
        (date(2026, 1, 5), '"2026-01-05"'),
        (Path("a/b"), '"a/b"'),
        (Order("A-1", 2), '{"number":"A-1","pieces":2}'),
        (Parcel(weight_kg=Decimal("0.5")), '{"weight_kg":"0.5"}'),
        ({"b": 1, "a": [1, (2, 3)]}, '{"b":1,"a":[1,[2,3]]}'),
        ({"b", "a", "c"}, '["a","b","c"]'),
        (frozenset({3, 1, 2}), "[1,2,3]"),
        ({"deep": [{"z", "y"}]}, '{"deep":[["y","z"]]}'),
        ([], "[]"),
        (deque([1, 2]), "[1,2]"),
        (Counter("aab"), '{"a":2,"b":1}'),
        ({"data": b"raw"}, '{"data":"raw"}'),
    ],
)
def test_a_value_becomes_json(value: object, expected: str) -> None:
    assert returning(value).content == expected


def test_sets_have_one_order_in_every_process() -> None:
    program = "from agentloop.adapters.toolbox import as_content; print(as_content({'s': {'wool', 'silk', 'flax', 'hemp'}}))"

    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert outputs == {'{"s":["flax","hemp","silk","wool"]}\n'}


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [object(), circular(), {"x": b"\xff"}, lambda: 1], ids=["object", "circular", "bytes", "function"]
)
def test_what_has_no_json_is_an_error_and_no_crash(value: object) -> None:
    answer = returning(value)

    assert answer.outcome == "error"
    assert str(answer.content)


# T08


@pytest.mark.parametrize("value", [None, "", " \n\t", b"", iter(())])
def test_an_empty_result_says_that_it_is_empty(value: object) -> None:
    assert returning(value).content == EMPTY


def test_a_blank_block_says_that_it_is_empty() -> None:
    assert returning([text(" "), text("x")]).content == f"{EMPTY}\nx"


# content blocks


def test_content_blocks_are_shown_as_they_are() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}

    assert returning([text("look"), image]).content == [text("look"), image]


@pytest.mark.parametrize(
    "records",
    [
        [{"type": "document", "number": 7}],
        [{"type": "image", "file": "a.png"}],
        [{"type": "text"}],
        [{"type": "text", "text": None}],
    ],
)
def test_records_that_only_look_like_blocks_are_data(records: list[Json]) -> None:
    assert returning(records).content == json.dumps(records, separators=(",", ":"))


# T09


def test_what_a_tool_does_to_its_input_is_seen_by_nobody() -> None:
    @tool
    def spoil(items: list[str]) -> str:
        """Spoil."""
        items.clear()
        return "spoilt"

    call = Call("c", "spoil", {"items": ["a", "b"]})
    answers(spoil, calls=[call])

    assert call.input == {"items": ["a", "b"]}


# T10


def test_parallel_answers_come_in_the_order_of_the_calls(gate: threading.Event) -> None:
    first_may_end = threading.Event()

    @tool(effect="read", timeout_s=5)
    def slow() -> str:
        """Slow."""
        first_may_end.wait(5)
        return "slow"

    @tool(effect="read", timeout_s=5)
    def quick() -> str:
        """Quick."""
        first_may_end.set()
        return "quick"

    @tool(effect="read", timeout_s=0.05)
    def hang() -> str:
        """Hang."""
        gate.wait(10)
        return "never"

    @tool(effect="read")
    def broken() -> str:
        """Broken."""
        raise OSError("broken")

    found = answers(slow, quick, hang, broken)

    assert [(a.content if a.outcome == "ok" else a.outcome) for a in found] == ["slow", "quick", "timeout", "error"]


# invalid input


@tool
def pay(amount: int, to: str, note: str = "") -> str:
    """Pay."""
    return f"paid {amount} to {to}"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"to": "Mara"}, "amount: Missing required argument"),
        ({"amount": "many", "to": "Mara"}, "amount: Input should be a valid integer"),
        ({"amount": 1, "to": "Mara", "colour": "red"}, "colour: Unexpected keyword argument"),
    ],
)
def test_input_that_does_not_fit_is_not_run_and_names_the_field(arguments: Json, field: str) -> None:
    (answer,) = answers(pay, calls=[Call("c", "pay", arguments)])

    assert (answer.outcome, answer.is_error) == ("invalid", True)
    assert str(answer.content).startswith("not run, the input does not fit: ")
    assert field in str(answer.content)


def test_every_field_that_does_not_fit_is_named() -> None:
    (answer,) = answers(pay, calls=[Call("c", "pay", {})])

    assert "amount: " in str(answer.content)
    assert "to: " in str(answer.content)


def test_a_tool_that_ran_and_failed_to_validate_something_is_an_error_and_not_invalid() -> None:
    def fetch() -> str:
        """Fetch."""
        Parcel.model_validate({"weight_kg": "heavy"})
        return "never"

    answer = answer_of(fetch)

    assert answer.outcome == "error"
    assert "not run" not in str(answer.content)


def test_an_async_tool_that_ran_and_failed_to_validate_something_is_an_error_too() -> None:
    async def fetch() -> str:
        """Fetch."""
        Parcel.model_validate({"weight_kg": "heavy"})
        return "never"

    assert answer_of(fetch).outcome == "error"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Call("c", "pya", {}), "there is no tool named 'pya'; there are pay"),
        (Call("c", "pay", ["amount"]), "the input must be a JSON object, found list"),
        (Call("c", "pay", None), "the input must be a JSON object, found NoneType"),
    ],
)
def test_a_call_that_cannot_be_run_is_told_why(call: Call, reason: str) -> None:
    assert box(pay).invalid(call) == reason


def test_a_call_that_can_be_run_has_nothing_wrong() -> None:
    assert box(pay).invalid(Call("c", "pay", {"amount": 1, "to": "Mara"})) is None


# the rest


def test_what_a_tool_declared_is_known_by_its_name() -> None:
    runner = box(tool(effect="read", timeout_s=3)(pay.function or pay))

    card = runner.card("pay")
    assert card is not None
    assert (card.effect, card.timeout_s, runner.card("nothing")) == ("read", 3.0, None)


def test_a_tool_knows_the_call_it_answers() -> None:
    def who() -> Any:
        """Who."""
        call = current_call()
        return [call.session_id, call.call_id, call.idempotency_key, str(call.root)]

    assert answer_of(who).content == '["s","c","s:c","/work"]'


def test_calls_side_by_side_each_know_their_own() -> None:
    both = threading.Barrier(2)

    @tool(effect="read", timeout_s=5)
    def who() -> str:
        """Who."""
        both.wait(5)
        return current_call().call_id

    assert [a.content for a in answers(who, calls=[Call("a", "who", {}), Call("b", "who", {})])] == ["a", "b"]


def test_no_calls_have_no_answers() -> None:
    assert list(box(pay).run([], lambda call: "k")) == []


def test_as_content_raises_for_what_has_no_json() -> None:
    with pytest.raises(ValueError, match="Unable to serialize"):
        as_content(object())
