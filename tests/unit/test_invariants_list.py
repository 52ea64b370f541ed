"""docs/invariants.md names tests that there are, for every invariant."""

import re

import pytest

from tests.unit.test_faults_list import TESTS, functions

PAGE = (TESTS.parent / "docs" / "invariants.md").read_text(encoding="utf-8")
ROWS = {int(m[1]): m[2] for m in re.finditer(r"^\| (\d+) \|(.*)$", PAGE, re.MULTILINE)}
TO_COME: dict[int, str] = {}


def test_every_invariant_stands_there_once_and_in_order() -> None:
    assert [int(n) for n in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == list(range(1, 31))


@pytest.mark.parametrize("number", range(1, 31))
def test_every_invariant_names_tests_that_there_are(number: int) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", ROWS[number])

    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []
    assert bool(named) != (number in TO_COME)
    assert TO_COME.get(number, "") in ROWS[number]
