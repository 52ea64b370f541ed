"""`docs/emulator.md` says which rule is held by which test, and which rests on what is unverified: it must stay true."""

from __future__ import annotations

import re
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import pytest

from agentloop.emulator import EmulatorSettings, Playbook
from agentloop.emulator.faults import KINDS, Faults

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
SOURCES = [p.read_text(encoding="utf-8") for p in (ROOT / "agentloop" / "emulator").glob("*.py")]
TESTS = {name for p in (ROOT / "tests").rglob("*.py") for name in re.findall(r"^def (test_\w+)", p.read_text("utf-8"), re.M)}
RULES = range(1, 68)


class Row(NamedTuple):
    rule: int
    says: str
    test: str
    status: str
    unverified: str


def rows() -> list[Row]:
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in DOCS.splitlines() if re.match(r"\| \d+ \|", line)]
    return [Row(int(rule), *rest) for rule, *rest in cells]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.S | re.M)


def test_every_rule_stands_once_in_the_table() -> None:
    assert [row.rule for row in rows()] == list(RULES)
    assert not [row.rule for row in rows() if not row.says or not row.status]


def test_every_rule_has_a_test_of_its_number_that_exists() -> None:
    named = {row.rule: row.test.strip("`") for row in rows()}

    assert not [test for test in named.values() if test not in TESTS]
    assert not [rule for rule, test in named.items() if not test.startswith(f"test_rule_{rule:02}_")]


def test_the_rules_that_strict_mode_warns_of_are_those_that_the_table_marks() -> None:
    noted = {int(rule) for source in SOURCES for rule in re.findall(r"\.note\(\s*(\d+),", source)}

    assert {row.rule for row in rows() if row.unverified} == noted


def test_the_settings_in_the_table_exist() -> None:
    named = [name for row in rows() for name in re.findall(r"`([a-z_0-9.]+)`", row.unverified) if name != "display"]
    settings = [name for name in named if name not in ("speed", "inference_geo")]

    assert len(settings) > 8
    for name in settings:
        attrgetter(name)(EmulatorSettings())


def test_no_test_name_of_a_rule_is_used_twice() -> None:
    names = [
        name for p in (ROOT / "tests").rglob("*.py") for name in re.findall(r"^def (test_rule_\w+)", p.read_text("utf-8"), re.M)
    ]

    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_the_example_of_the_fixture_runs(pytester: pytest.Pytester) -> None:
    [example] = blocks("python")
    pytester.makepyfile(example)

    pytester.runpytest_subprocess("-p", "agentloop.pytest_plugin", "--strict-markers").assert_outcomes(passed=2)


def test_the_example_of_a_playbook_is_one(tmp_path: Path) -> None:
    example, _ = blocks("yaml")
    path = tmp_path / "book.yaml"
    path.write_text(example)

    book = Playbook.load(path)

    assert book.reply({"messages": [{"role": "user", "content": "which files?"}]}).content[1]["input"] == {"command": "ls"}
    assert book.reply({"messages": [{"role": "user", "content": "a.py"}]}).content[0]["text"] == "There is Python in it."


def test_the_example_of_a_plan_of_faults_is_one(tmp_path: Path) -> None:
    _, example = blocks("yaml")
    path = tmp_path / "faults.yaml"
    path.write_text(example)

    plan = Faults.load(path)

    assert [f.fault for n in (3, 5, 8) if (f := plan.at("messages", n))] == ["529", "429", "cut_stream"]
    assert plan.at("batches", 1) is not None


def test_every_fault_is_in_the_table() -> None:
    words = set(re.findall(r"`([a-z_0-9]+)`", DOCS))

    assert {kind for kind in KINDS if not kind.isdecimal()} <= words
