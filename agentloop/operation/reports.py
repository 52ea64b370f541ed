"""What came of a session that nobody watched: a page for the operator and the same as JSON, made of the log alone."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from agentloop.baselines import Baselines
from agentloop.core.folding import begin, evolve
from agentloop.core.state import State
from agentloop.errors import EXIT_CODES
from agentloop.operation.next_steps import next_step
from agentloop.redaction import Redact
from agentloop.report import Report, Usd
from agentloop.report import report as bill_of
from agentloop.types import blocks
from agentloop.types.base import Frozen, compact
from agentloop.types.events import Event, ModelFailed, SessionResumed, SessionStarted, ToolFinished, ToolStarted
from agentloop.types.tools import Effect

MARKDOWN, JSON = "report.md", "report.json"
INPUT_CHARS = 400


class ToolUse(Frozen):
    """What became of the calls of one tool."""

    name: str
    effect: Effect | None
    """None: a tool that does not exist, which the model called all the same."""
    calls: int = 0
    errors: int = 0
    unknown: int = 0


class Effected(Frozen):
    """One call that may have changed something in the world."""

    at: datetime
    tool: str
    call_id: str
    turn: int
    outcome: str
    """`unknown`: it may or may not have happened, and is not repeated; `under way`: it has no answer yet."""


class Waiting(Frozen):
    """One call that waits for a person."""

    tool: str
    call_id: str
    reason: str
    input: str
    """What the call would be given, shortened."""
    approve: str
    """The command that lets it run."""
    deny: str


class Faults(Frozen):
    """What went wrong on the way and was survived, or not."""

    attempts: int
    failed_attempts: int
    by_kind: dict[str, int]
    waited_s: float
    """Seconds between failed attempts and the next ones."""
    possibly_billed: int
    """Attempts that the API may have billed without our knowing the usage."""
    resumed: int
    """How often the session was taken up again after it had ended."""


class Money(Frozen):
    """What it cost, in USD."""

    cost_usd: Usd
    at_risk_usd: Usd
    by_kind: dict[str, Usd]
    baselines: Baselines | None
    budget_usd: Usd | None
    left_usd: Usd | None
    """Of the session's own budget, what is neither spent nor at risk."""


class RunReport(Frozen):
    """What an operator wants to know in the morning."""

    session_id: str
    agent: str
    model: str
    played_by: str
    task: str
    outcome: str
    detail: str
    exit_code: int | None
    started_at: datetime
    ended_at: datetime
    turns: int
    compactions: int
    tools: tuple[ToolUse, ...]
    effects: tuple[Effected, ...]
    """Those whose outcome is unknown come first."""
    money: Money
    faults: Faults
    waiting: tuple[Waiting, ...]
    uncertain: tuple[str, ...]
    text: str
    """What the model said last."""
    next_step: str
    log: str


def run_report(events: Iterable[Event], log: str = "") -> RunReport:
    """The report of a session's events, in one pass. Raises ValueError where the first is no session_started."""
    seen = _Seen()
    bill = bill_of(seen.passed_on(events), log=log, with_turns=False)
    state = seen.state
    assert state is not None
    waiting = tuple(_waiting(state))
    return RunReport(
        session_id=bill.session_id,
        agent=bill.agent,
        model=bill.model,
        played_by=bill.played_by,
        task=blocks.text_of(state.task),
        outcome=bill.outcome,
        detail=bill.detail,
        exit_code=EXIT_CODES.get(bill.outcome),
        started_at=bill.started_at,
        ended_at=bill.ended_at,
        turns=bill.turns,
        compactions=bill.compactions,
        tools=seen.tools(),
        effects=seen.effects(),
        money=_money(bill, state),
        faults=seen.faults(bill),
        waiting=waiting,
        uncertain=bill.uncertain,
        text=state.text,
        next_step=next_step(bill.session_id, bill.outcome, len(waiting), len(bill.unknown_outcomes), state.sleeps_until),
        log=log,
    )


