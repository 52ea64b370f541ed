"""What the API's cache reads and writes for a request: the one theory of it, for the emulator, the baselines of the
bill and every forecast alike.

The rules are those of platform.claude.com/docs/en/build-with-claude/prompt-caching: a prompt is a row of content
blocks, tools before system before messages. An entry exists only where an earlier request had a breakpoint; from each
breakpoint, the last one first, the API looks back over at most 20 positions for one. Lifetimes run from the start of
the request that last used the entry, and an entry can be read once its request's response has begun.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agentloop.core import tokens
from agentloop.types.base import Json, compact
from agentloop.types.blocks import THINKING, Block
from agentloop.types.usage import TTL_SECONDS, ModelCard, Ttl, Usage

LOOK_BACK = 20
MAX_BREAKPOINTS = 4
_RUNS = frozenset({"tool_use", "tool_result"})


class Part(NamedTuple):
    """One block of a prompt as the cache sees it."""

    key: bytes
    """Digest of its content, and of whatever else must be equal for it to be the same (role, level parameters)."""
    tokens: int
    run: str = ""
    """Consecutive parts of one run (`tool_use`, `tool_result`) are one position of the look-back."""


class Mark(NamedTuple):
    """A breakpoint: behind which part, for how long."""

    part: int
    ttl: Ttl


class Prompt(NamedTuple):
    """A request as the cache sees it."""

    chain: tuple[bytes, ...]
    """For each part, the digest of everything up to and including it."""
    ends: tuple[int, ...]
    """For each part, the tokens up to and including it."""
    runs: tuple[str, ...]
    marks: tuple[Mark, ...]
    minimum: int

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.ends[-1] if self.ends else 0


class Entry(NamedTuple):
    """One thing the cache holds. Times are seconds on one clock."""

    ttl: Ttl
    used_at: float
    """Start of the last request that wrote or read it."""
    ready_at: float
    """When the response of the request that wrote it began."""


class Account(NamedTuple):
    """What one request reads and writes, in tokens, and what the cache holds afterwards."""

    read: int
    written_5m: int
    written_1h: int
    fresh: int
    hit: int | None
    """The part up to which the prompt was read."""
    changes: dict[bytes, Entry]
    """Entries written or renewed."""

    def usage(self, output_tokens: int) -> Usage:
        """The account in the API's words."""
        return Usage(
            input_tokens=self.fresh,
            cache_read_input_tokens=self.read,
            ephemeral_5m_input_tokens=self.written_5m,
            ephemeral_1h_input_tokens=self.written_1h,
            output_tokens=output_tokens,
        )


def prompt(parts: Sequence[Part], marks: Sequence[Mark], card: ModelCard, scope: bytes = b"") -> Prompt:
    """A prompt of these parts. `scope` is whatever never shares a cache: workspace, model, speed."""
    seed = hashlib.blake2b(card.id.encode() + b"\0" + scope, digest_size=16).digest()
    return _behind(seed, Prompt((), (), (), (), card.min_cacheable_tokens), parts, marks)


def extended(asked: Prompt, parts: Sequence[Part], marks: Sequence[Mark]) -> Prompt:
    """A prompt that goes on behind another (which must not be empty), with breakpoints of its own."""
    return _behind(asked.chain[-1], asked, parts, marks)


def within_reach(asked: Prompt) -> Prompt:
    """The end of a prompt: without the parts, and the breakpoints, that no breakpoint behind it can look back to."""
    first = _looked_back(asked.runs, len(asked.runs) - 1)[-1]
    return asked._replace(chain=asked.chain[first:], ends=asked.ends[first:], runs=asked.runs[first:], marks=())


def _behind(digest: bytes, asked: Prompt, parts: Sequence[Part], marks: Sequence[Mark]) -> Prompt:
    end = asked.tokens
    chain, ends = [], []
    for part in parts:
        digest = hashlib.blake2b(digest + part.key, digest_size=16).digest()
        end += part.tokens
        chain.append(digest)
        ends.append(end)
    return asked._replace(
        chain=(*asked.chain, *chain),
        ends=(*asked.ends, *ends),
        runs=(*asked.runs, *(p.run for p in parts)),
        marks=tuple(sorted(marks)),
    )


