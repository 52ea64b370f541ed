import pytest

from agentloop.core import tokens
from agentloop.policies import HeadTailMatches, Whole
from agentloop.types.blocks import Call

FAMILY = "claude-4.7-plus"
HANDLE = "0123456789abcdef" * 4
CALL = Call("c", "read_log", {"order": "A-1042"})


def shown(content: str, policy: HeadTailMatches, call: Call = CALL, mode: str = "facts") -> str:
    result = policy.shown(call, content, mode, HANDLE, FAMILY).content
    assert isinstance(result, str)
    return result


SMALL = HeadTailMatches(over_tokens=50, head_lines=2, tail_lines=1, matches=1)
LINES = [f"line {n} of a long and boring log" for n in range(1, 21)]


def test_a_large_result_is_cut_to_its_first_and_last_lines_and_says_so() -> None:
    assert shown("\n".join(LINES), SMALL) == "\n".join(
        [
            LINES[0],
            LINES[1],
            "[… lines 3-19]",
            LINES[19],
            '[17 of 20 lines left out; recall(handle="0123456789ab") gives any of them back]',
        ]
    )


def test_lines_that_the_call_names_are_kept() -> None:
    lines = [*LINES[:9], "order a-1042 was refunded", *LINES[10:]]

    facts = shown("\n".join(lines), SMALL).split("\n")

    assert facts[2:5] == ["[… lines 3-9]", "order a-1042 was refunded", "[… lines 11-19]"]


def test_no_more_lines_are_kept_for_the_call_than_allowed() -> None:
    lines = [LINES[0], LINES[1], *(f"{n}: A-1042" for n in range(30)), LINES[19]]

    assert shown("\n".join(lines), SMALL).count("A-1042") == 1


@pytest.mark.parametrize(("tokens_of_it", "is_cut"), [(50, False), (51, True)])
def test_a_result_is_large_above_the_limit(tokens_of_it: int, is_cut: bool) -> None:
    content = "\n" * 150 + "a" * (tokens_of_it * 1_000 // 310 - 150)

    result = SMALL.shown(CALL, content, "facts", HANDLE, FAMILY)

    assert (result.raw is not None) is is_cut
    assert (result.content == content) is not is_cut


def test_a_tool_that_wants_its_results_whole_gets_them_whole() -> None:
    content = "\n".join(LINES)

    result = SMALL.shown(CALL, content, "keep", HANDLE, FAMILY)

    assert (result.content, result.raw) == (content, None)


def test_what_was_left_out_is_recorded() -> None:
    content = "\n".join([*LINES[:19], "é"])

    raw = SMALL.shown(CALL, content, "facts", HANDLE, FAMILY).raw

    assert raw is not None
    assert (raw.digest, raw.bytes, raw.extractor, raw.left_out) == (
        HANDLE,
        sum(len(line) + 1 for line in LINES[:19]) + 2,
        "head_tail_matches",
        "17 of 20 lines",
    )
    assert raw.tokens == tokens.estimate(content)


def test_facts_are_never_longer_than_the_result() -> None:
    content = "\n".join(["word " * 12] * 4)  # 80 tokens in four lines: the note alone is longer than what it saves

    assert shown(content, HeadTailMatches(over_tokens=50, head_lines=2, tail_lines=1, matches=0)) == content


def test_a_very_long_line_is_cut_and_says_by_how_much() -> None:
    facts = shown("x" * 1_000, SMALL)

    assert facts.startswith("x" * 400 + "[… 600 characters]\n")


def test_a_result_of_only_a_few_lines_has_no_gap() -> None:
    content = "\n".join(["a" * 600, "b" * 600, "c" * 600])

    assert "[… lines" not in shown(content, SMALL)


def test_the_same_result_gives_the_same_facts() -> None:
    content = "\n".join(LINES)

    assert SMALL.shown(CALL, content, "facts", HANDLE, FAMILY) == SMALL.shown(CALL, content, "facts", HANDLE, FAMILY)


@pytest.mark.parametrize("arguments", [None, [], "text", 7, {"deep": {"order": "A-1042"}}])
def test_a_call_may_have_any_input(arguments: object) -> None:
    assert shown("\n".join(LINES), SMALL, Call("c", "read_log", arguments)).startswith(LINES[0])


def test_whole_shows_every_result_whole() -> None:
    content = "x" * 100_000

    assert Whole().shown(CALL, content, "facts", HANDLE, FAMILY) == (content, None)
