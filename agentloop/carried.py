"""What a request's prompt consisted of, which of it was read, written or paid in full, and how long it was asked to live."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from agentloop.core import finding, lifetimes
from agentloop.core.state import State
from agentloop.core.wire import SYSTEM
from agentloop.types.base import Frozen
from agentloop.types.request import Breakpoint
from agentloop.types.usage import LIVES, TTL_SECONDS, Ttl, Usage

PartName = Literal["tools and system", "task", "session state", "turns", "new"]
_SEEN = 4
"""With fewer gaps than this nothing is said of them in shares."""


class Portion(Frozen):
    """One part of a prompt: its share of the tokens that the API counted, by how they were billed."""

    part: PartName
    tokens: int
    read: int
    written: int
    fresh: int


class Lifetime(Frozen):
    """How long one part of the cache was asked to live, and why so."""

    part: Literal["tools and system", "session state", "turns"]
    ttl: Ttl | Literal["off"]
    """`off`: no entry was asked for there."""
    why: str


def portions(state: State, usage: Usage) -> tuple[Portion, ...]:
    """The parts of a prompt, first to last. Their estimates are scaled to the tokens that were counted; a prompt is read from
    its start, written behind that, and paid in full behind the last breakpoint."""
    turns = state.turns_tokens + (state.given_tokens if state.turns else 0)
    new = min(turns, new_tokens(state))
    sizes: dict[PartName, int] = {
        "tools and system": state.prefix_tokens,
        "task": state.opening_tokens,
        "session state": state.state_tokens,
        "turns": turns - new,
        "new": new,
    }
    total, counted = sum(sizes.values()), usage.prompt_tokens
    ends = [round(end * counted / total) if total else 0 for end in accumulate(sizes.values())]
    read, written = usage.cache_read_input_tokens, usage.ephemeral_5m_input_tokens + usage.ephemeral_1h_input_tokens
    return tuple(
        Portion(
            part=part,
            tokens=end - start,
            read=_overlap(start, end, 0, read),
            written=_overlap(start, end, read, read + written),
            fresh=_overlap(start, end, read + written, counted),
        )
        for part, start, end in zip(sizes, [0, *ends[:-1]], ends, strict=True)
        if end > start
    )


def new_tokens(state: State) -> int:
    """Estimated tokens behind where the last request ended, its reply included."""
    if state.sent is not None and state.sent.lost:
        return state.prompt_tokens
    if state.sent is not None and not state.sent.cut:
        return max(0, state.prompt_tokens - state.sent.prompt_tokens)
    return state.turns[-1].reply_tokens + state.given_tokens if state.turns else 0


def chosen(state: State, breakpoints: Sequence[Breakpoint], alone: bool) -> tuple[Lifetime, ...]:
    """The lifetimes that a request asked for. `state` is the one that decided it; `alone`: its view is one message, so that
    the end of the session state is the end of all."""
    asked = {b.message: b.ttl for b in breakpoints}
    last = max((m for m in asked if m != SYSTEM), default=None)
    tail = asked.get(last) if last is not None and (last or alone) else None
    found = (("tools and system", asked.get(SYSTEM), "static_ttl"), ("session state", asked.get(0), "state_ttl"),
             ("turns", tail, "tail_ttl"))  # fmt: skip
    return tuple(Lifetime(part=part, ttl=ttl or "off", why=_why(state, ttl, setting)) for part, ttl, setting in found)


def _why(state: State, ttl: Ttl | None, setting: str) -> str:
    """Why this lifetime: a setting; or the gaps that were announced, those of past sessions, and those that had been seen."""
    caching = state.policies.get("caching")
    given = caching.get(setting) if isinstance(caching, dict) else None
    if given not in (None, "auto"):
        return f"{setting} is set to {given}"
    share = f" ({lifetimes.hits(state, '5m'):.0%} assumed within 5m)" if ttl is None else ""
    starts = [_starts(state)] if setting == "static_ttl" else []
    known = [_announced(state), _before(state), *starts, _seen(state), _missed(state)]
    return "; ".join(text for text in known if text) + share


def _missed(state: State) -> str:
    """How much the cache finds, where that is less than all and counts."""
    caching = state.policies.get("caching")
    known = isinstance(caching, dict) and caching.get("edition", 1) > 2
    found = finding.share(state.found)
    return f"the cache finds {found:.0%} of what it should" if known and found < 1 else ""


def _announced(state: State) -> str:
    gap_s = state.expected_gap_s
    return f"gaps of {gap_s:,.0f} s were announced" if gap_s is not None else ""


def _before(state: State) -> str:
    """What the agent's last sessions say, for as long as it counts."""
    if state.prior is None or not lifetimes.weight_of_past(state):
        return ""
    sessions = sum(s.gaps > 0 for s in state.prior.sessions)
    within = [f"{lifetimes.share_of_past(state.prior, t):.0%} within {t}" for t in LIVES]
    return f"in {sessions} past session{'s' * (sessions != 1)} {', '.join(within)}"


def _starts(state: State) -> str:
    """How soon other sessions share tools and system."""
    if state.prior is None or not lifetimes.shares(state):
        return ""
    if (next_s := state.prior.next_start_s) is not None:
        return f"the next session was announced within {next_s:,.0f} s"
    starts = state.prior.starts_s
    within = [f"{sum(s <= TTL_SECONDS[t] for s in starts)} of {len(starts)} within {t}" for t in LIVES]
    return f"sessions with this prefix follow each other: {', '.join(within)}"


def _seen(state: State) -> str:
    seen = len(state.gaps)
    if seen < _SEEN:
        return f"{seen} gap{'s' * (seen != 1)} seen so far" if seen else "no gap seen yet"
    within = ", ".join(f"{sum(g <= TTL_SECONDS[t] for g in state.gaps)} of {seen} gaps within {t}" for t in LIVES)
    pinged = sum(s > 0 for s in state.pinged_s)
    return f"{within}, {pinged} of them by pings" if pinged else within


def _overlap(start: int, end: int, first: int, last: int) -> int:
    return max(0, min(end, last) - max(start, first))
