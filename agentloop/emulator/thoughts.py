"""The thinking of a reply: whether there is any, what of it is shown, and the signatures it goes out with."""

from collections.abc import Sequence
from typing import NamedTuple

from agentloop.emulator import history, signatures, thinking
from agentloop.emulator.bindings import Checked
from agentloop.emulator.catalogue import ModelRow
from agentloop.emulator.script import ScriptedReply
from agentloop.emulator.settings import EmulatorSettings
from agentloop.emulator.signatures import Thought
from agentloop.emulator.strict import Unverified
from agentloop.types.base import Json
from agentloop.types.blocks import THINKING, Block
from agentloop.types.usage import ModelTraits

ADDED: Block = {"type": "thinking", "thinking": "What is asked, and what is the next step?", "signature": ""}
"""What a model thinks whose script does not say."""


def as_thought(reply: ScriptedReply, body: Json, traits: ModelTraits, adds: bool) -> ScriptedReply:
    """The reply with thinking where the model thinks, and without where it does not."""
    has_some = any(b.get("type") in THINKING for b in reply.content)
    if thinking.is_on(body, traits):
        adds = adds and thinking.comes_first(body)
        return reply._replace(content=(ADDED, *reply.content)) if adds and reply.content and not has_some else reply
    return reply._replace(content=tuple(b for b in reply.content if b.get("type") not in THINKING)) if has_some else reply


class Signer(NamedTuple):
    """Who signs thinking: a model, for an account."""

    model: ModelRow
    settings: EmulatorSettings
    unverified: Unverified

    def signed(self, content: Sequence[Block], trail: Checked, body: Json) -> list[Block]:
        """The blocks of a reply as the client receives them. `trail`: where the conversation stood before them."""
        beginning, chain, before = history.beginning(body), trail.chains[0], trail.before
        thoughts = 0
        sent: list[Block] = []
        for block in content:
            if block.get("type") not in THINKING:
                chain = history.opened_by(beginning, block) or history.behind(chain, "assistant", block)
                sent.append(block)
                continue
            sent.append(self._signed(block, chain, before, thoughts, self._shows(body, is_first=not sent)))
            before = signatures.id_of(sent[-1])
            thoughts += 1
        return sent

    def _signed(self, block: Block, chain: bytes, before: str, nth: int, shows_text: bool) -> Block:
        binds = self.model.traits.prefix_check is not None
        thought = Thought(self.model.card.id, self.settings.organization_id, chain.hex() if binds else "", before, nth, None)
        return signatures.signed_thought(block, thought, shows_text)

    def _shows(self, body: Json, is_first: bool) -> bool:
        otherwise = self.settings.default_display
        if not (body.get("thinking") or {}).get("display"):
            self.unverified.note(49, "what is shown of thinking where a request does not say")
        return thinking.shows_text(body, self.model.traits, otherwise, is_first)
