"""What evals have spent, for the ledger of budgets that they share with all that is done in the workspace."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from agentloop.routing.results import FOLDER, Answer, Asked, Collected, Intended, Record, Unanswered, charged_usd, records

ACCOUNT, JOB = "eval:", "evals"
"""How the name begins under which the evals of a kind spend (no session's id holds a colon), and the job that they all are."""


class EvalAccounts:
    """One account a kind, as its file tells it."""

    def __init__(self, workspace: Path) -> None:
        """Read the files of this workspace."""
        self._folder = workspace / FOLDER

    def ids(self) -> list[str]:
        """A name for each kind."""
        return sorted(ACCOUNT + path.stem for path in self._folder.glob("*.jsonl"))

    def owns(self, id: str) -> bool:
        """Whether evals spend under it."""
        return id.startswith(ACCOUNT)

    def job(self, id: str) -> str:
        """All evals are one job."""
        return JOB

    def charges(self, id: str) -> Iterator[tuple[datetime, Decimal]]:
        """What the evals of a kind were charged, record by record (USD)."""
        for record in self._records(id):
            if (usd := charged_usd(record)) and isinstance(record, Answer | Collected | Unanswered) and record.at is not None:
                yield record.at, usd

    def under_way_usd(self, id: str) -> Decimal:
        """The most that their open batches can cost, and requests whose answers nobody wrote down."""
        open_: dict[str, Decimal] = {}
        for record in self._records(id):
            match record:
                case Intended(name=name, most_usd=most) | Asked(key=name, most_usd=most):
                    open_[name] = most
                case Collected(name=name) | Answer(key=name) | Unanswered(key=name):
                    open_.pop(name, None)
                case _:
                    pass
        return sum(open_.values(), Decimal(0))

    def _records(self, id: str) -> Iterator[Record]:
        path = self._folder / f"{id.removeprefix(ACCOUNT)}.jsonl"
        data = path.read_bytes() if path.exists() else b""
        return records(path, data[: data.rfind(b"\n") + 1])
