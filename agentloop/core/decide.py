"""What happens next, given what has happened so far. Pure: the same state and the same `now` decide the same."""

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import Literal

from agentloop.core import costs, cuts, extraction, falling_back, keepalive, parking, permits, results, tokens, view
from agentloop.core.choices import Policies
from agentloop.core.state import State
from agentloop.types import blocks
from agentloop.types.blocks import Call
from agentloop.types.events import Because, Decision, FellBack, Outcome, ToolFinished
from agentloop.types.request import Request
from agentloop.types.tools import ToolCard

MAX_PAUSES = 10
"""How often a paused server-tool loop is continued before the session gives up."""
MAX_INVALID_TURNS = 5
SAME_AGAIN = 4
"""The same calls with the same results, this often in a row: the model is told; twice as often: the session stops."""

EMPTY_REPLY = "Your last reply was empty. Go on with the task, or say in words that it is done."
DUPLICATE_IDS = "Your last reply held two tool calls with one id, so none was run. Please make the calls again."
GONE = (
    "agent '{agent}' chose it when the session started, and a session keeps its model: start a new one with --model, or "
    "name who takes over with --fallback-model"
)
LOOPING = "You have made the same call {times} times and its result has not changed. Try something else, or finish."


@dataclass(frozen=True)
class CallModel:
    """Ask the model."""

    request: Request
    decision: Decision


@dataclass(frozen=True)
class RunTools:
    """Run the calls that have no answer yet."""

    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Hold:
    """Let these calls wait for a person."""

    calls: tuple[permits.Verdict, ...]


@dataclass(frozen=True)
class Deny:
    """Answer a call with a person's no."""

    call: Call
    note: str


@dataclass(frozen=True)
class KeepWarm:
    """Ask the last request again without wanting an answer, so that its cache entries live on while tools run."""

    request: Request
    decision: Decision


@dataclass(frozen=True)
class AskAbout:
    """Ask a cheap model for the facts of a result."""

    call: Call
    result: ToolFinished
    card: ToolCard
    max_tokens: int
    """Tokens of the answer: of the facts that were made without a model."""


@dataclass(frozen=True)
class Settle:
    """Put what a cheap model said of a result in the place of the facts that were made without one, or let those stay."""

    call: Call
    result: ToolFinished
    said: str
    max_tokens: int
    detail: str = ""
    """Why they stay."""


@dataclass(frozen=True)
class Compact:
    """Let the turns before `keep_from` leave the view."""

    keep_from: int
    segment: str
    written_by: Literal["engine", "model"]
    decision: Decision
    drop_thinking: bool


@dataclass(frozen=True)
class FallBack:
    """Let the next model of the chain take over."""

    told: FellBack


@dataclass(frozen=True)
class Tell:
    """Say something to the model that no user said."""

    text: str
    about: str | None = None
    """The limit that is spoken of."""


@dataclass(frozen=True)
class Finish:
    """End the session."""

    outcome: Outcome
    detail: str = ""
    until: datetime | None = None
    """When it is to go on."""


Effect = CallModel | RunTools | Hold | Deny | AskAbout | Settle | Compact | FallBack | Tell | Finish


def decide(state: State, policies: Policies, now: datetime) -> Effect:
    """What happens next, given what has happened so far."""
    if (answer := _answer_to_failure(state, policies) or _answer_to_trouble(state, policies)) is not None:
        return answer
    if state.open_calls:
        return _calls(state, now)
    if (result := state.to_extract) is not None:
        return _extraction(state, policies, now, result)
    if not state.awaits_reply:
        return Finish("completed")
    if (stop := policies.budget.stop(state, now)) is not None:
        return Finish(*stop)
    if (loop := _answer_to_loop(state)) is not None:
        return loop
    if (notice := policies.budget.notice(state, now)) is not None:
        return Tell(notice.text, notice.about)
    decision = policies.compaction.weigh(state, policies.ledger, now)
    if decision.keep_from is not None:
        return _cut(state, policies, decision)
    return CallModel(_request(state, policies), decision)


def _calls(state: State, now: datetime) -> Effect:
    """The open calls in their order: up to the first that may not run, that is denied, or that sleeps."""
    if (until := parking.asleep(state, now)) is not None:
        return Finish("sleeping", f"until {until:%Y-%m-%d %H:%M:%S} UTC; 'agentloop resume {state.session_id}' goes on", until)
    found = permits.verdicts(state.permits, state.open_calls, state.tools, state.started)
    first = found[0]
    if first.what == "deny":
        return Deny(first.call, first.why)
    if first.what == "hold":
        new = tuple(v for v in found if v.what == "hold" and v.call.id not in state.permits.held)
        return Hold(new) if new else Finish("waiting_for_approval", _waits(state, first))
    ready = list(takewhile(lambda v: v.what == "run" and (v is first or v.call.name != parking.SLEEP), found))
    return RunTools(tuple(v.call for v in ready))


