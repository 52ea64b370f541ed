"""Whether the cache is kept warm while tools run that said how long they take, and with which request.

A tool that announces its time (`takes_s`) starts a wait. Where pings are the cheapest way through it (`core/waits.py`),
each repeats the request whose reply made the calls; nothing is sent for any other tool. The entries count as used when a
ping was sent that was answered: what decides by the age of the cache goes by `Sent.at`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from agentloop.core import costs, cuts, tokens, view, waits
from agentloop.core.choices import LedgerPolicy, Policies
from agentloop.core.state import Announced, Sent, State, changed
from agentloop.core.waits import Carried
from agentloop.core.wire import SYSTEM
from agentloop.types.blocks import Call
from agentloop.types.events import ToolStarted
from agentloop.types.request import Request
from agentloop.types.tools import ToolCard
from agentloop.types.usage import TTL_SECONDS, Usage


class Ping(NamedTuple):
    """The next request that keeps the cache warm, and when it is due."""

    due_at: datetime
    request: Request
    arithmetic: str


# what the log tells


def started(state: State, call: ToolStarted, at: datetime) -> State:
    """A call has started: with it, or with those behind it, a wait that was announced begins or goes on."""
    state = changed(state, started={**state.started, call.call_id: call.effect})
    takes = announced_s(state.open_calls, state.tools)
    if takes is None:
        return changed(state, announced=None)
    before = state.announced or Announced(at, at)
    return changed(state, announced=before._replace(since=at, until=at + timedelta(seconds=takes)))


def answered(state: State, sent_at: datetime, usage: Usage) -> State:
    """A ping was answered: the entries live from its start. One that found nothing to read is the last of its wait."""
    assert state.sent is not None
    pinged_s = state.sent.pinged_s + max(0.0, (sent_at - state.sent.at).total_seconds())
    state = changed(state, sent=state.sent._replace(at=sent_at, pinged_s=pinged_s))
    return state if usage.cache_read_input_tokens * 2 >= usage.prompt_tokens else failed(state)


def failed(state: State) -> State:
    """A ping came to nothing: no other is sent in this wait, and the session knows nothing of it."""
    given_up = state.announced._replace(given_up=True) if state.announced is not None else None
    return changed(state, announced=given_up, pending=None, pending_at=None)


def announced_s(calls: Sequence[Call], cards: Sequence[ToolCard]) -> float | None:
    """How long these calls take, as far as their tools say: neighbours that only read run side by side, the others one
    after the other. None where no tool says anything."""
    by_name = {card.name: card for card in cards}
    known = [by_name.get(c.name) or ToolCard(name=c.name) for c in calls]
    if all(card.takes_s is None for card in known):
        return None
    groups = ((reads, [card.takes_s or 0.0 for card in group]) for reads, group in groupby(known, lambda c: c.effect == "read"))
    return sum(max(times) if reads else sum(times) for reads, times in groups)


# what is decided


def ping(state: State, policies: Policies, now: datetime) -> Ping | None:
    """The next ping of the wait that is on; None where there is none, or pings do not pay, or come too late, or are not
    in the budget."""
    sent, announced = state.sent, _wait_that_is_on(state)
    if announced is None or sent is None or sent.ttl is None or sent.cut:
        return None
    due_at = sent.at + timedelta(seconds=waits.interval_s(sent.ttl))
    if due_at >= announced.until or now > sent.at + timedelta(seconds=TTL_SECONDS[sent.ttl]):
        return None
    request = _request(state)
    if not _keeps_all(request, sent, state) or not _affordable(state, policies, announced):
        return None
    plan = _weighed(state, policies, announced)
    return Ping(due_at, request, plan.arithmetic) if plan.cheapest == "pings" else None


def _wait_that_is_on(state: State) -> Announced | None:
    """The wait that was announced, while a call that announced it is open."""
    announced = state.announced
    if announced is None or announced.given_up or not state.started:
        return None
    return announced if announced_s(state.open_calls, state.tools) is not None else None


def _keeps_all(request: Request, sent: Sent, state: State) -> bool:
    """Whether the request keeps alive what the next one reads, and the API takes it: there are entries, the last of them at
    the end, or before what was shown once; and no thinking that is set by hand.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching, pre-warming
    """
    last = len(request.messages) - (1 if sent.once_from is None else 2)
    to_the_end = bool(request.breakpoints) and request.breakpoints[-1].message >= last
    by_hand = (state.prefix.thinking or {}).get("type") == "enabled"
    return to_the_end and not by_hand and sent.prompt_tokens >= state.card.min_cacheable_tokens


def _affordable(state: State, policies: Policies, announced: Announced) -> bool:
    """Whether the session will still ask when the wait is over, and the ping leaves room for that in the budget."""
    if policies.budget.stop(state, announced.until) is not None:
        return False
    return policies.budget.affords(state, costs.worst_case(state.card, _asked_tokens(state), 0))


def _weighed(state: State, policies: Policies, announced: Announced) -> waits.Wait:
    """What is left of the wait, on each way."""
    assert state.sent is not None
    assert state.sent.ttl is not None
    since = max(announced.since, state.sent.at)
    wait_s = (announced.until - since).total_seconds()
    age_s = (since - state.sent.at).total_seconds()
    prices = costs.prices_for(state.card, _asked_tokens(state))
    return waits.wait(prices, _carried(state, policies, announced), state.sent.ttl, wait_s, age_s, state.rent_usd)


def _carried(state: State, policies: Policies, announced: Announced) -> Carried:
    """What the last request left in the cache, and what the policy would leave of it once that has gone cold."""
    assert state.sent is not None
    assert state.sent.ttl is not None
    cold = max(announced.until, state.sent.at + timedelta(seconds=TTL_SECONDS[state.sent.ttl] + 1))
    keep_from = policies.compaction.weigh(state, policies.ledger, cold).keep_from
    removable, segment = _removable(state, policies.ledger, keep_from) if keep_from is not None else (0, 0)
    front = state.opening_tokens + state.state_tokens
    return Carried(
        static=state.prefix_tokens,
        state=front + segment,
        pairs=max(0, state.sent.prompt_tokens - state.prefix_tokens - front - segment - removable),
        removable=removable,
        unwritten=max(0, _asked_tokens(state) - state.sent.prompt_tokens),
        outlives=_outlives(state, announced),
    )


def _removable(state: State, ledger: LedgerPolicy, keep_from: int) -> tuple[int, int]:
    """Tokens that a cut would save, net, and those of the segment that it would add; nothing where it is no cut."""
    segment = tokens.estimate(ledger.segment(state, keep_from), state.card.tokenizer)
    gain = cuts.removed_tokens(state, keep_from) - segment
    return (gain, segment) if gain > 0 else (0, 0)


def _outlives(state: State, announced: Announced) -> int:
    """Tokens of the front that are still cached when the wait is over, whatever is done: their lifetime is longer."""
    assert state.sent is not None
    wait_s = (announced.until - state.sent.at).total_seconds()
    ends = [m.message for m in state.sent.breakpoints if wait_s <= waits.interval_s(m.ttl)]
    if 0 in ends:
        return state.prefix_tokens + state.opening_tokens + state.state_tokens
    return state.prefix_tokens if SYSTEM in ends else 0


def _asked_tokens(state: State) -> int:
    """Estimated tokens of the last request: of the next, without its reply and what has been given since."""
    given = state.given_tokens if state.turns else 0
    return state.prompt_tokens - given - state.turns[-1].reply_tokens


def _request(state: State) -> Request:
    """The last request again, with the same bytes and breakpoints, and no answer wanted."""
    assert state.sent is not None
    before = changed(state, turns=state.turns[:-1], given=state.turns[-1].given, once=None)
    return Request(
        prefix=state.prefix,
        messages=view.messages(before),
        breakpoints=state.sent.breakpoints,
        max_tokens=0,
        previous_message_id=state.sent.message_id,
        purpose="keepalive",
    )
