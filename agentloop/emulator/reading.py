"""A request from its body to what the model sees of it: checked, its thinking verified, its history edited."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from agentloop.core import cache
from agentloop.core.cache import Assumed, Part, Prompt
from agentloop.emulator import bindings, compacting, editing, history, signatures, validation
from agentloop.emulator.bindings import Asker, Checked
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.history import Item, Shown
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.strict import Unverified
from agentloop.emulator.validation import ApiVersion
from agentloop.types.base import Json
from agentloop.types.blocks import Block
from agentloop.types.usage import ModelCard

NO_BETAS: frozenset[str] = frozenset()
NO_PROMPT = Prompt((), (), (), (), 0)


class Sender(NamedTuple):
    """What is known of a request besides its body, as far as it is read by it."""

    at: float
    version: ApiVersion
    betas: frozenset[str] = NO_BETAS
    in_batch: bool = False


class Request(NamedTuple):
    """A request that has passed every check."""

    body: Json
    """As it was sent."""
    model: ModelRow
    card: ModelCard
    """Of that model, with the prices of the day."""
    items: list[Item]
    """The blocks of its messages that its newest summary leaves to be read, as they were sent."""
    checked: Checked | None
    """What the check of its thinking found; None where there was none to check."""
    shown: Shown
    """What the model sees of it."""
    prompt: Prompt
    parts: list[Part]
    applied_edits: list[Json]
    sent_tokens: int
    """Tokens of the prompt before its history was edited."""

    def trail(self) -> Checked:
        """Where the conversation stands before the reply."""
        return self.checked or bindings.unchecked(self.body, self.items)

    def behind(self, summary: Block, assumed: Assumed) -> "Request":
        """The same request with a summary in the place of its messages."""
        body = self.body | {"messages": [{"role": "assistant", "content": [compacting.as_read(summary)]}]}
        prompt, parts = cache.prompt_of(body, self.card, assumed)
        return self._replace(shown=Shown(body), prompt=prompt, parts=parts)


class Reader:
    """Reads requests for one table of models."""

    def __init__(self, models: Mapping[str, ModelRow], settings: EmulatorSettings, unverified: Unverified) -> None:
        self._models, self._settings, self._unverified = models, settings, unverified

    def read(self, body: Json, sender: Sender, counting: bool = False) -> Request:
        """The request. Raises ApiError for the first rule that it breaks."""
        model = validation.check(
            body,
            self._models,
            sender.version,
            sender.betas,
            counting=counting,
            in_batch=sender.in_batch,
            settings=self._settings,
            unverified=self._unverified,
        )
        card = model.card_on(datetime.fromtimestamp(sender.at, UTC).date())
        if (least := self._settings.minimum_tokens.get(card.id)) is not None:
            card = card.model_copy(update={"min_cacheable_tokens": least})
        sent = history.items(body["messages"])
        items = compacting.visible(sent)
        if len(items) == len(sent) and not editing.edits(body) and not any(map(_is_read_otherwise, items)):
            prompt, parts = cache.prompt_of(body, card, self._settings.cache)
            return Request(body, model, card, items, None, Shown(body), prompt, parts, [], prompt.tokens)
        asker = Asker(model, sender.betas, sender.in_batch, self._settings, self._unverified)
        checked = bindings.checked(body, items, asker)
        return self._edited(Request(body, model, card, items, checked, Shown(body), NO_PROMPT, [], [], 0), checked)

    def _edited(self, request: Request, checked: Checked) -> Request:
        body, card = request.body, request.card
        left = card.model_copy(update={"keeps_earlier_thinking": True}) if editing.clears_thinking(body) else card

        def prompt_of(kept: Sequence[Item]) -> tuple[Shown, Prompt, list[Part]]:
            shown = history.shown(body, kept)
            return shown, *cache.prompt_of(shown.body, left, self._settings.cache)

        read = [i._replace(block=_as_read(i)) for i in checked.kept]
        edited = editing.edited(body, read, card, lambda kept: prompt_of(kept)[1].tokens)
        shown, prompt, parts = prompt_of(edited.items)
        sent_tokens = prompt_of(read)[1].tokens if edited.applied else prompt.tokens
        return request._replace(
            card=left, shown=shown, prompt=prompt, parts=parts, applied_edits=edited.applied, sent_tokens=sent_tokens
        )


def _is_read_otherwise(item: Item) -> bool:
    """Whether a model sees something else than was sent."""
    return item.is_thinking or item.kind == "compaction"


def _as_read(item: Item) -> Block:
    """A block with what its signature hides, and without the signature."""
    if item.kind == "compaction":
        return compacting.as_read(item.block)
    if not item.is_thinking or (thought := signatures.thought_of(item.block)) is None:
        return item.block
    return thought.hidden or {"type": "thinking", "thinking": item.block["thinking"], "signature": ""}
