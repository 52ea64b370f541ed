"""How a reply changes what is known of its session: as the next turn, as trouble, or as an answer to the engine itself."""

from agentloop.core import calibration, costs, finding, parts, results, tokens
from agentloop.core.state import Sent, State, Trouble, TroubleKind, Turn, changed
from agentloop.core.wire import SYSTEM
from agentloop.types import blocks
from agentloop.types.blocks import Blocks, Call
from agentloop.types.events import ModelReplied, ModelRequested
from agentloop.types.request import Reply
from agentloop.types.usage import ModelCard, Ttl, Usage


def paid(state: State, usage: Usage, card: ModelCard | None = None) -> State:
    """What was under way is paid for, at the prices of the model that answered."""
    spent = state.spent_usd + costs.cost(usage, card or state.card)
    return changed(state, usage=state.usage + usage, spent_usd=spent, pending=None, pending_at=None)


def replied(state: State, body: ModelReplied) -> State:
    """The reply stands as the next turn, or it is trouble."""
    reply = body.reply
    sent_at = state.pending_at or state.running_since
    decision = state.pending.decision if state.pending else None
    rent = decision.rent_usd if decision else state.rent_usd
    ttl, marks = _tail_ttl(state.pending), state.pending.breakpoints if state.pending else ()
    repeated, once_from = state.repeated_tokens, state.once.first if state.once is not None else None
    trouble = _trouble(state, body)
    counted, found, carried = _counted(state, reply), finding.after(state, reply), finding.carried(reply)
    state = changed(paid(state, reply.usage, reply.priced_by), asked=state.asked + 1, trouble=trouble, summary=None,
                    rent_usd=rent, counted=counted, found=found, due_tokens=0)  # fmt: skip
    if trouble is not None and trouble.kind != "paused":
        kept = Sent(sent_at, repeated, len(state.given), reply.message_id, ttl, once_from=once_from, carried=carried)
        again = changed(state, sent=kept)
        return smaller(again) if trouble.kind == "window_exceeded" and state.once is not None else again
    state = results.as_facts(state)
    content = blocks.without_blanks(reply.content)
    size = tokens.blocks_tokens(content, state.card.tokenizer) + _loaded_tokens(state, content)
    turn = Turn(state.given, state.given_tokens, content, size, reply.message_id)
    if not state.turns:
        state = changed(state, task=turn.given, task_tokens=turn.given_tokens)
    return changed(
        state,
        turns=(*state.turns, turn),
        turns_tokens=state.turns_tokens + size + (state.given_tokens if state.turns else 0),
        call_ids=state.call_ids | {c.id for c in blocks.calls(reply.content)},
        given=(),
        given_tokens=0,
        open_calls=() if trouble is not None else blocks.calls(reply.content),
        results=(),
        extracted=frozenset(),
        extraction=None,
        extraction_failed=False,
        started={},
        announced=None,
        sent=Sent(sent_at, repeated, 0, reply.message_id, ttl, once_from=once_from, breakpoints=marks, carried=carried),
        facts_recalled=results.recalled(state, content),
    )


def _counted(state: State, reply: Reply) -> float:
    """What the usage of a reply says of the estimate of its prompt; of another model's, or without any, what was known."""
    if reply.priced_by is not None or reply.usage_estimated:
        return state.counted
    return calibration.factor(state.prompt_tokens, reply.usage.prompt_tokens) or state.counted


def smaller(state: State) -> State:
    """A request that was too long is asked again with the facts of what it showed whole, before anything is cut."""
    return changed(results.as_facts(state), trouble=None, failure=None)


def _loaded_tokens(state: State, content: Blocks) -> int:
    """Estimated tokens of the deferred tools that a reply is the first in the view to find: their definitions stand there."""
    found = set(parts.references(list(content)))
    if not found:
        return 0
    known = {name for t in state.turns for name in parts.references(list(t.reply))}
    tools = (t for t in state.prefix.tools if t.get("defer_loading") and t.get("name") in found - known)
    return sum(tokens.tool_tokens(t, state.card.tokenizer) for t in tools)


def _tail_ttl(request: ModelRequested | None) -> Ttl | None:
    """How long the end of a request is asked to be cached: its last breakpoint, unless that is before the messages."""
    last = request.breakpoints[-1] if request is not None and request.breakpoints else None
    return last.ttl if last is not None and last.message != SYSTEM else None


def _trouble(state: State, replied: ModelReplied) -> Trouble | None:
    """What keeps a reply from standing as a turn, by its stop reason.

    https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
    """
    reply = replied.reply
    calls = blocks.calls(reply.content)

    def trouble(kind: TroubleKind, detail: str = "") -> Trouble:
        before = state.trouble
        return Trouble(kind, before.times + 1 if before is not None and before.kind == kind else 1, detail)

    match reply.stop_reason:
        case "end_turn" | "stop_sequence" | "tool_use" if _ids_clash(state, calls):
            return trouble("duplicate_ids", "two tool calls with one id")
        case "end_turn" | "stop_sequence" | "tool_use":
            return None if blocks.says_something(reply.content) else trouble("empty")
        case "max_tokens":
            return trouble("truncated")
        case "model_context_window_exceeded":
            return trouble("window_exceeded")
        case "pause_turn":
            return trouble("paused")
        case "refusal":
            details = reply.stop_details if isinstance(reply.stop_details, dict) else {}
            return trouble("refused", str(details.get("category") or ""))
        case unknown:
            return trouble("unknown_stop", unknown)


def _ids_clash(state: State, calls: tuple[Call, ...]) -> bool:
    ids = [c.id for c in calls]
    return len(set(ids)) < len(ids) or not state.call_ids.isdisjoint(ids)


def summarised(state: State, body: ModelReplied) -> State:
    """A session state that the model was asked for."""
    state = paid(state, body.reply.usage, body.reply.priced_by)
    text = whole_text(body)
    return changed(state, summary=text, summary_failures=0 if text else state.summary_failures + 1)


def whole_text(replied: ModelReplied) -> str:
    """The text of a reply that came to its end; nothing where it did not."""
    reply = replied.reply
    return blocks.text_of(reply.content).strip() if reply.stop_reason == "end_turn" else ""