def _waits(state: State, first: permits.Verdict) -> str:
    more = len(state.permits.held) - 1
    others = f" (and {more} more)" if more else ""
    command = f"agentloop approve {state.session_id} {first.call.id}"
    return f"{first.why}{others}; '{command}' lets it run, 'agentloop deny …' does not"


def while_waiting(state: State, policies: Policies, now: datetime) -> KeepWarm | None:
    """What to do while calls run; None: wait. Asked whenever the engine is woken, `RunTools` being under way."""
    ping = keepalive.ping(state, policies, now)
    if ping is None or now < ping.due_at:
        return None
    return KeepWarm(ping.request, Decision(reason=ping.arithmetic, rent_usd=state.rent_usd))


def _extraction(state: State, policies: Policies, now: datetime, result: ToolFinished) -> AskAbout | Settle:
    """Ask about a result, unless that was done, it is too large, or the budget has no room for the question."""
    call = next(c for c in blocks.calls(state.turns[-1].reply) if c.id == result.call_id)
    card = next(t for t in state.tools if t.name == result.name)
    shown = tokens.estimate(str(result.content), state.card.tokenizer)
    if state.extraction is not None:
        return Settle(
            call, result, state.extraction, shown, "" if state.extraction else "the model gave nothing that can be used"
        )
    if (reason := _not_asked(state, policies, now, card, result)) is not None:
        return Settle(call, result, "", shown, reason)
    return AskAbout(call, result, card, shown)


def _not_asked(state: State, policies: Policies, now: datetime, card: ToolCard, result: ToolFinished) -> str | None:
    assert card.facts_card is not None
    assert card.facts_settings is not None
    assert result.raw is not None
    if result.raw.tokens > extraction.MOST_TOKENS:
        return f"over {extraction.MOST_TOKENS:,} tokens"
    if state.extraction_failed:
        return "the model does not answer"
    prompt = extraction.prompt_tokens(result.raw.bytes, card.facts_settings, card.facts_card)
    shown = tokens.estimate(str(result.content), state.card.tokenizer)
    most = costs.worst_case(card.facts_card, prompt, shown + extraction.THINKING_ROOM)
    answered = [blocks.tool_result(r.call_id, r.content, r.is_error) for r in state.results]
    coming = replace(state, given_tokens=state.given_tokens + tokens.blocks_tokens(answered, state.card.tokenizer))
    if policies.budget.stop(coming, now) is not None or not policies.budget.affords(coming, most):
        return "no budget for it"
    return None


def _request(state: State, policies: Policies) -> Request:
    messages = view.messages(state)
    return Request(
        prefix=state.prefix,
        messages=messages,
        breakpoints=policies.caching.breakpoints(state, messages),
        max_tokens=_max_tokens(state, policies),
        previous_message_id=state.sent.message_id if state.sent else None,
        once=view.shown_once(state),
    )


def _max_tokens(state: State, policies: Policies) -> int:
    """A reply that was cut off is asked for again with all the output tokens that the model and the budget allow."""
    if state.trouble is not None and state.trouble.kind == "truncated":
        roomy = replace(state, limits=state.limits.model_copy(update={"max_tokens": state.card.max_output_tokens}))
        return policies.budget.max_tokens(roomy)
    return policies.budget.max_tokens(state)


def _cut(state: State, policies: Policies, decision: Decision) -> Effect:
    """Compact; or first ask the model for the state, at the end of the very request that is already cached. What the model
    wrote counts only where it is shorter than what it stands for, or than what the engine would write."""
    keep_from = decision.keep_from
    assert keep_from is not None
    ledger, drop = policies.ledger, state.card.checks_thinking_prefix
    segment = ledger.segment(state, keep_from)
    if state.summary:
        told = ledger.from_summary(state, keep_from, state.summary)
        if _shrinks(state, keep_from, told) or len(told) < len(segment):
            return Compact(keep_from, told, "model", decision, drop)
    if state.summary is None and (question := ledger.question(state, keep_from)) is not None:
        request = _question(state, policies, question)
        if request.max_tokens > 0:  # the budget has room for an answer
            return CallModel(request, Decision(rent_usd=state.rent_usd))
    return Compact(keep_from, segment, "engine", decision, drop)


