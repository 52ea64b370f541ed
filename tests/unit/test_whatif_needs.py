from agentloop.importers.recording import Recording, Step
from agentloop.types import blocks
from agentloop.types.blocks import Block, text
from agentloop.whatif.needs import Met, Need, Seen, met, needs

TASK = "Look after order W-2378156."


def recording(*turns: tuple[str, str, str], system: str = "You work at acme.") -> Recording:
    """Turns of (what is said, the argument of a call, its result); the last one calls nothing."""
    steps, results = [], {}
    for i, (said, argument, result) in enumerate(turns):
        call = [blocks.tool_use(f"t{i}", "look", {"at": argument})] if argument else []
        steps.append(Step((text(TASK),) if i == 0 else (), ((text(said),) if said else ()) + tuple(call)))
        results[f"t{i}"] = blocks.tool_result(f"t{i}", result)
    return Recording("r", "", system, (), tuple(steps), results)


def values(found: tuple[tuple[Need, ...], ...]) -> list[list[str]]:
    return [[need.value for need in turn] for turn in found]


def test_a_value_that_came_two_messages_ago_and_is_used_is_a_need() -> None:
    session = recording(("", "x", "see invoice INV-7741-B"), ("", "y", "nothing"), ("", "INV-7741-B", "paid"))

    assert values(needs(session, Seen())) == [[], [], ["INV-7741-B"]]


def test_a_value_of_the_message_just_before_is_none() -> None:
    session = recording(("", "x", "see invoice INV-7741-B"), ("", "INV-7741-B", "paid"))

    assert values(needs(session, Seen())) == [[], []]


def test_what_the_agent_wrote_first_or_the_prefix_says_is_none() -> None:
    own = recording(("", "INV-7741-B", "ok"), ("", "x", "INV-7741-B is paid"), ("", "y", "z"), ("", "INV-7741-B", "ok"))
    known = recording(("", "x", "INV-7741-B"), ("", "y", "z"), ("", "INV-7741-B", "ok"), system="Invoices like INV-7741-B.")

    assert values(needs(own, Seen())) == [[], [], [], []]
    assert values(needs(known, Seen())) == [[], [], []]


def test_what_the_user_said_counts_like_a_result() -> None:
    session = recording(("", "x", "a"), ("W-2378156 it is", "y", "b"))

    assert needs(session, Seen())[1] == (Need("W-2378156", in_call=False),)


def test_of_a_path_the_longest_end_that_came_before_is_the_need() -> None:
    session = recording(("", "x", "in shop/orders/late.json"), ("", "y", "z"), ("", "/srv/shop/orders/late.json", "ok"))

    assert values(needs(session, Seen()))[2] == ["shop/orders/late.json"]


def test_in_code_short_names_are_the_writers_own() -> None:
    code = "def total_of(x1):\n    return fetch_all_orders(x1, maxRows)\n"
    session = recording(("", "x", "maxRows fetch_all_orders"), ("", "y", "z"), ("", code, "ok"))

    assert values(needs(session, Seen()))[2] == ["fetch_all_orders"]


def test_a_need_is_met_by_any_message_of_the_view() -> None:
    wanted = [Need("INV-7741-B", True), Need("late.json", True), Need("2026-01-05", False)]
    view = [blocks.user(text("[state] values: INV-7741-B")), blocks.assistant(text("at shop/orders/late.json"))]

    assert met(wanted, view, Seen()) == Met(met=2, needs=3, whole_turns=1, turns=1)
    assert met(wanted, view[:1], Seen()) == Met(met=1, needs=3, whole_turns=0, turns=1)
    assert met([], view, Seen()) == Met()


def test_it_sees_calls_and_results_in_a_view() -> None:
    shown: list[Block] = [blocks.tool_use("t", "look", {"deep": [{"id": "W-99871"}]})]
    answer = blocks.tool_result("t", [text("paid by INV-7741-B")])

    assert (
        met([Need("W-99871", True), Need("INV-7741-B", True)], [blocks.assistant(*shown), blocks.user(answer)], Seen()).met == 2
    )


def test_counts_add_up_to_shares() -> None:
    both = Met(1, 2, 0, 1) + Met(2, 2, 1, 1)

    assert (both.recall, both.whole) == (0.75, 0.5)
    assert (Met().recall, Met().whole) == (None, None)
