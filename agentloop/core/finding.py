"""How much of what should be in the cache is found there, as the session's own replies tell, and what a token that is carried
therefore costs.

The clock says whether an entry should still be there. In batches, and behind some gateways, a share of them is not found all
the same: then what is carried is written anew. Source: docs/economics.md, "What is not found".
"""

from decimal import Decimal
from typing import Literal

from agentloop.core.state import Found, State
from agentloop.types.blocks import Block
from agentloop.types.request import Reply
from agentloop.types.usage import TTL_SECONDS, Prices, Ttl

PRIOR = 10
"""As how many requests that found everything counts what is not known yet. With it one miss by chance makes what is carried at
most twice as dear, where a write costs twelve times a read; a cut's period goes with the root of that."""
EXPLAINED = frozenset({"model_changed", "tools_changed", "system_changed", "messages_changed"})
"""Reasons that the API gives for a miss of which the cache is innocent."""
_NOWHERE_ELSE = frozenset({"text", "tool_result"})


def due_tokens(state: State, age_s: float) -> int:
    """What the next request for a turn should find, sent so many seconds after its entries were last used, in the API's tokens;
    0 where that cannot be told: they have expired, there are none, or a change that we know of has made them useless."""
    sent = state.sent
    if sent is None or sent.ttl is None or sent.cut or age_s > TTL_SECONDS[sent.ttl]:
        return 0
    return sent.carried if _leaves_the_rest_as_it_was(state) else 0


def _leaves_the_rest_as_it_was(state: State) -> bool:
    """Whether what is given changes nothing of how the API reads what stands before it: a picture does, and so does a new word
    of the user on models that then drop their earlier thinking."""
    kinds = {b.get("type") for b in state.given}
    if not state.card.keeps_earlier_thinking and kinds - {"tool_result"}:
        return False
    return kinds <= _NOWHERE_ELSE and not any(_has_media(b) for b in state.given)


def _has_media(block: Block) -> bool:
    inner = block.get("content")
    return isinstance(inner, list) and any(part.get("type") not in ("text", "tool_reference") for part in inner)


def after(state: State, reply: Reply) -> Found:
    """What is known once the reply to a request for a turn is here."""
    reason = str((reply.cache_miss or {}).get("type", ""))
    if not state.due_tokens or reply.usage_estimated or reply.priced_by is not None or reason in EXPLAINED:
        return state.found
    share = min(Decimal(1), Decimal(reply.usage.cache_read_input_tokens) / state.due_tokens)
    return Found(state.found.requests + 1, state.found.shares + share)


def carried(reply: Reply) -> int:
    """Tokens that a request left in the cache of the session's own model: what it read there, and what it wrote."""
    if reply.usage_estimated or reply.priced_by is not None:
        return 0
    usage = reply.usage
    return usage.prompt_tokens - usage.input_tokens


def share(found: Found) -> Decimal:
    """The share of what should be there that the next request will probably find; exactly 1 as long as all was found."""
    if found.shares == found.requests:
        return Decimal(1)
    return round((PRIOR + found.shares) / (PRIOR + found.requests), 4)


def prices(p: Prices, written: Ttl | Literal["off"], hits: Decimal) -> Prices:
    """These prices, with that of a carried token in the mean in the place of a read: read where it is found, else written anew
    for so long, or paid as it is."""
    if hits == 1:
        return p
    missed = {"5m": p.cache_write_5m, "1h": p.cache_write_1h, "off": p.input}[written]
    return p.model_copy(update={"cache_read": hits * p.cache_read + (1 - hits) * missed})
