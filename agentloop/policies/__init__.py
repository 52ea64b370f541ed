"""Policies: small, pure, and each able to say in one line why it decided as it did."""

from typing import Annotated

from pydantic import Field

from agentloop.core.decide import Policies
from agentloop.policies.budget import Budget, HardBudget
from agentloop.policies.caching import Caching, FourMarks, WrittenTtl
from agentloop.policies.compaction import Compaction, EveryTurn, KeepPairs, Never, Rent
from agentloop.policies.facts import Facts, HeadTailMatches, Whole
from agentloop.policies.ledger import EngineLedger, Ledger, LinesLedger, ModelLedger
from agentloop.types.base import Json, Settings

__all__ = [
    "EngineLedger",
    "EveryTurn",
    "FourMarks",
    "HardBudget",
    "HeadTailMatches",
    "KeepPairs",
    "LinesLedger",
    "ModelLedger",
    "Never",
    "PolicySettings",
    "Rent",
    "Whole",
    "from_settings",
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
    "every_turn": PolicySettings(
        compaction=EveryTurn(), ledger=LinesLedger(), caching=FourMarks(state_ttl="off", tail_ttl="off")
    ),
}


def preset(name: str) -> PolicySettings:
    """The policies that go by a name: `rent` (the default), `never`, `keep_pairs`, `every_turn`. Raises KeyError."""
    return PRESETS[name]


def from_settings(
    base: PolicySettings,
    *,
    keep_pairs: int = 6,
    static_ttl: WrittenTtl = "5m",
    state_ttl: WrittenTtl = "5m",
    tail_ttl: WrittenTtl = "5m",
    facts_over_tokens: int = 1_000,
    state_written_by: str = "engine",
) -> PolicySettings:
    """A preset with the settings of a workspace. `every_turn` keeps its own state and caching: it is a baseline."""
    compaction = base.compaction
    changes: Json = {"keep_pairs": keep_pairs} if not isinstance(compaction, Never) else {}
    if isinstance(compaction, Rent) and tail_ttl != "off":
        changes["ttl"] = tail_ttl
    caching = FourMarks(static_ttl=static_ttl, state_ttl=state_ttl, tail_ttl=tail_ttl)
    return base.model_copy(
        update={
            "compaction": compaction.model_copy(update=changes),
            "ledger": ModelLedger() if state_written_by == "model" and not isinstance(compaction, EveryTurn) else base.ledger,
            "facts": HeadTailMatches(over_tokens=facts_over_tokens),
            "caching": base.caching if isinstance(compaction, EveryTurn) else caching,
        }
    )
