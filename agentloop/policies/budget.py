"""Where a session stops, before money is spent."""

from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

from pydantic import Field

from agentloop.core import costs
from agentloop.core.costs import MILLION
from agentloop.core.state import State
from agentloop.types.base import Settings
from agentloop.types.events import Outcome


class HardBudget(Settings):
    """The limits of the session hold: the worst case of the next request must fit into what is left."""

    kind: Literal["hard"] = "hard"
    least_output_tokens: int = Field(default=1_024, ge=1)
    """A request that could not even be answered with this many tokens is not sent."""

    def stop(self, state: State, now: datetime) -> tuple[Outcome, str] | None:
        """The limit that forbids the next request, and the sentence that says so."""
        limits = state.limits
        if limits.max_turns is not None and state.asked >= limits.max_turns:
            return "max_turns", f"{state.asked} turns of {limits.max_turns}; raise --max-turns to go on"
        if limits.max_wall_s is not None and (now - state.running_since).total_seconds() >= limits.max_wall_s:
            return "time_limit", f"the limit of {limits.max_wall_s:g} seconds has passed"
        if limits.max_budget_usd is not None and self._affordable(state) < self.least_output_tokens:
            risk = f", up to {state.at_risk_usd:.4f} more for attempts of unknown usage" if state.at_risk_usd else ""
            return "budget_exceeded", (
                f"{state.spent_usd:.4f} of {limits.max_budget_usd} USD are spent{risk}, and the next request may not fit into "
                "the rest; raise --max-budget-usd to go on"
            )
        return None

    def max_tokens(self, state: State) -> int:
        """Output tokens of the next request: what was asked for, what the model can do, what the budget affords."""
        wanted = min(state.limits.max_tokens, state.card.max_output_tokens)
        return min(wanted, self._affordable(state)) if state.limits.max_budget_usd is not None else wanted

    def affords(self, state: State, cost_usd: Decimal) -> bool:
        """Whether so much may be spent, and the next request still has room behind it."""
        return state.limits.max_budget_usd is None or self._affordable(state, cost_usd) >= self.least_output_tokens

    def _affordable(self, state: State, besides_usd: Decimal = Decimal(0)) -> int:
        """Output tokens that the rest of the budget buys, when the whole prompt has to be written anew."""
        assert state.limits.max_budget_usd is not None
        left = state.limits.max_budget_usd - state.spent_usd - state.at_risk_usd - besides_usd
        left -= costs.worst_case(state.card, state.prompt_tokens, 0)
        price = costs.prices_for(state.card, state.prompt_tokens).output / MILLION
        if price == 0:  # a model of one's own, without a bill
            return state.card.max_output_tokens if left > 0 else 0
        return int((left / price).to_integral_value(rounding=ROUND_FLOOR)) if left > 0 else 0


Budget = HardBudget
