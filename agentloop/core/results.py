"""How the answers to a reply's calls change what is known of its session."""

import hashlib
from collections.abc import Mapping

from agentloop.core import costs, delegating, tokens
from agentloop.core.state import Once, State, changed
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import RECALL, Blocks, Call
from agentloop.types.events import ResultExtracted, ToolFinished
from agentloop.types.request import Prefix
from agentloop.types.tools import ToolCard
from agentloop.types.usage import ModelCard

LEAST_HANDLE = 8
"""Characters of a digest that name a result."""


def finished(state: State, answer: ToolFinished) -> State:
    """One call has its answer."""
    if answer.raw is not None:
        shown = state.facts_shown.get(answer.name, frozenset()) | {answer.raw.digest}
        state = changed(state, facts_shown={**state.facts_shown, answer.name: shown})
    if answer.leaves is not None:
        state = delegating.counted(state, answer.leaves)
    state = changed(
        state,
        open_calls=tuple(c for c in state.open_calls if c.id != answer.call_id),
        results=(*state.results, answer),
        started={c: e for c, e in state.started.items() if c != answer.call_id},
    )
    return state if state.open_calls or state.to_extract is not None else answered(state)


def extracted(state: State, made: ResultExtracted) -> State:
    """The result as it will be seen; the next one's turn comes, or all are answered."""
    state = changed(state, extraction=None, extracted=state.extracted | {made.call_id})
    if made.content is not None:
        shown = {"content": made.content}
        results = (r.model_copy(update=shown) if r.call_id == made.call_id else r for r in state.results)
        state = changed(state, results=tuple(results))
    return state if state.open_calls or state.to_extract is not None else answered(state)


def answered(state: State) -> State:
    """Every call has its answer: the answers, in the order of the calls, are what is given next."""
    by_id = {r.call_id: r for r in state.results}
    calls = blocks.calls(state.turns[-1].reply)
    given = tuple(blocks.tool_result(c.id, by_id[c.id].content, by_id[c.id].is_error) for c in calls if c.id in by_id)
    given += state.given
    digest = _what_happened(calls, by_id)
    names = tuple(r.name for r in state.results)
    invalid = all(r.outcome == "invalid" for r in state.results)
    size = tokens.blocks_tokens(given, state.card.tokenizer)
    once = _once(changed(state, given=given, given_tokens=size), by_id)
    return changed(
        state,
        given=given,
        given_tokens=size + (once.extra_tokens if once is not None else 0),
        once=once,
        results=(),
        permits=state.permits.came_in(names, state.tools),
        repeats=(digest, state.repeats[1] + 1 if digest == state.repeats[0] else 1),
        invalid_turns=state.invalid_turns + 1 if invalid else 0,
    )


def _once(state: State, results: Mapping[str, ToolFinished]) -> Once | None:
    """Which results are shown whole this once, first come first served: none that would take the prompt, as the API will
    probably count it, over a step of the prices or out of the window."""
    family = state.card.tokenizer
    left = int(costs.longest_prompt(state.card, state.limits.max_tokens) / state.counted) - state.prompt_tokens
    wholes: dict[str, str] = {}
    extra, first = 0, len(state.given)
    for i, block in enumerate(state.given):
        result = results.get(str(block.get("tool_use_id")))
        if result is None or result.once is None:
            continue
        more = tokens.block_tokens({**block, "content": result.once}, family) - tokens.block_tokens(block, family)
        if more <= left - extra:
            wholes[result.call_id], extra, first = result.once, extra + more, min(first, i)
    return Once(wholes, extra, first, tokens.blocks_tokens(state.given[:first], family)) if wholes else None


def as_facts(state: State) -> State:
    """The state with facts in the place of whatever was to be shown whole."""
    if state.once is None:
        return state
    return changed(state, once=None, given_tokens=state.given_tokens - state.once.extra_tokens)


def may_see_once(card: ModelCard, prefix: Prefix) -> bool:
    """Whether a result may be replaced by its facts once it was answered: not where thinking behind it is bound to what stood
    there. https://platform.claude.com/docs/en/build-with-claude/preserved-thinking"""
    return not card.checks_thinking_prefix or (prefix.thinking or {}).get("type") == "disabled"


def mode(tool: ToolCard, state: State) -> str:
    """How a tool's large results are shown in a session: as it declares, where the model's rules allow that."""
    return "facts" if tool.facts == "see_once" and not may_see_once(state.card, state.prefix) else tool.facts


def _what_happened(calls: tuple[Call, ...], results: dict[str, ToolFinished]) -> str:
    what = [(c.name, c.input, results[c.id].content) for c in calls if c.id in results]
    return hashlib.blake2b(compact(what), digest_size=8).hexdigest()


def recalled(state: State, content: Blocks) -> Mapping[str, frozenset[str]]:
    """What the model has asked more of, with the calls of this reply."""
    asked = [str(c.input.get("handle") or "") for c in blocks.calls(content) if c.name == RECALL and isinstance(c.input, dict)]
    found = dict(state.facts_recalled)
    for handle in (h for h in asked if len(h) >= LEAST_HANDLE):
        for tool, digests in state.facts_shown.items():
            if named := frozenset(d for d in digests if d.startswith(handle)):
                found[tool] = found.get(tool, frozenset()) | named
    return found if asked else state.facts_recalled
