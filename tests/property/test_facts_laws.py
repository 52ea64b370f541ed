"""Laws that facts keep for any text and any call."""

import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from agentloop.core import tokens
from agentloop.core.choices import Shown
from agentloop.policies.facts import ByKind, FactsSettings, budget, cutting, kinds
from agentloop.types.blocks import Call

FAMILY = "claude-4.7-plus"
HANDLE = "0123456789abcdef" * 4
EAGER = ByKind(over_tokens=50)
MARK = re.compile(
    r"\[… \d+(?:-\d+)?\]|\[\d+ lines are like line \d+\]|\[(?:values|names and texts) left out: .*\]|\[.*left out; recall.*\]"
)
CUT = re.compile(r"(.*)\[… (\d+) characters\]", re.DOTALL)

words = st.sampled_from((
    "order", "A-1042", "error:", "FAILED", "def run(self):", "class Box {", "src/box.py:12:", "2026-01-02 10:00:07", "INFO",
    "ok", "{", "}", "<div>", "</td>", "# Part", "a,b,c", "|", "\t", '"name": "Ada"', "https://shop.example/x?y=1",
    "ада@пример.рф", "注文", "İ",
))  # fmt: skip
junk = st.text(st.characters(), max_size=60)
any_line = st.one_of(st.lists(words, max_size=12).map(" ".join), junk, words.map(lambda w: w * 90))
texts = st.one_of(
    st.lists(any_line, max_size=120).map("\n".join),
    st.lists(st.lists(words, max_size=5).map(",".join), max_size=200).map("\n".join),
    st.binary(max_size=4_000).map(lambda b: b.decode("utf-8", "replace")),
    st.tuples(any_line, st.integers(1, 400)).map(lambda t: "\n".join([t[0]] * t[1])),
)
jsons = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | junk
    | words,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(junk | words, inner, max_size=12),
    max_leaves=80,
)
inputs = st.one_of(jsons, st.fixed_dictionaries({"query": any_line}))
settings = st.none() | st.builds(
    FactsSettings,
    fields=st.lists(st.sampled_from(["order", "a.b", "", "."]) | junk, max_size=3).map(tuple),
    keep_lines=st.lists(words | junk, max_size=3).map(tuple),
    share=st.none() | st.floats(0.01, 1),
)


def shown(text: str, given: Any = None, own: FactsSettings | None = None) -> Shown:
    return EAGER.shown(Call("c", "look_up", given), text, "facts", HANDLE, FAMILY, own)


@given(texts, inputs, settings)
@example("[" * 100_000, None, None)
@example('{"a":' * 30_000 + "1" + "}" * 30_000, None, None)
@example("<" * 5_000, None, None)
@example("order " * 500, None, FactsSettings(keep_lines=("", " "), fields=("", ".")))
@example("\n" * 5_000, {"query": "order"}, None)
@example("\ud800" * 2_000, {"query": "\ud800"}, None)
@example('{"a": "\\ud800", "b": [' + "1," * 900 + "1]}", None, FactsSettings(fields=("a",)))
def test_whatever_comes_facts_are_no_longer_than_it_and_say_what_they_leave_out(
    text: str, given: Any, own: FactsSettings | None
) -> None:
    result = shown(text, given, own)

    assert isinstance(result.content, str)
    assert len(result.content) <= len(text)
    if result.raw is None:
        assert result.content == text
    else:
        assert tokens.estimate(result.content) < result.raw.tokens
        assert f"[{result.raw.left_out} left out" in result.content
        assert f'recall(handle="{HANDLE[:12]}")' in result.content.split("\n")[-1]


@given(texts, inputs, settings)
def test_the_same_result_is_shown_the_same_way_twice(text: str, given: Any, own: FactsSettings | None) -> None:
    assert shown(text, given, own) == shown(text, given, own)


@given(texts, inputs)
def test_what_is_small_stays_as_it_is_and_facts_of_facts_that_are_small_too(text: str, given: Any) -> None:
    once = shown(text, given).content
    assert isinstance(once, str)

    if tokens.estimate(once) <= EAGER.over_tokens:
        assert shown(once, given).content == once


@given(texts, inputs)
def test_each_line_of_facts_is_a_line_of_the_result_or_says_what_is_missing(text: str, given: Any) -> None:
    result = shown(text, given)
    lines = text.split("\n")
    if result.raw is None or kinds.kind(text, lines) not in ("log", "code", "text"):
        return
    assert isinstance(result.content, str)

    for line in result.content.split("\n"):
        cut = CUT.fullmatch(line)
        assert line in lines or MARK.fullmatch(line) or (cut and any(_begins(whole, cut) for whole in lines)), line


def _begins(whole: str, cut: "re.Match[str]") -> bool:
    return whole.startswith(cut[1]) and len(whole) == len(cut[1]) + int(cut[2])


@given(jsons, inputs, settings, st.sampled_from([None, 1, 4]))
def test_facts_of_json_begin_with_json(value: Any, given: Any, own: FactsSettings | None, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    meter = budget.meter(FAMILY)
    wanted = cutting.Wanted(fields=own.fields if own else ())
    cut = cutting.facts(text, wanted, 60_000, meter)

    if cut.left_out.endswith("of JSON"):
        json.loads(cut.text.partition("\n")[0])
    result = shown(text, given, own)
    assert isinstance(result.content, str)
    if result.raw is not None and result.raw.left_out.endswith("of JSON"):
        json.loads(result.content.partition("\n")[0])
