"""Policies: small, pure, and each able to say in one line why it decided as it did."""

from typing import Annotated

from pydantic import Field

from agentloop.core.decide import Policies
from agentloop.policies.budget import Budget, HardBudget
from agentloop.policies.caching import Caching, FourMarks
from agentloop.policies.compaction import Compaction, EveryTurn, KeepPairs, Never, Rent
from agentloop.policies.facts import Facts, HeadTailMatches, Whole
from agentloop.policies.ledger import EngineLedger, Ledger, ModelLedger
from agentloop.types.base import Json, Settings

__all__ = [
    "EngineLedger",
    "EveryTurn",
    "FourMarks",
    "HardBudget",
    "HeadTailMatches",
    "KeepPairs",
    "ModelLedger",
    "Never",
    "PolicySettings",
    "Rent",
    "Whole",
    "preset",
]


class PolicySettings(Settings):
    """The policies of a session, as they are written into its log."""

    compaction: Annotated[Compaction, Field(discriminator="kind")] = Rent()
    ledger: Annotated[Ledger, Field(discriminator="kind")] = EngineLedger()
    facts: Annotated[Facts, Field(discriminator="kind")] = HeadTailMatches()
    budget: Budget = HardBudget()
    caching: Caching = FourMarks()

    def policies(self) -> Policies:
        """The policies themselves."""
        return Policies(self.compaction, self.ledger, self.facts, self.budget, self.caching)

    def data(self) -> Json:
        """As JSON data, for the log."""
        return self.model_dump(mode="json")


PRESETS: dict[str, PolicySettings] = {
    "rent": PolicySettings(),
    "never": PolicySettings(compaction=Never()),
    "keep_pairs": PolicySettings(compaction=KeepPairs()),
    "every_turn": PolicySettings(compaction=EveryTurn(), caching=FourMarks(state_ttl="off", tail_ttl="off")),
}


def preset(name: str) -> PolicySettings:
    """The policies that go by a name: `rent` (the default), `never`, `keep_pairs`, `every_turn`. Raises KeyError."""
    return PRESETS[name]
