"""What is done when an unattended session has come to an end, or could not begin: its report is written, its operator told.

Nothing in here ends anything else: a full disk, a network that is down or a setting that is wrong is logged.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agentloop import database as databases
from agentloop.errors import AgentLoopError
from agentloop.operation import tables
from agentloop.operation.notices import Notice, Notifier, of_session, ways
from agentloop.operation.pages import markdown
from agentloop.operation.reports import run_report, write
from agentloop.types.events import Event
from agentloop.types.jobs import Job
from agentloop.workspace import Settings, redactor

if TYPE_CHECKING:
    from sqlalchemy import Engine


def opener(workspace: Path, settings: Settings) -> "Callable[[], Engine]":
    """Where operation keeps what it keeps, opened when it is needed."""
    return lambda: databases.engine(databases.url_of(workspace, settings.database_url, tables.DATABASE))


def notifier(workspace: Path, settings: Settings, environment: Mapping[str, str]) -> Notifier:
    """The operator's, as the settings say. Raises ConfigError."""
    to, redact = ways(settings, environment), redactor(environment)
    return Notifier(opener(workspace, settings), to, settings.notify_on, redact=redact)


class Aftermath:
    """Of one unattended session."""

    def __init__(self, job: Job, workspace: Path, settings: Settings, environment: Mapping[str, str]) -> None:
        """Raises ConfigError where notices are to go where they cannot: before the session costs anything."""
        self._job = job
        self._redact = redactor(environment)
        self._notifier = notifier(workspace, settings, environment)
        self._log = structlog.get_logger("agentloop.operation").bind(session=job.session_id)

    def ended(self, events: Callable[[], Iterable[Event]], folder: Path, log: str, now: datetime) -> None:
        """It has an outcome: write its report into this folder, and say what there is to say."""
        try:
            report = run_report(events(), log)
        except (AgentLoopError, ValueError) as e:
            self._log.error("report_not_made", why=str(e))
            return
        page = ""
        try:
            page = str(write(report, folder, self._redact, markdown(report)))
        except OSError as e:
            self._log.error("report_not_written", folder=str(folder), why=e.strerror)
        notice = of_session(report, now, schedule=self._job.name, page=page)
        if notice is not None:
            self._notifier.tell(notice, now)

    def failed(self, error: AgentLoopError, now: datetime) -> None:
        """It could not begin, or go on: there is an error and no outcome."""
        said = self._redact(str(error))
        notice = Notice(
            kind="failure",
            subject=self._job.session_id,
            outcome="error",
            summary=f"{self._job.session_id} could not run: {said}",
            next_step=f"Put that right; then 'agentloop resume {self._job.session_id}', or wait for the next due time.",
            at=now,
            agent=self._job.agent,
            schedule=self._job.name,
        )
        self._notifier.tell(notice, now)
