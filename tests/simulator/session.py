"""One simulated session, from its first line to where its people leave it, over all its deaths; and what has to hold."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from agentloop import replay as replaying
from agentloop.adapters.memory import MemoryBlobs
from agentloop.budgets import BudgetLedger
from agentloop.core import wire
from agentloop.core.folding import fold
from agentloop.core.state import State
from agentloop.crash_points import watching
from agentloop.engine import Interrupted, Shell, run
from agentloop.errors import EXIT_CODES, LogWriteFailed
from agentloop.policies import EngineLedger, EveryTurn, HeadTailMatches, KeepPairs, ModelLedger, Never, PolicySettings, Rent
from agentloop.ports import NothingShared, Purse
from agentloop.report import report
from agentloop.testing import card
from agentloop.types import blocks
from agentloop.types.events import (
    CallAnswered,
    Event,
    Fallback,
    InputGiven,
    ModelReplied,
    ModelRequested,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ToolFinished,
    ToolStarted,
)
from agentloop.types.grants import Grant, Grants
from agentloop.types.limits import Limits, SharedLimits
from agentloop.types.request import Prefix
from agentloop.types.usage import ModelCard
from tests.property.histories import OTHER
from tests.simulator.chance import Chance, weighted
from tests.simulator.model import Api
from tests.simulator.world import CARDS, Clock, Death, Disk, Effect, Killed, Tools, plan

MOST_PROCESSES = 60
GOES_ON = {"provider_unavailable": 0.9, "interrupted": 1.0, "spend_limit": 0.8, "unauthorized": 0.8}
GOES_ON |= {"budget_exceeded": 0.6, "max_turns": 0.6, "time_limit": 0.6, "completed": 0.3, "truncated": 0.3, "failed": 0.2}
GOES_ON |= {"refused": 0.2}
"""How likely somebody goes on after such an end."""


class Ran(NamedTuple):
    """What came of a run."""

    seed: int
    digest: str
    outcome: str
    turns: int
    deaths: tuple[str, ...]
    effects: int


SECOND = Fallback(card=card(id="claude-second", tokenizer="claude-3-to-4.6", prices=(OTHER,)), max_tokens=1_000)
THIRD = Fallback(card=card(id="claude-third", checks_thinking_prefix=True), max_tokens=8_000)


class Simulation:
    """One seed's session."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Chance(seed)
        self.plan = plan(chance)
        self.card = card(checks_thinking_prefix=chance.plan.random() < 0.2)
        self.clock = Clock(chance, self.plan.jumps)
        self.disk = Disk(chance, self.plan.refusals)
        self.done: list[Effect] = []
        self.blobs = MemoryBlobs()
        self.settings = _policies(chance)
        self.start = _start(chance, self.settings, self.card)
        chain = [self.card, *(f.card for f in self.start.fallback)]
        self.api = Api(chance, self.clock, self.disk, chain, CARDS, self.plan)
        self.death = Death(chance, self.plan.kills)
        self.purse, self.ledger = self._shared()
        self.limits = [self.start.limits]
        self.approved: set[str] = set()
        self.denied: set[str] = set()
        self._spent = Decimal(0)

    def play(self) -> Ran:
        """Process after process, until nobody goes on; then everything is checked once more."""
        state = self._first_end()
        for _ in range(MOST_PROCESSES):
            if state.outcome is None or not self._somebody_goes_on(state):
                break
            state = self._until_it_ends()
        self._check()
        digest = hashlib.sha256(b"\n".join(self.disk.lines) + repr(self.done).encode()).hexdigest()
        return Ran(self.chance.seed, digest, state.outcome or "left", state.asked, tuple(self.death.at), len(self.done))

    def _first_end(self) -> State:
        for _ in range(MOST_PROCESSES):
            with self._process() as lived:
                if not self.disk.lines:
                    self.disk.append(self.start, self.clock.now())
                if len(self.disk.lines) == 1:
                    self.disk.append(InputGiven(content=(blocks.text("Look after the shop."),)), self.clock.now())
            if lived:
                return self._until_it_ends()
        raise AssertionError("the session never starts")

    def _until_it_ends(self) -> State:
        for _ in range(MOST_PROCESSES):
            with self._process() as lived:
                self._run()
            state = fold(self.disk.events())
            if lived or state.outcome is not None:
                return state
        raise AssertionError("the session never ends")

    def _process(self) -> "_Process":
        return _Process(self)

    def _run(self) -> None:
        tools = Tools(self.chance, self.plan.odd, self.done, self.disk, self.clock)
        shell = Shell(self.api, tools, self.blobs, self.clock, self._observe, purse=self.purse)
        state = run(self.disk, shell, self.settings.policies())
        assert state.outcome in EXIT_CODES

    def _observe(self, event: Event, state: State) -> None:
        assert event.seq == len(self.disk.lines) - 1
        assert state.charged_usd >= 0
        assert state.spent_usd >= self._spent, "recorded spend went down"
        self._spent = state.spent_usd
        if self.plan.kills and self.chance.faults.random() < 0.01:
            raise Interrupted("SIGTERM")

    # people

    def _somebody_goes_on(self, state: State) -> bool:
        """What a person does at an end; False where nobody does anything."""
        people, outcome = self.chance.people, state.outcome
        assert outcome is not None
        if outcome == "waiting_for_approval":
            for call_id in list(state.permits.held):
                self._says(CallAnswered(call_id=call_id, allowed=people.random() < 0.6, by="Mara"))
            return self._says(SessionResumed())
        if outcome == "sleeping":
            assert state.sleeps_until is not None
            self.clock.until(state.sleeps_until)
            return self._says(SessionResumed())
        if people.random() >= GOES_ON.get(outcome, 0.0):
            return False
        if outcome in ("completed", "truncated", "failed", "refused"):
            said = InputGiven(content=(blocks.text(f"And {len(self.disk.lines)}?"),))
            return (outcome == "completed" or self._says(SessionResumed())) and self._says(said)
        return self._says(SessionResumed(limits=self._raised(state.limits) if people.random() < 0.8 else None))

    def _raised(self, limits: Limits) -> Limits:
        usd = None if limits.max_budget_usd is None else 2 * limits.max_budget_usd
        turns = None if limits.max_turns is None else 2 * limits.max_turns
        raised = limits.model_copy(update={"max_budget_usd": usd, "max_turns": turns, "max_session_tokens": None})
        self.limits.append(raised)
        return raised

    def _says(self, body: CallAnswered | SessionResumed | InputGiven) -> bool:
        """Written by a process that may die too; the person tries again, where it is not there."""
        for _ in range(MOST_PROCESSES):
            before = len(self.disk.lines)
            with self._process() as lived:
                self.disk.append(body, self.clock.now())
            if lived or len(self.disk.lines) > before:
                if isinstance(body, CallAnswered):
                    (self.approved if body.allowed else self.denied).add(body.call_id)
                return True
        raise AssertionError("nobody can say anything")

    # what has to hold

    def _check(self) -> None:
        events = list(self.disk.events())
        state = fold(events)
        assert [e.seq for e in events] == list(range(len(events)))
        found = replaying.replay(events, self.settings.policies())
        assert found.same, found
        self._check_requests(events)
        self._check_effects(events)
        self._check_money(events, state)
        ends = [e for e in events if isinstance(e.body, SessionEnded)]
        assert all(e.body.outcome in EXIT_CODES for e in ends if isinstance(e.body, SessionEnded))

    def _check_requests(self, events: list[Event]) -> None:
        recorded = Counter(e.body.digest for e in events if isinstance(e.body, ModelRequested))
        sent = Counter(wire.digest(b) for b in self.api.bodies)
        assert sent <= recorded, "a request was sent that is not on record"

    def _check_effects(self, events: list[Event]) -> None:
        tools = {c.name: c.effect for c in CARDS}
        times = Counter(self.done)
        assert all(n == 1 for e, n in times.items() if tools[e.tool] == "once"), "a second effect"
        started = Counter(e.body.call_id for e in events if isinstance(e.body, ToolStarted))
        finished = Counter(e.body.call_id for e in events if isinstance(e.body, ToolFinished))
        assert set(started.values()) | set(finished.values()) <= {1}
        assert {e.key.rpartition(":")[2] for e in times} <= set(started)
        ran = {e.key.rpartition(":")[2] for e in times}
        assert not ran & self.denied, "a denied call ran"
        if self.start.grants is not None:
            self._check_grants(ran, events)
            self._check_strangers(events)

    def _check_grants(self, ran: set[str], events: list[Event]) -> None:
        assert self.start.grants is not None
        names = {e.body.call_id: e.body.name for e in events if isinstance(e.body, ToolStarted)}
        for name in {c.name for c in CARDS if c.effect != "read"}:
            mine = {c for c in ran if names[c] == name} - self.approved
            grant = self.start.grants.tools.get(name)
            assert grant is not None or not mine, f"{name} ran without a grant"
            if grant is not None and grant.at_most is not None:
                assert len(mine) <= grant.at_most
            if grant is not None and grant.sum_at_most is not None:
                said = [e.body.reply.content for e in events if isinstance(e.body, ModelReplied)]
                amounts = {c.id: Decimal(c.input["amount"]) for content in said for c in blocks.calls(content) if c.id in mine}
                assert sum(amounts.values()) <= grant.sum_at_most, "more was paid than granted"

    def _check_strangers(self, events: list[Event]) -> None:
        """Nothing speaks to the outside by a grant alone once the model was given what strangers wrote."""
        assert self.start.grants is not None
        asks = self.start.grants.after_untrusted == "ask"
        read = given = False
        for event in events:
            match event.body:
                case ToolFinished(name="look"):
                    read = True
                case ModelRequested(purpose="turn" | "summary"):  # a ping says nothing new
                    given = read
                case ToolStarted(name="mail", call_id=call_id) if asks and given:
                    assert call_id in self.approved, "a mail was sent after strangers were read"
                case _:
                    pass

    def _check_money(self, events: list[Event], state: State) -> None:
        assert report(events).cost_usd == state.spent_usd
        assert self.api.billed_usd <= state.charged_usd, "something was billed that no record speaks of"
        most = [limits.max_budget_usd for limits in self.limits]
        if (last := most[-1]) is not None:
            assert state.charged_usd <= last, "more was spent than the budget has"
        if self.ledger is not None:
            row = self.ledger.spending(None, SharedLimits())[1]
            assert row.settled_usd + row.reserved_usd >= state.spent_usd, "the shared ledger knows of less than was spent"

    def _shared(self) -> tuple[Purse, BudgetLedger | None]:
        """A ledger that is shared with a session that spends now and then; not in every run."""
        if self.chance.plan.random() >= 0.1:
            return NothingShared(), None
        database = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
        ledger = BudgetLedger(database, self, ZoneInfo("UTC"), self.clock)
        limit = Decimal(self.chance.plan.choice(["0.05", "0.3", "2"]))
        return ledger.purse(self.start.session_id, "shop", SharedLimits(workspace_total=limit)), ledger

    def ids(self) -> Iterator[str]:
        """The sessions there are, for the ledger."""
        return iter([self.start.session_id] if self.disk.lines else [])

    def stream(self, session_id: str) -> Iterator[Event]:
        """Their events."""
        return self.disk.events()


