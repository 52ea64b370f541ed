"""What a wave knows of its sessions and of the prefixes that they share: who carries what, what was found, what is primed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from agentloop.core import costs, prewarming, tokens
from agentloop.core.api_errors import asked_model
from agentloop.types.base import Json, parsed
from agentloop.types.request import Reply
from agentloop.types.usage import ModelCard, Ttl
from agentloop.waves.answers import CardOf
from agentloop.waves.policy import Chosen, Course, Hits
from agentloop.waves.tally import Tally

_MESSAGES = b',"messages":['
"""Where tools and system end in a body (`core/wire.py`)."""
CACHE_MARK = b'"cache_control":'
"""In a body that asks for cache entries; words that a body quotes have their quotes escaped."""


class _Static(NamedTuple):
    """What stands before the messages of a session."""

    size: int
    """Tokens, estimated."""
    ttl: Ttl
    card: ModelCard


class Books:
    """Not thread-safe: its caller holds a lock."""

    def __init__(
        self,
        course: Course,
        card: ModelCard,
        own: Mapping[str, ModelCard] | None = None,
        card_of: CardOf = lambda model: None,
    ) -> None:
        """Nothing is known yet; `card` is that of the sessions' model, `own` has those of sessions with another one; `card_of`
        finds that of a model which takes over."""
        self.hits = Hits(course)
        self._card, self._own, self._find = card, dict(own or {}), card_of
        self._tallies: dict[str, Tally] = {}
        self._heads: dict[bytes, Tally | None] = {}
        """By the bytes of tools and system, as a session with this prefix begins: None where nobody wrote it beforehand."""
        self._priming: dict[bytes, _Static] = {}
        """Those that are being written."""

    def chosen(self, session_id: str, body: bytes, now: datetime) -> Chosen:
        """The way of a session's next request."""
        tally = self._tally(session_id, body) if self._is_its_own(session_id, body) else None
        return self.hits.chosen(tally.expected(now) if tally is not None else None)

    def _tally(self, session_id: str, body: bytes) -> Tally | None:
        """What is known of a session: by its replies, or before the first by who wrote the prefix that it shares."""
        return self._tallies.get(session_id) or self._heads.get(head(body))

    def replied(self, session_id: str, body: bytes, reply: Reply, at: datetime) -> Decimal | None:
        """A session has its reply. The share of what the request could have found that it did; None where that is not known,
        or where it was asked live: there it tells nothing of batches."""
        if not self._is_its_own(session_id, body) or reply.usage_estimated:
            return None
        tally = self._tally(session_id, body)
        is_batch = reply.usage.service_tier == "batch"
        if not is_batch:
            self.hits.paid_live(costs.cost(reply.usage, self._card_of(session_id)))
        share = tally.found(reply.usage) if is_batch and tally is not None else None
        if share is not None:
            self.hits.seen(share)
        self._tallies[session_id] = (tally or Tally(self._card_of(session_id))).after(reply.usage, at)
        return share

    def _card_of(self, session_id: str) -> ModelCard:
        return self._own.get(session_id, self._card)

    def _is_its_own(self, session_id: str, body: bytes) -> bool:
        """Whether it speaks to the session's own model. A question about a large result may go to a cheaper one, and marks
        nothing for the cache; where a request does that, another model has taken over, with an empty cache."""
        model = asked_model(body)
        if model == self._card_of(session_id).id:
            return True
        other = self._find(model) if model is not None and CACHE_MARK in body else None
        if other is not None:
            self._own[session_id] = other
            self._tallies.pop(session_id, None)
        return other is not None

    def primes(self, session_id: str, body: bytes, together: int) -> bool:
        """Whether this first request of a session is to go ahead, so that those beside it read the prefix that it writes:
        `together` requests have it. True once for each prefix: from then on those with the same one are held until it is
        answered."""
        begins, card = head(body), self._card_of(session_id)
        if begins in self._heads or session_id in self._tallies or together < 2 or not self._is_its_own(session_id, body):
            return False
        static = _static(begins, card)
        self._heads[begins] = None
        if static is None or static.size < card.min_cacheable_tokens:
            return False
        if not prewarming.prewarming(card, static.size, static.ttl, together).pays:
            return False
        self._priming[begins] = static
        return True

    def is_held(self, body: bytes) -> bool:
        """Whether a request waits: for another that writes its prefix, or for the first items, from which the wave learns."""
        return self.hits.is_learning or (bool(self._priming) and head(body) in self._priming)

    def answered(self, body: bytes, reply: Reply | None, at: datetime) -> None:
        """A request is answered, or got no answer: whoever waited for its prefix goes on."""
        static = self._priming.pop(head(body), None) if self._priming else None
        if static is not None and reply is not None:
            begun = Tally(static.card).after(reply.usage, at)
            self._heads[head(body)] = begun.only(static.size, static.ttl)


def together(bodies: Iterable[bytes]) -> Counter[bytes]:
    """How many of these requests share what stands before the messages, by those bytes."""
    return Counter(map(head, bodies))


def head(body: bytes) -> bytes:
    """The bytes of everything before the messages. In a text those bytes cannot stand: its quotes are escaped."""
    return body.partition(_MESSAGES)[0]


def _static(begins: bytes, card: ModelCard) -> _Static | None:
    """The entry of tools and system; None where none is written."""
    data: Json = parsed(begins.decode() + "}")
    system, tools = data.get("system") or [], data.get("tools") or []
    marked = _marked(system) or _marked(tools)
    if marked is None:
        return None
    size = tokens.blocks_tokens(system, card.tokenizer) + sum(tokens.tool_tokens(t, card.tokenizer) for t in tools)
    return _Static(size, "1h" if marked.get("ttl") == "1h" else "5m", card)


def _marked(blocks: list[Json]) -> Json | None:
    found: Json | None = next((b["cache_control"] for b in blocks if b.get("cache_control")), None)
    return found
