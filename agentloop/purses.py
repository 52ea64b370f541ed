"""The budgets that a workspace's settings say its sessions share."""

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agentloop import database
from agentloop.batching.store import BatchAccounts, BatchStore
from agentloop.errors import ConfigError
from agentloop.ports import Clock, NothingShared, Purse
from agentloop.workspace import Settings

if TYPE_CHECKING:
    from agentloop.budgets import BudgetLedger, Logs

FILE = "budgets"


def purse(workspace: Path, settings: Settings, logs: "Logs", clock: Clock, session_id: str, job: str) -> Purse:
    """The purse of a session. Raises ConfigError."""
    limits = settings.shared_limits
    if all(limit is None for limit in limits):
        return NothingShared()
    return ledger(workspace, settings, logs, clock).purse(session_id, job, limits)


def ledger(workspace: Path, settings: Settings, logs: "Logs", clock: Clock) -> "BudgetLedger":
    """Who spent what in this workspace. Raises ConfigError."""
    from agentloop.budgets import BudgetLedger  # and with it SQLAlchemy, which most sessions do without

    url = database.url_of(workspace, settings.database_url, FILE)
    batches = BatchAccounts(BatchStore(workspace, settings.database_url))
    return BudgetLedger(database.engine(url), logs, zone(settings.budget_zone), clock, batches)


def zone(name: str) -> ZoneInfo:
    """The time zone whose days count. Raises ConfigError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ConfigError(f"budget_zone '{name}' is no time zone that is known here; expected one such as Europe/Dublin") from e