def _question(state: State, policies: Policies, question: str) -> Request:
    """The next request, with a question behind it that the budget has to pay for too. What is to be shown once waits for the
    turn itself."""
    state = results.as_facts(state)
    request = _request(state, policies)
    longer = replace(state, given_tokens=state.given_tokens + tokens.estimate(question, state.card.tokenizer))
    asked = (*request.messages, blocks.user(blocks.text(question)))
    return replace(request, messages=asked, max_tokens=_max_tokens(longer, policies), purpose="summary")


def _shrinks(state: State, keep_from: int, segment: str) -> bool:
    """Whether a segment is shorter than the turns that it would stand for."""
    return tokens.estimate(segment, state.card.tokenizer) < cuts.removed_tokens(state, keep_from)


def _answer_to_trouble(state: State, policies: Policies) -> Effect | None:
    """What to do about a reply that could not stand as a turn."""
    trouble = state.trouble
    if trouble is None or trouble.handled:
        return None
    match trouble.kind:
        case "truncated" if trouble.times == 1 and state.limits.max_tokens < state.card.max_output_tokens:
            return None
        case "truncated":
            return Finish("truncated", "the reply was cut off at max_tokens; ask for less at once, or raise max_tokens")
        case "empty" if trouble.times == 1:
            return Tell(EMPTY_REPLY)
        case "empty":
            return Finish("failed", "the model replied with nothing, twice")
        case "duplicate_ids" if trouble.times == 1:
            return Tell(DUPLICATE_IDS)
        case "duplicate_ids":
            return Finish("failed", "the model's tool calls had clashing ids, twice")
        case "paused" if trouble.times <= MAX_PAUSES:
            return None
        case "paused":
            return Finish("failed", f"the API paused its own tools {trouble.times} times")
        case "refused":
            said = f"the model refused{': ' + trouble.detail if trouble.detail else ''}"
            return _fallback(state, "refused", said) or Finish("refused", said)
        case "window_exceeded":
            return _shrink(state, policies, "the context window is full")
        case "unknown_stop":
            return Finish("failed", f"unknown stop reason '{trouble.detail}'; the raw reply is in the log")


def _answer_to_failure(state: State, policies: Policies) -> Effect | None:
    """What to do when a request has failed for good."""
    failure = state.failure
    if failure is None:
        return None
    match failure.kind:
        case "prompt_too_long" | "request_too_large":
            return _shrink(state, policies, failure.message)
        case "interrupted":
            return None
        case "spend_limit":
            return Finish("spend_limit", failure.message)
        case "unauthorized":
            return Finish("unauthorized", failure.message)
        case "unavailable" | "not_an_answer":
            said = f"{failure.message} ({failure.attempt} attempts)"
            return _fallback(state, "unavailable", said) or Finish("provider_unavailable", said)
        case "model_not_found":
            gone = f"{failure.message}; {GONE.format(agent=state.agent)}"
            return _fallback(state, "model_not_found", failure.message) or Finish("failed", gone)
        case "invalid_request":
            return Finish("failed", failure.message)


def _fallback(state: State, because: Because, said: str) -> FallBack | None:
    told = falling_back.following(state, because, said)
    return FallBack(told) if told is not None else None


def _shrink(state: State, policies: Policies, why: str) -> Effect:
    """One compaction down to the last pairs; where there is nothing left to remove, a stop that gives the sizes."""
    keep = policies.compaction.keep_pairs
    keep_from = cuts.latest_cut(state, keep) if keep is not None else None
    segment = policies.ledger.segment(state, keep_from) if keep_from is not None else ""
    if keep_from is None or not _shrinks(state, keep_from, segment):
        sizes = f"prefix {state.prefix_tokens:,}, task {state.opening_tokens:,}, state {state.state_tokens:,}"
        kept = f"turns {state.turns_tokens + (state.given_tokens if state.turns else 0):,} tokens"
        return Finish("failed", f"{why}; nothing is left to compact ({sizes}, {kept})")
    return Compact(keep_from, segment, "engine", Decision(keep_from=keep_from, reason=why), state.card.checks_thinking_prefix)


def _answer_to_loop(state: State) -> Effect | None:
    times = state.repeats[1]
    if state.invalid_turns >= MAX_INVALID_TURNS:
        return Finish("failed", f"{state.invalid_turns} turns in a row held no valid tool call")
    if times >= 2 * SAME_AGAIN:
        return Finish("failed", f"the same call brought the same result {times} times in a row")
    if times == SAME_AGAIN and not _told(state):
        return Tell(LOOPING.format(times=times))
    return None


def _told(state: State) -> bool:
    return any(b.get("type") == "text" for b in state.given)
