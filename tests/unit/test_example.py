"""The Atlas example: a business that hangs together, and a scripted morning that is true of it."""

import email
import hashlib
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from email.policy import default
from pathlib import Path

import pytest
import yaml

from agentloop import mailbox
from agentloop.adapters.memory import MemoryBlobs
from agentloop.adapters.plugins import load_tools
from agentloop.adapters.recall import recall_tool
from agentloop.adapters.toolbox import Toolbox
from agentloop.agents import agent_file
from agentloop.core import prefix, tokens
from agentloop.core.prefix import volatile
from agentloop.example import SCENES
from agentloop.example.business import business
from agentloop.example.starter import FILES
from agentloop.tooling import Registry
from agentloop.types.blocks import Call
from agentloop.types.request import Prefix
from tests.unit.mornings import REPOSITORY, Played, made_up, play, rows, steps_of, written

STEPS = steps_of("atlas.playbook.yaml")
PAGE = "site/sunday-mending-box.html"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return business()


# The business


def test_the_same_seed_writes_the_same_bytes_in_every_process_and_locale(tmp_path: Path) -> None:
    SCENES["atlas"](tmp_path / "here")
    code = "import sys; from pathlib import Path; from agentloop.example import SCENES; SCENES['atlas'](Path(sys.argv[1]))"
    strange = {"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "C", "PYTHONHASHSEED": "271", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu"}

    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], env={**os.environ, **strange}, check=True)

    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def digests(folder: Path) -> dict[str, str]:
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*"))}
    return {name: digest(p) if p.is_file() else "folder" for name, p in found.items()}


def digest(file: Path) -> str:
    """Of a database what it holds: its bytes depend on the version of SQLite."""
    if file.suffix != ".db":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    with closing(sqlite3.connect(file)) as db:
        return hashlib.sha256("\n".join(db.iterdump()).encode()).hexdigest()


def test_another_seed_is_another_business_that_is_whole_too(files: dict[str, str]) -> None:
    other = business(8)

    assert other.keys() == files.keys()
    assert other["exports/orders.csv"] != files["exports/orders.csv"]
    assert not any(re.search(r"\{\w+\.\w+\}", text) for text in other.values())


def test_the_business_has_the_size_of_a_small_shop_and_the_log_of_a_busy_one(files: dict[str, str]) -> None:
    lines = {path: text.count("\n") for path, text in files.items()}

    assert 1_700 < lines["exports/orders.csv"] < 1_900
    assert 2_900 < lines["analytics/visits.csv"] < 3_100
    assert 20_000 < lines["logs/shop.log"] < 23_000
    assert 2_000_000 < len(files["logs/shop.log"]) < 2_600_000
    assert 30_000 < len(files[PAGE]) < 40_000
    assert sum(path.startswith("inbox/") for path in files) == 26


def test_the_business_is_written_in_less_than_a_second(tmp_path: Path) -> None:
    started = time.process_time()

    SCENES["atlas"](tmp_path)

    assert time.process_time() - started < 2  # a second, and room for a machine that is busy


def test_the_mails_are_messages_with_a_sender_a_date_and_an_id_of_their_own(files: dict[str, str]) -> None:
    mails = [email.message_from_string(text, policy=default) for path, text in files.items() if path.startswith("inbox/")]

    assert len({mail["Message-ID"] for mail in mails}) == 26
    assert not [mail["Subject"] for mail in mails if mail.defects or not (mail["From"].addresses and mail["Date"].datetime)]
    assert sorted(str(part.get_filename()) for mail in mails for part in mail.iter_attachments()) == [
        "invoice_88-2041.pdf.exe",
        "shade-card.svg",
    ]
    assert sum(part.get_content_type() == "text/html" for mail in mails for part in mail.walk()) == 2


def test_the_database_holds_the_orders_of_the_export_without_its_mess(tmp_path: Path, files: dict[str, str]) -> None:
    SCENES["atlas"](tmp_path)

    with closing(sqlite3.connect(tmp_path / "orders.db")) as db:
        kept = set(db.execute("SELECT id, day, email, total, currency, status, tracking FROM order_list"))
        pieces = db.execute("SELECT sum(quantity) FROM order_lines").fetchone()[0]

    columns = ("id", "date", "email", "total", "currency", "status", "tracking")
    export = rows(files["exports/orders.csv"])
    assert kept == {tuple(row[c] for c in columns) for row in export}
    assert pieces == sum(int(n) for row in export for n in re.findall(r"(\d+) x ", row["items"]))


