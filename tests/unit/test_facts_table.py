from tests.unit.facts_of import NOTE, facts

STATES = ("paid", "open", "paid", "void")
ROWS = [f'O-{n},{STATES[n % 4]},{n}.50,"Ada, {n}"' for n in range(300)]
CSV = "\n".join(["id,state,total,buyer", *ROWS])


def test_a_table_is_shown_by_its_header_its_first_and_last_rows_and_the_row_asked_about() -> None:
    shown = facts(CSV, {"order": "O-142"})

    assert shown[:2] == ["id,state,total,buyer", ROWS[0]]
    assert {ROWS[142], ROWS[-1]} <= set(shown)


def test_the_rows_are_counted_and_each_column_is_summed_up() -> None:
    shown = facts(CSV)

    assert "[300 rows; columns: id, state, total, buyer]" in shown
    assert "[state: paid ×150, open ×75, void ×75]" in shown
    assert f"[total: 0.5 to 299.5, sum {sum(range(300)) + 150:g}]" in shown


def test_a_table_in_markdown_is_read_too() -> None:
    shown = facts("\n".join(["| id | n |", "|----|---|", *(f"| X-{n} | {n} |" for n in range(200))]))

    assert "[200 rows; columns: id, n]" in shown


def test_gaps_between_rows_give_their_line_numbers() -> None:
    shown = facts(CSV, {"order": "O-142"})

    at = shown.index(ROWS[142])
    assert shown[at - 1].endswith("-143]")
    assert shown[at + 1].startswith("[… 145-")
    assert shown[-1].endswith(f" of 301 lines {NOTE}")
