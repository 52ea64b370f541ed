"""Claude Code transcripts: `~/.claude/projects/<project>/<session>.jsonl`, one event a line.

The format is Claude Code's own and changes; docs/import.md says how each kind of line is read. Lines are linked by
`parentUuid`; one reply is spread over several lines with the same `message.id`, one block each, with results of its first
calls in between; a compaction is a boundary line, followed by a user line that holds the summary.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from agentloop.errors import ImportRefused
from agentloop.importers import recorded_usage
from agentloop.importers.call_ids import with_own_ids
from agentloop.importers.recording import Recording, from_messages
from agentloop.importers.transcript import blocks_of, message, reply, typed
from agentloop.types.base import Json
from agentloop.types.blocks import Role

_FIELDS = {
    "text": ("text", "citations"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id", "content", "is_error"),
}
"""What the API takes back of a block; the rest (`caller`, nulls) is the program's own."""


class _Said(NamedTuple):
    """What one line adds to the conversation."""

    role: Role
    blocks: list[Json]
    reply: str
    """`message.id`, for the lines of one reply."""
    at: datetime | None

    @property
    def only_results(self) -> bool:
        return self.role == "user" and all(b["type"] == "tool_result" for b in self.blocks)


def recording(events: Sequence[Json], name: str, where: str, torn: int = 0) -> Recording:
    """The session of a transcript; `torn` lines of it were not JSON. Raises ImportRefused."""
    left_out = Counter({"lines that are not JSON": torn})
    chain = _chain(events, left_out)
    said = [s for e in chain if (s := _said(e, left_out)) is not None]
    if not said:
        raise ImportRefused(f"{where}: the transcript holds no conversation")
    messages, times = _messages(said, left_out)
    replies = _replies(chain)
    words = [f"{count} {what}" for what, count in left_out.items() if count]
    if compactions := sum(bool(e.get("isCompactSummary")) for e in chain):
        words.append(f"nothing of {compactions} compactions: each one's summary is a user message, and what it replaced stays")
    models = Counter(str(parts[0].get("model") or "") for parts in replies)
    if len(models) > 1:
        words.append("which model said what: " + ", ".join(f"{n} replies of {model}" for model, n in models.items()))
    used = tuple(recorded_usage.used(replies))
    first = f"; with them, the first recorded request held {used[0].usage.prompt_tokens:,} tokens" if used else ""
    words.append(f"the system prompt and the tools' definitions, which transcripts do not hold{first}")
    made = from_messages(name, messages, where=where, model=next(iter(models), ""), times=times, left_out=words)
    return made._replace(used=used)


def _chain(events: Sequence[Json], left_out: Counter[str]) -> list[Json]:
    """The lines from the first to the newest one of the main conversation, along the links."""
    main = [e for e in events if not e.get("isSidechain")]
    if not any(map(_speaks, main)):  # a file of a sub-agent: all of it is one side chain
        main = list(events)
    main = with_own_ids(main)
    left_out["lines of sub-agents"] += len(events) - len(main)
    left_out["lines of bookkeeping"] += sum("uuid" not in e for e in main if not _speaks(e))
    linked = {str(e["uuid"]): e for e in main if e.get("uuid")}
    if not any(map(_speaks, linked.values())):
        return [e for e in main if _speaks(e)]
    before = {later: earlier for earlier, later in pairwise(linked)}
    at: str | None = next(u for u, e in reversed(linked.items()) if _speaks(e))
    chain: dict[str, Json] = {}
    while at is not None and at not in chain:
        chain[at] = linked[at]
        at = _parent(at, linked, before, left_out)
    return _with_parallel_parts(list(reversed(chain.values())), linked, chain, left_out)


def _speaks(event: Json) -> bool:
    return event.get("type") in ("user", "assistant")


def _parent(uuid: str, linked: dict[str, Json], before: dict[str, str], left_out: Counter[str]) -> str | None:
    """The line that this one follows; the one above it in the file where the link leads out of the file."""
    event = linked[uuid]
    named = str(event.get("parentUuid") or event.get("logicalParentUuid") or "")
    if named in linked:
        return named
    if not named and "parentUuid" in event and event.get("subtype") != "compact_boundary":
        return None
    left_out["links to lines that are not in the file; the line above was taken"] += uuid in before
    return before.get(uuid)


def _with_parallel_parts(
    chain: Sequence[Json], linked: dict[str, Json], on_chain: dict[str, Json], left_out: Counter[str]
) -> list[Json]:
    """Parallel calls fork the links: a line whose reply is on the chain, or whose result answers a call that is, belongs."""
    order = {uuid: i for i, uuid in enumerate(linked)}
    replies = {reply(e) for e in chain if e.get("type") == "assistant"} - {""}
    beside = [e for u, e in linked.items() if u not in on_chain]
    rest = [e for e in beside if _speaks(e)]
    parts = [e for e in rest if e["type"] == "assistant" and reply(e) in replies]
    calls = {str(b.get("id")) for e in [*chain, *parts] for b in blocks_of(e) if b["type"] == "tool_use"}
    calls -= {answered for e in chain for answered in _answers(e)}
    answers = list(_answering(calls, rest, left_out))
    left_out["lines of bookkeeping"] += len(beside) - len(rest)
    left_out["lines of branches that were left"] += len(rest) - len(parts) - len(answers)
    return sorted([*chain, *parts, *answers], key=lambda e: order[str(e["uuid"])])


def _answers(event: Json) -> list[str]:
    """The calls whose results a line holds."""
    return [str(b.get("tool_use_id")) for b in blocks_of(event) if b["type"] == "tool_result"]


