"""The log of a batch run: one JSON line an event, each sealed by a digest over itself and the line before it.

Where the lines are kept is somebody else's business (`Lines`: a file, or the PostgreSQL that several machines share).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Self

from pydantic import ValidationError

from agentloop.batching.events import EVENT, SCHEMA_VERSION, BatchBody, BatchEvent, Prepared, RowsGiven
from agentloop.core.sealed import LONGEST_LINE, digest_of, seal
from agentloop.errors import LogDamaged, LogVersion, LogWriteFailed
from agentloop.lines import Lines
from agentloop.types.base import Json, compact

_SEAL_BYTES = len(seal(b"\x00" * 8))


class BatchLog:
    """One run's events."""

    def __init__(self, name: str, lines: Lines) -> None:
        """Use these lines for the log of the run of that name."""
        self.name, self._lines = name, lines
        self._written = -1
        self._digest = b""

    @property
    def where(self) -> str:
        """Where it is, as a person may see it."""
        return self._lines.where

    def events(self) -> Iterator[BatchEvent]:
        """Every event, oldest first. Raises LogDamaged, LogVersion."""
        return (event for event, _ in self._read())

    def rows(self, wanted: Iterable[int] | None = None) -> Iterator[tuple[int, Json]]:
        """The numbers and fields of these rows, in rising order, or of all, read from the log as they are asked for."""
        named = iter(wanted) if wanted is not None else count()
        row, sought = 0, next(named, None)
        of = 0
        for event in self.events():
            if isinstance(event.body, Prepared):
                of = event.body.rows
            for fields in event.body.rows if isinstance(event.body, RowsGiven) else ():
                if row == sought:
                    yield row, fields
                    sought = next(named, None)
                row += 1
            if sought is None or row >= of:
                return

    def __enter__(self) -> Self:
        """Hold the log, and find its end. Raises SessionHeld, LogDamaged, LogVersion."""
        self._lines.__enter__()
        try:
            self._written, self._digest = 0, b""
            for event, digest in self._read():
                self._written, self._digest = event.seq + 1, digest
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Let it go."""
        self._written = -1
        self._lines.__exit__(*exc)

    def append(self, body: BatchBody, at: datetime) -> BatchEvent:
        """Write one more event, whole. Raises LogWriteFailed, SessionLost."""
        if self._written < 0:
            raise LogWriteFailed(f"{self.where} is not open for writing")
        at = at.astimezone(UTC)
        event = BatchEvent(seq=self._written, at=at, body=body)
        content = compact(event.model_dump(mode="json", exclude_none=True))[:-1]
        digest = digest_of(self._digest, content)
        line = content + seal(digest)
        if len(line) >= LONGEST_LINE:
            raise LogWriteFailed(f"{self.where}: an event of {len(line):,} bytes; at most {LONGEST_LINE:,} can be read back")
        self._lines.append(self._written, line)
        self._written, self._digest = self._written + 1, digest
        return event

    def _read(self) -> Iterator[tuple[BatchEvent, bytes]]:
        before = b""
        for number, line in enumerate(self._lines.read()):
            content, sealing = line[:-_SEAL_BYTES], line[-_SEAL_BYTES:]
            before = digest_of(before, content)
            if sealing != seal(before):
                raise LogDamaged(
                    f"{self.where}, line {number + 1} is damaged: its checksum does not hold\n"
                    f"the {number} lines before it are whole; nothing was changed. Restore the file from a backup"
                )
            event = self._event(content + b"}", number)
            yield event, before

    def _event(self, data: bytes, number: int) -> BatchEvent:
        try:
            event = EVENT.validate_json(data)
        except ValidationError as e:
            raise LogVersion(f"{self.where}, line {number + 1}: this agentloop cannot read it: upgrade it") from e
        if event.seq != number:
            raise LogDamaged(f"{self.where}, line {number + 1} is damaged: it has seq {event.seq}, expected {number}")
        if isinstance(event.body, Prepared) and event.body.schema_version > SCHEMA_VERSION:
            found = f"{self.where} has schema version {event.body.schema_version}, this agentloop reads {SCHEMA_VERSION}"
            raise LogVersion(f"{found}: upgrade it")
        return event
