"""A script that answers probes from what stands in the request: no model's work, but the most that any model could know.

It gives the answer where it stands in one block together with all that the question quotes, and says `unknown` where not.
"""

import re
from collections.abc import Iterable, Sequence

from agentloop.core.cache import as_blocks
from agentloop.emulator.script import Function, ScriptedReply, spoken
from agentloop.probe.questions import Question
from agentloop.types import blocks
from agentloop.types.base import Json, compact
from agentloop.types.blocks import Block

UNKNOWN = "unknown"
_ENTRY = re.compile(r"\n(?=\d+\. |   values: )")
"""How the entries of a session state begin (`policies/ledger.py`)."""


def reader(questions: Iterable[Question]) -> Function:
    """The script for these questions."""
    known = {q.text: q for q in questions}

    def answer(request: Json, step: int) -> ScriptedReply:
        *context, last = request["messages"]
        asked = blocks.text_of(as_blocks(last["content"]))
        question = next((q for text, q in known.items() if text in asked), None)
        found = question is not None and _stands(question, _texts(context))
        return spoken(question.answer if found and question is not None else UNKNOWN)

    return Function("reader", answer)


def _stands(question: Question, texts: Sequence[str]) -> bool:
    wanted = [_flat(w) for w in (question.answer, *question.about)]
    return any(all(w in text for w in wanted) for text in texts)


def _texts(messages: Sequence[Json]) -> list[str]:
    """Each block's text; a call stands with its result, and each numbered entry of a text by itself."""
    calls: dict[str, str] = {}
    found: list[str] = []
    for block in (b for m in messages for b in as_blocks(m["content"])):
        match block.get("type"):
            case "tool_use":
                calls[str(block["id"])] = f"{block['name']} {_plain(block['input'])}"
                found.append(calls[str(block["id"])])
            case "tool_result":
                text = blocks.result_text(block.get("content") or "")
                found.append(f"{calls.get(str(block['tool_use_id']), '')}\n{text}")
            case _:
                found += _ENTRY.split(str(block.get("text") or ""))
    return [_flat(text) for text in found]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _plain(value: Block) -> str:
    """A call's input as it reads: escapes of JSON would hide what it says."""
    return compact(value).decode().replace("\\n", "\n").replace('\\"', '"')
