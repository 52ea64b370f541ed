"""The calls of one reply, answered: which run side by side, what is written before and after, what the model sees."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby

from agentloop.core import results
from agentloop.core.choices import FactsPolicy, Shown
from agentloop.core.state import State
from agentloop.crash_points import reached
from agentloop.policies.facts import HeadTailMatches
from agentloop.ports import Answer, Blobs, ToolRunner, Wakes, never
from agentloop.types.blocks import Call
from agentloop.types.events import ToolFinished, ToolStarted
from agentloop.types.tools import ToolCard

_NO_TOOL = ToolCard(name="")
SEEN_ONCE = '[shown whole this once; facts take its place in later turns, and recall(handle="{}") gives any of it back]'
"""What stands behind a result that is seen once, with its handle."""


def answers(
    calls: Sequence[Call],
    state: State,
    facts: FactsPolicy,
    runner: ToolRunner,
    blobs: Blobs,
    wakes_in_s: Wakes = never,
) -> Iterator[ToolStarted | ToolFinished | None]:
    """What happens as the calls run; None each time the caller is woken meanwhile.

    Neighbouring calls that only read run side by side; one with an effect runs alone, in its place, so that what the
    model wrote first happens first.
    """
    for together, group in groupby(calls, key=lambda c: _reads(c, runner)):
        for batch in [list(group)] if together else [[c] for c in group]:
            yield from _answered(batch, state, facts, runner, blobs, wakes_in_s)


def _reads(call: Call, runner: ToolRunner) -> bool:
    card = runner.card(call.name)
    return card is not None and card.effect == "read" and runner.invalid(call) is None


def _answered(
    batch: Sequence[Call], state: State, facts: FactsPolicy, runner: ToolRunner, blobs: Blobs, wakes_in_s: Wakes
) -> Iterator[ToolStarted | ToolFinished | None]:
    if len(batch) == 1 and (reason := runner.invalid(batch[0])) is not None:
        yield _finished(batch[0], Answer(reason, "invalid", 0.0), state, facts, _NO_TOOL, blobs)
        return
    cards = {c.id: runner.card(c.name) or _NO_TOOL for c in batch}
    for call in batch:
        if call.id not in state.started:
            yield ToolStarted(
                turn=state.asked,
                call_id=call.id,
                name=call.name,
                effect=cards[call.id].effect,
                idempotency_key=idempotency_key(state, call),
            )
            reached("tool.intended")
    if len(batch) > 1:
        reached("parallel.intended")
    unanswered = iter(batch)
    for answer in runner.run(batch, lambda c: idempotency_key(state, c), wakes_in_s):
        if answer is None:
            yield None
            continue
        call = next(unanswered)
        reached("tool.answered")
        yield _finished(call, answer, state, facts, cards[call.id], blobs)
        reached("tool.recorded")
        if call is not batch[-1]:
            reached("parallel.some_recorded")


def denied(call: Call, note: str, state: State) -> ToolFinished:
    """A person's no, as the model sees it."""
    said = f"denied by the operator{': ' + note if note else ''}. It was not run. Do not try it again in another way."
    return ToolFinished(turn=state.asked, call_id=call.id, name=call.name, content=said, is_error=True, outcome="denied")


def idempotency_key(state: State, call: Call) -> str:
    """The same for every run of this call."""
    return f"{state.session_id}:{call.id}"


def _shown(call: Call, content: str, card: ToolCard, digest: str, state: State, facts: FactsPolicy) -> Shown:
    """What the facts policy shows; head and tail where it fails or shows more than there is."""
    family, mode = state.card.tokenizer, results.mode(card, state)
    try:
        shown = facts.shown(call, content, mode, digest, family, card.facts_settings, state)
    except Exception:  # noqa: BLE001  a policy of somebody's own must not end a session over one result
        return HeadTailMatches().shown(call, content, mode, digest, family)
    longer = isinstance(shown.content, str) and len(shown.content) > len(content)
    return HeadTailMatches().shown(call, content, mode, digest, family) if longer else shown


def _finished(call: Call, answer: Answer, state: State, facts: FactsPolicy, card: ToolCard, blobs: Blobs) -> ToolFinished:
    content, raw, once = answer.content, None, None
    if isinstance(content, str) and not answer.is_error:
        data = content.encode()
        digest = hashlib.sha256(data).hexdigest()
        shown = _shown(call, content, card, digest, state, facts)
        if shown.raw is not None:
            blobs.put(data)  # before the model can see the handle
            once = f"{content}\n{SEEN_ONCE.format(digest[:12])}" if results.mode(card, state) == "see_once" else None
        content, raw = shown.content, shown.raw
    return ToolFinished(
        turn=state.asked,
        call_id=call.id,
        name=call.name,
        content=content,
        is_error=answer.is_error,
        outcome=answer.outcome,
        raw=raw,
        once=once,
        duration_s=answer.duration_s,
        leaves=answer.leaves,
    )
