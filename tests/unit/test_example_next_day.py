"""The Atlas example one morning later: a day that follows from the first, and a playbook that is true of both."""

import re
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentloop import mailbox
from agentloop.errors import ConfigError
from agentloop.example import SCENES
from tests.unit.mornings import Played, made_up, play, steps_of, written


class Days(NamedTuple):
    """Two mornings of one shop."""

    tuesday: Path
    wednesday: Path
    second: list[Played]


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    scenes = tmp_path_factory.mktemp("scenes")
    tuesday, wednesday = scenes / "first", scenes / "second"
    SCENES["atlas"](tuesday)
    for _ in play(tuesday, steps_of("atlas.playbook.yaml"), "first"):
        pass
    wednesday.mkdir()
    SCENES["atlas-next-day"](wednesday)
    return Days(tuesday, wednesday, list(play(wednesday, steps_of("atlas-next-day.playbook.yaml"), "second")))


def asked(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "orders.db")) as db:
        return db.execute(sql).fetchall()


def test_without_a_first_morning_there_is_no_second(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    SCENES["atlas"](tmp_path / "never-run")

    with pytest.raises(ConfigError, match="'agentloop run atlas' makes one"):
        SCENES["atlas-next-day"](tmp_path / "second")


@pytest.fixture
def finished(days: Days, tmp_path: Path) -> Path:
    """A copy of the first morning, and beside it an empty folder `next`."""
    shutil.copytree(days.tuesday, tmp_path / "first")
    (tmp_path / "next").mkdir()
    return tmp_path / "first"


def test_a_morning_that_only_added_a_line_to_the_handover_was_not_finished(finished: Path) -> None:
    begun = finished.with_name("begun")
    SCENES["atlas"](begun)
    with (begun / "notes/handover.md").open("a") as file:
        file.write("\nI begin.\n")

    SCENES["atlas-next-day"](finished.with_name("next"))

    assert "I begin." not in (finished.with_name("next") / "notes/handover.md").read_text()
    shutil.rmtree(finished)
    finished.with_name("third").mkdir()
    with pytest.raises(ConfigError, match="'agentloop run atlas' makes one"):
        SCENES["atlas-next-day"](finished.with_name("third"))


@pytest.mark.parametrize("path", ["notes/handover.md", "tasks.md", "orders.db"])
@pytest.mark.parametrize("data", [b"\xff\xfe not text, and no database either" * 40, None])
def test_a_morning_that_cannot_be_gone_on_from_is_named(path: str, data: bytes | None, finished: Path) -> None:
    (finished / path).unlink()
    if data is not None:
        (finished / path).write_bytes(data)

    with pytest.raises(ConfigError, match="'agentloop run atlas'") as raised:
        SCENES["atlas-next-day"](finished.with_name("next"))

    assert (path == "notes/handover.md" and data is None) or (str(finished) in str(raised.value) and path in str(raised.value))


def test_the_second_morning_begins_where_the_first_ended(days: Days) -> None:
    for path in ("notes/for-ines.md", "notes/suppliers.md", "site/sunday-mending-box.html", "drafts/how-to-darn-a-heel.md"):
        assert (days.wednesday / path).read_bytes() == (days.tuesday / path).read_bytes()
    first, second = ((day / "logs/shop.log").read_text() for day in (days.tuesday, days.wednesday))
    assert second.startswith(first)


def test_the_first_morning_is_left_as_it_was(days: Days) -> None:
    assert not (days.tuesday / "outbox").exists()
    assert len(list((days.tuesday / "inbox").iterdir())) == 26
    assert "Ines, Tuesday evening" not in (days.tuesday / "notes/handover.md").read_text()


def test_the_letters_were_sent_but_for_the_one_that_ines_telephoned_about(days: Days) -> None:
    sent = [mailbox.opened(p.read_bytes()) for p in (days.wednesday / "outbox").iterdir()]

    assert len(sent) == 17
    assert all(mail.message_id and mail.date and mail.in_reply_to for mail in sent)
    assert not [mail.to for mail in sent if "wettering" in mail.to]


def test_one_of_the_fifteen_orders_was_passed_over(days: Days) -> None:
    monday = "SELECT status, count(*) FROM order_list WHERE day = '2026-11-16' AND country NOT IN ('IE', 'GB') GROUP BY status"

    assert dict(asked(days.wednesday, monday)) == {"paid": 13, "refunded": 1, "pending": 1}


def test_after_the_second_swap_only_italy_cannot_buy(days: Days) -> None:
    log = (days.wednesday / "logs/shop.log").read_text()
    after = log[log.index("postage-2026-11b.csv rows=48") :]

    assert set(re.findall(r"zone '([\w-]+)' not in postage table", after)) == {"EU2"}
    late = asked(days.wednesday, "SELECT country FROM order_list WHERE day = '2026-11-17' AND time > '20:31:10'")
    assert {country for (country,) in late} == {"DE", "FR", "IE"}


def test_the_second_session_reads_the_notes_first_and_asks_for_what_was_left_out(days: Days) -> None:
    first, then = days.second[0], days.second[1]

    assert (first.calls[0].name, first.calls[0].input) == ("read_notes", {"topic": "handover"})
    assert "Tuesday 17 November" in first.answers[0]
    assert then.calls[0].name == "recall"
    assert "Monday's orders: all confirmed" in then.answers[0]


def test_it_is_short_and_nothing_goes_wrong(days: Days) -> None:
    assert 8 <= len(days.second) <= 20
    assert [error for step in days.second for error in step.errors] == []


def test_it_says_no_number_that_it_was_not_shown(days: Days) -> None:
    assert [(step.said, wrong) for step in days.second if (wrong := made_up(step))] == []


def test_the_guide_is_put_on_the_site_with_the_three_changes_that_ines_wants(days: Days) -> None:
    draft = (days.wednesday / "drafts/how-to-darn-a-heel.md").read_text().split()
    page = written(days.second, "site/journal/how-to-darn-a-heel.md").split()

    gone, new = Counter(draft) - Counter(page), Counter(page) - Counter(draft)

    assert {"draft:", "[Ines:"} <= gone.keys()
    assert sum(gone.values()) < 25
    assert {"three", "half", "hours", "five"} <= new.keys()
    assert sum(new.values()) < 20


def test_its_briefing_counts_what_was_done(days: Days) -> None:
    done = Counter(call.name for step in days.second for call in step.calls)
    briefing = " ".join(days.second[-1].said.split())

    assert f"Six new mails read, {done['write_reply'] + done['write_mail']} drafts." in briefing
    assert f"{done['add_task']} tasks added." in briefing
    assert len(briefing.split()) < 300


def test_it_leaves_notes_of_its_own(days: Days) -> None:
    for topic in ("handover", "checkout", "parcels"):
        assert "## Wednesday 18 November" in (days.wednesday / f"notes/{topic}.md").read_text()
