"""The bytes of a log's lines, the same in every store: one JSON line an event, each sealed by a digest over itself and the
digest of the line before it, so that a damaged, missing or reordered line is found."""

import hashlib
import json
from datetime import UTC, datetime
from typing import NamedTuple

from agentloop.core import upcasts
from agentloop.errors import LogDamaged, LogError, LogVersion
from agentloop.types.base import compact
from agentloop.types.events import SCHEMA_VERSION, Body, Event, body_data

LONGEST_LINE = 256 * 1024 * 1024
"""Bytes of a line, at most: one that is longer is not written, for nobody could read it back."""
_SEAL = b',"sum":"'
_SEALED = len(_SEAL) + 16 + len(b'"}')


class Line(NamedTuple):
    """A line that was read."""

    event: Event
    digest: bytes
    """What the next line's digest is made over, besides that line itself."""
    end: int
    """Bytes of the log up to here, this line included."""
    version: int = SCHEMA_VERSION
    """The schema version that the log was written in; the event is in today's."""


class Sealed(NamedTuple):
    """A line that is to be written."""

    event: Event
    data: bytes
    """With its line end."""
    digest: bytes


class Place(NamedTuple):
    """Where a log is, for what is said about it."""

    session_id: str
    where: str
    """The file, or the database, as a person may see it: never with a password."""


def sealed(seq: int, at: datetime, body: Body, before: bytes) -> Sealed:
    """The line of an event. Raises UnicodeEncodeError for text that is none (a lone surrogate), ValueError for NaN."""
    stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    content = compact({"seq": seq, "at": stamp, "body": body_data(body)})[:-1]
    digest = digest_of(before, content)
    return Sealed(Event(seq=seq, at=at, body=body), content + seal(digest) + b"\n", digest)


def digest_of(before: bytes, content: bytes) -> bytes:
    """The digest of a line without its seal and closing brace, behind a line of that digest."""
    return hashlib.blake2b(before + content, digest_size=8).digest()


def seal(digest: bytes) -> bytes:
    """How such a line ends."""
    return _SEAL + digest.hex().encode() + b'"}'


def read(data: bytes, before: Line | None, place: Place) -> Line:
    """A line, its end taken off, behind another one. Raises LogDamaged, LogVersion."""
    digest_before, end, seq = (b"", 0, 0) if before is None else (before.digest, before.end, before.event.seq + 1)
    content, sealing = data[:-_SEALED], data[-_SEALED:]
    digest = digest_of(digest_before, content)
    if sealing != seal(digest):
        raise damaged(place, seq + 1, "its checksum does not hold")
    version = upcasts.version_of(content + b"}") if before is None else before.version
    if version > SCHEMA_VERSION or not upcasts.readable(version):
        raise _other(version, place)
    try:
        event = upcasts.event(content + b"}", version)
    except ValueError as e:  # a ValidationError is one
        raise _unreadable(content, seq + 1, place) from e
    if event.seq != seq:
        raise damaged(place, seq + 1, f"it has seq {event.seq}, expected {seq}")
    return Line(event, digest, end + len(data) + 1, version)


def damaged(place: Place, number: int, why: str) -> LogDamaged:
    """The error for a line that is not what was written. Lines are counted from 1."""
    return LogDamaged(
        f"{place.where}, line {number} is damaged: {why}\n"
        f"the {number - 1} lines before it are whole; nothing was changed\n"
        f"'agentloop sessions export {place.session_id} FOLDER --whole-lines' writes them to a new log"
    )


def _unreadable(content: bytes, number: int, place: Place) -> LogError:
    """A whole line that is no event of ours: from a newer version, most likely."""
    try:
        body = json.loads(content + b"}")["body"]
        version, kind = body.get("schema_version", SCHEMA_VERSION), body.get("type")
    except (ValueError, KeyError, AttributeError, TypeError):
        return damaged(place, number, "it is not an event")
    if version > SCHEMA_VERSION:
        return _other(version, place)
    return LogVersion(f"{place.where}, line {number}: this agentloop cannot read a '{kind}' event: upgrade it")


def _other(version: int, place: Place) -> LogVersion:
    found = f"{place.where} has schema version {version}, this agentloop reads {SCHEMA_VERSION}"
    newer = version > SCHEMA_VERSION
    return LogVersion(f"{found}: upgrade it" if newer else f"{found}: open it once with a version in between")
