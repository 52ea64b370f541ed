from tests.unit.facts_of import facts

CALM = [f"2026-01-02 10:{n // 60:02}:{n % 60:02} INFO worker-{n % 7} job {n * 37} took {n % 90} ms" for n in range(900)]
FAULT = [
    "2026-01-02 10:08:00 INFO connecting to the store",
    "2026-01-02 10:08:00 ERROR payment failed for order A-1042",
    "Traceback (most recent call last):",
    '  File "pay.py", line 12, in pay',
    "ValueError: negative sum",
]
LOG = "\n".join([*CALM[:480], *FAULT, *CALM[480:]])


def test_the_first_errors_are_shown_with_their_surroundings() -> None:
    shown = facts(LOG, at_most=500)

    at = shown.index(FAULT[0])
    assert shown[at : at + 5] == FAULT


def test_the_beginning_and_the_end_are_shown() -> None:
    shown = facts(LOG)

    assert shown[0] == CALM[0]
    assert CALM[-1] in shown


def test_lines_that_come_again_with_other_numbers_are_counted() -> None:
    assert "[900 lines are like line 1]" in facts(LOG)


def test_what_the_call_names_is_shown() -> None:
    shown = facts("\n".join(CALM), {"job": 37 * 700})

    assert CALM[700] in shown


def test_of_test_output_the_failures_and_the_summary_are_shown() -> None:
    lines = [f"tests/test_box.py::test_number_{n} PASSED" for n in range(400)]
    lines[200] = "tests/test_box.py::test_the_lid FAILED"
    lines.append("=== 1 failed, 399 passed in 2.1s ===")

    assert {lines[200], lines[-1]} <= set(facts("\n".join(lines)))
