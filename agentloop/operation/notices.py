"""What an operator is told without asking: a session that failed, ran out of money or waits; a schedule that fell silent.

A notice is kept in the database before it is given, once for its subject and event, and stays there until it was given: so
it comes once however often a session is taken up again, and it comes at all where the network was down. None of this can end
a session: what goes wrong is logged, and tried again at the next occasion.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

import structlog

from agentloop.adapters.notices import Command, NotGiven, Webhook
from agentloop.database import transaction
from agentloop.operation import tables
from agentloop.operation.metrics import METRICS, Metrics
from agentloop.operation.reports import RunReport
from agentloop.operation.tables import Kept
from agentloop.redaction import Redact
from agentloop.report import Usd
from agentloop.types.base import Frozen
from agentloop.workspace import NoticeKind, Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

MOST_TRIES = 10
"""Occasions at which a notice is tried; each is a few attempts."""

KINDS: dict[str, NoticeKind] = {
    "completed": "success",
    "failed": "failure",
    "refused": "failure",
    "truncated": "failure",
    "prefix_unstable": "failure",
    "provider_unavailable": "failure",
    "unauthorized": "failure",
    "time_limit": "failure",
    "error": "failure",
    "budget_exceeded": "budget",
    "max_turns": "budget",
    "spend_limit": "budget",
    "waiting_for_approval": "approval",
}
"""What an outcome is to the operator. Sessions that sleep, or were stopped by their machine, go on by themselves."""


class Notice(Frozen):
    """What is said, as the JSON that goes out."""

    kind: NoticeKind
    subject: str
    """The session's id, or `schedule NAME`, or `process NAME`."""
    outcome: str
    summary: str
    """One sentence."""
    next_step: str
    at: datetime
    agent: str = ""
    schedule: str = ""
    cost_usd: Usd = Decimal(0)
    commands: tuple[str, ...] = ()
    """What answers the calls that wait."""
    report: str = ""
    """Where the run report is."""

    @property
    def event(self) -> str:
        """What it is told once for: the outcome; of a session that waits, the calls too."""
        return f"{self.outcome} {' '.join(self.commands)}".strip()[:200]


class Way(Protocol):
    """Somewhere that a notice can go."""

    def give(self, notice: bytes) -> None:
        """Raises NotGiven."""
        ...


def ways(settings: Settings, environment: Mapping[str, str]) -> list[Way]:
    """Where the settings say that notices go. Raises ConfigError."""
    found: list[Way] = [Webhook(settings.notify_webhook)] if settings.notify_webhook else []
    return [*found, Command(settings.notify_command, environment=environment)] if settings.notify_command else found


class Notifier:
    """Tells the operator, once."""

    def __init__(
        self,
        database: "Callable[[], Engine]",
        to: Iterable[Way],
        kinds: Iterable[NoticeKind],
        *,
        redact: Redact = lambda text: text,
        metrics: Metrics = METRICS,
    ) -> None:
        """Without a way to go nothing is kept: the database is opened when there is something to say."""
        self._open, self._ways, self._kinds = database, tuple(to), frozenset(kinds)
        self._redact, self._metrics = redact, metrics
        self._database: Engine | None = None
        self._log = structlog.get_logger("agentloop.notices")

    def tell(self, notice: Notice, now: datetime) -> bool:
        """Say it, unless it was said before or nobody wants to know. Returns whether it was new. Never raises for what the
        network, a program or the database does."""
        import sqlalchemy as sa

        if not self._ways or notice.kind not in self._kinds:
            return False
        kept = Kept(notice.subject[:200], self._redact(notice.event), self._redact(notice.model_dump_json()))
        try:
            with transaction(self._ready()) as connection:
                new = tables.keep(connection, kept, now)
        except sa.exc.IntegrityError:
            return False  # another process said the same at this very moment
        except (sa.exc.SQLAlchemyError, OSError) as e:
            self._log.error("notice_not_kept", subject=notice.subject, outcome=notice.outcome, why=type(e).__name__)
            return self._give(kept, notice.kind)  # rather twice than not at all
        if new:
            self.give_waiting(now)
        return new

    def give_waiting(self, now: datetime) -> int:
        """Give what waits: new notices, and those that could not be given before. Returns how many were."""
        import sqlalchemy as sa

        if not self._ways:
            return 0
        count = 0
        try:
            with transaction(self._ready()) as connection:
                mine = list(tables.taken(connection, now, MOST_TRIES))
            for kept in mine:
                given = self._give(kept, Notice.model_validate_json(kept.notice).kind)
                count += given
                with transaction(self._ready()) as connection:
                    tables.settled(connection, kept, given, now)
        except (sa.exc.SQLAlchemyError, OSError) as e:
            self._log.error("notices_wait", why=type(e).__name__)
        return count

    def _give(self, kept: Kept, kind: NoticeKind) -> bool:
        """All ways are tried; it was given where one of them took it."""
        given = False
        for way in self._ways:
            try:
                way.give(kept.notice.encode())
                given = True
            except NotGiven as e:
                self._log.error("notice_failed", subject=kept.subject, why=self._redact(str(e)))
        self._metrics.count("notices", kind, "given" if given else "failed")
        return given

    def _ready(self) -> "Engine":
        if self._database is None:
            self._database = self._open()
            tables.make(self._database)
        return self._database


def of_session(report: RunReport, now: datetime, *, schedule: str = "", page: str = "") -> Notice | None:
    """What is said about a session that came to an end; None where nothing is."""
    kind = KINDS.get(report.outcome)
    if kind is None:
        return None
    why = f": {report.detail}" if report.detail else ""
    return Notice(
        kind=kind,
        subject=report.session_id,
        outcome=report.outcome,
        summary=f"{report.session_id} ended as {report.outcome}{why}",
        next_step=report.next_step,
        at=now,
        agent=report.agent,
        schedule=schedule,
        cost_usd=report.money.cost_usd,
        commands=tuple(c for w in report.waiting for c in (w.approve, w.deny)),
        report=page,
    )
