"""Where a log is kept that is no session's: of a batch run, of a wave. Lines, one writer, durable before it goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from agentloop import database
from agentloop.lines.files import FileLines


class Lines(Protocol):
    """Where the lines of one log are. Reading needs nothing; as a context manager they are held by this process alone."""

    @property
    def where(self) -> str:
        """The file, or the place in the database, as a person may see it."""
        ...

    def read(self) -> Iterator[bytes]:
        """Every whole line, without its end. A line that a crash left torn is not among them."""
        ...

    def append(self, number: int, line: bytes) -> None:
        """Write a line behind so many others; durable when it returns. Raises LogWriteFailed, SessionLost."""
        ...

    def __enter__(self) -> Self:
        """Hold them. Raises SessionHeld."""
        ...

    def __exit__(self, *exc: object) -> None:
        """Let them go."""
        ...


def kept(folder: Path, database_url: str | None, of: str) -> Lines:
    """Lines in this folder; or, where machines share a PostgreSQL, there, under the folder's name. `of`: what they tell of."""
    if database_url is None or not database.is_postgres(database_url):
        return FileLines(folder, of)
    from agentloop.lines.sql import SqlLines  # and with it SQLAlchemy

    return SqlLines(database.engine(database_url), folder.name, of)
