"""Claude Code transcripts: `~/.claude/projects/<project>/<session>.jsonl`, one event a line.

The format is Claude Code's own and changes; what is read here is what has been stable. `user` and `assistant` lines are
linked by `parentUuid`; one reply is spread over several lines with the same `message.id`, one block each; a compaction is
a boundary line, followed by a user line that holds the summary. Side chains (sub-agents), lines that a branch left
behind, error lines and bookkeeping are left out, and counted.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from agentloop.errors import ImportRefused
from agentloop.importers.recording import Recording, from_messages
from agentloop.types.base import Json

_LINKED = frozenset({"user", "assistant", "system", "attachment", "progress"})


def recording(events: Sequence[Json], name: str, where: str) -> Recording:
    """The session of a transcript. Raises ImportRefused."""
    left_out: Counter[str] = Counter()
    chain = _chain(events, left_out)
    lines = [e for e in chain if e.get("type") in ("user", "assistant") and _counts(e, left_out)]
    if not lines:
        raise ImportRefused(f"{where}: the transcript holds no conversation")
    compactions = sum(bool(e.get("isCompactSummary")) for e in lines)
    messages, times = _messages(lines)
    model = next((str(m) for e in lines if (m := e["message"].get("model"))), "")
    words = [f"{count} {what}" for what, count in left_out.items()]
    if compactions:
        words.append(f"nothing of {compactions} compactions: each one's summary is a user message, and what it replaced stays")
    words.append("the system prompt and the tools' definitions, which transcripts do not hold")
    return from_messages(name, messages, where=where, model=model, times=times, left_out=words)


def _chain(events: Sequence[Json], left_out: Counter[str]) -> list[Json]:
    """The lines from the first to the newest one of the main conversation, along the links."""
    linked = {str(e["uuid"]): e for e in events if e.get("type") in _LINKED and e.get("uuid") and not e.get("isSidechain")}
    left_out["lines of sub-agents"] += sum(bool(e.get("isSidechain")) for e in events)
    newest = next((e for e in reversed(linked.values()) if e.get("type") in ("user", "assistant")), None)
    if newest is None:
        return [e for e in events if e.get("type") in ("user", "assistant") and not e.get("isSidechain")]
    chain, seen = [], set()
    at: Json | None = newest
    while at is not None and at["uuid"] not in seen:
        chain.append(at)
        seen.add(at["uuid"])
        at = linked.get(str(at.get("parentUuid") or at.get("logicalParentUuid")))
    return _with_parallel_parts(list(reversed(chain)), linked, seen, left_out)


def _with_parallel_parts(chain: list[Json], linked: dict[str, Json], seen: set[Any], left_out: Counter[str]) -> list[Json]:
    """Parallel calls fork the links: a line whose reply is on the chain, or whose result answers a call that is, belongs."""
    order = {uuid: i for i, uuid in enumerate(linked)}
    replies = {e["message"].get("id") for e in chain if e.get("type") == "assistant" and isinstance(e.get("message"), dict)}
    kept = list(chain)
    calls: set[str] = set()
    rest = [e for u, e in linked.items() if u not in seen and isinstance(e.get("message"), dict)]
    for event in [e for e in rest if e["type"] == "assistant" and e["message"].get("id") in replies]:
        kept.append(event)
    for event in kept:
        calls |= {str(b.get("id")) for b in _blocks(event) if b.get("type") == "tool_use"}
    answers = [e for e in rest if e["type"] == "user" and any(b.get("tool_use_id") in calls for b in _blocks(e))]
    left_out["lines of branches that were left"] += len(rest) - (len(kept) - len(chain)) - len(answers)
    return sorted([*kept, *answers], key=lambda e: order[str(e["uuid"])])


def _counts(event: Json, left_out: Counter[str]) -> bool:
    """Whether a line is part of what the model was told or said."""
    if not isinstance(event.get("message"), dict):
        left_out["lines without a message"] += 1
    elif event.get("isApiErrorMessage") or event["message"].get("model") == "<synthetic>":
        left_out["messages about API errors"] += 1
    elif event.get("isMeta") and not any(b.get("type") == "tool_result" for b in _blocks(event)):
        left_out["notes of the program itself"] += 1
    else:
        return True
    return False


def _messages(lines: Sequence[Json]) -> tuple[list[Json], list[datetime | None]]:
    """Lines of one speaker in a row as one message: the parts of one reply, the results of parallel calls."""
    messages: list[Json] = []
    times: list[datetime | None] = []
    for role, group in groupby(lines, key=lambda e: str(e["type"])):
        together = list(group)
        messages.append({"role": role, "content": [b for e in together for b in _blocks(e)]})
        times.append(_time(together[0].get("timestamp")))
    return messages, times


def _blocks(event: Json) -> list[Json]:
    said = event.get("message")
    content = said.get("content") if isinstance(said, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None
