import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from agentloop.adapters.memory import MemoryBlobs, MemoryLog
from agentloop.ports import Log
from agentloop.testing import NOON, events, given, log_conformance, started


def the_same(log: Log) -> Callable[[], AbstractContextManager[Log]]:
    @contextmanager
    def opened() -> Iterator[Log]:
        yield log

    return opened


def test_it_keeps_the_laws_of_a_log() -> None:
    log_conformance(the_same(MemoryLog()))


def test_it_goes_on_from_the_events_it_was_given() -> None:
    log = MemoryLog(events(started(), given("task")))

    assert log.append(given("more"), NOON).seq == 2


def test_reading_is_not_disturbed_by_what_is_appended_meanwhile() -> None:
    log = MemoryLog(events(started(), given("task")))

    reading = log.events()
    log.append(given("more"), NOON)

    assert len(list(reading)) == 2


def test_a_blob_is_found_by_eight_characters_of_its_digest() -> None:
    blobs = MemoryBlobs()

    digest = blobs.put(b"whole")

    assert digest == hashlib.sha256(b"whole").hexdigest()
    assert (blobs.find(digest[:8]), blobs.find(digest[:7]), blobs.find("0" * 8)) == (b"whole", None, None)
