"""Whether an answer is right: the graders that need no model.

Regexes run in RE2, whose time grows with the text and never with the regex's choices; those inside a JSON schema too.
"""

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from agentloop.errors import ConfigError
from agentloop.fitting import check, linear, misfit
from agentloop.routing.cases import AsSet, Case, Exact, Judge, Number, Python, Regex, Schema
from agentloop.types.base import parsed

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\d|\d)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_FENCE = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_NOTHING = ("", "\x01")
"""Answers that say nothing: a regex that is found in both of them is found in all."""
Function = Callable[[str, Any], object]


class Grade(NamedTuple):
    """What a grader says."""

    passed: bool
    detail: str = ""


def graded(case: Case, answer: str, function_of: Callable[[str], Function]) -> Grade:
    """Whether an answer is right. `function_of` finds a function of the workspace. Raises ConfigError for a case that is wrong.

    A case that a model grades is none of this function's.
    """
    match case.grader:
        case None | Exact():
            grader = case.grader or Exact()
            return _same(_folded(answer, grader.ignore_case), _folded(_words(case), grader.ignore_case))
        case AsSet(ignore_case=ignore_case):
            return _same_set(answer, case, ignore_case)
        case Regex(whole=whole):
            return _matches(answer, case, whole)
        case Schema(json_schema=schema):
            return _fits(answer, schema, case)
        case Number() as number:
            return _near(answer, case, number)
        case Python(function=name):
            return _called(function_of(name), name, answer, case)
        case Judge():
            raise ValueError("a model grades this case")


def _same(found: str, wanted: str) -> Grade:
    return Grade(found == wanted, "" if found == wanted else f"expected {wanted[:80]!r}, found {found[:80]!r}")


def _folded(text: str, ignore_case: bool) -> str:
    return text.strip().casefold() if ignore_case else text.strip()


def _words(case: Case) -> str:
    if not isinstance(case.expected, str):
        if isinstance(case.expected, int | float) and not isinstance(case.expected, bool):
            return str(case.expected)
        raise ConfigError(f"case '{case.id}': its grader expects a text in 'expected', found {case.expected!r}")
    return case.expected


def _same_set(answer: str, case: Case, ignore_case: bool) -> Grade:
    if case.expected is None:
        raise ConfigError(f"case '{case.id}': its grader expects items in 'expected', found none")
    wanted = {_folded(i, ignore_case) for i in _items(case.expected)}
    found = {_folded(i, ignore_case) for i in _items(answer)}
    if found == wanted:
        return Grade(True)
    missing, surplus = sorted(wanted - found)[:5], sorted(found - wanted)[:5]
    return Grade(False, f"missing {missing}, not expected {surplus}")


def _items(value: Any) -> list[str]:
    """The items of a list, or of a text: a JSON list, or what stands between line ends or else commas."""
    if isinstance(value, list):
        return [i if isinstance(i, str) else json.dumps(i, sort_keys=True, ensure_ascii=False) for i in value]
    text = _unfenced(str(value)).strip()
    try:
        listed = parsed(text) if text.startswith("[") else None
    except ValueError:
        listed = None
    if isinstance(listed, list):
        return _items(listed)
    parts = text.split("\n") if "\n" in text else text.split(",")
    return [p.strip().removeprefix("- ").strip() for p in parts if p.strip()]


def _matches(answer: str, case: Case, whole: bool) -> Grade:
    pattern = _words(case)
    compiled = linear(pattern)
    find = compiled.fullmatch if whole else compiled.search
    if all(find(nothing) is not None for nothing in _NOTHING):
        raise ConfigError(f"case '{case.id}': every answer is right by the regex {pattern[:80]!r}; say what has to stand there")
    found = find(answer.strip() if whole else answer)
    return Grade(found is not None, "" if found else f"/{pattern[:80]}/ is not found")


def _fits(answer: str, schema: dict[str, Any], case: Case) -> Grade:
    try:
        value = parsed(_unfenced(answer))
    except ValueError as e:
        return Grade(False, f"no JSON: {e}")
    try:
        check(schema)
    except ConfigError as e:
        raise ConfigError(f"case '{case.id}', the schema of its grader: {e}") from e
    if (wrong := misfit(value, schema)) is not None:
        return Grade(False, wrong)
    if case.expected is not None and value != case.expected:
        return Grade(False, f"expected {json.dumps(case.expected)[:80]}, found {json.dumps(value)[:80]}")
    return Grade(True)


def _near(answer: str, case: Case, number: Number) -> Grade:
    wanted = _decimal(str(case.expected))
    if wanted is None:
        raise ConfigError(f"case '{case.id}': its grader expects a number in 'expected', found {case.expected!r}")
    found = _numbers(answer)
    if not found:
        return Grade(False, "the answer has no number")
    room = max(Decimal(str(number.tolerance)), Decimal(str(number.relative)) * abs(wanted))
    off = abs(found[-1] - wanted)
    return Grade(off <= room, "" if off <= room else f"expected {wanted} within {room}, found {found[-1]}")


def _numbers(text: str) -> Sequence[Decimal]:
    return [n for written in _NUMBER.findall(text) if (n := _decimal(written.replace(",", ""))) is not None]


def _decimal(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _called(function: Function, name: str, answer: str, case: Case) -> Grade:
    try:
        said = function(answer, case.expected)
    except Exception as e:
        raise ConfigError(
            f"grader '{name}' raised {type(e).__name__} on case '{case.id}': {str(e)[:200]}\n"
            "the answer is kept: mend the grader and run 'route eval' again, nothing is paid twice"
        ) from e
    if not isinstance(said, bool):
        raise ConfigError(f"grader '{name}' is expected to give True or False, found {type(said).__name__} (case '{case.id}')")
    return Grade(said, "" if said else f"{name} said no")


def _unfenced(text: str) -> str:
    """What stands in a fence of Markdown, where that is all there is."""
    fenced = _FENCE.match(text)
    return fenced[1] if fenced else text
