"""Evals from work that was done: what a model saw, and the answer that was used. A person reviews each before it counts."""

from collections.abc import Iterable, Iterator

from agentloop.core import extraction, wire
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.core.view import messages
from agentloop.ports import Blobs
from agentloop.redaction import Redact
from agentloop.routing.cases import AsSet, Case, Exact, Grader, Judge
from agentloop.types import blocks
from agentloop.types.base import Json
from agentloop.types.blocks import Call
from agentloop.types.events import Event, ModelReplied, ModelRequested, ResultExtracted, SessionStarted

EXTRACTION = "extraction"
"""The kind of step of the engine's own question about a large result."""


def cases(events: Iterable[Event], blobs: Blobs, kind: str, judge: str | None, redact: Redact) -> Iterator[Case]:
    """The cases of a session, none of them reviewed. Raises nothing for a session that has none.

    Each reply that ended the work, and called no tool, gives one; for `extraction`, each large result that a cheap model
    was asked about. A leaf gives cases of its own kind only. `judge` names the model that grades free text; None: the
    answer has to be the same.
    """
    grader: Grader = Judge(type="model", rubric="It says the same as the expected answer.", model=judge) if judge else Exact()
    state: State | None = None
    shown: State | None = None
    extracted: dict[str, Case] = {}
    for event in events:
        body = event.body
        if state is None:
            assert isinstance(body, SessionStarted)
            state = begin(body, event.at)
            if body.leaf is not None and body.leaf.kind != kind:
                return
            continue
        match body:
            case ModelRequested(purpose="turn"):
                shown = state
            case ModelRequested(purpose="extraction", call_id=str() as call_id):
                if kind == EXTRACTION and (case := _asked_about(state, body, call_id, blobs, redact)) is not None:
                    extracted[call_id] = case
            case ResultExtracted(call_id=call_id, content=str() as used) if call_id in extracted:
                expected = redact("\n".join(used.split("\n")[:-1]))  # its last line says who made it
                yield extracted.pop(call_id).model_copy(update={"expected": expected, "grader": AsSet(type="set")})
            case ModelReplied(purpose="turn", reply=reply) if shown is not None and reply.stop_reason == "end_turn":
                text = blocks.text_of(reply.content).strip()
                if text and not blocks.calls(reply.content) and kind != EXTRACTION:
                    yield _answered(shown, text, body.turn, grader, redact)
        state = evolve(state, event)


def _answered(state: State, text: str, turn: int, grader: Grader, redact: Redact) -> Case:
    view = messages(state)
    plain = len(view) == 1 and all(b.get("type") == "text" for b in view[0].content)
    shown = [{"role": m.role, "content": list(blocks.without_thinking(m.content))} for m in view]
    return Case(
        id=f"{state.session_id}-{turn}"[:200],
        input=redact(blocks.text_of(view[0].content)) if plain else _cleaned(shown, redact),
        expected=redact(text),
        system=redact(state.prefix.system) or None,
        tools=[] if plain else list(state.prefix.tools),
        grader=grader,
        reviewed=False,
        source=f"{state.session_id}, turn {turn}",
    )


def _asked_about(state: State, asked: ModelRequested, call_id: str, blobs: Blobs, redact: Redact) -> Case | None:
    """The question about a result, made again; None where it is not the one that was sent."""
    call = next((c for c in _calls(state) if c.id == call_id), None)
    result = next((r for r in state.results if r.call_id == call_id), None)
    tool = next((t for t in state.tools if call is not None and t.name == call.name), None)
    if call is None or tool is None or tool.facts_settings is None or asked.asked_of is None:
        return None
    if result is None or result.raw is None or (data := blobs.find(result.raw.digest)) is None:
        return None
    room = extraction.THINKING_ROOM if asked.asked_of.thinks_by_default else 0
    text = data.decode("utf-8", "replace")
    request = extraction.request(call, text, tool.facts_settings, asked.asked_of, asked.max_tokens - room, result.raw.digest)
    if wire.digest(wire.body(request)) != asked.digest:
        return None
    return Case(
        id=f"{state.session_id}-{call_id}"[:200],
        input=redact(blocks.text_of(request.messages[0].content)),
        system=extraction.SYSTEM,
        reviewed=False,
        source=f"{state.session_id}, {call.name} {call_id}",
    )


def _calls(state: State) -> tuple[Call, ...]:
    return blocks.calls(state.turns[-1].reply) if state.turns else ()


def _cleaned(value: list[Json], redact: Redact) -> list[Json]:
    def walk(part: object) -> object:
        if isinstance(part, str):
            return redact(part)
        if isinstance(part, dict):
            return {k: walk(v) for k, v in part.items()}
        return [walk(v) for v in part] if isinstance(part, list) else part

    return [m for m in map(walk, value) if isinstance(m, dict)]
