"""The tools of the Atlas example, and the guard that their paths go through."""

import os
import re
import threading
from collections import Counter
from contextvars import copy_context
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agentloop import rooted
from agentloop.adapters.plugins import load_tools
from agentloop.example.ledgers import orders, orders_csv
from agentloop.example.shop import Order
from agentloop.tooling import CurrentCall, Registry, answering

TOOLS = Registry(load_tools(Path(__file__).parents[2] / "tools")).tools


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "notes.md").write_text("one\ntwo\nthree\n")
    (tmp_path / "shop-of-another").mkdir()
    (tmp_path / "shop-of-another" / "secret.txt").write_text("secret")
    return folder


def run(root: Path, name: str, key: str = "key-1", **arguments: Any) -> str:
    def call() -> str:
        answering(CurrentCall("session", "call", key, root))
        return str(TOOLS[name].sdk.call(arguments))

    return copy_context().run(call)


# The guard


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/hostname", "absolute"),
        ("../shop-of-another/secret.txt", r"\.\."),
        ("inbox/../../shop-of-another/secret.txt", r"\.\."),
        ("/proc/self/environ", "absolute"),
        ("notes\x00.md", "NUL"),
        (".env", "hidden"),
        (".git/config", "hidden"),
        ("link-out", "outside"),
        ("folder-out/secret.txt", "outside"),
        ("link-to-proc", "outside"),
        ("fifo", "not a regular file"),
        (".", "folder"),
        ("loop", "cannot be used"),
    ],
)
def test_a_path_that_leads_away_is_refused_for_reading_and_writing(root: Path, path: str, why: str) -> None:
    (root / "link-out").symlink_to(root.parent / "shop-of-another" / "secret.txt")
    (root / "folder-out").symlink_to(root.parent / "shop-of-another")
    (root / "link-to-proc").symlink_to("/proc/self/environ")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "fifo")

    with pytest.raises(ValueError, match=why):
        rooted.read_text(root, path)
    with pytest.raises(ValueError, match=re.escape(path[:5])):
        rooted.write_text(root, path, "mine")

    assert (root.parent / "shop-of-another" / "secret.txt").read_text() == "secret"


@pytest.mark.parametrize(
    "path",
    [
        "sessions/atlas/log.jsonl",
        "Sessions/atlas/log.jsonl",
        "tools/files.txt",
        "prompts/atlas.md",
        "agentloop.toml",
        "deep/down/agentloop.toml",
        "pyproject.toml",
        "CLAUDE.md",
        "helper.py",
        "HELPER.PY",
        "install.sh",
        ".env",
        ".git/hooks/pre-commit",
        "./.bashrc",
        "to-sessions/log.jsonl",
    ],
)
def test_what_steers_the_agent_is_not_for_tools_to_write(root: Path, path: str) -> None:
    (root / "sessions").mkdir()
    (root / "to-sessions").symlink_to(root / "sessions")

    with pytest.raises(ValueError, match=r"not for tools|hidden"):
        run(root, "write_file", path=path, text="mine")

    assert [p for p in root.rglob("*") if p.is_file()] == [root / "notes.md"]


@pytest.mark.parametrize("name", ["list_files", "search_files"])
def test_a_folder_outside_is_neither_listed_nor_searched(root: Path, name: str) -> None:
    (root / "folder-out").symlink_to(root.parent / "shop-of-another")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "secret.txt").write_text("secret")
    words = {"words": "secret"} if name == "search_files" else {}

    with pytest.raises(ValueError, match="outside"):
        run(root, name, folder="folder-out", **words)

    assert "secret.txt" not in run(root, name, **words)


def test_a_link_that_is_put_in_place_after_the_check_opens_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "late").symlink_to(root.parent / "shop-of-another" / "secret.txt")
    (root / "late-folder").symlink_to(root.parent / "shop-of-another")
    monkeypatch.setattr(rooted, "rooted", lambda path, root: root / path)

    for path in ("late", "late-folder/secret.txt"):
        with pytest.raises(ValueError, match="cannot be used"):
            rooted.read_text(root, path)


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "today.md").symlink_to(root / "notes.md")

    assert run(root, "read_file", path="today.md") == "one\ntwo\nthree"


def test_a_file_that_is_too_large_is_neither_read_nor_written(root: Path) -> None:
    with open(root / "large.log", "wb") as file:
        file.truncate(rooted.MAX_BYTES + 1)

    with pytest.raises(ValueError, match="20 MB"):
        run(root, "read_file", path="large.log")
    with pytest.raises(ValueError, match="20 MB"):
        run(root, "write_file", path="larger.txt", text="x" * (rooted.MAX_BYTES + 1))
    assert "1 files are too large" in run(root, "search_files", words="anything")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)

    with pytest.raises(ValueError, match="No space left"):
        run(root, "write_file", path="notes.md", text="new")

    assert os.listdir(root) == ["notes.md"]
    assert (root / "notes.md").read_text() == "one\ntwo\nthree\n"


