"""What the API's cache reads and writes for a request: the one theory of it, for the emulator, the baselines of the
bill and every forecast alike.

The rules are those of platform.claude.com/docs/en/build-with-claude/prompt-caching: a prompt is a row of content
blocks, tools before system before messages. An entry exists only where an earlier request had a breakpoint; from each
breakpoint, the last one first, the API looks back over at most 20 positions for one. Lifetimes run from the start of
the request that last used the entry, and an entry can be read once its request's response has begun.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentloop.core.parts import DOCUMENTED, Assumed, Mark, Part, as_blocks, parts_of, scope_of
from agentloop.types.base import Json
from agentloop.types.usage import TTL_SECONDS, ModelCard, Ttl, Usage

__all__ = [
    "DOCUMENTED",
    "LOOK_BACK",
    "MAX_BREAKPOINTS",
    "Account",
    "Assumed",
    "Entry",
    "Mark",
    "Part",
    "Prompt",
    "account",
    "as_blocks",
    "expired",
    "extended",
    "live",
    "parts_of",
    "prompt",
    "prompt_of",
    "scope_of",
    "within_reach",
]

LOOK_BACK = 20
MAX_BREAKPOINTS = 4


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
    twin: "Entry | None" = None
    """The same prefix, written by another request while neither could read the other's."""


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


def prompt_of(body: Json, card: ModelCard, assumed: Assumed = DOCUMENTED) -> tuple[Prompt, list[Part]]:
    """The prompt of a request's body (Messages API JSON), and its parts."""
    parts, marks = parts_of(body, card, assumed)
    return prompt(parts, marks, card, scope_of(body, card, assumed)), parts


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


def account(
    asked: Prompt, entries: Mapping[bytes, Entry], at: float, ready_at: float, assumed: Assumed = DOCUMENTED
) -> Account:
    """What a request that starts at `at`, and whose response begins at `ready_at`, reads and writes."""
    hit = _hit(asked, entries, at)
    read = asked.ends[hit] if hit is not None else 0
    writable = [m for m in asked.marks if asked.ends[m.part] >= asked.minimum and (hit is None or m.part > hit)]
    last = asked.ends[writable[-1].part] if writable else read
    last_1h = max((asked.ends[m.part] for m in writable if m.ttl == "1h"), default=read)
    changes = _renewed(asked, entries, hit, at, assumed) if hit is not None else {}
    for mark in writable:
        key = asked.chain[mark.part]
        changes[key] = _written(entries.get(key), Entry(mark.ttl, at, ready_at))
    return Account(read, last - last_1h, last_1h - read, asked.tokens - last, hit, changes)


def _written(before: Entry | None, entry: Entry) -> Entry:
    """What stands at a breakpoint that is written: beside it, twins whose responses have not begun yet."""
    if before is None:
        return entry
    entry = _written(before.twin, entry)
    before = before._replace(twin=None)
    if _expired(before, max(entry.used_at, before.ready_at)):  # nobody can read it any more, or ever could
        return entry
    if before.ttl == entry.ttl and not _expired(before, entry.ready_at):  # the two follow each other without a gap: one
        return entry._replace(ready_at=min(before.ready_at, entry.ready_at))
    return entry._replace(twin=before._replace(twin=entry.twin))


def live(entry: Entry, at: float) -> bool:
    """Whether a request that starts at `at` can read the entry."""
    alone = entry.ready_at <= at and not _expired(entry, at)
    return alone or (entry.twin is not None and live(entry.twin, at))


def expired(entry: Entry, at: float) -> bool:
    """Whether nobody will ever read the entry again, unless it is written anew."""
    return _expired(entry, at) and (entry.twin is None or expired(entry.twin, at))


def _expired(entry: Entry, at: float) -> bool:
    return at - entry.used_at > TTL_SECONDS[entry.ttl]


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


def _renewed(asked: Prompt, entries: Mapping[bytes, Entry], hit: int, at: float, assumed: Assumed) -> dict[bytes, Entry]:
    """A read renews the entry it hit and, as far as is documented, those of the request's breakpoints before it."""
    before = [m for m in asked.marks if m.part <= hit]
    touched = {asked.chain[hit]: None}
    if assumed.renews == "marks":
        touched |= dict.fromkeys(asked.chain[m.part] for m in before)
    elif assumed.renews == "chain":
        touched |= dict.fromkeys(asked.chain[: hit + 1])
    renewed = {k: e for k in touched if (e := entries.get(k)) and live(e, at)}
    shortened = {asked.chain[m.part] for m in before if m.ttl == "5m"} if assumed.remark == "shortens" else ()
    return {k: _used(e, at, "5m" if k in shortened else None) for k, e in renewed.items()}


def _used(entry: Entry, at: float, ttl: Ttl | None) -> Entry:
    """The entry after a read, with the lifetime that the read gives it, if it gives one."""
    twin = _used(entry.twin, at, ttl) if entry.twin is not None else None
    if entry.ready_at > at or _expired(entry, at):
        return entry._replace(ttl=ttl or entry.ttl, twin=twin)
    return Entry(ttl or entry.ttl, max(at, entry.used_at), entry.ready_at, twin)
