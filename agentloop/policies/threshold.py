"""The habit of most agents: when the prompt is over so many tokens, the oldest turns leave, whatever that costs."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from agentloop.core import cuts
from agentloop.core.choices import LedgerPolicy
from agentloop.core.state import State
from agentloop.core.tokens import estimate
from agentloop.types.base import Settings
from agentloop.types.events import Decision


class Threshold(Settings):
    """Let the prompt grow to `over_tokens`, then cut the history back to `keep_pairs`. Kept for comparison."""

    kind: Literal["threshold"] = "threshold"
    over_tokens: int = Field(default=50_000, ge=1)
    keep_pairs: int = Field(default=6, ge=1)

    def weigh(self, state: State, ledger: LedgerPolicy, now: datetime) -> Decision:
        """A cut where the prompt is too long and the state is shorter than what it stands for."""
        if state.prompt_tokens <= self.over_tokens:
            return Decision()
        keep_from = cuts.latest_cut(state, self.keep_pairs)
        if keep_from is None:
            return Decision()
        segment = estimate(ledger.segment(state, keep_from), state.card.tokenizer)
        if segment >= cuts.removed_tokens(state, keep_from):
            return Decision(reason="the state would be longer than what it stands for")
        return Decision(keep_from=keep_from, reason=f"the prompt is over {self.over_tokens:,} tokens")
