"""What a model costs and what a request used."""

from decimal import Decimal
from typing import Literal

from agentloop.types.base import Frozen

Ttl = Literal["5m", "1h"]
TTL_SECONDS: dict[Ttl, int] = {"5m": 300, "1h": 3600}
LIVES: tuple[Ttl, ...] = tuple(TTL_SECONDS)
"""Shortest first."""


class Prices(Frozen):
    """USD per million tokens, for prompts of at most `max_prompt_tokens` (None: of any length)."""

    max_prompt_tokens: int | None = None
    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal


class ModelCard(Frozen):
    """What is known of a model. The card a session starts with is written into its log, prices too, so that the log
    alone is enough to compute the bill, whatever the table says later."""

    id: str
    prices: tuple[Prices, ...]
    """Smallest prompts first; the first entry that a prompt fits prices every token of the request, output too."""
    prices_as_of: str
    tokenizer: str
    min_cacheable_tokens: int
    context_window: int
    max_output_tokens: int
    tool_system_tokens: int = 0
    """Tokens the API adds to the prompt of a request that has tools."""
    forced_tool_system_tokens: int | None = None
    """The same where `tool_choice` is any or tool; None: no other amount is known."""
    fast_prices: tuple[Prices, ...] = ()
    """Prices at `speed: "fast"`; none where the model has no fast mode."""
    geo_multiplier: Decimal | None = None
    """What every price is multiplied by for `inference_geo: "us"`; None where the model does not take it."""
    default_effort: str | None = None
    keeps_earlier_thinking: bool = True
    """Earlier thinking stays in the context and is billed as input; other models strip it."""
    thinks_by_default: bool = False
    checks_thinking_prefix: bool = False
    """A thinking block is valid only while everything before it is unchanged (for some or all accounts)."""


class ModelTraits(Frozen):
    """What a model accepts and does, beyond its card: for checks before a request, and for the emulator."""

    display_name: str
    status: str
    """active, legacy, deprecated or retired."""
    aliases: tuple[str, ...] = ()
    released: str | None = None
    retirement_date: str | None = None
    thinking_types: tuple[str, ...] = ()
    thinking_default: str | None = None
    keeps_earlier_thinking: bool = False
    """Earlier thinking stays in the context and is billed as input; other models strip it."""
    prefix_check: str | None = None
    """Whose accounts get a 400 when a history with thinking was edited; None: nobody's."""
    default_effort: str | None = None
    forced_tool_choice: bool = True
    assistant_prefill: bool = False
    sampling_params: bool = False
    system_messages: bool = False
    """Takes `role: "system"` inside messages."""
    compacts_on_demand: bool | None = None
    """Whether it takes a `compaction` request; None: not known."""
    batch_output_tokens: int | None = None
    """What an item of a batch may answer with the beta header for long output; None: no more than elsewhere."""


class Tokens(Frozen):
    """Tokens of a prompt, by how they were billed, and of what was answered."""

    input_tokens: int = 0
    """Not read from the cache and not written to it."""
    cache_read_input_tokens: int = 0
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0
    output_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, however they were billed."""
        return (
            self.input_tokens + self.cache_read_input_tokens + self.ephemeral_5m_input_tokens + self.ephemeral_1h_input_tokens
        )

    @property
    def all_tokens(self) -> int:
        """Tokens of the prompt and of what was answered."""
        return self.prompt_tokens + self.output_tokens


class Iteration(Tokens):
    """One of the model calls that a single request made."""

    type: str = "message"
    """Such as `message` or `compaction`."""
    model: str | None = None
    """Who answered, where that was not the model that was asked."""


class Usage(Tokens):
    """Tokens of one request, as the API reports them."""

    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    web_search_requests: int = 0
    iterations: tuple[Iteration, ...] = ()
    """Where there are any, they are what is billed: the figures of the request leave compactions out."""

    @property
    def billed(self) -> tuple[Tokens, ...]:
        """The tokens that are paid for, call by call: each is priced by the length of its own prompt."""
        return self.iterations or (self,)

    def __add__(self, other: "Usage") -> "Usage":
        counted = (*self.billed, *other.billed)
        return Usage(
            input_tokens=sum(t.input_tokens for t in counted),
            cache_read_input_tokens=sum(t.cache_read_input_tokens for t in counted),
            ephemeral_5m_input_tokens=sum(t.ephemeral_5m_input_tokens for t in counted),
            ephemeral_1h_input_tokens=sum(t.ephemeral_1h_input_tokens for t in counted),
            output_tokens=sum(t.output_tokens for t in counted),
            web_search_requests=self.web_search_requests + other.web_search_requests,
        )
