"""What one store writes, the other would have written: the same bytes, the same rows, the same state."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.ports import SessionStore
from agentloop.postgres import Postgres
from agentloop.postgres_sessions import PostgresSessions
from agentloop.sessions import Sessions
from agentloop.testing import NOON, reply, started
from agentloop.testing import given as said
from agentloop.types import blocks
from agentloop.types.events import Body, SessionEnded
from tests.unit.lines import answered, asked

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
BODIES: st.SearchStrategy[Body] = st.one_of(
    TEXTS.map(said),
    TEXTS.map(lambda text: answered(reply(blocks.text(text)))),
    st.just(asked()),
    st.sampled_from(["completed", "failed", "budget_exceeded"]).map(lambda o: SessionEnded.model_validate({"outcome": o})),
)
SITTINGS = st.lists(st.lists(BODIES, max_size=5), min_size=1, max_size=4)
"""Events, and where the session was let go and taken up again."""
GAPS = st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=400))


@pytest.fixture(scope="module")
def in_postgres(postgres_url: str) -> Iterator[PostgresSessions]:
    database = Postgres(postgres_url)
    yield PostgresSessions(database)
    database.close()


@settings(max_examples=60, deadline=None)
@given(agent=TEXTS, sittings=SITTINGS, gap=GAPS)
def test_files_and_postgresql_hold_the_same_bytes_and_tell_the_same(
    agent: str, sittings: list[list[Body]], gap: timedelta, in_postgres: PostgresSessions
) -> None:
    session_id = f"s-{uuid4()}"
    with TemporaryDirectory() as folder:
        stores: list[SessionStore] = [Sessions(Path(folder), fsync="never"), in_postgres]

        for store in stores:
            write(store, session_id, agent, sittings, gap)

        first, second = ([whole(s, session_id), row(s, session_id), s.events(session_id)] for s in stores)
        assert first == second


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, max_size=6))
def test_what_was_written_is_read_back(texts: list[str], in_postgres: PostgresSessions) -> None:
    session_id = f"s-{uuid4()}"
    bodies: list[Body] = [started(session_id=session_id), *map(said, texts)]
    with in_postgres.log(session_id) as log:
        written = [log.append(body, NOON) for body in bodies]

    assert in_postgres.events(session_id) == written


@settings(max_examples=30, deadline=None)
@given(kept=st.lists(st.binary(max_size=300), max_size=6))
def test_files_and_postgresql_keep_the_same_blobs(kept: list[bytes], in_postgres: PostgresSessions) -> None:
    session_id = f"s-{uuid4()}"
    with TemporaryDirectory() as folder:
        here, there = Sessions(Path(folder)).blobs(session_id), in_postgres.blobs(session_id)

        assert [here.put(data) for data in kept] == [there.put(data) for data in kept]
        assert list(here.digests()) == list(there.digests())
        assert [here.find(d[:12]) for d in here.digests()] == [there.find(d[:12]) for d in there.digests()]


def write(store: SessionStore, session_id: str, agent: str, sittings: list[list[Body]], gap: timedelta) -> None:
    at = NOON
    for n, bodies in enumerate(sittings):
        with store.log(session_id) as log:
            if n == 0:
                log.append(started(session_id=session_id).model_copy(update={"agent": agent}), at)
            for body in bodies:
                at += gap
                log.append(body, at)


def whole(store: SessionStore, session_id: str) -> bytes:
    log = store.log(session_id)
    end, damage = log.whole_lines()
    assert damage is None
    return b"".join(log.pieces(end))


def row(store: SessionStore, session_id: str) -> object:
    (found,) = [s for s in store.summaries() if s.session_id == session_id]
    return found._replace(agent=found.agent.replace("\x00", "\ufffd"))  # a column takes no NUL; the log does