class _Seen:
    """What is counted while the events pass by on their way to the bill."""

    def __init__(self) -> None:
        self.state: State | None = None
        self._tools: dict[str, ToolUse] = {}
        self._effects: dict[str, Effected] = {}
        self._by_kind: dict[str, int] = {}
        self._waited_s = 0.0
        self._possibly_billed = self._resumed = 0

    def passed_on(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events."""
        for event in events:
            if isinstance(event.body, SessionStarted):
                self.state = begin(event.body, event.at)
            elif self.state is not None:
                self._take(event)
                self.state = evolve(self.state, event)
            yield event

    def _take(self, event: Event) -> None:
        match event.body:
            case ToolStarted(effect=effect) as started if effect != "read":
                self._effects[started.call_id] = Effected(
                    at=event.at, tool=started.name, call_id=started.call_id, turn=started.turn, outcome="under way"
                )
            case ToolFinished() as finished:
                self._finished(finished)
            case ModelFailed(failure=failure):
                self._by_kind[failure.kind] = self._by_kind.get(failure.kind, 0) + 1
                self._waited_s += failure.retry_in_s or 0.0
                self._possibly_billed += failure.possibly_billed
            case SessionResumed():
                self._resumed += 1
            case _:
                pass

    def _finished(self, finished: ToolFinished) -> None:
        assert self.state is not None
        effect = next((t.effect for t in self.state.tools if t.name == finished.name), None)
        use = self._tools.get(finished.name) or ToolUse(name=finished.name, effect=effect)
        counted = {
            "calls": use.calls + 1,
            "errors": use.errors + finished.is_error,
            "unknown": use.unknown + (finished.outcome == "unknown"),
        }
        self._tools[finished.name] = use.model_copy(update=counted)
        if (began := self._effects.get(finished.call_id)) is not None:
            self._effects[finished.call_id] = began.model_copy(update={"outcome": finished.outcome})

    def tools(self) -> tuple[ToolUse, ...]:
        """The most used first."""
        return tuple(sorted(self._tools.values(), key=lambda t: (-t.calls, t.name)))

    def effects(self) -> tuple[Effected, ...]:
        """Those that somebody has to look at first."""
        order = {"unknown": 0, "timeout": 1, "under way": 2}
        return tuple(sorted(self._effects.values(), key=lambda e: (order.get(e.outcome, 3), e.at)))

    def faults(self, bill: Report) -> Faults:
        """What was survived."""
        return Faults(
            attempts=bill.attempts,
            failed_attempts=bill.failed_attempts,
            by_kind=self._by_kind,
            waited_s=round(self._waited_s, 3),
            possibly_billed=self._possibly_billed,
            resumed=self._resumed,
        )


def _money(bill: Report, state: State) -> Money:
    budget = state.limits.max_budget_usd
    return Money(
        cost_usd=bill.cost_usd,
        at_risk_usd=bill.at_risk_usd,
        by_kind=bill.cost_by_kind,
        baselines=bill.baselines,
        budget_usd=budget,
        left_usd=max(Decimal(0), budget - bill.cost_usd - bill.at_risk_usd) if budget is not None else None,
    )


def _waiting(state: State) -> Iterator[Waiting]:
    calls = {c.id: c for c in state.open_calls}
    for call_id, reason in state.permits.held.items():
        call = calls.get(call_id)
        given = compact(call.input).decode() if call is not None else ""
        yield Waiting(
            tool=call.name if call is not None else "?",
            call_id=call_id,
            reason=reason,
            input=given if len(given) <= INPUT_CHARS else f"{given[:INPUT_CHARS]}…",
            approve=f"agentloop approve {state.session_id} {call_id}",
            deny=f"agentloop deny {state.session_id} {call_id}",
        )


def write(report: RunReport, folder: Path, redact: Redact, markdown: str) -> Path:
    """Write both forms into a session's folder, each whole or not at all; returns where the page is. Raises OSError."""
    for each in (folder.parent, folder):  # mkdir gives its mode to the last folder only
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replaced(folder / JSON, redact(report.model_dump_json(indent=2)) + "\n")
    return _replaced(folder / MARKDOWN, redact(markdown))


def _replaced(target: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".report-")  # readable by its owner only
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    return target
