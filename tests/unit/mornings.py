"""A playbook of the Atlas example, played in the generated business as a session would play it."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agentloop.adapters.memory import MemoryBlobs
from agentloop.adapters.plugins import load_tools
from agentloop.adapters.recall import recall_tool
from agentloop.adapters.toolbox import Toolbox
from agentloop.core import tokens
from agentloop.policies.facts import ByKind
from agentloop.tooling import Registry
from agentloop.types.blocks import Call

REPOSITORY = Path(__file__).parents[2]
EXACT = re.compile(r"\bW\d{7}\b|\bGP-\d{7}\b|\bP-\d{5}\b|\b\d+\.\d\d\b|\b\d\d:\d\d:\d\d\b")
"""Values that nobody may make up: order numbers, tracking numbers, payments, amounts, times."""
WRITES = ("write_reply", "write_mail", "add_task", "write_file", "append_note", "replace_text")


class Played(NamedTuple):
    """One step as it went."""

    said: str
    calls: list[Call]
    answers: list[str]
    errors: list[str]
    shortened: int
    """Answers that were shown as facts."""
    known: str
    """Everything that the model had been shown when it said this."""


def steps_of(playbook: str) -> list[dict[str, Any]]:
    """The steps of a playbook of the repository."""
    text = (REPOSITORY / "prompts" / playbook).read_text(encoding="utf-8")
    steps: list[dict[str, Any]] = yaml.safe_load(text)["steps"]
    return steps


def play(root: Path, steps: list[dict[str, Any]], session: str = "test") -> Iterator[Played]:
    """Run every call in this folder, one after the other, and show large results as facts."""
    blobs, facts, known = MemoryBlobs(), ByKind(), ""
    toolbox = Toolbox(Registry([*load_tools(REPOSITORY / "tools"), recall_tool(blobs)]), session_id=session, root=root)
    for number, step in enumerate(steps):
        calls = [
            Call(f"{session}.{number}.{k}", name, filled(arguments, known))
            for k, call in enumerate(step.get("call", []))
            for name, arguments in call.items()
        ]
        assert not [why for call in calls if (why := toolbox.invalid(call))]
        answers = [answer for call in calls for answer in toolbox.run([call], lambda call: call.id) if answer]
        texts = [str(answer.content) for answer in answers]
        errors = [text for text, answer in zip(texts, answers, strict=True) if answer.is_error]
        shown = []
        for call, text in zip(calls, texts, strict=True):
            card = toolbox.card(call.name)
            handle = blobs.put(text.encode())
            shown.append(facts.shown(call, text, card.facts if card else "facts", handle, tokens.DEFAULT_FAMILY))
        yield Played(step.get("say", ""), calls, texts, errors, sum(s.raw is not None for s in shown), known)
        known += "".join(f"\n{s.content}" for s in shown)


def filled(value: Any, known: str) -> Any:
    """Arguments with every `$match` replaced by what it matched last."""
    if isinstance(value, list):
        return [filled(v, known) for v in value]
    if not isinstance(value, dict):
        return value
    if "$match" in value:
        return re.findall(value["$match"], known)[-1]
    return {k: filled(v, known) for k, v in value.items()}


def made_up(step: Played) -> list[str]:
    """Exact values in what a step says and writes that it had not been shown."""
    written = [str(v) for call in step.calls for v in call.input.values() if call.name in WRITES]
    values = set(EXACT.findall(" ".join([step.said, *written]).replace(",", "")))
    return [v for v in values if v not in step.known.replace(",", "")]


def written(morning: list[Played], path: str) -> str:
    """What was written to a file last."""
    texts = [c.input["text"] for s in morning for c in s.calls if c.name == "write_file" and c.input["path"] == path]
    return str(texts[-1])


def rows(text: str) -> list[dict[str, str]]:
    """The usable rows of a table, read without the tools."""
    table = [next(csv.reader([line])) for line in text.splitlines()]
    seen: dict[tuple[str, ...], None] = {}
    for line in table[1:]:
        if len(line) == len(table[0]) and line != table[0]:
            seen[tuple(re.sub(r"(\d\d)/(\d\d)/(\d{4})", r"\3-\2-\1", cell.strip()) for cell in line)] = None
    return [dict(zip(table[0], row, strict=True)) for row in seen]