def account(asked: Prompt, entries: Mapping[bytes, Entry], at: float, ready_at: float) -> Account:
    """What a request that starts at `at`, and whose response begins at `ready_at`, reads and writes."""
    hit = _hit(asked, entries, at)
    read = asked.ends[hit] if hit is not None else 0
    writable = [m for m in asked.marks if asked.ends[m.part] >= asked.minimum and asked.ends[m.part] > read]
    last = max((asked.ends[m.part] for m in writable), default=read)
    last_1h = max((asked.ends[m.part] for m in writable if m.ttl == "1h"), default=read)
    written = {asked.chain[m.part]: Entry(m.ttl, at, ready_at) for m in writable}
    written = {key: _written(entries.get(key), entry) for key, entry in written.items()}
    return Account(read, last - last_1h, last_1h - read, asked.tokens - last, hit, _renewed(asked, entries, hit, at) | written)


def _written(before: Entry | None, entry: Entry) -> Entry:
    """An entry that is written again while its twin is not ready yet can be read as soon as the first of the two."""
    if before is None or before.ready_at <= entry.used_at:
        return entry
    return entry._replace(ready_at=min(before.ready_at, entry.ready_at))


def live(entry: Entry, at: float) -> bool:
    """Whether a request that starts at `at` can read the entry."""
    return entry.ready_at <= at and at - entry.used_at <= TTL_SECONDS[entry.ttl]


def _hit(asked: Prompt, entries: Mapping[bytes, Entry], at: float) -> int | None:
    for mark in reversed(asked.marks):
        for part in _looked_back(asked.runs, mark.part):
            entry = entries.get(asked.chain[part])
            if entry is not None and live(entry, at):
                return part
    return None


def _looked_back(runs: Sequence[str], start: int) -> Sequence[int]:
    """The parts that one breakpoint looks at: 20 positions, itself counted, a run of calls or of results being one."""
    positions, seen = 0, []
    for part in range(start, -1, -1):
        if part == start or not runs[part] or runs[part] != runs[part + 1]:
            positions += 1
        if positions > LOOK_BACK:
            break
        seen.append(part)
    return seen


def _renewed(asked: Prompt, entries: Mapping[bytes, Entry], hit: int | None, at: float) -> dict[bytes, Entry]:
    """A read renews the entry it hit and, as far as is documented, those of the request's breakpoints before it."""
    if hit is None:
        return {}
    touched = {asked.chain[hit], *(asked.chain[m.part] for m in asked.marks if m.part <= hit)}
    return {k: entries[k]._replace(used_at=at) for k in touched if k in entries and live(entries[k], at)}


def parts_of(body: Json, card: ModelCard) -> tuple[list[Part], list[Mark]]:
    """The parts and breakpoints of a request's body (Messages API JSON)."""
    parts: list[Part] = []
    marks: list[Mark] = []
    last: int | None = None

    def add(block: Block, level: str, size: int, run: str = "") -> None:
        nonlocal last
        content = {k: v for k, v in block.items() if k != "cache_control"}
        parts.append(Part(_digest(level, content), size, run))
        if block.get("type") not in THINKING and block.get("text") != "":
            last = len(parts) - 1
        if control := block.get("cache_control"):
            marks.append(Mark(len(parts) - 1, control.get("ttl") or "5m"))

    family = card.tokenizer
    tools = body.get("tools") or []
    extra = tokens.weights(family).frame + (card.tool_system_tokens if tools else 0)
    for tool in tools:
        add(tool, "tools", tokens.tool_tokens(tool, family) + extra)
        extra = 0
    for block in as_blocks(body.get("system") or []):
        add(block, "system", tokens.block_tokens(block, family) + extra)
        extra = 0
    settings = _message_settings(body)
    for message in body.get("messages") or []:
        for block in as_blocks(message["content"]):
            kind = str(block.get("type"))
            add(
                block, f"{message['role']}{settings}", tokens.block_tokens(block, family) + extra, kind if kind in _RUNS else ""
            )
            extra, settings = 0, ""
    if (control := body.get("cache_control")) and last is not None:
        automatic = Mark(last, control.get("ttl") or "5m")
        if automatic not in marks:
            marks.append(automatic)
    return parts, marks


def as_blocks(content: Any) -> list[Block]:
    """Content as blocks: a string equals one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _message_settings(body: Json) -> str:
    """Request parameters whose change costs the cache of the messages, but not that of tools and system."""
    named = {k: body[k] for k in ("tool_choice", "thinking") if body.get(k)}
    if thinking := named.get("thinking"):
        named["thinking"] = {k: v for k, v in thinking.items() if k != "display"}
    if effort := (body.get("output_config") or {}).get("effort"):
        named["effort"] = effort
    return compact(named).decode() if named else ""


def _digest(level: str, content: Json) -> bytes:
    return hashlib.blake2b(level.encode() + b"\0" + compact(content), digest_size=16).digest()
