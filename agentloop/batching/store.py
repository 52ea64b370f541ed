"""The batch runs of a workspace: a folder each, or rows of the PostgreSQL that `database_url` names."""

import difflib
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from agentloop import database
from agentloop.batching.log import BatchLog
from agentloop.batching.state import BatchState, begin, evolve, fold
from agentloop.errors import UnknownSession, UsageError
from agentloop.lines.files import LOG, FileLines

if TYPE_CHECKING:
    from sqlalchemy import Engine

FOLDER = "batches"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BatchStore:
    """Where the runs of a workspace are."""

    def __init__(self, workspace: Path, database_url: str | None) -> None:
        """Use the workspace's own folder, or the database. Nothing is opened yet."""
        self.folder = workspace / database.FOLDER / FOLDER
        self._url = database_url if database_url is not None and database.is_postgres(database_url) else None
        self._opened: Engine | None = None

    def log(self, name: str) -> BatchLog:
        """The log of a run, which need not exist yet. Raises UsageError for what is no name."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"'{name}' is no name of a batch; expected at most 100 letters, digits, '.', '-', '_'")
        if self._url is None:
            return BatchLog(name, FileLines(self.folder / name))
        from agentloop.lines.sql import SqlLines  # and with it SQLAlchemy

        return BatchLog(name, SqlLines(self._engine(self._url), name))

    def _engine(self, url: str) -> "Engine":
        if self._opened is None:
            self._opened = database.engine(url)
        return self._opened

    def names(self) -> list[str]:
        """The runs that there are."""
        if self._url is None:
            return sorted(path.parent.name for path in self.folder.glob(f"*/{LOG}"))
        from agentloop.lines import sql

        return sql.names(self._engine(self._url))

    def find(self, name: str) -> str:
        """The run of that name, or the only one whose name begins so. Raises UnknownSession."""
        there = self.names()
        if name in there:
            return name
        beginning = [one for one in there if one.startswith(name)] if name else []
        if len(beginning) == 1:
            return beginning[0]
        near = beginning or difflib.get_close_matches(name, there, n=3, cutoff=0.3)
        hint = f"did you mean {', '.join(near[:5])}?" if near else "'agentloop batch list' shows those that there are"
        raise UnknownSession(f"no batch '{name}'; {hint}")

    def state(self, name: str) -> BatchState | None:
        """A run as its log says it is. Raises LogDamaged, LogVersion."""
        return fold(self.log(name).events())

    def begun(self, name: str) -> BatchState:
        """The same of a run that has begun. Raises UsageError for one of which only the place is there."""
        if (state := self.state(name)) is None:
            raise UsageError(f"batch '{name}' was never written down: submit it again, with the same input")
        return state

    def charges(self, name: str) -> Iterator[tuple[datetime, Decimal]]:
        """What a run was charged (USD), line by line."""
        state: BatchState | None = None
        for event in self.log(name).events():
            after = begin(event) if state is None else evolve(state, event)
            if state is not None and (more := after.charged_usd - state.charged_usd):
                yield event.at, more
            state = after


ACCOUNT = "batch:"
"""How the name begins under which a run spends of shared budgets; no session's id holds a colon."""


class BatchAccounts:
    """What the runs of a workspace have spent, for the ledger of shared budgets."""

    def __init__(self, store: BatchStore) -> None:
        """Read these runs."""
        self._store = store

    def ids(self) -> list[str]:
        """A name for each run."""
        return [ACCOUNT + name for name in self._store.names()]

    def owns(self, id: str) -> bool:
        """Whether a run spends under it."""
        return id.startswith(ACCOUNT)

    def job(self, id: str) -> str:
        """The job that a run is for."""
        state = self._store.state(id.removeprefix(ACCOUNT))
        return state.prepared.job if state is not None else "batch"

    def charges(self, id: str) -> Iterator[tuple[datetime, Decimal]]:
        """What a run was charged so far."""
        return self._store.charges(id.removeprefix(ACCOUNT))

    def under_way_usd(self, id: str) -> Decimal:
        """The most that its open batches and live requests can cost."""
        state = self._store.state(id.removeprefix(ACCOUNT))
        return state.set_aside_usd if state is not None else Decimal(0)