class _Process:
    """A process of its own: it opens the log, and may die."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._lived = False
        self._watch = watching(simulation.death)

    def __enter__(self) -> "_Process":
        self._simulation.disk.open()
        self._watch.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self._watch.__exit__(None, None, None)
        self._lived = kind is None
        return isinstance(error, Killed | LogWriteFailed | KeyboardInterrupt)

    def __bool__(self) -> bool:
        return self._lived


def _policies(chance: Chance) -> PolicySettings:
    compaction = weighted(
        chance.plan,
        [
            (Never(), 1),
            (Rent(keep_pairs=2, hard_cap_tokens=2_000), 3),
            (EveryTurn(keep_pairs=2), 1),
            (KeepPairs(keep_pairs=2, at_most=4), 1),
        ],
    )
    ledger = weighted(chance.plan, [(EngineLedger(), 3), (ModelLedger(words=60), 1)])
    facts = HeadTailMatches(over_tokens=100, head_lines=3, tail_lines=1, matches=2)
    return PolicySettings(compaction=compaction, ledger=ledger, facts=facts)


def _start(chance: Chance, settings: PolicySettings, known: ModelCard) -> SessionStarted:
    plan_ = chance.plan
    prefix = Prefix(model=known.id, system="You look after a shop.", tools=tuple(_definition(c.name) for c in CARDS))
    limits = Limits(
        max_turns=plan_.choice([None, 40, 40, 4]),
        max_budget_usd=plan_.choice([None, Decimal("0.5"), Decimal("0.05"), Decimal(0)]),
        max_wall_s=plan_.choice([None, None, 20_000.0]),
        max_tokens=1_500,
        max_session_tokens=plan_.choice([None, None, 30_000]),
    )
    grants = Grants(
        tools={"pay": Grant(at_most=2, sum_of="amount", sum_at_most=Decimal(8)), "put": Grant(), "mail": Grant(at_most=3)},
        after_untrusted=plan_.choice(["ask", "allow"]),
    )
    return SessionStarted.model_validate(
        {
            "session_id": f"sim-{chance.seed}",
            "agent": "shop",
            "prefix": prefix,
            "prefix_digest": wire.prefix_digest(prefix),
            "card": known,
            "tools": CARDS,
            "policies": settings.data(),
            "limits": limits,
            "played_by": "test",
            "grants": plan_.choice([None, Grants(), grants, grants]),
            "fallback": plan_.choice([(), (), (SECOND,), (SECOND, THIRD)]),
        }
    )


def _definition(name: str) -> dict[str, object]:
    return {"name": name, "description": name, "input_schema": {"type": "object"}}


def simulate(seed: int) -> Ran:
    """Play one seed. Raises AssertionError where something does not hold."""
    return Simulation(seed).play()