def test_all_addresses_are_examples(files: dict[str, str]) -> None:
    hosts = {host for text in files.values() for host in re.findall(r"[\w.]@([\w-]+(?:\.[\w-]+)+)", text)}

    assert hosts
    assert not [host for host in hosts if host != "example.com" and not host.endswith(".example.com")]


def test_every_order_that_a_mail_names_is_the_sender_s_own(files: dict[str, str]) -> None:
    owners = {row["id"]: row["email"] for row in rows(files["exports/orders.csv"])}
    mails = [mailbox.opened(text.encode()) for path, text in files.items() if path.startswith("inbox/")]
    named = {
        (number, mail.sender)
        for mail in mails
        if "well.wisher" not in mail.sender
        for number in re.findall(r"W\d{7}", f"{mail.subject} {mail.text}")
    }

    assert len(named) >= 12
    assert not [(number, sender) for number, sender in named if f"<{owners[number]}>" not in sender]


def test_analytics_counts_the_confirmed_orders_of_each_day(files: dict[str, str]) -> None:
    confirmed = Counter(row["date"] for row in rows(files["exports/orders.csv"]) if row["status"] != "pending")
    counted: Counter[str] = Counter()
    for row in rows(files["analytics/visits.csv"]):
        counted[row["date"]] += int(row["orders"])

    assert counted == confirmed


def test_the_log_explains_every_order_that_was_left_pending(files: dict[str, str]) -> None:
    pending = {
        row["id"] for row in rows(files["exports/orders.csv"]) if row["status"] == "pending" and row["date"] == "2026-11-16"
    }
    gave_up = set(re.findall(r"ERROR checkout order=(W\d+) gave up", files["logs/shop.log"]))

    assert gave_up == pending
    assert files["logs/shop.log"].index("postage-2026-11.csv rows=48") < files["logs/shop.log"].index("not in postage table")


# The scripted morning


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> list[Played]:
    root = tmp_path_factory.mktemp("atlas")
    SCENES["atlas"](root)
    return list(play(root, STEPS))


@pytest.mark.parametrize("name", ["atlas", "atlas-next-day"])
def test_every_call_of_a_playbook_names_a_tool_of_the_agent_and_fits_its_schema(name: str) -> None:
    tools = Registry(load_tools(REPOSITORY / "tools")).only(agent_file(REPOSITORY / f"prompts/{name}.md").tools)
    registry = Registry([*tools.tools.values(), recall_tool(MemoryBlobs())])
    schemas = {d["name"]: d["input_schema"] for d in registry.definitions}

    for step in steps_of(f"{name}.playbook.yaml"):
        for call in step.get("call", []):
            [(tool, arguments)] = call.items()
            schema = schemas[tool]
            assert set(schema.get("required", [])) <= set(arguments) <= set(schema["properties"]), (tool, arguments)


def test_the_morning_has_the_length_and_the_size_that_compactions_need(morning: list[Played]) -> None:
    whole = sum(tokens.estimate(step.said + "".join(step.answers)) for step in morning)

    assert 50 <= len(morning) <= 60
    assert sum(step.shortened for step in morning) >= 20
    assert 180_000 < whole < 230_000
    assert [number for number, step in enumerate(STEPS) if "call" not in step] == [len(STEPS) - 1]


def test_two_calls_go_wrong_and_the_session_recovers(morning: list[Played]) -> None:
    errors = [error for step in morning for error in step.errors]

    assert len(errors) == 2
    assert "no such column: state" in errors[0]
    assert f"old stands in '{PAGE}' 2 times" in errors[1]


def test_the_session_says_no_number_that_it_was_not_shown(morning: list[Played]) -> None:
    assert [(step.said, wrong) for step in morning if (wrong := made_up(step))] == []


def test_the_page_is_changed_where_it_was_wrong_and_nowhere_else(morning: list[Played], files: dict[str, str]) -> None:
    text = files[PAGE]
    for call in (c for s in morning for c in s.calls if c.name == "replace_text" and c.input["path"] == PAGE):
        if text.count(call.input["old"]) == 1:
            text = text.replace(call.input["old"], call.input["new"])

    before, after = set(files[PAGE].split("\n")), set(text.split("\n"))

    assert len(before - after) == 7
    assert len(after - before) == 5
    assert not re.search(r"(?i)twelve (skeins|colours)|<td>(moss|rust)</td>|14 days", text)


