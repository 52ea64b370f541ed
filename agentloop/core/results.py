"""How the answers to a reply's calls change what is known of its session."""

import hashlib
from collections.abc import Mapping

from agentloop.core import tokens
from agentloop.core.state import State, changed
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import RECALL, Blocks, Call
from agentloop.types.events import ResultExtracted, ToolFinished

_LEAST_HANDLE = 8
"""Characters of a digest that name a result."""


def finished(state: State, answer: ToolFinished) -> State:
    """One call has its answer."""
    if answer.raw is not None:
        shown = state.facts_shown.get(answer.name, frozenset()) | {answer.raw.digest}
        state = changed(state, facts_shown={**state.facts_shown, answer.name: shown})
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
    return changed(
        state,
        given=given,
        given_tokens=tokens.blocks_tokens(given, state.card.tokenizer),
        results=(),
        permits=state.permits.came_in(names, state.tools),
        repeats=(digest, state.repeats[1] + 1 if digest == state.repeats[0] else 1),
        invalid_turns=state.invalid_turns + 1 if invalid else 0,
    )


def _what_happened(calls: tuple[Call, ...], results: dict[str, ToolFinished]) -> str:
    what = [(c.name, c.input, results[c.id].content) for c in calls if c.id in results]
    return hashlib.blake2b(compact(what), digest_size=8).hexdigest()


def recalled(state: State, content: Blocks) -> Mapping[str, frozenset[str]]:
    """What the model has asked more of, with the calls of this reply."""
    asked = [str(c.input.get("handle") or "") for c in blocks.calls(content) if c.name == RECALL and isinstance(c.input, dict)]
    found = dict(state.facts_recalled)
    for handle in (h for h in asked if len(h) >= _LEAST_HANDLE):
        for tool, digests in state.facts_shown.items():
            if named := frozenset(d for d in digests if d.startswith(handle)):
                found[tool] = found.get(tool, frozenset()) | named
    return found if asked else state.facts_recalled
