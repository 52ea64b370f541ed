from time import process_time

from agentloop.core.state import State
from agentloop.policies import ByKind, EngineLedger, ModelLedger, recorded
from agentloop.policies.ledger import HEADER
from agentloop.testing import calls_tool, given, reply, says, started
from agentloop.types.blocks import text, tool_use
from agentloop.types.events import ToolFinished
from agentloop.types.request import Reply
from tests.unit.lines import after, answered, asked, cut, failed, finished

LEDGER = EngineLedger()


def turn(what: Reply, *results: ToolFinished) -> list[object]:
    return [asked(), answered(what), *results]


def session(*lines: object) -> State:
    last = turn(calls_tool("last", "look"), finished("last", "unseen: LAST-1"))
    return after(started(), given("Pay the invoices of Mara."), *lines, *last)


READ = turn(
    reply(text("Reading the\ninvoice first."), tool_use("c1", "read_file", {"path": "inbox/14.txt"})),
    finished("c1", "Dear shop, please find the invoice that we talked about last week on the telephone: INV-2031, 12.50 EUR.\n"
             "Yours, mara@woolshop.example, order_id=A-1042"),
)  # fmt: skip


def test_a_removed_pair_leaves_what_was_done_how_it_went_and_its_exact_values() -> None:
    assert LEDGER.segment(session(*READ), 1) == "\n".join(
        [
            "[Session state, kept by agentloop: turns 1 to 1 are no longer shown. Results can be recalled.]",
            "1. Reading the invoice first.",
            # sixty characters of the result, the last of them an ellipsis
            '   read_file {"path":"inbox/14.txt"} → Dear shop, please find the invoice that we talked about las…',
            "   values: INV-2031 12.50 EUR mara@woolshop.example order_id A-1042",
        ]
    )


def test_an_error_is_called_one() -> None:
    lines = turn(calls_tool("c", "pay"), finished("c", "no such account", is_error=True))

    assert "   pay {} → error: no such account" in LEDGER.segment(session(*lines), 1)


def test_what_the_user_said_is_kept_word_for_word() -> None:
    lines = [asked(), answered(says("Done.")), given("No, the other one, please.")]

    assert "   user: No, the other one, please." in LEDGER.segment(session(*lines), 1)


def test_turns_are_counted_over_the_whole_session() -> None:
    lines = [*READ, *turn(calls_tool("b", "look"), finished("b")), cut(1)]

    assert LEDGER.segment(session(*lines), 2).startswith(HEADER.format(first=2, last=2))


def test_a_value_that_stands_in_the_state_or_the_task_is_not_written_again() -> None:
    again = turn(calls_tool("b", "look", at="x"), finished("b", "word " * 20 + "INV-2031 INV-9999 Mara"))
    lines = [*READ, *again]
    first = LEDGER.segment(session(*lines), 1)

    second = LEDGER.segment(session(*lines, cut(1, first)), 2)

    assert second.endswith("values: INV-9999")


def test_what_is_kept_stays_within_its_room() -> None:
    values = " ".join(f"ID-{n:05}" for n in range(1_000))
    state = session(*turn(calls_tool("c", "look"), finished("c", values)))

    for chars in (200, 500, 1_500):
        segment = EngineLedger(chars_per_pair=chars).segment(state, 1)

        assert len(segment) <= chars + len("\n   values: ")


def test_values_that_the_assistant_used_itself_come_first() -> None:
    done = reply(text("x" * 300 + " SAID-1"), tool_use("c", "look", {"n": 1, "pad": "p" * 200, "id": "USED-2"}))
    state = session(*turn(done, finished("c", "w" * 100 + " FOUND-3")))

    assert LEDGER.segment(state, 1).endswith("values: SAID-1 USED-2 FOUND-3")


def test_the_last_pair_that_stays_leaves_nothing_in_the_state() -> None:
    assert "LAST-1" not in LEDGER.segment(session(*READ), 1)


def test_the_same_turns_give_the_same_segment() -> None:
    assert LEDGER.segment(session(*READ), 1) == LEDGER.segment(session(*READ), 1)


def test_the_engine_asks_nobody() -> None:
    assert LEDGER.question(session(*READ), 1) is None


def test_the_model_is_asked_for_the_turns_that_leave() -> None:
    question = ModelLedger(words=250).question(session(*READ), 1)

    assert question is not None
    assert "at most 250 words" in question
    assert "turns 1 to 1" in question


def test_what_the_model_wrote_is_completed_with_the_values_it_left_out() -> None:
    segment = ModelLedger().from_summary(session(*READ), 1, "Mara's invoice INV-2031 over 12.50 EUR was read.")

    assert segment == "\n".join(
        [
            HEADER.format(first=1, last=1),
            "Mara's invoice INV-2031 over 12.50 EUR was read.",
            "   values: inbox/14.txt mara@woolshop.example order_id A-1042",
        ]
    )


def test_a_model_that_failed_three_times_in_a_row_is_not_asked_again() -> None:
    failures = [line for _ in range(3) for line in (asked(1, "summary"), failed("unavailable", "summary"))]

    assert ModelLedger().question(session(*READ, *failures[:4]), 1) is not None
    assert ModelLedger().question(session(*READ, *failures), 1) is None


def test_where_the_model_cannot_write_the_engine_does() -> None:
    assert ModelLedger().segment(session(*READ), 1) == LEDGER.segment(session(*READ), 1)


def test_a_result_of_blocks_is_read_for_its_values_too() -> None:
    blocks = finished("c").model_copy(update={"content": [text("w" * 100 + " BLOCK-7"), {"type": "image", "source": {}}]})

    assert LEDGER.segment(session(*turn(calls_tool("c", "look"), blocks)), 1).endswith("values: BLOCK-7")


def test_a_log_from_before_the_index_had_a_bound_replays_by_what_held_then() -> None:
    said = [turn(calls_tool(n, "look"), finished(n, f"{'word ' * 20}{n}-1001 {n}-1002 größe-{n}")) for n in ("aa", "bb")]
    was = {"kind": "engine", "chars_per_pair": 1_500, "said_chars": 200, "told_chars": 20_000}

    then = recorded({"ledger": was, "facts": {"kind": "by_kind", "share": 0.25}})

    assert then.ledger.segment(session(*said[0], *said[1]), 2).endswith("   values: aa-1001 aa-1002 bb-1001 bb-1002")
    assert then.facts == ByKind(share=0.25, growth=1.0)
    assert recorded({"ledger": {"kind": "model", "engine": was}}).ledger == ModelLedger(engine=then.ledger)


def test_what_a_log_of_today_says_of_the_index_holds() -> None:
    today = {"ledger": EngineLedger().model_dump(mode="json"), "facts": ByKind().model_dump(mode="json")}

    assert (recorded(today).ledger, recorded(today).facts) == (EngineLedger(), ByKind())


def test_a_long_run_of_characters_that_names_may_hold_is_read_once_and_not_from_each_of_them() -> None:
    runs = "a@" * 40_000 + " ORD-77 " + "--a" * 40_000
    state = session(*turn(calls_tool("a", "look"), finished("a", runs)))

    began = process_time()
    segment = LEDGER.segment(state, 1)

    assert "ORD-77" in segment
    assert process_time() - began < 6  # 20 seconds and more, where each character begins anew
