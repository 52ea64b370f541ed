import pytest

from agentloop.policies.facts import kinds

GO = """package shop

import (
	"fmt"
)

// Pay pays.
func Pay(sum int) error {
	if sum < 0 {
		return fmt.Errorf("no")
	}
	return nil
}"""


def numbered(text: str) -> str:
    return "\n".join(f"{n:6}→{line}" for n, line in enumerate(text.split("\n"), 1))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '{"a": [1, 2]}'),
        ("json", '[\n  {"a": 1},\n  {"a": 2}\n]'),
        ("json_lines", '{"a": 1}\n{"a": 2}\n'),
        ("html", "<!DOCTYPE html>\n<html><body><p>x</p></body></html>"),
        ("html", "<div>one</div>"),
        ("table", "id,name,total\n" + "\n".join(f"{n},n{n},{n * 2}" for n in range(9))),
        ("table", "| a | b | c |\n|---|---|---|\n" + "\n".join("| 1 | 2 | 3 |" for _ in range(9))),
        ("table", "\n".join(f"{n}\tx{n}\ty" for n in range(9))),
        ("table", "\n".join(f"k{n}\tx{n}" for n in range(9))),
        ("text", "\n".join(f"{n}\tA line of a letter" for n in range(9))),
        ("log", "\n".join(f"2026-01-02 10:00:{n:02} INFO took {n} ms" for n in range(20))),
        ("log", "\n".join(f"tests/test_box.py::test_{n} PASSED" for n in range(20))),
        ("log", "=== RUN   TestPay\n--- FAIL: TestPay (0.01s)\n    shop_test.go:12: no\nFAIL\nFAIL shop 0.02s"),
        ("code", GO),
        ("code", numbered(GO)),
        (
            "code",
            "import re\n\n\nclass Box:\n    def run(self):\n        for n in range(3):\n            return re.compile('x')\n",
        ),
        ("text", "# A shop\n\nIt sells scarves, hats and gloves.\n\nIt is open on weekdays.\n"),
        ("text", "Dear all,\nthe box, which was late, came today, at last, and it was empty.\nYours, Ada"),
        ("text", ""),
    ],
)
def test_the_kind_of_a_text_is_told_from_its_shape(kind: str, text: str) -> None:
    assert kinds.kind(text, text.split("\n")) == kind
