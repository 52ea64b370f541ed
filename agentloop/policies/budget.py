"""Where a session stops, before money is spent, and what the model is told when that is near."""

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Literal, NamedTuple

from pydantic import Field

from agentloop.core import costs
from agentloop.core.choices import Notice
from agentloop.core.costs import MILLION
from agentloop.core.state import State
from agentloop.types.base import Settings
from agentloop.types.events import Outcome

REFUSALS = 3
"""So often in a row a shared budget is asked for room for one request: others may be faster each time."""

RECORDING = "recording:"
"""Who plays a session that says what it said before, whatever it is told."""


class _Meter(NamedTuple):
    """A limit, and how much of it is used."""

    about: str
    used: Decimal
    limit: Decimal
    shown: str


class HardBudget(Settings):
    """The limits of the session hold: the worst case of the next request must fit into what is left, of its own budget and
    of those that it shares with others."""

    kind: Literal["hard"] = "hard"
    least_output_tokens: int = Field(default=1_024, ge=1)
    """A request that could not even be answered with this many tokens is not sent."""
    wrap_up_at: Decimal | None = Field(default=Decimal("0.8"), gt=0, lt=1, allow_inf_nan=False)
    """The share of a limit from which on the model is told to come to an end, once for each limit; None: it is not told."""

    edition: int = Field(default=2, ge=1, le=2)
    """1: prompts are taken at their estimate, as logs of before have it; 2: at what the API counts, where that is more."""

    def stop(self, state: State, now: datetime) -> tuple[Outcome, str] | None:
        """The limit that forbids the next request, and the sentence that says so."""
        limits = state.limits
        if limits.max_turns is not None and state.asked >= limits.max_turns:
            return "max_turns", f"{state.asked} turns of {limits.max_turns}; raise --max-turns to go on"
        if limits.max_wall_s is not None and (now - state.running_since).total_seconds() >= limits.max_wall_s:
            return "time_limit", f"the limit of {limits.max_wall_s:g} seconds has passed"
        if (left := self._tokens_left(state)) is not None and left < self.least_output_tokens:
            return "budget_exceeded", (
                f"{state.all_tokens:,} of {limits.max_session_tokens:,} tokens are used, and the next request does not "
                "fit into the rest; raise --max-session-tokens to go on"
            )
        if self._tokens_for(state, self._own_left(state)) < self.least_output_tokens:
            risk = f", up to {state.at_risk_usd:.4f} more for attempts of unknown usage" if state.at_risk_usd else ""
            return "budget_exceeded", (
                f"{state.spent_usd:.4f} of {limits.max_budget_usd} USD are spent{risk}, and the next request may not fit into "
                "the rest; raise --max-budget-usd to go on"
            )
        if state.refused and (self._tokens_for(state, _shared_left(state)) < self.least_output_tokens or _in_vain(state)):
            last = state.refused[-1]
            return "budget_exceeded", (
                f"{last.left_usd:.4f} of {last.limit_usd} USD are left to {last.scope}, and the next request may not fit "
                "into that; raise that budget, or resume when there is room again"
            )
        return None

    def notice(self, state: State, now: datetime) -> Notice | None:
        """What to tell the model before the next request; None where nothing is near, or it was told."""
        if self.wrap_up_at is None or not state.turns or state.played_by.startswith(RECORDING):
            return None
        near = next((m for m in self._meters(state, now) if m.used >= self.wrap_up_at * m.limit), None)
        if near is None:
            return None
        return Notice(
            near.about,
            f"[Of the limit of this session, {near.shown} are used. It stops when nothing is left. "
            "Finish what matters most now, begin nothing new, and say in your last words what was left undone.]",
        )

    def _meters(self, state: State, now: datetime) -> Iterator[_Meter]:
        """The limits that the model was not told of yet."""
        for meter in _meters(state, now):
            if meter.limit > 0 and meter.about not in state.noticed:
                yield meter

    def max_tokens(self, state: State) -> int:
        """Output tokens of the next request: what was asked for, what the model can do, what the budgets afford."""
        wanted = min(state.limits.max_tokens, state.card.max_output_tokens)
        for left in (self._own_left(state), _shared_left(state)):
            wanted = min(wanted, self._tokens_for(state, left))
        tokens = self._tokens_left(state)
        return wanted if tokens is None else min(wanted, tokens)

    def affords(self, state: State, cost_usd: Decimal) -> bool:
        """Whether so much may be spent, and the next request still has room behind it."""
        return all(
            left is None or self._tokens_for(state, left - cost_usd) >= self.least_output_tokens
            for left in (self._own_left(state), _shared_left(state))
        )

    def fits(self, state: State, most_usd: Decimal) -> bool:
        """Whether a request that can cost so much may be sent: an attempt more cannot ask for less than the first did."""
        left = self._own_left(state)
        return left is None or most_usd <= left

    def _own_left(self, state: State) -> Decimal | None:
        limit = state.limits.max_budget_usd
        return None if limit is None else limit - state.spent_usd - state.at_risk_usd

    def _tokens_left(self, state: State) -> int | None:
        """Tokens that the next reply may have, by the session's limit of tokens."""
        limit = state.limits.max_session_tokens
        return None if limit is None else limit - state.all_tokens - self._prompt_tokens(state)

    def _tokens_for(self, state: State, left_usd: Decimal | None) -> int:
        """Output tokens that so much money buys, when the whole prompt has to be written anew."""
        if left_usd is None:
            return max(state.card.max_output_tokens, self.least_output_tokens)
        prompt = self._prompt_tokens(state)
        left = left_usd - costs.worst_case(state.card, prompt, 0)
        price = costs.prices_for(state.card, prompt).output / MILLION
        if price == 0:  # a model of one's own, without a bill
            return state.card.max_output_tokens if left > 0 else 0
        return int((left / price).to_integral_value(rounding=ROUND_FLOOR)) if left > 0 else 0

    def _prompt_tokens(self, state: State) -> int:
        """Tokens of the next prompt: never fewer than estimated, more where the API has been counting more."""
        return state.prompt_tokens if self.edition == 1 else max(state.prompt_tokens, state.probable_tokens)


def _shared_left(state: State) -> Decimal | None:
    return state.refused[-1].left_usd if state.refused else None


def _in_vain(state: State) -> bool:
    return len(state.refused) >= REFUSALS


def _meters(state: State, now: datetime) -> Iterator[_Meter]:
    limits = state.limits
    if (usd := limits.max_budget_usd) is not None:
        spent = state.spent_usd + state.at_risk_usd
        yield _Meter("max_budget_usd", spent, usd, f"{spent:.4f} of {usd} USD")
    if limits.max_turns is not None:
        yield _Meter("max_turns", Decimal(state.asked), Decimal(limits.max_turns), f"{state.asked} of {limits.max_turns} turns")
    if (most := limits.max_session_tokens) is not None:
        used = state.all_tokens
        yield _Meter("max_session_tokens", Decimal(used), Decimal(most), f"{used:,} of {most:,} tokens")
    if limits.max_wall_s is not None:
        passed = Decimal(int((now - state.running_since).total_seconds()))
        yield _Meter("max_wall_s", passed, Decimal(str(limits.max_wall_s)), f"{passed} of {limits.max_wall_s:g} seconds")
    if (near := state.near) is not None:
        used_usd = near.limit_usd - near.left_usd
        yield _Meter(near.scope, used_usd, near.limit_usd, f"{used_usd:.4f} of {near.limit_usd} USD for {near.scope}")


Budget = HardBudget
