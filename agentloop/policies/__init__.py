"""Policies: small, pure, and each able to say in one line why it decided as it did."""

from typing import Annotated

from pydantic import Field, ValidationError

from agentloop.core.choices import Policies
from agentloop.errors import ConfigError, UsageError
from agentloop.policies.budget import Budget, HardBudget
from agentloop.policies.caching import Caching, ChosenTtl, FourMarks
from agentloop.policies.compaction import Compaction, EveryTurn, KeepPairs, Never, Rent
from agentloop.policies.facts import ByKind, Facts, HeadTailMatches, Whole
from agentloop.policies.ledger import EngineLedger, Ledger, LinesLedger, ModelLedger
from agentloop.policies.threshold import Threshold
from agentloop.types.base import Json, Settings

__all__ = [
    "PRESETS",
    "ByKind",
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
    "Threshold",
    "Whole",
    "from_settings",
    "preset",
    "recorded",
]


class PolicySettings(Settings):
    """The policies of a session, as they are written into its log."""

    compaction: Annotated[Compaction | Threshold, Field(discriminator="kind")] = Rent()
    ledger: Annotated[Ledger, Field(discriminator="kind")] = EngineLedger()
    facts: Annotated[Facts, Field(discriminator="kind")] = ByKind()
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
    "never": PolicySettings(compaction=Never(), caching=FourMarks(cuts=False)),
    "keep_pairs": PolicySettings(compaction=KeepPairs()),
    "every_turn": PolicySettings(
        compaction=EveryTurn(), ledger=LinesLedger(), caching=FourMarks(static_ttl="5m", state_ttl="off", tail_ttl="off")
    ),
}


def recorded(data: Json) -> PolicySettings:
    """The policies that a log names. Raises UsageError where they were somebody's own, or are not known here."""
    if data.get("kind") == "own":
        raise UsageError("the session ran under policies of your own: give them again (policies=...), in Python")
    try:
        return PolicySettings.model_validate(_completed(data))
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise UsageError(f"the session's policies are not known here ({where}: {fault['msg']}): upgrade agentloop") from e


def _completed(data: Json) -> Json:
    """With what held before there was a setting for it, where a log is older than the setting: it replays by that."""
    ledger, facts, compaction, caching = (data.get(k) for k in ("ledger", "facts", "compaction", "caching"))
    budget = data.get("budget")
    if isinstance(ledger, dict) and ledger.get("kind") == "engine":
        ledger = {"index_share": None, **ledger}
    elif isinstance(ledger, dict) and isinstance(engine := ledger.get("engine"), dict):
        ledger = {**ledger, "engine": {"index_share": None, **engine}}
    if isinstance(facts, dict) and facts.get("kind") == "by_kind":
        facts = {"growth": 1.0, **facts}
    if isinstance(compaction, dict) and compaction.get("kind") == "rent":
        compaction = {"edition": 1, **compaction}
    if isinstance(caching, dict):
        caching = {"edition": 1, **caching}
    if isinstance(budget, dict) and budget.get("kind") == "hard":
        budget = {"wrap_up_at": None, "edition": 1, **budget}
    known = {"ledger": ledger, "facts": facts, "compaction": compaction, "caching": caching, "budget": budget}
    return data | {k: v for k, v in known.items() if v is not None}


def preset(name: str) -> PolicySettings:
    """The policies that go by a name: `rent` (the default), `never`, `keep_pairs`, `every_turn`. Raises KeyError."""
    return PRESETS[name]


def from_settings(
    base: PolicySettings,
    *,
    keep_pairs: int = 6,
    static_ttl: ChosenTtl = "auto",
    state_ttl: ChosenTtl = "auto",
    tail_ttl: ChosenTtl = "auto",
    facts_over_tokens: int = 750,
    facts_share: float = 0.45,
    state_written_by: str = "engine",
) -> PolicySettings:
    """A preset with the settings of a workspace. `every_turn` keeps its own state and caching: it is a baseline."""
    compaction = base.compaction
    changes: Json = {"keep_pairs": keep_pairs} if not isinstance(compaction, Never) else {}
    if isinstance(compaction, Rent):
        changes["ttl"] = tail_ttl
    try:
        cuts = base.caching.cuts
        caching = FourMarks(static_ttl=static_ttl, state_ttl=state_ttl, tail_ttl=tail_ttl, cuts=cuts)
    except ValidationError as e:
        ttls = f"static_ttl {static_ttl}, state_ttl {state_ttl}, tail_ttl {tail_ttl}"
        raise ConfigError(f"{ttls}: the API wants longer lifetimes first; give 1h to those before it too") from e
    return base.model_copy(
        update={
            "compaction": compaction.model_copy(update=changes),
            "ledger": ModelLedger() if state_written_by == "model" and not isinstance(compaction, EveryTurn) else base.ledger,
            "facts": ByKind(over_tokens=facts_over_tokens, share=facts_share),
            "caching": base.caching if isinstance(compaction, EveryTurn) else caching,
        }
    )
