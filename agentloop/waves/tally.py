"""What the replies of a session tell of its next request: how much it carries, and what it found of that. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.types.usage import TTL_SECONDS, ModelCard, Ttl, Usage
from agentloop.waves.policy import Expected


@dataclass(frozen=True)
class Tally:
    """One session, as its replies tell it. Tokens."""

    card: ModelCard
    turns: int = 0
    prompt: int = 0
    """Of the last request."""
    carried: int = 0
    """Of the last request, what it read from the cache or wrote to it."""
    ttl: Ttl = "5m"
    """How long most of what it wrote last lives."""
    asked_at: datetime | None = None
    added: int = 0
    """Tokens that requests had to write because they were new, in all."""
    additions: int = 0
    """Requests of which that is known."""
    fresh: int = 0
    output: int = 0

    def after(self, usage: Usage, at: datetime) -> "Tally":
        """With one more reply, to a request that was sent at this time."""
        written = usage.ephemeral_5m_input_tokens + usage.ephemeral_1h_input_tokens
        longer = usage.ephemeral_1h_input_tokens > usage.ephemeral_5m_input_tokens
        carried = written + usage.cache_read_input_tokens
        return replace(
            self,
            turns=self.turns + 1,
            prompt=usage.prompt_tokens,
            carried=carried,
            ttl=("1h" if longer else "5m") if written else self.ttl,
            asked_at=at,
            added=self.added + (max(0, carried - self.carried) if self.carried else 0),
            additions=self.additions + bool(self.carried),
            fresh=self.fresh + usage.input_tokens,
            output=self.output + usage.output_tokens,
        )

    def only(self, static: int, ttl: Ttl) -> "Tally":
        """A session of the same agent at its start: of what this one wrote, it can read what stands before the messages."""
        new = max(0, self.carried - static)
        return replace(self, prompt=static, carried=static, ttl=ttl, added=new, additions=1)

    def found(self, usage: Usage) -> Decimal | None:
        """The share that a request found of what it could have found; None where that cannot be told: it is the first one,
        or its history was cut."""
        if not self.carried or usage.prompt_tokens <= self.prompt:
            return None
        return min(Decimal(1), Decimal(usage.cache_read_input_tokens) / self.carried)

    def expected(self, now: datetime) -> Expected | None:
        """The next request, if it adds what the others did in the mean; None where nothing it carries was ever cached."""
        if not self.carried or self.asked_at is None:
            return None
        p = costs.prices_for(self.card, self.prompt)
        write = p.cache_write_1h if self.ttl == "1h" else p.cache_write_5m
        new = write * self.added / max(1, self.additions) + (p.input * self.fresh + p.output * self.output) / self.turns
        warm = (now - self.asked_at).total_seconds() <= TTL_SECONDS[self.ttl]
        return Expected(self.carried * p.cache_read / MILLION, self.carried * write / MILLION, new / MILLION, warm)
