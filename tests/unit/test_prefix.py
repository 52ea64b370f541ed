import pytest

from agentloop.core.prefix import Volatile, divergence, volatile
from agentloop.types.blocks import Message, assistant, text, tool_result, tool_use, user
from agentloop.types.request import Breakpoint, Prefix, Request

TOOL = {"name": "look", "description": "Look at a file.", "input_schema": {"type": "object"}}
PLAIN = """You keep the accounts of a small wool shop. Prices have two decimals, such as 12.50.
Ship orders within 14 days, between 9:00 and 17:30; version 2.11 of the returns policy holds, section 3.4.1.
Invoices have numbers like 2026/0417 and #20417. Call +44 20 7946 0958. The deadbeef joke is allowed.
"""


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("a uuid", "123e4567-e89b-12d3-a456-426614174000"),
        ("a date", "2026-11-22"),
        ("a date", "2026-11-22T08:30:00.5+01:00"),
        ("a date", "22 November 2026"),
        ("a date", "November 22nd, 2026"),
        ("a date", "March 2026"),
        ("a date", "22.11.2026"),
        ("a date", "22/11/2026"),
        ("a time of day", "08:30:15"),
        ("a unix time", "1767614400"),
        ("a unix time", "1767614400123"),
        ("a random id", "9f86d081884c7d65"),
        ("a memory address", "0x7f3a2b1c9d40"),
        ("a temporary path", "/tmp/pytest-of-me/run.0"),
        ("a temporary path", "/var/folders/zz/x1"),
    ],
)
def test_what_changes_from_run_to_run_is_found_with_its_line(what: str, value: str) -> None:
    prefix = Prefix(model="m", system=f"You are careful.\nYou write:\nit is ({value}) now.")

    assert volatile(prefix, {}) == (Volatile("system", 3, what, value),)


def test_a_value_of_the_environment_is_found_by_its_name() -> None:
    prefix = Prefix(model="m", system="You run on\nbuild-host-17.")

    found = volatile(prefix, {"HOSTNAME": "build-host-17", "SHELL": "/bin/sh", "LANG": "English!", "USER": "wool"})

    assert found == (Volatile("system", 2, "the value of $HOSTNAME", "(not shown)"),)


def test_tools_are_searched_too() -> None:
    tool = {**TOOL, "description": "Look.\nGenerated 2026-11-22."}

    assert volatile(Prefix(model="m", system="", tools=(tool,)), {}) == (
        Volatile("tools.look.description", 2, "a date", "2026-11-22"),
    )


def test_a_schema_is_searched_too() -> None:
    tool = {**TOOL, "input_schema": {"type": "object", "default": "/tmp/x1"}}

    (found,) = volatile(Prefix(model="m", system="", tools=(tool,)), {})

    assert found.where == "tools.look.input_schema"


def test_everything_volatile_is_found_in_the_order_of_the_text() -> None:
    prefix = Prefix(model="m", system="1767614400 then /tmp/x then 2026-11-22")

    assert [v.what for v in volatile(prefix, {})] == ["a unix time", "a temporary path", "a date"]


def test_a_plain_prompt_passes() -> None:
    assert volatile(Prefix(model="m", system=PLAIN, tools=(TOOL,)), {"HOME": "/root", "PWD": "/srv"}) == ()


def test_texts_that_are_known_to_stay_the_same_are_allowed() -> None:
    prefix = Prefix(model="m", system="Founded 1 May 1994. Today is 2026-11-22.")

    found = volatile(prefix, {}, allowed=("1 May 1994",))

    assert [v.value for v in found] == ["2026-11-22"]


@pytest.mark.parametrize("allowed", ["opened on 2026-11-22 in Ghent", "2026-11-22", "2026-11"])
def test_an_allowed_text_may_hold_the_value_or_be_a_part_of_it(allowed: str) -> None:
    assert volatile(Prefix(model="m", system="We opened on 2026-11-22 in Ghent."), {}, allowed=(allowed,)) == ()


def test_an_empty_allowed_text_allows_nothing() -> None:
    assert len(volatile(Prefix(model="m", system="2026-11-22"), {}, allowed=("",))) == 1


def request(*messages: Message, prefix: Prefix | None = None, marks: tuple[Breakpoint, ...] = ()) -> Request:
    return Request(prefix or Prefix(model="m", system="s", tools=(TOOL,)), messages, marks, 100)


BEFORE = request(user(text("task")), assistant(tool_use("a", "look", {"x": 1})), user(tool_result("a", "one")))


def test_a_request_that_only_adds_extends_the_one_before_it() -> None:
    longer = request(*BEFORE.messages, assistant(text("b")), user(text("c")), marks=(Breakpoint(0, 0, "5m"),))

    assert divergence(BEFORE, longer) is None


def test_a_block_added_to_the_last_message_extends_it() -> None:
    grown = request(*BEFORE.messages[:2], user(tool_result("a", "one"), text("go on")))

    assert divergence(BEFORE, grown) is None


def test_consecutive_messages_of_one_role_are_one() -> None:
    parted = request(*BEFORE.messages, user(text("go on")))
    joined = request(*BEFORE.messages[:2], user(tool_result("a", "one"), text("go on")), assistant(text("x")))

    assert divergence(parted, joined) is None


@pytest.mark.parametrize(
    ("prefix", "kind", "where"),
    [
        (Prefix(model="n", system="s", tools=(TOOL,)), "model_changed", "model"),
        (Prefix(model="m", system="s", tools=()), "tools_changed", "tools"),
        (Prefix(model="m", system="S", tools=(TOOL,)), "system_changed", "system"),
    ],
)
def test_a_changed_prefix_is_named_with_the_words_of_the_api(prefix: Prefix, kind: str, where: str) -> None:
    found = divergence(BEFORE, request(*BEFORE.messages, prefix=prefix))

    assert found is not None
    assert (found.kind, found.where) == (kind, where)


def test_a_system_prompt_is_compared_to_the_first_differing_byte() -> None:
    before = request(prefix=Prefix(model="m", system="It is Monday."))
    after = request(prefix=Prefix(model="m", system="It is Friday."))

    found = divergence(before, after)

    assert found is not None
    assert (found.byte, found.before, found.after) == (6, "It is Monday.", "It is Friday.")


def test_an_edited_result_is_named_with_its_place() -> None:
    edited = request(*BEFORE.messages[:2], user(tool_result("a", "two")))

    found = divergence(BEFORE, edited)

    assert found is not None
    # user {"type":"tool_result","tool_use_id":"a","content":"…: the text starts behind 56 bytes
    assert (found.kind, found.where, found.byte) == ("messages_changed", "messages.2.content.0", 56)


def test_keys_in_another_order_are_a_difference() -> None:
    swapped = request(BEFORE.messages[0], assistant({"type": "tool_use", "name": "look", "id": "a", "input": {"x": 1}}))

    found = divergence(BEFORE, swapped)

    assert found is not None
    assert found.where == "messages.1.content.0"


def test_a_missing_message_is_a_difference() -> None:
    found = divergence(BEFORE, request(*BEFORE.messages[:2]))

    assert found is not None
    assert (found.kind, found.where, found.after) == ("messages_changed", "messages.2.content.0", "")