def test_the_sheet_for_ines_lists_the_orders_and_the_parcels_that_wait_for_her(
    morning: list[Played], files: dict[str, str]
) -> None:
    table = rows(files["exports/orders.csv"])
    pending = {(o["id"], o["total"]) for o in table if (o["status"], o["date"]) == ("pending", "2026-11-16")}
    stuck = set(re.findall(r"gannet (GP-\d{7}) order=(W\d{7}) held", files["logs/shop.log"]))
    payments = set(re.findall(r"order=(W\d{7}) gave up.*payment (P-\d{5})", files["logs/shop.log"]))

    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in written(morning, "notes/for-ines.md").splitlines()]
    first = [c for c in cells if len(c) == 6 and c[0].startswith("W")]
    second = [c for c in cells if len(c) == 7 and c[0].startswith("W")]

    assert {(c[0], c[3]) for c in first} == pending
    assert {(c[0], c[4]) for c in first} == payments
    assert {(c[4], c[0]) for c in second} == stuck
    assert (len(first), len(second)) == (15, 20)


def test_the_sheet_for_bram_lists_every_paid_order_but_the_one_that_is_cancelled(
    morning: list[Played], files: dict[str, str]
) -> None:
    paid = {o["id"] for o in rows(files["exports/orders.csv"]) if o["status"] == "paid"}

    listed = re.findall(r"^\| (W\d{7})", written(morning, "notes/for-bram.md"), re.MULTILINE)

    assert sorted(listed) == sorted(paid - {"W2379858"})


def test_the_guide_is_a_draft_of_some_eight_hundred_words_that_quotes_no_buyer(morning: list[Played]) -> None:
    guide = written(morning, "drafts/how-to-darn-a-heel.md")
    for call in (c for s in morning for c in s.calls if c.name == "replace_text" and c.input["path"].startswith("drafts/")):
        assert call.input["old"] in guide
        guide = guide.replace(call.input["old"], call.input["new"])

    assert 600 < len(guide.split()) < 900
    assert all(f"**The {what}.**" in guide for what in ("shape", "wear", "shoe"))
    assert not re.search(r"EUR|BOX-01|January|three hours", guide)


def test_the_drafts_answer_every_mail_that_wants_an_answer(morning: list[Played]) -> None:
    answered = [c.input["path"] for s in morning for c in s.calls if c.name == "write_reply"]
    silent = {"02", "07", "10", "12", "16", "21", "25", "26"}

    assert sorted(path[6:8] for path in answered) == sorted({f"{n:02d}" for n in range(1, 27)} - silent)


def test_the_briefing_counts_what_was_done(morning: list[Played]) -> None:
    done = Counter(call.name for step in morning for call in step.calls)
    briefing = " ".join(morning[-1].said.split())

    assert f"26 mails read, {done['write_reply']} drafts." in briefing
    assert f"Five tasks finished, {done['add_task']} added." in briefing
    assert done["finish_task"] == 5
    assert len(briefing.split()) < 300


# The prompt, and the workspace that init writes


@pytest.mark.parametrize("name", ["atlas", "atlas-next-day"])
def test_the_prompt_of_atlas_is_stable_and_names_the_tools_that_there_are(name: str) -> None:
    agent = agent_file(REPOSITORY / f"prompts/{name}.md")
    registry = Registry(load_tools(REPOSITORY / "tools")).only(agent.tools)

    assert agent.tools == tuple(registry.tools)
    assert agent.scene in SCENES
    assert volatile(Prefix(model="claude-sonnet-5-5", system=agent.system, tools=registry.definitions), {}) == ()
    assert 900 < len(agent.system.split()) < 1_700


def test_both_mornings_have_one_prompt_and_may_not_send() -> None:
    first, second = (agent_file(REPOSITORY / f"prompts/{name}.md") for name in ("atlas", "atlas-next-day"))

    assert (first.system, first.tools, first.settings) == (second.system, second.tools, second.settings)
    assert "send_mail" not in (first.tools or ("send_mail",))


def test_a_new_workspace_has_an_agent_that_can_play_its_playbook(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    agent = agent_file(tmp_path / "prompts/assistant.md")
    registry = Registry(load_tools(tmp_path / "tools"))
    toolbox = Toolbox(registry, session_id="test", root=tmp_path)
    assert agent.playbook is not None
    steps = yaml.safe_load(agent.playbook.read_text())["steps"]
    calls = [Call(str(k), name, a) for k, call in enumerate(steps[0]["call"]) for name, a in call.items()]
    there, missing = (answer for answer in toolbox.run(calls, lambda call: call.id) if answer)

    assert agent.tools is None  # every tool there is
    assert prefix.volatile(Prefix(model="claude-sonnet-5-5", system=agent.system, tools=registry.definitions), {}) == ()
    assert "words" in str(there.content)
    assert missing.is_error
