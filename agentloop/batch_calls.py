"""The calls of the Message Batches API, as whoever sends batches needs them: what comes back, and what can go wrong.

https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import IO, Literal, NamedTuple, Protocol

from agentloop.types.base import Json, compact

MAX_ITEMS = 100_000
"""Requests of one batch, at most."""
MAX_BYTES = 256 * 1024 * 1024
"""Of the body that makes a batch, at most."""
_OPENS, _CLOSES = b'{"requests":[', b"]}"
AROUND = len(_OPENS + _CLOSES)
"""Bytes of a body besides its requests."""

Trouble = Literal["refused", "unknown", "unavailable", "missing", "no_results", "unauthorized", "spend_limit"]
"""`refused`: the API said no, and nothing was made · `unknown`: nobody can say whether a batch was made · `unavailable`: no
answer, though it was asked for several times · `missing`: there is no such batch for this key · `no_results`: it has none, or
none any more · `unauthorized`, `spend_limit`: as in a session."""


class BatchCallFailed(Exception):
    """A call brought no answer that can be used."""

    def __init__(self, trouble: Trouble, message: str, error_type: str = "", retry: bool = False, after_s: float = 0.0) -> None:
        """`retry`: the same call may be answered later; not before `after_s` seconds, where the API said so."""
        super().__init__(message)
        self.trouble, self.message, self.error_type, self.retry, self.after_s = trouble, message, error_type, retry, after_s


class Standing(NamedTuple):
    """A batch, as the API shows it."""

    id: str
    status: str
    """in_progress, canceling or ended."""
    created_at: datetime
    expires_at: datetime
    counts: Mapping[str, int]
    """Items by what became of them: processing, succeeded, errored, canceled, expired."""
    is_archived: bool = False
    """Its results are kept no longer."""
    is_cancelled: bool = False
    """Somebody asked for its end."""

    @property
    def has_ended(self) -> bool:
        """Whether every item has its result."""
        return self.status == "ended"

    @property
    def items(self) -> int:
        """How many requests it has."""
        return sum(self.counts.values())


class BatchClient(Protocol):
    """Something that takes batches. Every method raises BatchCallFailed."""

    def create(self, body: bytes | IO[bytes]) -> Standing:
        """Make a batch of this body, or of the one in this file. Sent once: what became of a call that failed as `unknown`
        has to be looked for."""
        ...

    def retrieve(self, batch_id: str) -> Standing:
        """One batch, as it stands."""
        ...

    def recent(self) -> Iterator[Standing]:
        """All batches, the newest first, page by page as they are asked for."""
        ...

    def results(self, batch_id: str) -> Generator[Json, None, None]:
        """The results of a batch that has ended, as they come, one an item, in any order. Whoever reads them all has them
        all: a download that breaks off raises."""
        ...

    def cancel(self, batch_id: str) -> Standing:
        """Let no further item start."""
        ...


def request_line(custom_id: str, params: Json) -> bytes:
    """One request of a batch, as it stands in the body."""
    return compact({"custom_id": custom_id, "params": params})


def body_of(lines: list[bytes]) -> bytes:
    """The body that makes a batch of these requests."""
    return b"".join(pieces(lines))


def pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same, request by request."""
    yield _OPENS
    for i, line in enumerate(lines):
        yield b"," + line if i else line
    yield _CLOSES