def test_bytes_that_are_not_utf_8_are_replaced(root: Path) -> None:
    (root / "old.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9\r\n")

    assert rooted.read_text(root, "old.txt") == "caf\ufffd\n"


# Files


def test_a_range_of_lines_can_be_read(root: Path) -> None:
    assert run(root, "read_file", path="notes.md", first_line=2, last_line=2) == "two"


def test_a_range_that_is_not_there_is_an_error_that_names_the_length(root: Path) -> None:
    with pytest.raises(ValueError, match="has 3 lines"):
        run(root, "read_file", path="notes.md", first_line=9)


def test_a_missing_file_is_an_error_that_names_its_neighbours(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"did you mean notes\.md\?"):
        run(root, "read_file", path="note.md")


def test_a_search_finds_lines_with_all_words_in_any_order_and_case(root: Path) -> None:
    run(root, "write_file", path="logs/shop.log", text="ok\nERROR checkout W1\nerror feed\n")

    found = run(root, "search_files", words="w1 error")

    assert found == "logs/shop.log:2: ERROR checkout W1"


def test_words_are_never_a_regular_expression(root: Path) -> None:
    run(root, "write_file", path="a.txt", text=f"{'a' * 5_000}!\n(a+)+$\n")

    assert run(root, "search_files", words="(a+)+$") == "a.txt:2: (a+)+$"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list_files", {"folder": "empty"}),
        ("read_file", {"path": "blank.txt"}),
        ("read_file", {"path": "nothing.txt"}),
        ("search_files", {"words": "absent"}),
    ],
)
def test_an_empty_answer_says_so(root: Path, name: str, arguments: dict[str, Any]) -> None:
    (root / "empty").mkdir()
    (root / "blank.txt").write_text("\n \n")
    (root / "nothing.txt").write_text("")

    assert run(root, name, **arguments).strip()


def test_a_file_that_is_no_text_is_not_searched(root: Path) -> None:
    (root / "shop.db").write_bytes(b"SQLite\0 anything\n")

    assert run(root, "search_files", words="anything") == "No line in 2 files holds all of: anything."


def test_a_passage_is_replaced_and_the_rest_is_left(root: Path) -> None:
    assert run(root, "replace_text", path="notes.md", old="two\n", new="2\n") == "Replaced in notes.md, line 2."

    assert (root / "notes.md").read_text() == "one\n2\nthree\n"


@pytest.mark.parametrize(("old", "why"), [("e", "3 times"), ("four", "0 times"), ("", "is empty")])
def test_a_passage_that_does_not_stand_there_once_is_refused(root: Path, old: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        run(root, "replace_text", path="notes.md", old=old, new="x")

    assert (root / "notes.md").read_text() == "one\ntwo\nthree\n"


# Tables


@pytest.fixture(scope="module")
def books() -> tuple[tuple[Order, ...], str]:
    rng = Random(7)
    made, _ = orders(rng)
    return made, orders_csv(rng, made)


@pytest.fixture
def shop(root: Path, books: tuple[tuple[Order, ...], str]) -> Path:
    (root / "orders.csv").write_text(books[1], encoding="utf-8")
    return root


def cells(answer: str) -> list[list[str]]:
    return [line.split(" | ") for line in answer.splitlines()[1:-1]]


def test_groups_are_counted_once_for_each_true_order(shop: Path, books: tuple[tuple[Order, ...], str]) -> None:
    answer = run(shop, "table_summary", path="orders.csv", group_by="status")

    assert {status: int(n) for status, n in cells(answer)} == Counter(o.status for o in books[0])
    assert answer.endswith("rows skipped: 6 malformed, 16 exact repeats]")


def test_a_sum_is_exact_to_the_cent(shop: Path, books: tuple[tuple[Order, ...], str]) -> None:
    true: Counter[str] = Counter()
    for order in books[0]:
        true[order.customer.country] += order.cents

    answer = run(shop, "table_summary", path="orders.csv", group_by="country", measure="total", how="sum")

    assert {country: Decimal(total) * 100 for country, total, _ in cells(answer)} == true


def test_dates_in_both_forms_are_one_day(shop: Path, books: tuple[tuple[Order, ...], str]) -> None:
    true = Counter(o.at.date().isoformat() for o in books[0] if o.at.date().isoformat() >= "2026-11-01")

    answer = run(shop, "table_summary", path="orders.csv", where=["date>=2026-11-01"], group_by="date", sort="name")

    assert [(day, int(n)) for day, n in cells(answer)] == sorted(true.items())


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("city=Cork", ["1", "3"]),
        ("city!=cork", ["2", "4"]),
        ("city~or", ["1", "3", "4"]),
        ("price>9.5", ["2", "3"]),
        ("price<=9.50", ["1"]),
        ("day>2026-01-31", ["3", "4"]),
        ("day < '2026-02-01'", ["1", "2"]),
    ],
)
def test_conditions_compare_numbers_dates_and_text(root: Path, condition: str, ids: list[str]) -> None:
    table = "id,city,price,day\n1, Cork ,9.50,31/01/2026\n2,Lyon,10,2026-01-30\n3,CORK,100,01/02/2026\n4,Porto,n/a,2026-03-01\n"
    (root / "t.csv").write_text(table)

    assert [row[0] for row in cells(run(root, "table_rows", path="t.csv", where=[condition]))] == ids


