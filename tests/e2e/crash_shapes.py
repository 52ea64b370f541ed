"""Sessions of every shape, to be killed: what is read, done once or more than once, cut, asked about, refused, cut off."""

from decimal import Decimal

from agentloop.policies import (
    EveryTurn,
    HeadTailMatches,
    KeepPairs,
    LinesLedger,
    ModelLedger,
    Never,
    PolicySettings,
)
from agentloop.testing import card
from agentloop.types.limits import Limits
from tests.property.histories import CallSpec, Scenario, Step

PLAIN = PolicySettings(compaction=Never())
FACTS = PolicySettings(compaction=Never(), facts=HeadTailMatches(over_tokens=50, head_lines=2))
CUT = PolicySettings(compaction=KeepPairs(keep_pairs=1, at_most=2))
CHEAP = card(id="claude-cheap")

LOOK = CallSpec("look_up", "lines", 3)
READ = CallSpec("read_page", "data", 2)
LARGE = CallSpec("look_up", "lines", 60)
PUT = CallSpec("put_row", "lines", 2)
SEND = CallSpec("send_note", "lines", 2)
LARGE_SEND = CallSpec("send_note", "lines", 60)


def calls(*specs: CallSpec, **more: object) -> Step:
    """A turn that calls these tools."""
    return Step("tools", specs, **more)  # type: ignore[arg-type]


def shape(*steps: Step, policies: PolicySettings = PLAIN, **more: object) -> Scenario:
    """A session of these turns; it ends with words unless they end it before."""
    return Scenario(more.pop("card", card()), policies, steps, **more)  # type: ignore[arg-type]


SHAPES: dict[str, Scenario] = {
    "words": shape(Step("text")),
    "one read": shape(calls(LOOK)),
    "parallel reads": shape(calls(LOOK, READ, LARGE), calls(READ, READ._replace(rows=3)), policies=FACTS),
    "effects that count once": shape(calls(SEND), calls(LARGE_SEND, SEND), policies=FACTS),
    "effects that may be repeated": shape(calls(PUT), calls(PUT, PUT._replace(rows=3))),
    "every kind of call at once": shape(calls(LOOK, SEND, PUT, LOOK._replace(rows=7), READ), calls(SEND, LOOK)),
    "calls that fail": shape(
        calls(CallSpec("look_up", "error"), CallSpec("send_note", "exits")),
        calls(CallSpec("no_such_tool", "lines"), CallSpec("send_note", "wrong_field"), SEND),
    ),
    "results of every form": shape(
        calls(*(CallSpec("look_up", what, 3) for what in ("unicode", "nothing", "blocks", "imitation", "data")))
    ),
    "large results, looked up again": shape(calls(LARGE), calls(CallSpec("recall", "")), calls(LARGE_SEND), policies=FACTS),
    "cuts": shape(*[calls(LOOK, SEND), calls(PUT)] * 3, policies=CUT),
    "cuts after every turn": shape(
        *[calls(LOOK), calls(SEND)] * 2, policies=PolicySettings(compaction=EveryTurn(keep_pairs=1), ledger=LinesLedger())
    ),
    "a state that the model writes": shape(
        *[calls(LARGE), calls(SEND)] * 2,
        policies=PolicySettings(compaction=EveryTurn(keep_pairs=1), ledger=ModelLedger()),
    ),
    "a state that the model fails to write": shape(
        *[calls(LARGE, summary="fails"), calls(SEND, summary="long"), calls(LOOK, summary="truncated")] * 2,
        policies=PolicySettings(compaction=EveryTurn(keep_pairs=1), ledger=ModelLedger()),
    ),
    "facts that a model makes": shape(
        calls(LARGE, CallSpec("put_row", "data", 20)), calls(LARGE._replace(rows=61), SEND), policies=FACTS, facts_card=CHEAP
    ),
    "signed thinking, and cuts": shape(
        *[calls(LOOK, before=("thinking", "text")), calls(SEND, before=("unseen_thinking", "redacted"))] * 2,
        policies=CUT,
        card=card(checks_thinking_prefix=True),
    ),
    "attempts that fail": shape(
        calls(SEND, retries=("billed", "unavailable")), Step("text", retries=("counted",)), sends=("and now?",)
    ),
    "a provider that stays away": shape(
        calls(SEND),
        calls(LOOK, fails="unavailable"),
        calls(PUT, fails="spend_limit"),
        sends=("try again", "once more", "well?"),
    ),
    "another model takes over": shape(
        calls(SEND, before=("thinking", "text")),
        calls(LARGE),
        calls(LOOK, PUT, fails="unavailable"),
        Step("refusal"),
        calls(SEND),
        policies=FACTS,
        fallback=(card(id="claude-second", tokenizer="claude-3-to-4.6"), card(id="claude-third")),
    ),
    "a refusal": shape(calls(SEND), Step("refusal"), calls(LOOK), sends=("why?", "then not")),
    "a reply that is cut off": shape(
        calls(SEND),
        Step("truncated", before=("text",)),
        calls(LOOK),
        Step("truncated"),
        Step("truncated"),
        sends=("shorter", "and?"),
    ),
    "pauses": shape(Step("pause"), Step("pause", before=("text",)), calls(SEND), Step("pause"), Step("text")),
    "nothing, and calls of one id": shape(Step("empty"), calls(SEND), Step("twins"), Step("blank"), calls(LOOK)),
    "a prompt that is too long": shape(
        *[calls(LARGE)] * 3, calls(SEND, fails="prompt_too_long"), policies=PolicySettings(compaction=KeepPairs(keep_pairs=1))
    ),
    "limits that are raised": shape(
        *[calls(LOOK), calls(SEND)] * 3,
        sends=("go on",),
        limits=Limits(max_turns=3, max_budget_usd=Decimal(100)),
        resumed_limits=Limits(max_turns=50),
    ),
    "hours between the turns": shape(*[calls(LARGE, SEND, gap_s=4_000)] * 5, policies=PolicySettings()),
}
"""By what happens in them."""
