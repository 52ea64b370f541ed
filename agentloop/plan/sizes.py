"""Estimated tokens of requests by kind of content, each message read once, and what recorded usage says of them."""

from collections.abc import Iterable, Sequence

from agentloop.core import calibration, view
from agentloop.core.calibration import Calibration, Kind, Sample
from agentloop.core.folding import begin, evolve
from agentloop.types.base import Json
from agentloop.types.blocks import Message
from agentloop.types.events import Event, ModelReplied, SessionStarted
from agentloop.types.request import Prefix
from agentloop.types.usage import ModelCard


class Sizes:
    """The requests of one prefix."""

    def __init__(self, prefix: Prefix, card: ModelCard) -> None:
        """Count as this model's tokenizer does."""
        head: Json = {"tools": prefix.tools, "system": prefix.system}
        self.prefix = prefix
        self.fixed = calibration.fixed(head, card)
        self._family = card.tokenizer
        self._head = calibration.estimated(head, card.tokenizer)
        self._known: dict[int, tuple[Message, dict[Kind, int]]] = {}

    def of(self, messages: Sequence[Message]) -> dict[Kind, int]:
        """The estimated tokens of a request that carries these messages."""
        found = dict(self._head)
        for message in messages:
            for kind, size in self._message(message).items():
                found[kind] = found.get(kind, 0) + size
        return found

    def factor(self, messages: Sequence[Message], learned: Calibration) -> float:
        """Probable tokens of a request to estimated ones."""
        if not learned.samples:
            return 1.0
        estimated = self.of(messages)
        return learned.tokens(estimated, self.fixed) / (sum(estimated.values()) + self.fixed)

    def _message(self, message: Message) -> dict[Kind, int]:
        known = self._known.get(id(message))
        if known is None:
            body: Json = {"messages": [{"role": message.role, "content": list(message.content)}]}
            known = self._known[id(message)] = (message, calibration.estimated(body, self._family))
        return known[1]


def learned(events: Iterable[Event], before: Calibration) -> Calibration:
    """What the usage of a session's replies teaches of the model that it speaks to, added to what was known of it."""
    stream = iter(events)
    first = next(stream)
    assert isinstance(first.body, SessionStarted)
    state = begin(first.body, first.at)
    sizes = Sizes(state.prefix, state.card)
    for event in stream:
        match event.body:
            case ModelReplied(purpose="turn", reply=reply) if reply.priced_by is None and not reply.usage_estimated:
                if sizes.prefix is not state.prefix:
                    sizes = Sizes(state.prefix, state.card)
                sample = Sample(sizes.of(view.messages(state)), sizes.fixed, reply.usage.prompt_tokens)
                before = before.learned(sample)
            case _:
                pass
        state = evolve(state, event)
    return before
