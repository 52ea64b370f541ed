"""The laws of whatever keeps sessions: logs, blobs, stores. Each function raises AssertionError for the law that is broken.

A store of your own proves itself with these, as files, PostgreSQL and memory do (`agentloop.testing` has the same names).
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial

from agentloop.core import wire
from agentloop.errors import SessionHeld, SessionLost, UnknownSession
from agentloop.ports import Blobs, Log, SessionLog, SessionStore
from agentloop.types import blocks
from agentloop.types.events import Event, InputGiven, SessionEnded, SessionStarted
from agentloop.types.request import Prefix
from agentloop.types.usage import ModelCard, Prices

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ODD_TEXTS = (
    "hello \u00e9\u4e16 \U0001f600",
    "one\ntwo\r\nthree\u2028four\u0085five",
    'a NUL \x00, a bell \x07, an escape \x1b[31m, a quote " and a backslash \\',
    '{"seq":7,"sum":"0123456789abcdef"}\n{"seq":8}',
    " ",
)
BIG = 3_000_000
"""Characters of the largest text that is tried."""
MANY = 10_000
"""Events of the longest log that is tried."""
_PRICES = Prices.model_validate(dict.fromkeys(("input", "cache_write_5m", "cache_write_1h", "cache_read", "output"), "1"))
_CARD = ModelCard(
    id="claude-test",
    prices=(_PRICES,),
    prices_as_of="2026-01-01",
    tokenizer="claude-4.7-plus",
    min_cacheable_tokens=512,
    context_window=1_000_000,
    max_output_tokens=64_000,
)


def log_conformance(make: Callable[[], AbstractContextManager[Log]]) -> None:
    """The laws of a `Log`: what was appended is read back, in order, without gaps, by whoever opens it next.

    `make` opens the same log, empty at first, each time it is called.
    """
    with make() as log:
        first = log.append(_given("first"), NOON)
        second = log.append(_given(ODD_TEXTS[0]), NOON + timedelta(seconds=1))
        assert [first.seq, second.seq] == [0, 1], "seq counts from 0"
        assert list(log.events()) == [first, second], "a log reads back what it was given"
    with make() as log:
        third = log.append(_given("again"), NOON - timedelta(hours=1))
        assert third.seq == 2, "seq goes on after the log was opened again"
        assert list(log.events()) == [first, second, third], "earlier events stay as they were; order is by seq, not by time"
    with make() as log:
        odd = [log.append(_given(text), NOON + timedelta(microseconds=1)) for text in ODD_TEXTS]
        assert list(log.events())[3:] == odd, "any text is read back as it was given"
        big = log.append(_given("x\u00e9\u4e16" * (BIG // 3)), NOON)
        behind = log.append(_given("behind it"), NOON)
        assert list(log.events())[-2:] == [big, behind], "a line of megabytes is a line like any other"


def blobs_conformance(make: Callable[[], Blobs]) -> None:
    """The laws of `Blobs`: bytes are found by their digest and by its start, and are what they were, for ever.

    `make` opens the same blobs, empty at first, each time it is called.
    """
    kept = [b"a tool result", b"", b"\x00\xff" * 100, bytes(range(256)) * 4_000]
    digests = [make().put(data) for data in kept]
    assert digests == [hashlib.sha256(data).hexdigest() for data in kept], "the digest is the SHA-256 of the bytes"
    assert make().put(kept[0]) == digests[0], "the same bytes may be kept twice"
    assert [make().find(d) for d in digests] == kept, "bytes are found by their digest"
    assert [make().find(d[:8]) for d in digests] == kept, "bytes are found by the start of their digest"
    assert list(make().digests()) == sorted(digests), "every digest is listed once, in order"
    for handle in ("", digests[0][:7], "0" * 64, "*" * 8, "_" * 8, "%" * 8, "../../..", digests[0] + "0"):
        assert make().find(handle) is None, f"{handle!r} is no handle of what is kept"


def store_conformance(make: Callable[[], SessionStore], take_away: Callable[[SessionLog], None]) -> None:
    """The laws of a `SessionStore`. `make` opens the same store, empty at first, as another process would; `take_away` does
    to a log that is held what lets another process open it while the holder does not know."""
    _a_session_that_is_none(make())
    log_conformance(lambda: make().log("conformance"))
    blobs_conformance(lambda: make().blobs("conformance"))
    _one_writer(make)
    _taken_away(make, take_away)
    _listed(make)
    _interrupted(make)
    _long(make)
    _deleted(make)


def _a_session_that_is_none(store: SessionStore) -> None:
    assert list(store.ids()) == [], "an empty store has no sessions"
    assert not store.exists("nobody"), "what was never written does not exist"
    asking: tuple[Callable[[str], object], ...] = (store.find, store.events, store.stream)
    for ask in asking:
        assert _refused(UnknownSession, partial(ask, "nobody")), "there is no fresh start from a session that is missing"
    naming: tuple[Callable[[str], object], ...] = (store.log, store.blobs, store.location, store.exists, store.delete)
    for name in ("../up", "", "a b", "a" * 101, ".hidden", "a/../b", "a\x00"):
        for use in naming:
            assert _refused(UnknownSession, partial(use, name)), f"{name!r} is no session id"


def _one_writer(make: Callable[[], SessionStore]) -> None:
    with make().log("held") as log:
        error = _refused(SessionHeld, lambda: _append(make().log("held"), "mixed in"))
        assert "session 'held' is held by process " in str(error), "a second writer is told who holds the session"
        assert " since 20" in str(error), "and since when"
        log.append(_started("held"), NOON)
        assert len(make().events("held")) == 1, "a session that is held can be read"
    _append(make().log("held"), "next")
    assert [e.seq for e in make().events("held")] == [0, 1], "whoever comes next goes on where the last one stopped"


def _taken_away(make: Callable[[], SessionStore], take_away: Callable[[SessionLog], None]) -> None:
    with make().log("fenced") as old:
        old.append(_started("fenced"), NOON)
        take_away(old)
        with make().log("fenced") as new:
            kept = [new.append(_given("of the new holder"), NOON)]
            assert _refused(SessionLost, lambda: old.append(_given("of the old one"), NOON)), "the old holder is stopped"
            kept.append(new.append(_given("of the new holder again"), NOON))
        assert make().events("fenced")[1:] == kept, "nothing of the old holder's is written any more"


def _listed(make: Callable[[], SessionStore]) -> None:
    store = make()
    for name in ("row-2", "row-1"):
        with store.log(name) as log:
            log.append(_started(name), NOON)
    with make().log("row-1") as log:
        log.append(SessionEnded(outcome="completed"), NOON)
    rows = {row.session_id: row for row in make().summaries() if row.session_id.startswith("row-")}
    assert list(rows) == ["row-1", "row-2"], "sessions are listed by their ids"
    assert (rows["row-1"].outcome, rows["row-2"].outcome) == ("completed", "unfinished"), "a row says how it ended"
    one = rows["row-1"]
    assert (one.agent, one.model, one.started_at, one.events) == ("test", "claude-test", "2026-01-05T12:00:00.000000Z", 2)
    with store.log("row-1") as log:
        end, damage = log.whole_lines()
        assert damage is None
        assert end == one.bytes == sum(map(len, log.pieces(end))), "bytes are those of the lines"
    assert store.find("row-2") == "row-2", "a session is found by its id"
    assert store.find("fenc") == "fenced", "and by the start of it"
    assert "row-1, row-2" in str(_refused(UnknownSession, lambda: store.find("row"))), "candidates are named"


def _interrupted(make: Callable[[], SessionStore]) -> None:
    news = make().log("odd").news()
    assert list(news()) == [], "there is no news of a session that does not exist yet"
    with make().log("odd") as log:
        first = log.append(_started("odd"), NOON)
        assert list(news()) == [first]
        assert _refused(UnicodeEncodeError, lambda: log.append(_given("half a character: \ud83d"), NOON)), "that is no text"
        second = log.append(_given("whole"), NOON)
        assert second.seq == 1, "what could not be written leaves no gap"
    assert list(news()) == [second], "news is what was not given yet"
    assert list(news()) == []


def _long(make: Callable[[], SessionStore]) -> None:
    with make().log("long") as log:
        written = [log.append(_started("long"), NOON)]
        written += [log.append(_given(f"event {n}"), NOON + timedelta(seconds=n)) for n in range(1, MANY)]
    assert make().events("long") == written, f"{MANY:,} events are read back in order"
    assert next(make().stream("long")) == written[0], "a stream begins at the first event"


def _deleted(make: Callable[[], SessionStore]) -> None:
    store = make()
    with store.log("row-1"):
        assert _refused(SessionHeld, lambda: make().delete("row-1")), "what is being written is not deleted"
    digest = store.blobs("row-1").put(b"its result")
    store.delete("row-1")
    assert not make().exists("row-1")
    assert make().blobs("row-1").find(digest) is None, "the blobs go with the log"
    assert make().exists("row-2"), "nothing else goes"
    with store.log("row-1") as log:
        assert log.append(_started("row-1"), NOON).seq == 0, "the id can be used again"


def _append(log: SessionLog, text: str) -> Event:
    with log:
        return log.append(_given(text), NOON)


def _refused(error: type[Exception], act: Callable[[], object]) -> Exception | None:
    """The error that this raises; None where it raises none."""
    try:
        act()
    except error as e:
        return e
    return None


def _given(text: str) -> InputGiven:
    return InputGiven(content=(blocks.text(text),))


def _started(session_id: str) -> SessionStarted:
    prefix = Prefix(model=_CARD.id, system="You keep what you are given.")
    return SessionStarted(
        session_id=session_id, agent="test", prefix=prefix, prefix_digest=wire.prefix_digest(prefix), card=_CARD
    )
