import pytest

from agentloop.core import tokens
from agentloop.types.blocks import text, tool_result, tool_use

OLD = "claude-3-to-4.6"
FAMILY = "claude-4.7-plus"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", 0),
        ("a", 1),  # 0.310, rounded up
        ("abcdefghij", 4),  # 10 x 0.310 = 3.1
        ("a b\nc", 2),  # white space weighs as letters do: 5 x 0.310 = 1.55
        ("1234", 3),  # 4 x 0.750
        ("{}[]:", 3),  # 5 x 0.600
        ("é", 1),  # two bytes beyond ASCII: 2 x 0.350
        ("abcdefghijé1{", 6),  # ten letters, two bytes beyond, a digit and a mark: 5.15
        ("世界世界", 5),  # twelve bytes: 4.2
    ],
)
def test_a_text_is_weighed_by_the_kind_of_its_characters_and_rounded_up(written: str, expected: int) -> None:
    assert tokens.estimate(written) == expected


@pytest.mark.parametrize("family", [tokens.DEFAULT_FAMILY, OLD])
def test_the_thousandths_of_a_text_are_those_of_its_pieces(family: str) -> None:
    pieces = ["- read é1 ", "\n", "{世界}", "", "x" * 7]

    assert tokens.thousandths("".join(pieces), family) == sum(tokens.thousandths(p, family) for p in pieces)


def test_the_older_tokenizer_makes_fewer_tokens_of_the_same_text() -> None:
    prose = "a" * 1_000

    assert (tokens.estimate(prose), tokens.estimate(prose, OLD)) == (310, 210)


def test_digits_and_marks_weigh_less_for_the_older_tokenizer_and_its_frame_more() -> None:
    newer, older = (tokens.weights(f) for f in ("claude-4.7-plus", OLD))

    assert (tokens.estimate("1" * 10, OLD), tokens.estimate("{" * 10, OLD), tokens.estimate("é" * 10, OLD)) == (7, 5, 7)
    assert (newer.frame, older.frame) == (6, 7)


def test_an_unknown_tokenizer_counts_as_the_newest() -> None:
    assert tokens.weights("claude-9") == tokens.weights("claude-4.7-plus")


def test_a_text_too_long_to_be_remembered_weighs_the_same_as_its_parts() -> None:
    long = "a" * 1_000_000

    assert tokens.estimate(long) == 310_000


def test_a_lone_surrogate_can_be_weighed() -> None:
    assert tokens.estimate("\ud800") == 1


def test_the_frame_of_a_tool_call_and_of_its_result_counts() -> None:
    call = tool_use("c", "abcdefghij", {})  # 12 + 4 + 2 marks (1.2)
    answer = tool_result("c", "abcdefghij")  # 8 + 4

    assert (tokens.block_tokens(call, OLD), tokens.block_tokens(answer, OLD)) == (12 + 3 + 1, 8 + 3)
    assert (tokens.block_tokens(call, "claude-4.7-plus"), tokens.block_tokens(answer, "claude-4.7-plus")) == (18, 12)


def test_a_result_of_blocks_weighs_as_its_blocks() -> None:
    shown = tool_result("c", [text("abcdefghij"), {"type": "image", "source": {}}])

    assert tokens.block_tokens(shown, "claude-4.7-plus") == 8 + 4 + 1_600


def test_a_result_without_content_weighs_its_frame() -> None:
    assert tokens.block_tokens({"type": "tool_result", "tool_use_id": "c"}, "claude-4.7-plus") == 8


def test_a_cache_mark_on_a_tool_weighs_nothing() -> None:
    tool = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}

    marked = tokens.tool_tokens({**tool, "cache_control": {"type": "ephemeral"}}, OLD)

    assert marked == tokens.tool_tokens(tool, OLD)


def test_thinking_that_is_not_shown_is_guessed_from_its_signature() -> None:
    hidden = {"type": "thinking", "thinking": "", "signature": "abcd" * 10}  # every fourth character: ten letters

    assert tokens.block_tokens(hidden, "claude-4.7-plus") == 4


def test_a_document_in_words_counts_by_its_words() -> None:
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a" * 100_000}}
    parts = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a" * 100_000}]}}
    pages = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "a" * 100_000}}

    assert tokens.block_tokens(text, FAMILY) == tokens.block_tokens(parts, FAMILY) == 31_000
    assert tokens.block_tokens(pages, FAMILY) == 1_600
