"""The budgets that a workspace's settings say its sessions share."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agentloop import database
from agentloop.batching.store import BatchAccounts, BatchStore
from agentloop.errors import ConfigError
from agentloop.ports import Clock, NothingShared, Purse
from agentloop.routing.accounts import EvalAccounts
from agentloop.workspace import Settings

if TYPE_CHECKING:
    from agentloop.budgets import BudgetLedger, Logs

FILE = "budgets"


def purse(
    workspace: Path, settings: Settings, logs: "Logs", clock: Clock, session_id: str, job: str,
    run: str = "", run_usd: Decimal | None = None,
) -> Purse:  # fmt: skip
    """The purse of a session. `run_usd`: what all those may spend together whose ids begin with `run-`. Raises ConfigError."""
    limits = settings.shared_limits._replace(run=run, run_total=run_usd)
    limited = any(isinstance(limit, Decimal) for limit in limits)
    if not limited and not _may_be_there(workspace, settings):
        return NothingShared()
    book = ledger(workspace, settings, logs, clock)
    return book.purse(session_id, job, limits) if limited or book.is_made() else NothingShared()


def _may_be_there(workspace: Path, settings: Settings) -> bool:
    """Whether there may be a ledger: it holds what every session spends, those too that share no budget themselves."""
    url = url_of(workspace, settings)
    return database.is_postgres(url) or Path(url.removeprefix("sqlite:///")).exists()


def url_of(workspace: Path, settings: Settings) -> str:
    """Where the ledger is."""
    return database.url_of(workspace, settings.database_url, FILE)


def ledger(workspace: Path, settings: Settings, logs: "Logs", clock: Clock) -> "BudgetLedger":
    """Who spent what in this workspace. Raises ConfigError."""
    from agentloop.budgets import BudgetLedger  # and with it SQLAlchemy, which most sessions do without

    others = (BatchAccounts(BatchStore(workspace, settings.database_url)), EvalAccounts(workspace))
    return BudgetLedger(database.engine(url_of(workspace, settings)), logs, zone(settings.budget_zone), clock, others)


def zone(name: str) -> ZoneInfo:
    """The time zone whose days count. Raises ConfigError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ConfigError(f"budget_zone '{name}' is no time zone that is known here; expected one such as Europe/Dublin") from e
