import pytest

from agentloop.policies.facts import code_facts
from tests.unit.facts_of import facts

BODY = [
    "        total = 0",
    "        for item in self.items:",
    "            total += item.price * item.count",
    "        return total",
]
SOURCE = ["import re", "", ""]
for number in range(40):
    SOURCE += [f"class Basket{number}:", f"    def sum_of_{number}(self):", *BODY, ""]


def numbered(lines: list[str]) -> list[str]:
    return [f"{n:6}→{line}" for n, line in enumerate(lines, 1)]


@pytest.mark.parametrize("lines", [SOURCE, numbered(SOURCE)], ids=["plain", "numbered"])
def test_definitions_are_shown_outermost_first_and_the_names_of_the_others_stand_in_the_index(lines: list[str]) -> None:
    shown = facts("\n".join(lines), at_most=700)

    assert [line for line in lines if "class Basket" in line][:15] == [line for line in shown if "class Basket" in line][:15]
    (index,) = [line for line in shown if line.startswith("[values left out")]
    assert "sum_of_12" in index


def test_a_line_with_a_rare_word_of_the_call_is_shown() -> None:
    lines = [*SOURCE]
    lines[150] = "            total += self.discount_of(item)"

    assert lines[150] in facts("\n".join(lines), {"pattern": "discount_of"})


@pytest.mark.parametrize(
    "line",
    [
        "def run(self):", "async def run():", "class Box:", "func (b *Box) Run() error {", "pub(crate) fn run() {",
        "export default function run() {", "export const run = () => {", "interface Box {", "type Box struct {",
        "public static void main(String[] args) {", "impl Box {", "CREATE TABLE box (", "static int run(char *name) {",
        "describe('a box', () => {", "MAX_SIZE = 3",
    ],
)  # fmt: skip
def test_a_definition_is_seen_in_many_languages(line: str) -> None:
    assert code_facts.defines(line)


@pytest.mark.parametrize(
    "line", ["if (box) {", "return box", "} else {", "box.run()", "# class of its own", "for (int i = 0; i < 3; i++) {", ""]
)
def test_other_lines_are_no_definitions(line: str) -> None:
    assert not code_facts.defines(line)