def _answering(calls: set[str], lines: Sequence[Json], left_out: Counter[str]) -> Iterator[Json]:
    """The user's lines that answer one of these calls, without results that answer none of them; the first answer counts."""
    waiting = set(calls)
    for event in lines:
        answered = waiting.intersection(_answers(event))
        if event["type"] != "user" or not answered:
            continue
        waiting -= answered
        whole = blocks_of(event)
        kept = [b for b in whole if b["type"] != "tool_result" or str(b.get("tool_use_id")) in answered]
        left_out["results on branches that were left"] += len(whole) - len(kept)
        yield event | {"message": message(event) | {"content": kept}}


def _said(event: Json, left_out: Counter[str]) -> _Said | None:
    """What of a line the model was told, or said."""
    match event:
        case {"type": "assistant"} if _made_up(event):
            left_out["messages about API errors, or that the program wrote in the model's name"] += 1
        case {"type": "user" | "assistant" as role}:
            whole = blocks_of(event)
            blocks = [b for b in map(_as_sent, whole) if b is not None]
            left_out["blocks that the API would not take back"] += len(whole) - len(blocks)
            return _Said(role, blocks, reply(event), _time(event)) if blocks else None
        case {"type": "system", "subtype": "local_command", "content": content}:
            return _from_user(event, content)
        case {"type": "attachment", "attachment": {"type": "queued_command", "prompt": content}}:
            return _from_user(event, content)
        case {"type": "attachment"}:
            left_out["attachments: what the program says of files, hooks and reminders is worded when it is sent"] += 1
        case _:
            left_out["lines of bookkeeping"] += 1
    return None


def _made_up(event: Json) -> bool:
    return bool(event.get("isApiErrorMessage")) or message(event).get("model") == "<synthetic>"


def _from_user(event: Json, content: object) -> _Said | None:
    blocks = blocks_of({"message": {"content": content}})
    return _Said("user", blocks, "", _time(event)) if blocks else None


def _as_sent(block: Json) -> Json | None:
    """The block as the API takes it back, or None for one that it refuses."""
    kind = block["type"]
    if kind not in _FIELDS:
        return block
    kept = {"type": kind} | {k: block[k] for k in _FIELDS[kind] if block.get(k) is not None}
    match kept:
        case {"type": "text", "text": str()} | {"type": "redacted_thinking", "data": str()}:
            return kept
        case {"type": "thinking"}:
            words, signature = str(kept.get("thinking", "")), str(kept.get("signature", ""))
            return {"type": kind, "thinking": words, "signature": signature} if words or signature else None
        case {"type": "tool_use", "id": str(), "name": str(), "input": dict()}:
            return kept
        case {"type": "tool_result", "tool_use_id": str(call)}:
            content = kept.get("content", "")
            parts = {"content": typed(content)} if isinstance(content, list) else {"content": str(content)}
            failed = {"is_error": True} if kept.get("is_error") is True else {}
            return {"type": kind, "tool_use_id": call} | parts | failed
    return None


def _time(event: Json) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(event.get("timestamp")))
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _messages(said: Sequence[_Said], left_out: Counter[str]) -> tuple[list[Json], list[datetime | None]]:
    """The parts of one reply as one message; what the user and the tools said in a row as one, too."""
    groups: list[list[_Said]] = []
    for part in _once(said, left_out):
        earlier = _same_reply(groups, part)
        if earlier is None and groups and groups[-1][0].role == part.role:
            left_out["replies with nothing recorded before them; each is part of the one before"] += part.role == "assistant"
            earlier = groups[-1]
        if earlier is None:
            groups.append([part])
        else:
            earlier.append(part)
    messages = [{"role": group[0].role, "content": [b for part in group for b in part.blocks]} for group in groups]
    return messages, _forward([group[0].at for group in groups])


def _same_reply(groups: Sequence[list[_Said]], part: _Said) -> list[_Said] | None:
    """The reply that this is a part of: the last message, or the one before it where only results of its calls came since."""
    if not part.reply:
        return None
    for group in reversed(groups[-2:]):
        if any(part.reply == p.reply for p in group):
            return group
        if not all(p.only_results for p in group):
            break
    return None


def _once(said: Sequence[_Said], left_out: Counter[str]) -> Iterator[_Said]:
    """Without calls that were written down before, and what of their lines was: a session that was carried on repeats lines."""
    made: set[str] = set()
    before: defaultdict[str, list[Json]] = defaultdict(list)
    for part in said:
        calls = [b["id"] for b in part.blocks if b["type"] == "tool_use"]
        is_copy = not made.isdisjoint(calls)
        new: list[Json] = []
        for block in part.blocks:
            if block["type"] == "tool_use" and block["id"] in made:
                left_out["repeated calls"] += 1
            elif not (is_copy and block in before[part.reply]):
                new.append(block)
                made |= {block["id"]} if block["type"] == "tool_use" else set()
        before[part.reply] += new
        if new:
            yield part._replace(blocks=new)


def _forward(times: Sequence[datetime | None]) -> list[datetime | None]:
    """Times that never go back, as those of a log: lines are stamped when their content came, not when they were written."""
    forward: list[datetime | None] = []
    latest: datetime | None = None
    for at in times:
        latest = at if latest is None or (at is not None and at > latest) else latest
        forward.append(at and latest)
    return forward


def _replies(chain: Sequence[Json]) -> list[list[Json]]:
    """The messages of the model's lines, reply by reply."""
    replies: dict[str, list[Json]] = {}
    for event in chain:
        if event.get("type") == "assistant" and message(event) and not _made_up(event):
            replies.setdefault(reply(event) or str(event.get("uuid")), []).append(message(event))
    return list(replies.values())
