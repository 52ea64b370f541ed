"""The lines of a log in a database that several machines share: one row a line, exactly what a file would hold.

Two machines that write at once are told apart by a lock that dies with its connection; and a line's number is its key, so
whoever has lost that lock without knowing cannot write a line that is there already.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agentloop.database import transaction
from agentloop.errors import LogError, LogWriteFailed, SessionHeld, SessionLost, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_TABLES = sa.MetaData()
_LINES = sa.Table(
    "agentloop_batch_lines",
    _TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("line", sa.LargeBinary, nullable=False),
)
_PAGE = 500
_MAKING = 5_870_232
"""The PostgreSQL advisory lock under which the table is made."""


class SqlLines:
    """`Lines` in a PostgreSQL database."""

    def __init__(self, database: "Engine", name: str, of: str = "batch") -> None:
        """Use the log of the run of that name. `of`: what it is a run of; the names of others are not in its way."""
        self._database, self._shown, self._of = database, name, of
        self._name = name if of == "batch" else f"{of}:{name}"
        self._hold: Connection | None = None

    @property
    def where(self) -> str:
        """The table's row, without user and password."""
        return f"{self._database.url.host or 'localhost'}/{self._database.url.database}/{self._of}/{self._shown}"

    def read(self) -> Iterator[bytes]:
        """Every line, a page at a time. Raises StoreUnavailable, LogError."""
        make(self._database)
        number = 0
        while True:
            here = (_LINES.c.name == self._name) & (_LINES.c.number >= number)
            page = sa.select(_LINES.c.number, _LINES.c.line).where(here).order_by(_LINES.c.number).limit(_PAGE)
            found = _asked(self._database, page)
            yield from (bytes(row[1]) for row in found)
            if len(found) < _PAGE:
                return
            number = found[-1][0] + 1

    def __enter__(self) -> Self:
        """Take the lock. Raises SessionHeld, StoreUnavailable."""
        make(self._database)
        try:
            self._hold = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
            taken = self._hold.scalar(sa.select(sa.func.pg_try_advisory_lock(sa.func.hashtextextended(self._key, 0))))
        except SQLAlchemyError as e:
            self.__exit__()
            raise _trouble(e) from e
        if not taken:
            self.__exit__()
            raise SessionHeld(f"{self._of} '{self._shown}' is held by another process; wait for it, or stop it")
        return self

    def __exit__(self, *exc: object) -> None:
        """Let it go: the lock ends with its connection, which is not used again."""
        if self._hold is not None:
            self._hold.invalidate()
            self._hold.close()
        self._hold = None

    def append(self, number: int, line: bytes) -> None:
        """Write one line. Raises SessionLost where its place is taken, or the lock's connection is gone."""
        if self._hold is None:
            raise LogWriteFailed(f"{self.where} is not open for writing")
        try:
            self._hold.execute(sa.insert(_LINES).values(name=self._name, number=number, line=line))
        except IntegrityError as e:
            self.__exit__()
            raise SessionLost(
                f"{self._of} '{self._shown}' was taken over by another process; nothing more was written here"
            ) from e
        except SQLAlchemyError as e:
            self.__exit__()
            raise LogWriteFailed(f"cannot write {self.where}: {_trouble(e)}\nthen carry the {self._of} on") from e

    @property
    def _key(self) -> str:
        return f"agentloop batch {self._name}"


def names(database: "Engine") -> list[str]:
    """The batches that are there. Raises StoreUnavailable, LogError."""
    make(database)
    first = sa.and_(_LINES.c.number == 0, ~_LINES.c.name.contains(":"))  # no batch is called so: those are runs of others
    return [row[0] for row in _asked(database, sa.select(_LINES.c.name).where(first).order_by(_LINES.c.name))]


def make(database: "Engine") -> None:
    """The table is there, made by one process of however many start at once."""
    try:
        if sa.inspect(database).has_table(_LINES.name):
            return
        with transaction(database) as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
            _TABLES.create_all(connection)
    except SQLAlchemyError as e:
        raise _trouble(e) from e


def _asked(database: "Engine", statement: "sa.Select[Any]") -> list[Any]:
    try:
        with database.connect() as connection:
            return list(connection.execute(statement).all())
    except SQLAlchemyError as e:
        raise _trouble(e) from e


def _trouble(e: SQLAlchemyError) -> LogError:
    said = str(getattr(e, "orig", None) or e).strip().partition("\n")[0]
    return StoreUnavailable(f"the database of database_url does not answer: {said}; try again when it does")