@pytest.mark.parametrize(("how", "result"), [("sum", "30.5"), ("mean", "10.17"), ("min", "0.5"), ("max", "20")])
def test_a_measure_leaves_out_what_is_no_number_and_says_so(root: Path, how: str, result: str) -> None:
    (root / "t.csv").write_text("id,price\n1,10\n2,20\n3,0.5\n4,n/a\n5,NaN\n")

    answer = run(root, "table_summary", path="t.csv", measure="price", how=how)

    assert cells(answer) == [["all", result, "3"]]
    assert "2 without a number in 'price'" in answer


def test_a_stray_quotation_mark_spoils_one_row_only(root: Path) -> None:
    (root / "t.csv").write_text('id,name\n1,"open\n2,"a, b"\n3,c\n')

    assert cells(run(root, "table_rows", path="t.csv")) == [["1", "open"], ["2", "a, b"], ["3", "c"]]


def test_the_last_rows_can_be_asked_for(shop: Path, books: tuple[tuple[Order, ...], str]) -> None:
    answer = run(shop, "table_rows", path="orders.csv", columns=["id"], limit=2, last=True)

    assert cells(answer) == [[o.id] for o in books[0][-2:]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group_by": "state"}, "no column 'state'; it has id, date"),
        ({"where": ["status"]}, "not a condition"),
        ({"how": "sum"}, "needs a measure"),
    ],
)
def test_a_wrong_question_to_a_table_says_what_is_right(shop: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(shop, "table_summary", path="orders.csv", **arguments)


# Tasks and drafts


def test_a_repeated_call_adds_its_task_once(root: Path) -> None:
    first = run(root, "add_task", text="Bram: count the wax", due="2026-11-18")
    again = run(root, "add_task", text="Bram: count the wax", due="2026-11-18")

    assert first == again == "On the list: - [ ] 1. Bram: count the wax (due 2026-11-18)"
    assert (root / "tasks.md").read_text().count("count the wax") == 1


def test_the_same_words_in_another_call_are_another_task(root: Path) -> None:
    run(root, "add_task", key="a", text="Bram: count the wax")
    run(root, "add_task", key="b", text="Bram: count the wax")

    assert (root / "tasks.md").read_text().count("count the wax") == 2


def test_tasks_that_are_added_side_by_side_are_all_kept(root: Path) -> None:
    threads = [
        threading.Thread(target=run, args=(root, "add_task", f"key-{n}"), kwargs={"text": f"task {n}"}) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    numbers = [line.split(".")[0] for line in (root / "tasks.md").read_text().splitlines() if line.startswith("- [ ]")]
    assert numbers == [f"- [ ] {n}" for n in range(1, 13)]


def test_a_task_keeps_to_one_line_and_to_a_real_day(root: Path) -> None:
    assert run(root, "add_task", text="two\nlines\u2028three") == "On the list: - [ ] 1. two lines three"
    for due in ("tomorrow", "20261118", "2026-02-30"):
        with pytest.raises(ValueError, match="YYYY-MM-DD"):
            run(root, "add_task", text="x", due=due)


def test_a_finished_task_can_be_finished_again(root: Path) -> None:
    run(root, "add_task", text="Bram: count the wax")

    assert run(root, "finish_task", number=1) == "Task 1 is done."
    assert run(root, "finish_task", number=1) == "Task 1 was done already."
    with pytest.raises(ValueError, match="no task 7; the tasks are 1"):
        run(root, "finish_task", number=7)


def test_a_repeated_call_saves_its_draft_once(root: Path) -> None:
    mail = {"to": "linnea@mail.example.com", "subject": "You have an order", "body": "Dear Linnea,\n\nyes."}

    assert run(root, "save_draft", **mail) == run(root, "save_draft", **mail)
    run(root, "save_draft", key="another", **mail)

    drafts = sorted((root / "drafts").iterdir())
    assert len(drafts) == 2
    assert drafts[0].read_text() == "To: linnea@mail.example.com\nSubject: You have an order\n\nDear Linnea,\n\nyes.\n"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"to": "Linnea <linnea@mail.example.com>"}, "one address"),
        ({"to": "a@example.com, b@example.com"}, "one address"),
        ({"subject": "Hello\nBcc: everybody@example.com"}, "one line"),
        ({"body": "  "}, "empty"),
    ],
)
def test_a_draft_has_one_address_one_subject_line_and_a_text(root: Path, wrong: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(root, "save_draft", **({"to": "a@example.com", "subject": "Hello", "body": "Text"} | wrong))
