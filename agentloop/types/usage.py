"""What a model costs and what a request used."""

from decimal import Decimal
from typing import Literal

from agentloop.types.base import Frozen

Ttl = Literal["5m", "1h"]
TTL_SECONDS: dict[Ttl, int] = {"5m": 300, "1h": 3600}


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


class Usage(Frozen):
    """Tokens of one request, as the API reports them."""

    input_tokens: int = 0
    """Not read from the cache and not written to it."""
    cache_read_input_tokens: int = 0
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0
    output_tokens: int = 0
    service_tier: str | None = None

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, however they were billed."""
        return (
            self.input_tokens + self.cache_read_input_tokens + self.ephemeral_5m_input_tokens + self.ephemeral_1h_input_tokens
        )

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            ephemeral_5m_input_tokens=self.ephemeral_5m_input_tokens + other.ephemeral_5m_input_tokens,
            ephemeral_1h_input_tokens=self.ephemeral_1h_input_tokens + other.ephemeral_1h_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )
