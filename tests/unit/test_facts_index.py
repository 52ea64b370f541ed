import pytest

from agentloop.policies.facts import budget, index
from tests.unit.facts_of import FAMILY

METER = budget.meter(FAMILY)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see https://shop.example/a?b=1.", ["https://shop.example/a?b=1"]),
        ("mail ada@shop.example, now", ["ada@shop.example"]),
        ("open src/box/lid.py:12", ["src/box/lid.py"]),
        ("in lid.py and a.tar.gz", ["lid.py", "a.tar.gz"]),
        (r"at C:\Users\ada\notes.txt today", [r"C:\Users\ada\notes.txt"]),
        ("commit 3f2a9c1 by 7", ["3f2a9c1"]),
        ("on 2026-01-02 paid 1234 of 99", ["2026-01-02", "1234"]),
        ("order A-1042 and #170", ["A-1042", "#170"]),
        ("call getTotal and sum_of and MAX_SIZE", ["getTotal", "sum_of", "MAX_SIZE"]),
        ("Ada Lovelace wrote it", ["Ada Lovelace"]),
        ('raise Error("could not open the box")', ["could not open the box"]),
        ('"a\\nfirstName\\u00e9x"', ["firstNameéx"]),
        ("plain words of the language only", []),
    ],
)
def test_exact_values_of_many_kinds_are_found(text: str, found: list[str]) -> None:
    assert set(found) <= set(index.values(text, dotted=True))
    assert found or not index.values(text, dotted=True)


def test_in_code_a_dot_joins_two_names_but_not_those_of_a_file() -> None:
    assert index.values("strategy.getName(settings.json, os.path)", dotted=False) == ["getName", "settings.json"]


def test_values_that_are_shown_anyway_are_not_repeated() -> None:
    found = index.values("src/box/lid.py lid.py getTotal", dotted=True)

    made = index.index(found, "see src/box/lid.py", "", (), 100_000, METER, dotted=True)

    assert (made.names, made.more) == (("getTotal",), 0)


def test_values_that_the_call_names_or_that_stand_near_a_match_come_first() -> None:
    found = ["getTotal", "sum_of", "getRefund"]

    made = index.index(found, "", "sum_of", ("refund",), 100_000, METER, dotted=True)

    assert made.names == ("getRefund", "sum_of", "getTotal")


def test_what_does_not_fit_is_counted() -> None:
    found = [f"value_{n}" for n in range(100)]

    made = index.index(found, "", "", (), 50_000, METER, dotted=True)

    assert 5 < len(made.names) < 20
    assert made.lines() == [f"[values left out: {' '.join(made.names)}; {100 - len(made.names)} more]"]
