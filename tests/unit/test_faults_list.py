"""docs/faults.md names tests that there are, for every row that it promises."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = {m[1]: re.findall(r"`([\w/]+\.py)::(\w+)`", m[2]) for m in re.finditer(r"^\| ([A-Z]+\d\d) \|(.*)$", PAGE, re.MULTILINE)}
PROMISED = [
    *(f"A{n:02}" for n in range(1, 23)),
    *(f"S{n:02}" for n in range(1, 11)),
    *(f"T{n:02}" for n in range(1, 18)),
    *(f"SEC{n:02}" for n in (*range(9, 21), 30, 44)),
    *(f"H{n:02}" for n in range(1, 11)),
    *(f"J{n:02}" for n in range(1, 14)),
    *(f"D{n:02}" for n in range(1, 16)),
    *(f"P{n:02}" for n in range(1, 15)),
    *(f"C{n:02}" for n in range(1, 5)),
    *(f"K{n:02}" for n in range(1, 13)),
    *(f"SEC{n:02}" for n in range(6, 9)),
    *(f"B{n:02}" for n in range(1, 12)),
    "U12",
    *("U01", "U02", "U03", "U08"),
    *("SEC26", "SEC27", "SEC28", "SEC29", "SEC31"),
    *(f"U{n:02}" for n in (4, 5, 6, 7, 9, 10, 11)),
    *(f"SEC{n:02}" for n in (*range(1, 6), *range(21, 26), 33, 34, *range(41, 44))),
]


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", PROMISED)
def test_every_row_names_tests_that_there_are(row: str) -> None:
    assert ROWS[row]
    assert [f"{file}::{name}" for file, name in ROWS[row] if name not in functions(file)] == []


def test_no_row_stands_twice_and_none_is_unknown() -> None:
    assert re.findall(r"^\| ([A-Z]+\d\d) \|", PAGE, re.MULTILINE) == PROMISED
