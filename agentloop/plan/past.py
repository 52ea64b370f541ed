"""What a past session tells of the next one: what was said, called and answered, at which gaps, and what it used."""

from collections.abc import Sequence
from itertools import islice, permutations
from typing import Any, NamedTuple

from agentloop.core.folding import begin, evolve
from agentloop.importers.recording import Recording, Step
from agentloop.importers.saved import recording
from agentloop.ports import Blobs
from agentloop.recorded import USUAL_GAP_S, RecordedClock
from agentloop.types import blocks
from agentloop.types.base import compact
from agentloop.types.blocks import Block
from agentloop.types.events import Event, ModelFailed, ModelReplied, SessionStarted
from agentloop.types.usage import ModelCard, Usage

GO_ON = "Go on."
"""What the user is taken to say where a session is thought longer than it was."""


class Besides(NamedTuple):
    """A request that was no turn: for the session state, for facts, or one that broke off."""

    usage: Usage
    card: ModelCard | None
    """Of another model than the session's."""
    summary: bool


class Past(NamedTuple):
    """One session that has been."""

    session_id: str
    recording: Recording
    output_tokens: tuple[int, ...]
    """Of each step."""
    gaps_s: tuple[float, ...]
    """Before each step but the first."""
    tokenizer: str
    """By which the output was counted."""
    besides: tuple[Besides, ...] = ()
    pings: int = 0
    """How often the cache was kept warm while tools ran. Played again, it goes cold instead, so these are not paid besides."""

    @property
    def turns(self) -> int:
        """How many there were."""
        return len(self.recording.steps)

    def with_task(self, text: str) -> "Past":
        """As if it had been given this task."""
        first = self.recording.steps[0]._replace(told=(blocks.text(text),))
        return self._replace(recording=self.recording._replace(steps=(first, *self.recording.steps[1:])))

    def of_turns(self, turns: int | None = None) -> "Past":
        """As if it had ended after so many turns, in words. Where there were fewer, those with calls come again, with other
        digits in their texts, so that what they bring is new."""
        n = turns or self.turns
        if n <= self.turns:
            made = list(zip(self.recording.steps[:n], self.output_tokens, strict=False))
            results = self.recording.results
        else:
            made, results = self._longer(n)
        made[-1] = (_closed(made[-1][0]), made[-1][1])
        steps = [step for step, _ in made]
        given = (_given(step, before) for step, before in zip(steps, [None, *steps[:-1]], strict=True))
        gaps = self.gaps_s or (USUAL_GAP_S,)
        return self._replace(
            recording=self.recording._replace(steps=tuple(given), results=results),
            output_tokens=tuple(output for _, output in made),
            gaps_s=tuple(gaps[i % len(gaps)] for i in range(n - 1)),
        )

    def _longer(self, turns: int) -> tuple[list[tuple[Step, int]], dict[str, Block]]:
        made = list(zip(self.recording.steps, self.output_tokens, strict=True))
        last = made.pop()
        results = dict(self.recording.results)
        again = [m for m in made if blocks.calls(m[0].reply)] or made or [last]
        told = self.recording.steps[0].told
        for i in range(turns - self.turns):
            step, output = again[i % len(again)]
            number = 1 + i // len(again)
            for call in blocks.calls(step.reply):
                if call.id in results:
                    results[_id(call.id, number)] = _renumbered(results[call.id], number)
            made.append((Step((), tuple(_renumbered(b, number) for b in step.reply)), output))
        made.append((last[0]._replace(told=() if self.turns == 1 else last[0].told), last[1]))
        made[0] = (made[0][0]._replace(told=told), made[0][1])
        return made, results


def past(events: Sequence[Event], blobs: Blobs) -> Past | None:
    """What a log tells; None where no turn was answered."""
    first = events[0]
    assert isinstance(first.body, SessionStarted)
    state = begin(first.body, first.at)
    outputs, besides, pings = [], [], 0
    for event in events[1:]:
        after = evolve(state, event)
        match event.body:
            case ModelReplied(purpose="keepalive"):
                pings += 1
            case ModelReplied(purpose=purpose, reply=reply):
                if purpose == "turn" and len(after.turns) > len(state.turns):
                    outputs.append(reply.usage.output_tokens)
                else:
                    besides.append(Besides(reply.usage, reply.priced_by, purpose == "summary"))
            case ModelFailed(failure=failure) if failure.usage is not None:
                asked_of = state.pending.asked_of if state.pending is not None else None
                besides.append(Besides(failure.usage, asked_of, summary=False))
            case _:
                pass
        state = after
    if not outputs:
        return None
    said = recording(events, blobs)
    gaps = RecordedClock(said, None).gaps_s
    return Past(said.id, said, tuple(outputs), gaps, first.body.card.tokenizer, tuple(besides), pings)


def _closed(step: Step) -> Step:
    """A last step: what it called stands there in words, so that it brings as many tokens and nothing to answer."""
    calls = blocks.calls(step.reply)
    if not calls:
        return step
    rest = tuple(b for b in step.reply if b.get("type") != "tool_use")
    return step._replace(reply=(*rest, blocks.text("\n".join(compact(c.input).decode() for c in calls))))


def _given(step: Step, before: Step | None) -> Step:
    """Behind a reply in words somebody has to say something."""
    if before is None or step.told or blocks.calls(before.reply):
        return step
    return step._replace(told=(blocks.text(GO_ON),))


def _id(call_id: str, number: int) -> str:
    return f"{call_id}-{number}"


def _renumbered(block: Block, number: int) -> Block:
    """A block with other digits in its texts, and an id of its own. A nought stays one: no number may begin with it."""
    times, turn = divmod(number - 1, 8)  # eight turns of the digits are new; behind those, turns of another order of them
    order = "".join(next(islice(permutations("123456789"), times, None)))
    turned = order[turn + 1 :] + order[: turn + 1]
    ids = {key: _id(str(block[key]), number) for key in ("id", "tool_use_id") if key in block}
    return {k: _translated(v, str.maketrans("123456789", turned)) for k, v in block.items()} | ids


def _translated(value: Any, table: dict[int, int]) -> Any:
    match value:
        case str():
            return value.translate(table)
        case dict():
            return {k: _translated(v, table) for k, v in value.items()}
        case list() | tuple():
            return [_translated(v, table) for v in value]
        case _:
            return value
