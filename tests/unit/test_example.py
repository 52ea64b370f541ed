"""The Atlas example: a business that hangs together, and a scripted morning that is true of it."""

import csv
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from agentloop.adapters.memory import MemoryBlobs
from agentloop.adapters.plugins import load_tools
from agentloop.adapters.recall import recall_tool
from agentloop.adapters.toolbox import Toolbox
from agentloop.core import prefix, tokens
from agentloop.core.prefix import volatile
from agentloop.example import SCENES
from agentloop.example.business import business
from agentloop.example.starter import FILES
from agentloop.policies.facts import HeadTailMatches
from agentloop.tooling import Registry
from agentloop.types.blocks import Call
from agentloop.types.request import Prefix
from agentloop.workspace import agent_file

REPOSITORY = Path(__file__).parents[2]
STEPS: list[dict[str, Any]] = yaml.safe_load((REPOSITORY / "prompts/atlas.playbook.yaml").read_text(encoding="utf-8"))["steps"]
EXACT = re.compile(r"\bW\d{7}\b|\bGP-\d{7}\b|\bP-\d{5}\b|\b\d+\.\d\d\b|\b\d\d:\d\d:\d\d\b")
"""Values that nobody may make up: order numbers, tracking numbers, payments, amounts, times."""
WRITES = ("save_draft", "add_task", "write_file")


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
    return {name: hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder" for name, p in found.items()}


def test_another_seed_is_another_business_that_is_whole_too(files: dict[str, str]) -> None:
    other = business(8)

    assert other.keys() == files.keys()
    assert other["orders.csv"] != files["orders.csv"]
    assert not any(re.search(r"\{\w+\.\w+\}", text) for text in other.values())


def test_the_business_has_the_size_of_a_small_shop(files: dict[str, str]) -> None:
    lines = {path: text.count("\n") for path, text in files.items()}

    assert 1_700 < lines["orders.csv"] < 1_900
    assert 2_900 < lines["analytics/visits.csv"] < 3_100
    assert 5_500 < lines["logs/shop.log"] < 6_500
    assert sum(path.startswith("inbox/") for path in files) == 26


def test_all_addresses_are_examples(files: dict[str, str]) -> None:
    hosts = {host for text in files.values() for host in re.findall(r"[\w.]@([\w-]+(?:\.[\w-]+)+)", text)}

    assert hosts
    assert not [host for host in hosts if host != "example.com" and not host.endswith(".example.com")]


def rows(text: str) -> list[dict[str, str]]:
    """The usable rows of a table, read without the tools."""
    table = [next(csv.reader([line])) for line in text.splitlines()]
    seen: dict[tuple[str, ...], None] = {}
    for line in table[1:]:
        if len(line) == len(table[0]) and line != table[0]:
            seen[tuple(re.sub(r"(\d\d)/(\d\d)/(\d{4})", r"\3-\2-\1", cell.strip()) for cell in line)] = None
    return [dict(zip(table[0], row, strict=True)) for row in seen]


def test_every_order_that_a_mail_names_is_the_sender_s_own(files: dict[str, str]) -> None:
    owners = {row["id"]: row["email"] for row in rows(files["orders.csv"])}
    named = {
        (number, mail.splitlines()[0])
        for path, mail in files.items()
        if path.startswith("inbox/") and "well.wisher" not in mail
        for number in re.findall(r"W\d{7}", mail)
    }

    assert len(named) >= 12
    assert not [(number, sender) for number, sender in named if f"<{owners[number]}>" not in sender]


def test_analytics_counts_the_confirmed_orders_of_each_day(files: dict[str, str]) -> None:
    confirmed = Counter(row["date"] for row in rows(files["orders.csv"]) if row["status"] != "pending")
    counted: Counter[str] = Counter()
    for row in rows(files["analytics/visits.csv"]):
        counted[row["date"]] += int(row["orders"])

    assert counted == confirmed


def test_the_log_explains_every_order_that_was_left_pending(files: dict[str, str]) -> None:
    pending = {row["id"] for row in rows(files["orders.csv"]) if row["status"] == "pending" and row["date"] == "2026-11-16"}
    gave_up = set(re.findall(r"ERROR checkout order=(W\d+) gave up", files["logs/shop.log"]))

    assert gave_up == pending
    assert files["logs/shop.log"].index("postage-2026-11.csv rows=48") < files["logs/shop.log"].index("not in postage table")


# The scripted morning


class Played(NamedTuple):
    """One step as it went."""

    said: str
    calls: list[Call]
    answers: list[str]
    errors: list[str]
    known: str
    """Everything that the model had been shown when it said this."""


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> list[Played]:
    root = tmp_path_factory.mktemp("atlas")
    SCENES["atlas"](root)
    return list(play(root))


def play(root: Path) -> Iterator[Played]:
    """Run every call of the playbook in the generated business, and show large results as facts."""
    blobs, facts, known = MemoryBlobs(), HeadTailMatches(), ""
    toolbox = Toolbox(Registry([*load_tools(REPOSITORY / "tools"), recall_tool(blobs)]), session_id="test", root=root)
    for number, step in enumerate(STEPS):
        calls = [
            Call(f"{number}.{k}", name, filled(arguments, known))
            for k, call in enumerate(step.get("call", []))
            for name, arguments in call.items()
        ]
        assert not [why for call in calls if (why := toolbox.invalid(call))]
        answers = list(toolbox.run(calls, lambda call: call.id))
        texts = [str(answer.content) for answer in answers]
        errors = [text for text, answer in zip(texts, answers, strict=True) if answer.is_error]
        yield Played(step.get("say", ""), calls, texts, errors, known)
        for call, text in zip(calls, texts, strict=True):
            card = toolbox.card(call.name)
            shown = facts.shown(call, text, card.facts if card else "facts", blobs.put(text.encode()), tokens.DEFAULT_FAMILY)
            known += f"\n{shown.content}"


def filled(value: Any, known: str) -> Any:
    if isinstance(value, list):
        return [filled(v, known) for v in value]
    if not isinstance(value, dict):
        return value
    if "$match" in value:
        return re.findall(value["$match"], known)[-1]
    return {k: filled(v, known) for k, v in value.items()}


def test_every_call_of_the_playbook_names_a_tool_and_fits_its_schema() -> None:
    registry = Registry([*load_tools(REPOSITORY / "tools"), recall_tool(MemoryBlobs())])
    schemas = {d["name"]: d["input_schema"] for d in registry.definitions}

    for step in STEPS:
        for call in step.get("call", []):
            [(name, arguments)] = call.items()
            schema = schemas[name]
            assert set(schema.get("required", [])) <= set(arguments) <= set(schema["properties"]), (name, arguments)


def test_the_morning_has_the_length_and_the_size_that_two_compactions_need(morning: list[Played]) -> None:
    whole = sum(tokens.estimate(step.said + "".join(step.answers)) for step in morning)
    large = [a for step in morning for a in step.answers if tokens.estimate(a) > 1_000]

    assert 52 <= len(morning) <= 56
    assert len(large) >= 20
    assert 120_000 < whole < 170_000
    assert [number for number, step in enumerate(STEPS) if "call" not in step] == [len(STEPS) - 1]


def test_two_calls_go_wrong_and_the_session_recovers(morning: list[Played]) -> None:
    errors = [error for step in morning for error in step.errors]

    assert len(errors) == 2
    assert "no column 'state'" in errors[0]
    assert "no 'site/sunday-mending-box.md'" in errors[1]


def test_the_session_says_no_number_that_it_was_not_shown(morning: list[Played]) -> None:
    for step in morning:
        written = [str(v) for call in step.calls for v in call.input.values() if call.name in WRITES]
        values = set(EXACT.findall(" ".join([step.said, *written]).replace(",", "")))
        assert not [v for v in values if v not in step.known.replace(",", "")], step.said


def test_the_page_is_changed_where_it_was_wrong_and_nowhere_else(morning: list[Played], files: dict[str, str]) -> None:
    [text] = [
        c.input["text"] for s in morning for c in s.calls if c.name == "write_file" and c.input["path"] == "site/product.md"
    ]

    gone = Counter(files["site/product.md"].split()) - Counter(text.split())
    new = Counter(text.split()) - Counter(files["site/product.md"].split())

    assert gone == Counter(["twelve", "Twelve", "moss,", "rust,", "Unopened", "boxes", "14"])
    assert new == Counter(["ten", "Ten", "Boxes", "30"])


def written(morning: list[Played], path: str) -> str:
    """What was written to a file last."""
    texts = [c.input["text"] for s in morning for c in s.calls if c.name == "write_file" and c.input["path"] == path]
    return str(texts[-1])


def test_the_sheet_for_ines_lists_the_orders_and_the_parcels_that_wait_for_her(
    morning: list[Played], files: dict[str, str]
) -> None:
    table = rows(files["orders.csv"])
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
    paid = {o["id"] for o in rows(files["orders.csv"]) if o["status"] == "paid"}

    listed = re.findall(r"^\| (W\d{7})", written(morning, "notes/for-bram.md"), re.MULTILINE)

    assert sorted(listed) == sorted(paid - {"W2379858"})


def test_the_article_is_a_draft_of_some_four_hundred_words_that_names_no_customer(morning: list[Played]) -> None:
    article = written(morning, "drafts/sunday-letter-ten-colours.md")

    assert 380 < len(article.split()) < 450
    assert not [name for name in ("Hanneke", "Vos", "Yara", "Oakes", "Dagny") if name in article]
    assert "chalk, oat, straw, heather, plum, brick, petrol, slate, bark, ink" in article


def test_the_briefing_counts_what_was_done(morning: list[Played]) -> None:
    done = Counter(call.name for step in morning for call in step.calls)
    briefing = morning[-1].said

    assert f"26 mails read, {done['save_draft']} drafts." in briefing
    assert f"Three tasks finished, {done['add_task']} added." in briefing
    assert done["finish_task"] == 3
    assert len(briefing.split()) < 300


# The prompt, and the workspace that init writes


def test_the_prompt_of_atlas_is_stable_and_names_the_tools_that_there_are() -> None:
    agent = agent_file(REPOSITORY / "prompts/atlas.md")
    registry = Registry(load_tools(REPOSITORY / "tools")).only(agent.tools)

    assert agent.tools == tuple(registry.tools)
    assert agent.scene in SCENES
    assert volatile(Prefix(model="claude-sonnet-5-5", system=agent.system, tools=registry.definitions), {}) == ()
    assert 900 < len(agent.system.split()) < 1_500


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
    there, missing = toolbox.run(calls, lambda call: call.id)

    assert agent.tools is None  # every tool there is
    assert prefix.volatile(Prefix(model="claude-sonnet-5-5", system=agent.system, tools=registry.definitions), {}) == ()
    assert "words" in str(there.content)
    assert missing.is_error
