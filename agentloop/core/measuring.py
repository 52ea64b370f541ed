"""How many tokens the parts of a session are, as its model counts them; and what they are without thinking."""

from dataclasses import replace

from agentloop.core import tokens
from agentloop.core.state import Segment, State, Turn, changed
from agentloop.types import blocks
from agentloop.types.request import Prefix
from agentloop.types.usage import ModelCard


def prefix_tokens(prefix: Prefix, card: ModelCard) -> int:
    """Estimated tokens of tools and system prompt, with what the API adds for them; deferred tools stand outside."""
    family = card.tokenizer
    tools = sum(tokens.tool_tokens(t, family) for t in prefix.tools if not t.get("defer_loading"))
    added = tokens.weights(family).frame + (card.tool_system_tokens if prefix.tools else 0)
    return tools + tokens.estimate(prefix.system, family) + added


def without_thinking(state: State) -> State:
    """The turns in the view, without their thinking."""
    family = state.card.tokenizer
    turns = tuple(
        replace(
            t,
            reply=blocks.without_thinking(t.reply),
            reply_tokens=t.reply_tokens - tokens.blocks_tokens(blocks.only_thinking(t.reply), family),
        )
        for t in state.turns
    )
    return changed(state, turns=turns, turns_tokens=turns_tokens(turns), thinking_from=state.keep_from + len(turns))


def turns_tokens(turns: tuple[Turn, ...]) -> int:
    """Estimated tokens of turns, without what the first of them was given."""
    return sum(t.reply_tokens for t in turns) + sum(t.given_tokens for t in turns[1:])


def measured(state: State) -> State:
    """The state with all that it holds weighed by its model's own tokenizer."""
    family = state.card.tokenizer
    turns = tuple(
        replace(t, given_tokens=tokens.blocks_tokens(t.given, family), reply_tokens=tokens.blocks_tokens(t.reply, family))
        for t in state.turns
    )
    segments = tuple(Segment(s.text, tokens.estimate(s.text, family)) for s in state.segments)
    return changed(
        state,
        prefix_tokens=prefix_tokens(state.prefix, state.card),
        task_tokens=tokens.blocks_tokens(state.task, family),
        turns=turns,
        turns_tokens=turns_tokens(turns),
        segments=segments,
        state_tokens=sum(s.tokens for s in segments),
        given_tokens=tokens.blocks_tokens(state.given, family),
        counted=1.0,
    )
